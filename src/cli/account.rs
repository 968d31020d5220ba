//! `homeroom account`: accounts on the own node, for who has no screen.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    context::Context,
    control::{Request, client},
    exit::{Exit, Failure},
    node::{self, OwnNode, Plan},
    output,
    password::PasswordArgs,
    profile::{Home, Profile},
};
use crate::{
    base::{Secret, Shutdown},
    homeserver::StartError,
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

impl AccountArgs {
    /// True when the answer is wanted as JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        let AccountCommand::Create(args) = &self.command;
        args.json
    }
}

/// Creates an account.
///
/// # Errors
/// When the node refuses or cannot be opened.
pub async fn run(context: &Context, args: &AccountArgs) -> Result<(), Failure> {
    let AccountCommand::Create(args) = &args.command;
    let _watch = context.watch("command", false)?;
    let password = args.password.read("New password: ", true)?;
    let mut profile = Profile::load(context)?;
    let plan = Plan::new(context, &profile)?;
    let created = match through_running(&plan, args, &password).await? {
        Some(created) => created,
        None => match OwnNode::start(&plan.without_network(), &Shutdown::new()).await {
            Ok(node) => {
                let created = node.create_account(&args.name, &password, args.admin).await;
                let server_name = node.server_name();
                node.stop().await;
                if plan.of_profile {
                    profile.set_home(Home { server_name }).await?;
                }
                json!({ "user_id": created? })
            }
            // It was started between the two looks.
            Err(StartError::InUse(path)) => {
                through_running(&plan, args, &password).await?.ok_or_else(|| node::failure(&StartError::InUse(path)))?
            }
            Err(error) => return Err(node::failure(&error)),
        },
    };
    let user_id = created.get("user_id").and_then(Value::as_str).unwrap_or_default();
    output::line(&if args.json { created.to_string() } else { user_id.to_owned() })
}

async fn through_running(plan: &Plan, args: &CreateArgs, password: &Secret) -> Result<Option<Value>, Failure> {
    let Some(connection) = client::connect(&plan.admin_socket()).await else { return Ok(None) };
    let request = Request::CreateAccount { name: args.name.clone(), password: password.clone(), admin: args.admin };
    let answer = connection.ask(&request).await?;
    if answer.get("user_id").is_none() {
        return Err(Failure::new(Exit::Failure, "the running node gave no answer"));
    }
    Ok(Some(answer))
}
