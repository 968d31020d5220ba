//! `homeroom logout`: sign out and delete what this device knows.

use clap::Args;

use super::{
    context::{Context, Process},
    exit::{Exit, Failure},
    node::Plan,
    output,
    profile::{ClientLock, Profile},
    role::Role,
    sign_in::{self, Account},
};
use crate::client::session::Endpoint;

/// Arguments of `homeroom logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Sign out even if the server cannot be told; it then still lists this device
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Signs out. The profile's own node and its data stay.
///
/// # Errors
/// When nobody is signed in, the profile is open, or the server cannot be told.
pub async fn run(context: &Context, args: &LogoutArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let _lock = ClientLock::take(&context.dirs, "homeroom logout")?;
    let mut profile = Profile::load(context)?;
    let user_id = profile.user_id().map(str::to_owned).ok_or_else(|| Failure::new(Exit::NotSignedIn, "nobody is signed in"))?;
    let mut role = Role::None;
    // A session that cannot be read is dealt with below, where `force` counts.
    if let Ok(Some(account)) = Account::load(&profile).await
        && matches!(account.session.endpoint, Endpoint::Socket { .. })
    {
        role = Role::take(&Plan::new(context, &profile)?).await;
    }
    let result = sign_in::sign_out(&mut profile, args.force).await;
    role.stop().await;
    result?;
    output::line(&if args.json { serde_json::json!({ "user_id": user_id }).to_string() } else { format!("Signed out {user_id}.") })
}
