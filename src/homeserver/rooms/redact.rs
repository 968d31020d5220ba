//! Redactions: what they leave of an event, and when they take effect.

use ruma::{CanonicalJsonObject, UserId, canonical_json, room_version_rules::RedactionRules};

use super::power::{Action, PowerLevels};

/// What redaction leaves of an event (each room version's "Redactions"). The event ID and the signatures stay valid.
///
/// # Errors
///
/// Why the JSON is not an event.
pub fn prune(json: &CanonicalJsonObject, rules: &RedactionRules) -> Result<CanonicalJsonObject, String> {
    canonical_json::redact(json.clone(), rules, None).map_err(|e| e.to_string())
}

/// Does a redaction by this user take effect on an event of that sender (room version 3 and later)?
///
/// # Errors
///
/// Why the power levels event cannot be read.
pub fn takes_effect(levels: &PowerLevels<'_>, redactor: &UserId, target_sender: &UserId) -> Result<bool, String> {
    // Whether users of one server may redact each other's events is that server's decision: see `client_may`.
    Ok(redactor.server_name() == target_sender.server_name() || levels.may(redactor, Action::Redact)?)
}

/// May a user of ours redact an event of that sender? Their own, or any with the room's redact level.
///
/// # Errors
///
/// Why the power levels event cannot be read.
pub fn client_may(levels: &PowerLevels<'_>, redactor: &UserId, target_sender: &UserId) -> Result<bool, String> {
    Ok(redactor == target_sender || levels.may(redactor, Action::Redact)?)
}
