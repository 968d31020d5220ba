//! The token of `/v3/sync`.

use std::{fmt, str::FromStr};

use crate::homeserver::types::{InvalidToken, StreamPos, Token};

/// How far a client has been told: `s<position>_<live serial>_<last to-device message>`, and `_r<room>` while a first sync goes on.
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
    /// Rooms beyond this one (by their integer id) have not been told at all yet.
    pub rooms: Option<i64>,
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", Token(self.pos), self.serial, self.to_device.0)?;
        self.rooms.map_or(Ok(()), |room| write!(f, "_r{room}"))
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
        let rooms = match parts.next() {
            Some(part) => {
                Some(part.strip_prefix('r').and_then(|room| room.parse::<i64>().ok()).filter(|room| *room >= 0).ok_or(InvalidToken)?)
            }
            None => None,
        };
        if parts.next().is_some() || pos.0 < 0 || to_device.0 < 0 {
            return Err(InvalidToken);
        }
        Ok(Self { pos, serial, to_device, rooms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_was_given() {
        let token = SyncToken { pos: StreamPos(41), serial: 1_790_000_000_000, to_device: StreamPos(7), rooms: None };
        assert_eq!(token.to_string().parse(), Ok(token));
        let unfinished = SyncToken { rooms: Some(12), ..token };
        assert_eq!(unfinished.to_string().parse(), Ok(unfinished));
        assert_eq!("s5".parse(), Ok(SyncToken { pos: StreamPos(5), serial: 0, to_device: StreamPos(5), rooms: None }));
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in
            ["", "5", "s", "s1_", "s1_2_", "s1_2_3_4", "s1_2_3_r", "s1_2_3_r-1", "s1_2_3_r4_5", "s-1", "s1_-2", "x1_2_3", "s1_2_-3"]
        {
            assert_eq!(wrong.parse::<SyncToken>(), Err(InvalidToken), "{wrong}");
        }
    }
}
