//! `homeroom tail`: messages as they arrive.

use clap::Args;
use time::{OffsetDateTime, macros::format_description};

use super::{
    context::{Context, Process},
    exit::{Exit, Failure},
    headless::Desk,
    output,
};
use crate::{
    base::{
        Shutdown, Tasks, Zone,
        signals::{HangUp, shut_down_on_signal},
    },
    client::headless::EventLine,
};

/// Arguments of `homeroom tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Room ID, alias or exact name; without it, all rooms
    room: Option<String>,
    /// Print JSON, one object for each event and line
    #[arg(long)]
    pub json: bool,
}

/// Prints events until a signal or until nobody reads.
///
/// # Errors
/// When the account cannot be opened, or the session ends.
pub async fn run(context: &Context, args: &TailArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let tasks = Tasks::new(Shutdown::new());
    shut_down_on_signal(&tasks, HangUp::Ends).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let zone = context.zone;
    let desk = Desk::open(context, "homeroom tail").await?;
    let show = |event: &EventLine| if args.json { output::json(event) } else { output::line(&row(event, zone)) };
    desk.tail(args.room.as_deref(), tasks.shutdown(), show).await
}

fn row(event: &EventLine, zone: Zone) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.timestamp_ms) * 1_000_000);
    let time = time
        .ok()
        .and_then(|time| time.to_offset(zone.offset_at(event.timestamp_ms)).format(format_description!("[hour]:[minute]:[second]")).ok());
    let text = match &event.body {
        Some(body) => body.as_str(),
        None if event.undecryptable => "(cannot be decrypted)",
        None => event.event_type.as_str(),
    };
    // One line for each event, whatever the message holds.
    let text = text.split('\n').map(output::harmless).collect::<Vec<_>>().join(" / ");
    let (room, sender) = (output::harmless(&event.room_name), output::harmless(&event.sender_name));
    format!("{}\t{room}\t{sender}\t{text}", time.unwrap_or_default())
}
