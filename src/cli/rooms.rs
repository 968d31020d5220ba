//! `homeroom rooms`: the room list.

use clap::Args;

use super::{
    context::{Context, Process},
    exit::Failure,
    headless::Desk,
    output,
};
use crate::client::headless::RoomLine;

/// Arguments of `homeroom rooms`.
#[derive(Debug, Args)]
pub struct RoomsArgs {
    /// Print JSON, one object for each room and line
    #[arg(long)]
    pub json: bool,
    /// List only rooms with unread messages or invitations
    #[arg(long)]
    unread: bool,
}

/// Prints the rooms, the most recently active first.
///
/// # Errors
/// When the server cannot be reached.
pub async fn run(context: &Context, args: &RoomsArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let rooms = Desk::open(context, "homeroom rooms").await?.rooms().await?;
    for room in rooms.iter().filter(|room| !args.unread || room.unread > 0 || room.mentions > 0 || room.membership == "invited") {
        if args.json {
            output::json(room)?;
        } else {
            output::line(&row(room))?;
        }
    }
    Ok(())
}

/// Tab-separated: ID, unread, mentions, what it is, name.
fn row(room: &RoomLine) -> String {
    let kind = if room.membership == "invited" { "invitation" } else { room.kind.as_str() };
    format!("{}\t{}\t{}\t{kind}\t{}", room.room_id, room.unread, room.mentions, output::harmless(&room.name))
}
