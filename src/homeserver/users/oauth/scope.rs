//! Scopes (Client-Server API, "Scope"; MSC2967).

use ruma::OwnedDeviceId;

use super::OAuthError;

/// Full access, in both spellings: shipping clients know the unstable one only.
const API: [&str; 2] = ["urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"];
/// What a device ID follows, in both spellings.
const DEVICE: [&str; 2] = ["urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:"];
/// Longest scope and longest device ID.
const SCOPE_BYTES: usize = 1024;
const DEVICE_BYTES: usize = 255;

/// A scope that signs a device in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// What is granted, in the client's own spelling; what we do not know is left out (RFC 6749, 3.3).
    pub granted: String,
}

impl Scope {
    /// Reads a scope: full access and exactly one device.
    ///
    /// # Errors
    ///
    /// [`OAuthError::InvalidScope`].
    pub fn parse(text: &str) -> Result<Self, OAuthError> {
        let bad = |why| Err(OAuthError::InvalidScope(why));
        if text.len() > SCOPE_BYTES {
            return bad("the scope is too long");
        }
        let (mut access, mut device, mut granted) = (false, None, Vec::new());
        for token in text.split(' ').filter(|token| !token.is_empty()) {
            if !token.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)) {
                return bad("the scope has a character that scopes do not have");
            }
            if API.contains(&token) {
                access = true;
            } else if let Some(id) = DEVICE.iter().find_map(|prefix| token.strip_prefix(prefix)) {
                if device.as_ref().is_some_and(|known| known != id) {
                    return bad("the scope names more than one device");
                }
                if id.is_empty() || id.len() > DEVICE_BYTES {
                    return bad("the device ID is empty or too long");
                }
                device = Some(id.to_owned());
            } else {
                continue;
            }
            granted.push(token);
        }
        match device {
            None => bad("the scope names no device"),
            Some(_) if !access => bad("the scope does not ask for access to the client-server API"),
            Some(id) => Ok(Self { device_id: id.into(), granted: granted.join(" ") }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

    use super::*;

    #[test]
    fn a_scope_is_full_access_and_one_device_in_either_spelling() {
        for (text, granted) in [
            ("urn:matrix:client:api:* urn:matrix:client:device:ABC", "urn:matrix:client:api:* urn:matrix:client:device:ABC"),
            (
                "openid urn:matrix:org.matrix.msc2967.client:device:ABC urn:matrix:org.matrix.msc2967.client:api:* email",
                "urn:matrix:org.matrix.msc2967.client:device:ABC urn:matrix:org.matrix.msc2967.client:api:*",
            ),
        ] {
            let scope = Scope::parse(text).unwrap();
            assert_eq!((scope.device_id.as_str(), scope.granted.as_str()), ("ABC", granted));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!("urn:matrix:client:api:* urn:matrix:client:device:{}", "x".repeat(300));
        for text in [
            "",
            "urn:matrix:client:api:*",
            "urn:matrix:client:device:ABC",
            "urn:matrix:client:api:* urn:matrix:client:device:",
            "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:client:device:B",
            "urn:matrix:client:api:* urn:matrix:client:device:A urn:matrix:org.matrix.msc2967.client:device:B",
            "urn:matrix:client:api:* urn:matrix:client:device:\"A",
            "urn:matrix:client:api:* urn:matrix:client:device:A\nB",
            &long,
        ] {
            assert!(matches!(Scope::parse(text), Err(OAuthError::InvalidScope(_))), "{text}");
        }
    }
}
