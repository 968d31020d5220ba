//! `homeroom recovery-key`: show the key that opens encrypted history on another device.

use clap::Args;

use super::{
    context::Context,
    exit::{Exit, Failure},
    output,
    profile::Profile,
    sign_in::Account,
};

/// Arguments of `homeroom recovery-key`.
#[derive(Debug, Args)]
pub struct RecoveryKeyArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints the key.
///
/// # Errors
/// When nobody is signed in, or another device made the key.
pub async fn run(context: &Context, args: &RecoveryKeyArgs) -> Result<(), Failure> {
    let profile = Profile::load(context)?;
    let account = Account::need(&profile).await?;
    let elsewhere = "this device does not have the recovery key: it was made on another one";
    let key = account.recovery_key().ok_or_else(|| Failure::new(Exit::NotFound, elsewhere))?;
    output::line(&if args.json { serde_json::json!({ "recovery_key": key }).to_string() } else { key.to_owned() })
}
