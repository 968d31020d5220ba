//! How event JSON is kept: compressed with a dictionary of what most events have in common.
//!
//! The first byte tells the form, so that forms can be added without rewriting what is stored.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use super::{Result, StoreError};

/// Plain JSON follows.
const PLAIN: u8 = 0;
/// A zstd frame made with [`DICTIONARY`] follows.
const ZSTD_1: u8 = 1;
/// No event is larger (Client-Server API, size limits); decompression stops here.
const LARGEST: usize = 128 * 1024;

/// Text that events share. Never change it: events are stored in terms of it. A better one gets a new first byte.
const DICTIONARY: &[u8] = br#"{"auth_events":["$"],"content":{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"AwgA","device_id":"","sender_key":"","session_id":"","m.relates_to":{"event_id":"$","rel_type":"m.thread","is_falling_back":true,"m.in_reply_to":{"event_id":"$"}}},"depth":,"hashes":{"sha256":""},"origin_server_ts":17,"prev_events":["$"],"room_id":"!","sender":"@","signatures":{"":{"ed25519:":""}},"type":"m.room.encrypted"}{"content":{"m.relates_to":{"event_id":"$","key":"","rel_type":"m.annotation"}},"type":"m.reaction"}{"content":{"avatar_url":"mxc://","displayname":"","membership":"join"},"state_key":"@","type":"m.room.member"}{"auth_events":["$","$","$"],"content":{"body":"","m.mentions":{"user_ids":["@"]},"msgtype":"m.text","format":"org.matrix.custom.html","formatted_body":"<p></p>","m.new_content":{"body":"","msgtype":"m.text"}},"depth":,"hashes":{"sha256":""},"origin_server_ts":17,"prev_events":["$"],"room_id":"!","sender":"@","signatures":{"":{"ed25519:":""}},"type":"m.room.message"}"#;

thread_local! {
    /// Making a context digests the dictionary, which costs more than an event: each store thread keeps one of either kind.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Data(format!("event JSON: {error}"))
}

/// Packs JSON for the `json` column.
pub(super) fn pack(json: &str) -> Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::with_dictionary(3, DICTIONARY).map_err(damaged)?),
        };
        let frame = compressor.compress(json.as_bytes()).map_err(damaged)?;
        let (form, bytes) = if frame.len() < json.len() { (ZSTD_1, &frame[..]) } else { (PLAIN, json.as_bytes()) };
        let mut packed = Vec::with_capacity(bytes.len() + 1);
        packed.push(form);
        packed.extend_from_slice(bytes);
        Ok(packed)
    })
}

/// Unpacks the `json` column.
pub(super) fn unpack(packed: &[u8]) -> Result<String> {
    let bytes = match packed.split_first() {
        Some((&PLAIN, json)) => json.to_vec(),
        Some((&ZSTD_1, frame)) => decompress(frame)?,
        _ => return Err(StoreError::Data("an event in an unknown form".into())),
    };
    String::from_utf8(bytes).map_err(damaged)
}

fn decompress(frame: &[u8]) -> Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::with_dictionary(DICTIONARY).map_err(damaged)?),
        };
        // The frame says how large its content is; the allocation is bounded by what an event may be all the same.
        let told = zstd::zstd_safe::get_frame_content_size(frame).map_err(|_| damaged("no frame"))?;
        let size = told.and_then(|size| usize::try_from(size).ok()).unwrap_or(LARGEST).min(LARGEST);
        decompressor.decompress(frame, size).map_err(damaged)
    })
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
