//! `homeroom account`: accounts on the own node, for who has no screen.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    context::{Context, Process},
    control::{Request, client},
    exit::{Exit, Failure},
    node::Plan,
    output,
    password::PasswordArgs,
    profile::{Home, Profile},
    role::Role,
};

/// Arguments of `homeroom account`.
#[derive(Debug, Args)]
pub struct AccountArgs {
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Debug, Subcommand)]
enum AccountCommand {
    /// Create an account on the profile's own node, whether it runs or not
    Create(CreateArgs),
    /// Make a registration token, for a node with `registration = "token"`
    Token(TokenArgs),
    /// Make a new signing key for the node, when the old one may have been seen by others; the old one is published as past
    NewKey(NewKeyArgs),
    /// Show what users of the node have reported to its owner, newest first
    Reports(ReportsArgs),
    /// Show what does not work: push gateways and application services that take nothing
    Troubles(TroublesArgs),
    /// Show the invites that are held (setting node.hold_strangers), or decide about one
    Invites(InvitesArgs),
}

#[derive(Debug, Args)]
struct InvitesArgs {
    /// Let a user's invite to a room through
    #[arg(long, num_args = 2, value_names = ["USER", "ROOM"], conflicts_with = "reject")]
    release: Option<Vec<String>>,
    /// Turn a user's invite to a room down
    #[arg(long, num_args = 2, value_names = ["USER", "ROOM"])]
    reject: Option<Vec<String>>,
    /// How many are shown at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl InvitesArgs {
    fn request(&self) -> (Request, &'static str) {
        let judge = |pair: &Vec<String>, release| match pair.as_slice() {
            [user_id, room_id] => Some(Request::JudgeInvite { user_id: user_id.clone(), room_id: room_id.clone(), release }),
            _ => None,
        };
        if let Some(request) = self.release.as_ref().and_then(|pair| judge(pair, true)) {
            return (request, "released");
        }
        if let Some(request) = self.reject.as_ref().and_then(|pair| judge(pair, false)) {
            return (request, "rejected");
        }
        (Request::HeldInvites { limit: self.limit }, "invites")
    }
}

#[derive(Debug, Args)]
struct TroublesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReportsArgs {
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NewKeyArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// User name, the part between @ and the colon
    name: String,
    /// Let the account do everything on the node
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    password: PasswordArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TokenArgs {
    /// How many accounts the token is good for
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// For how many days
    #[arg(long, value_name = "NUMBER", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl AccountArgs {
    /// True when the answer is wanted as JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        match &self.command {
            AccountCommand::Create(args) => args.json,
            AccountCommand::Token(args) => args.json,
            AccountCommand::NewKey(args) => args.json,
            AccountCommand::Reports(args) => args.json,
            AccountCommand::Troubles(args) => args.json,
            AccountCommand::Invites(args) => args.json,
        }
    }
}

/// Asks the node, whether it runs or not.
///
/// # Errors
/// When the node refuses or cannot be opened.
pub async fn run(context: &Context, args: &AccountArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let (request, result) = match &args.command {
        AccountCommand::Create(args) => {
            let password = args.password.read("New password: ", true)?;
            (Request::CreateAccount { name: args.name.clone(), password, admin: args.admin }, "user_id")
        }
        AccountCommand::Token(args) => {
            let valid_ms = u64::from(args.days) * 24 * 60 * 60 * 1000;
            (Request::CreateToken { uses: Some(args.uses), valid_ms: Some(valid_ms) }, "token")
        }
        AccountCommand::NewKey(_) => (Request::NewKey, "key_id"),
        AccountCommand::Reports(args) => (Request::Reports { limit: args.limit }, "reports"),
        AccountCommand::Troubles(_) => (Request::Troubles, "troubles"),
        AccountCommand::Invites(args) => args.request(),
    };
    let answer = ask(context, &request).await?;
    if let Some(reports) = answer.get(result).and_then(Value::as_array) {
        return if args.json() {
            output::line(&answer.to_string())
        } else {
            let line = match result {
                "troubles" => trouble_line,
                "invites" => invite_line,
                _ => line,
            };
            reports.iter().try_for_each(|report| output::line(&line(report)))
        };
    }
    let text = answer.get(result).and_then(Value::as_str);
    let text = text.ok_or_else(|| Failure::new(Exit::Failure, "the running homeroom is of another version"))?;
    output::line(&if args.json() { answer.to_string() } else { text.to_owned() })
}

/// A held invite in one line. Names come from strangers: nothing in them may steer the terminal.
fn invite_line(invite: &Value) -> String {
    let text = |field: &str| invite.get(field).and_then(Value::as_str).unwrap_or_default();
    let when = when(invite.get("held_ms"));
    let line = format!("{when}  {} {}  invited by {}: {}", text("user_id"), text("room_id"), text("inviter"), text("reason"));
    output::harmless(&line.replace('\t', " "))
}

/// A time in milliseconds as text.
fn when(ms: Option<&Value>) -> String {
    let seconds = ms.and_then(Value::as_i64).unwrap_or_default() / 1000;
    let when = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    when.and_then(|when| when.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

/// A report in one line. Reasons come from users: nothing in them may steer the terminal.
fn line(report: &Value) -> String {
    let text = |field: &str| report.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let when = when(report.get("created_ms"));
    let about = ["user_id", "room_id", "event_id"].into_iter().filter_map(text).collect::<Vec<_>>().join(" ");
    let line = format!("{when}  {} reports {about}: {}", text("reporter").unwrap_or("?"), text("reason").unwrap_or("(no reason)"));
    // A tab would pass as harmless, and one line is one report.
    output::harmless(&line.replace('\t', " "))
}

/// A trouble in one line. What others answered is in it: nothing of that may steer the terminal.
fn trouble_line(trouble: &Value) -> String {
    let text = |field: &str| trouble.get(field).and_then(Value::as_str).unwrap_or_default();
    let failures = trouble.get("failures").and_then(Value::as_i64).unwrap_or_default();
    let line = format!("{} {} {}: {} failures, the last: {}", text("kind"), text("id"), text("user_id"), failures, text("error"));
    output::harmless(&line.replace('\t', " "))
}

/// Asks the process that runs the node, and for want of one runs it for the moment.
async fn ask(context: &Context, request: &Request) -> Result<Value, Failure> {
    let mut profile = Profile::load(context)?;
    let plan = Plan::new(context, &profile)?;
    if !plan.exists() && plan.server_name.is_none() {
        // Its name would be fixed by accident.
        let message = "there is no node yet; start it once with `homeroom serve --server-name NAME`, or set node.server_name";
        return Err(Failure::new(Exit::NotFound, message));
    }
    let mut own = None;
    match Role::take(&plan.without_network()).await {
        Role::Here(node) => {
            if plan.of_profile {
                profile.set_home(Home { server_name: node.server_name() }).await?;
            }
            own = Some(node);
        }
        Role::Down(failure) => return Err(failure),
        Role::Attached(_) | Role::None => {}
    }
    let ended = || Failure::new(Exit::Busy, "the process that ran the node has just ended; try again");
    let connection = client::connect(&plan.admin_socket()).await.ok_or_else(ended);
    let answer = match (connection, &own) {
        (Ok(connection), None) => connection.ask(request).await,
        // Our own node answers through the same socket: one way, tried every time.
        (Ok(connection), Some(node)) => {
            let asking = connection.ask(request);
            tokio::select! {
                answer = asking => answer,
                () = node.failed() => Err(Failure::new(Exit::Failure, "a part of the node failed; the log file says more")),
            }
        }
        (Err(failure), _) => Err(failure),
    };
    if let Some(node) = own {
        node.stop().await;
    }
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_one_line_that_steers_no_terminal() {
        let report = json!({ "reporter": "@a:x", "user_id": "@b:x", "reason": "a\u{202e}b\nc\u{1b}[2J\td", "created_ms": 0 });
        assert_eq!(line(&report), "1970-01-01T00:00:00Z  @a:x reports @b:x: a\\u{202e}b\\u{a}c\\u{1b}[2J d");
    }
}
