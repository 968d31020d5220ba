//! `homeroom login`: sign in without a screen.

use clap::Args;
use serde_json::json;

use super::{
    context::{Context, Process},
    exit::{Exit, Failure},
    node::Plan,
    output,
    password::PasswordArgs,
    profile::{ClientLock, Profile},
    role::Role,
    sign_in::{self, SignedIn},
};
use crate::{base::Shutdown, client::session::Endpoint};

/// Arguments of `homeroom login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// User ID, such as @ann:example.org
    user_id: String,
    /// Server name or base URL, where it is not what the user ID says
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Signs in.
///
/// # Errors
/// When the server refuses or cannot be reached, or the profile is in use.
pub async fn run(context: &Context, args: &LoginArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let _lock = ClientLock::take(&context.dirs, "homeroom login")?;
    let mut profile = Profile::load(context)?;
    let plan = Plan::new(context, &profile)?;
    let endpoint = sign_in::endpoint(&args.user_id, args.server.as_deref(), &profile, &plan)?;
    if let Some(present) = profile.user_id().filter(|present| *present != args.user_id) {
        let message = format!("{present} is signed in; sign out with `homeroom logout`, or use another profile with --profile");
        return Err(Failure::new(Exit::Failure, message));
    }
    let password = args.password.read(&format!("Password of {}: ", output::harmless(&args.user_id)), false)?;
    let mut role = Role::None;
    if matches!(endpoint, Endpoint::Socket { .. }) {
        role = Role::take(&plan).await;
        if let Role::Down(failure) = role {
            return Err(failure);
        }
    }
    let quiet = args.json;
    let progress = |text: &str| {
        tracing::info!("{text}");
        if !quiet {
            eprintln!("{} ...", output::harmless(text));
        }
    };
    let result = sign_in::sign_in(&mut profile, &endpoint, &args.user_id, &password, &Shutdown::new(), progress).await;
    role.stop().await;
    let SignedIn { account, mut notes, news } = result?;
    notes.extend(news);
    let session = &account.session;
    if args.json {
        let recovery_key = account.recovery_key();
        let object = json!({ "user_id": session.user_id, "device_id": session.device_id, "recovery_key": recovery_key, "notes": notes });
        return output::line(&object.to_string());
    }
    let mut text = format!("Signed in as {}, device {}.\n", session.user_id, session.device_id);
    if let Some(key) = account.recovery_key() {
        text.push_str(&format!(
            "Your recovery key opens your encrypted history on another device. Keep it in a safe place\n\
             (`homeroom recovery-key` shows it again):\n\n    {key}\n\n"
        ));
    }
    for note in notes {
        text.push_str(&format!("{}\n", output::harmless(&note)));
    }
    output::print(&text)
}
