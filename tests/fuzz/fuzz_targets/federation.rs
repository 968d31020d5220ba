//! What other servers send beside events: headers of requests, files in parts, transactions.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use homeroom::homeserver::federation::{
    multipart::{self, Reader},
    x_matrix::XMatrix,
};
use ruma::api::{IncomingRequest as _, federation::transactions::send_transaction_message::v1::Request as Transaction};

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    br#"X-Matrix origin="a.example",destination="home.test",key="ed25519:1",sig="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#,
    b"x-matrix origin=a.example:8448,key=ed25519:1,sig=AAAA,extra=\"a\\\"b\"",
    b"multipart/mixed; boundary=\"b o'u.n-d\"",
    b"multipart/mixed;charset=utf-8; Boundary=abc",
    b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=\"x.png\"\r\n\r\nPNG\r\n--b--",
    b"--b\r\n\r\n{}\r\n--b\r\nLocation: https://cdn.example/x\r\nContent-Disposition: inline; filename*=utf-8''%e2%82%ac\r\n\r\n\r\n--b--\r\n",
    br#"{"origin":"a.example","origin_server_ts":1,"pdus":[{"type":"m.room.message"}],"edus":[{"edu_type":"m.typing","content":{"room_id":"!r:a.example","user_id":"@a:a.example","typing":true}}]}"#,
];

fn run(data: &[u8]) {
    if let Ok(header) = XMatrix::parse(data) {
        assert!(header.origin.as_str().len() <= 255);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(boundary) = multipart::boundary(text)
    {
        let _ = Reader::new(&boundary).push(data);
    }
    whole_and_in_pieces(data);
    let request = http::Request::builder().method("PUT").uri("/_matrix/federation/v1/send/1").body(data.to_vec());
    let _ = Transaction::try_from_http_request(request.expect("a request"), &["1"]);
}

/// However a file is cut on its way, it is the same file.
fn whole_and_in_pieces(data: &[u8]) {
    let mut whole = Reader::new("b");
    let Ok(at_once) = whole.push(data) else { return };
    let (mut pieces, mut bytes) = (Reader::new("b"), Vec::new());
    for piece in data.chunks(7) {
        match pieces.push(piece) {
            Ok(more) => bytes.extend_from_slice(&more),
            Err(error) => panic!("good as a whole, but in pieces: {error}"),
        }
    }
    assert_eq!((whole.is_complete(), &at_once[..]), (pieces.is_complete(), &bytes[..]));
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
