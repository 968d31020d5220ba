//! The token of `/v3/sync`.

use std::{fmt, str::FromStr};

use crate::homeserver::types::{InvalidToken, StreamPos, Token};

/// How far a client has been told: `s<position>_<live serial>_<last to-device message>`.
///
/// The first part alone is a pagination [`Token`], which is also accepted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything in the store up to here.
    pub pos: StreamPos,
    /// Typing and presence up to here.
    pub serial: u64,
    /// Messages to the device up to here.
    pub to_device: StreamPos,
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", Token(self.pos), self.serial, self.to_device.0)
    }
}

impl FromStr for SyncToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.split('_');
        let Token(pos) = parts.next().ok_or(InvalidToken)?.parse()?;
        let number = |part: Option<&str>, default: u64| match part {
            Some(part) => part.parse::<u64>().map_err(|_| InvalidToken),
            None => Ok(default),
        };
        let serial = number(parts.next(), 0)?;
        let to_device = match parts.next() {
            Some(part) => StreamPos(part.parse().map_err(|_| InvalidToken)?),
            None => pos,
        };
        if parts.next().is_some() || pos.0 < 0 || to_device.0 < 0 {
            return Err(InvalidToken);
        }
        Ok(Self { pos, serial, to_device })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        let token = SyncToken { pos: StreamPos(41), serial: 1_790_000_000_000, to_device: StreamPos(7) };
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!("s5".parse(), Ok(SyncToken { pos: StreamPos(5), serial: 0, to_device: StreamPos(5) }));
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in ["", "5", "s", "s1_", "s1_2_", "s1_2_3_4", "s-1", "s1_-2", "x1_2_3", "s1_2_-3"] {
            assert_eq!(wrong.parse::<SyncToken>(), Err(InvalidToken), "{wrong}");
        }
    }
}
