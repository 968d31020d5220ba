//! `homeroom send`: one message, from the command line or standard input.

use std::io::Read as _;

use clap::Args;

use super::{
    context::{Context, Process},
    exit::Failure,
    headless::Desk,
    output,
};
use crate::client::headless::SendOptions;

/// Longest text that is read. An event may have 64 KiB altogether, so more could not be sent.
const MAX_BYTES: u64 = 64 * 1024;

/// Arguments of `homeroom send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Room ID, alias or exact name; or a user ID, for a direct conversation
    room: String,
    /// The message, in markdown; `-` reads it from standard input
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// Send the text exactly as it stands, without markdown
    #[arg(long)]
    literal: bool,
    /// Send as an action, like /me
    #[arg(long)]
    emote: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Sends, and prints the event's ID once the server has it.
///
/// # Errors
/// When the message was not accepted.
pub async fn run(context: &Context, args: &SendArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let text = if args.text == "-" { standard_input()? } else { args.text.clone() };
    if text.trim().is_empty() {
        return Err(Failure::usage("there is nothing to send"));
    }
    let options = SendOptions { literal: args.literal, emote: args.emote, ..SendOptions::default() };
    let sent = Desk::open(context, "homeroom send").await?.send(&args.room, &text, options).await?;
    if args.json {
        return output::json(&sent);
    }
    output::line(sent.event_id.as_str())
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_string(&mut text);
    let len = read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    if u64::try_from(len).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Failure::usage("standard input is longer than a message can be (64 KiB)"));
    }
    // The line break that ends the last line is the shell's, not the message's.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
