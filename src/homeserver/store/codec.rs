//! How event JSON is kept: compressed with a dictionary of what most events have in common.
//!
//! The first byte tells the form, so that forms can be added without rewriting what is stored.

use super::{Result, StoreError};

/// Plain JSON follows.
const PLAIN: u8 = 0;
/// A zstd frame made with [`DICTIONARY`] follows.
const ZSTD_1: u8 = 1;
/// No event is larger (Client-Server API, size limits); decompression stops here.
const LARGEST: usize = 128 * 1024;

/// Text that events share. Never change it: events are stored in terms of it. A better one gets a new first byte.
const DICTIONARY: &[u8] = br#"{"auth_events":["$"],"content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AwgA","device_id":"","sender_key":"","session_id":"","m.relates_to":{"event_id":"$","rel_type":"m.thread","is_falling_back":true,"m.in_reply_to":{"event_id":"$"}}},"depth":,"hashes":{"sha256":""},"origin_server_ts":17,"prev_events":["$"],"room_id":"!","sender":"@","signatures":{"":{"ed25519:":""}},"type":"m.room.encrypted"}{"content":{"m.relates_to":{"event_id":"$","key":"","rel_type":"m.annotation"}},"type":"m.reaction"}{"content":{"avatar_url":"mxc://","displayname":"","membership":"join"},"state_key":"@","type":"m.room.member"}{"auth_events":["$","$","$"],"content":{"body":"","m.mentions":{"user_ids":["@"]},"msgtype":"m.text","format":"org.matrix.custom.html","formatted_body":"<p></p>","m.new_content":{"body":"","msgtype":"m.text"}},"depth":,"hashes":{"sha256":""},"origin_server_ts":17,"prev_events":["$"],"room_id":"!","sender":"@","signatures":{"":{"ed25519:":""}},"type":"m.room.message"}"#;

/// Packs JSON for the `json` column.
pub(super) fn pack(json: &str) -> Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(json.len());
    let mut compressor = zstd::bulk::Compressor::with_dictionary(3, DICTIONARY).map_err(|e| StoreError::Data(e.to_string()))?;
    let frame = compressor.compress(json.as_bytes()).map_err(|e| StoreError::Data(e.to_string()))?;
    if frame.len() < json.len() {
        packed.push(ZSTD_1);
        packed.extend_from_slice(&frame);
    } else {
        packed.push(PLAIN);
        packed.extend_from_slice(json.as_bytes());
    }
    Ok(packed)
}

/// Unpacks the `json` column.
pub(super) fn unpack(packed: &[u8]) -> Result<String> {
    let bytes = match packed.split_first() {
        Some((&PLAIN, json)) => json.to_vec(),
        Some((&ZSTD_1, frame)) => {
            let mut decompressor = zstd::bulk::Decompressor::with_dictionary(DICTIONARY).map_err(|e| StoreError::Data(e.to_string()))?;
            decompressor.decompress(frame, LARGEST).map_err(|e| StoreError::Data(e.to_string()))?
        }
        _ => return Err(StoreError::Data("an event in an unknown form".into())),
    };
    String::from_utf8(bytes).map_err(|e| StoreError::Data(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back() -> Result<()> {
        for json in ["{}", "", r#"{"type":"m.room.message","content":{"body":"Grüße 🦀"}}"#, &"x".repeat(65_536)] {
            assert_eq!(unpack(&pack(json)?)?, json);
        }
        Ok(())
    }

    #[test]
    fn an_ordinary_event_takes_less_than_half() -> Result<()> {
        let json = r#"{"auth_events":["$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","$bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"],"content":{"body":"see you there","msgtype":"m.text"},"depth":12,"hashes":{"sha256":"K1W0Tg1ZR9WSnYCSdBhYTVwUBgXL2bnVtcRXcJzTUMU"},"origin_server_ts":1790000000000,"prev_events":["$ccccccccccccccccccccccccccccccccccccccccccc"],"room_id":"!ddddddddddddddddddddddddddddddddddddddddddd","sender":"@ann:home.test","signatures":{"home.test":{"ed25519:abc":"c2lnbmF0dXJl"}},"type":"m.room.message"}"#;
        assert!(pack(json)?.len() * 2 < json.len());
        Ok(())
    }

    #[test]
    fn a_damaged_column_is_an_error() {
        assert!(unpack(&[]).is_err());
        assert!(unpack(&[7, 1, 2]).is_err());
        assert!(unpack(&[ZSTD_1, 1, 2, 3]).is_err());
    }
}
