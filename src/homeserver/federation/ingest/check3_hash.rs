//! Check 3: the content is what was signed. Where it is not, what redaction leaves of the event goes on in its place.

use ruma::room_version_rules::RoomVersionRules;

use super::Dropped;
use crate::homeserver::{rooms::wire, types::Pdu};

/// The event as it goes on.
///
/// # Errors
///
/// [`Dropped`] when it cannot be redacted.
pub fn check(pdu: Pdu, content_intact: bool, rules: &RoomVersionRules) -> Result<Pdu, Dropped> {
    if content_intact { Ok(pdu) } else { wire::redacted(&pdu, rules).map_err(|why| Dropped(why.0)) }
}
