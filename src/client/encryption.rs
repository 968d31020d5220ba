//! Sets up encryption for a fresh device: cross-signing identity, key backup, recovery key.
//!
//! Only ever creates what the account does not have: an identity or backup made elsewhere is never replaced.

use std::time::Duration;

use matrix_sdk::{Client, encryption::recovery::RecoveryState};
use ruma::api::client::uiaa::{AuthData, MatrixUserIdentifier, Password, UserIdentifier};

use super::{connect, context::within, session::SavedSession, words::Trouble};
use crate::client::command::Secret;

/// Longest wait for each step.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// What was set up.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) recovery_key: Option<Secret>,
    pub(super) notes: Vec<String>,
}

/// Sets up what is missing. Never fails as a whole: each step that does not work leaves a note.
pub(super) async fn set_up(client: &Client, user: &str, password: &Secret, recovery_key: Option<&Secret>) -> Outcome {
    let mut outcome = Outcome::default();
    let encryption = client.encryption();
    if tokio::time::timeout(STEP_TIMEOUT, encryption.wait_for_e2ee_initialization_tasks()).await.is_err() {
        outcome.notes.push("The server is slow; encryption is still being set up.".to_owned());
        return outcome;
    }
    match tokio::time::timeout(STEP_TIMEOUT, cross_signing(client, user, password)).await {
        Ok(Ok(())) => {}
        Ok(Err(trouble)) => {
            outcome.notes.push(format!("This device could not be signed with your identity: {trouble}."));
            return outcome;
        }
        Err(_) => {
            outcome.notes.push("The server is slow; this device is not signed with your identity yet.".to_owned());
            return outcome;
        }
    }
    let complete = || async { encryption.cross_signing_status().await.is_some_and(|status| status.is_complete()) };
    if let (false, Some(key)) = (complete().await, recovery_key) {
        match tokio::time::timeout(STEP_TIMEOUT, encryption.recovery().recover(key.expose())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => outcome.notes.push("The recovery key does not fit this account's encrypted history.".to_owned()),
            Err(_) => outcome.notes.push("The server is slow; encrypted history is not connected yet.".to_owned()),
        }
    }
    if !complete().await {
        outcome.notes.push(
            "Your account has an encryption identity from another device; this device is not verified, \
             and messages from before now may stay unreadable here."
                .to_owned(),
        );
        return outcome;
    }
    match encryption.recovery().state() {
        RecoveryState::Disabled => {}
        RecoveryState::Unknown => {
            outcome
                .notes
                .push("The server's key backup could not be looked at; encrypted history lives on this device only for now.".to_owned());
            return outcome;
        }
        RecoveryState::Enabled | RecoveryState::Incomplete => return outcome,
    }
    match tokio::time::timeout(STEP_TIMEOUT, std::future::IntoFuture::into_future(encryption.recovery().enable())).await {
        Ok(Ok(key)) => outcome.recovery_key = Some(Secret::new(key)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "recovery could not be enabled");
            outcome.notes.push("The server keeps no key backup, so encrypted history lives on this device only.".to_owned());
        }
        Err(_) => outcome.notes.push("The server is slow; the key backup is not set up.".to_owned()),
    }
    outcome
}

/// Creates the account's identity where it has none, proving ourselves with the password when the server asks.
async fn cross_signing(client: &Client, user: &str, password: &Secret) -> Result<(), Trouble> {
    let encryption = client.encryption();
    let error = match encryption.bootstrap_cross_signing_if_needed(None).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let Some(challenge) = error.as_uiaa_response() else { return Err(Trouble::of(&error)) };
    let identifier = UserIdentifier::Matrix(MatrixUserIdentifier::new(user.to_owned()));
    let mut answer = Password::new(identifier, password.expose().to_owned());
    answer.session = challenge.session.clone();
    encryption.bootstrap_cross_signing_if_needed(Some(AuthData::Password(answer))).await.map_err(Trouble::from)
}

/// True when the server still has the encryption keys of the session's device.
///
/// Asked past the SDK (`POST /_matrix/client/v3/keys/query`): restoring the session for a question would make new keys.
pub(super) async fn device_is_known(session: &SavedSession) -> Result<bool, Trouble> {
    let url = session.base_url.join("_matrix/client/v3/keys/query").map_err(|_| Trouble::NotMatrix)?;
    let body = serde_json::json!({"device_keys": {session.user_id.as_str(): [session.device_id.as_str()]}});
    let asked = async {
        let request = connect::http(&session.endpoint)?.post(url).bearer_auth(session.access_token()).body(body.to_string());
        let answer = request.send().await.map_err(|error| Trouble::of_reqwest(&error))?;
        if !answer.status().is_success() {
            return Err(Trouble::NotMatrix);
        }
        answer.bytes().await.map_err(|error| Trouble::of_reqwest(&error))
    };
    let answer: serde_json::Value = serde_json::from_slice(&within(STEP_TIMEOUT, asked).await?).map_err(|_| Trouble::NotMatrix)?;
    let devices = answer.get("device_keys").and_then(|users| users.get(session.user_id.as_str()));
    Ok(devices.and_then(|devices| devices.get(session.device_id.as_str())).is_some())
}
