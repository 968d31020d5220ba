//! Rendezvous sessions in both forms.

use axum::body::Body;
use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::homeserver::api::testing::{TestNode, refused};

const ETAG: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const SEQUENCE: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

async fn send(test: &TestNode, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8008");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = test.send(request.body(Body::from(body.to_owned())).unwrap()).await.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, String::from_utf8_lossy(&bytes).into_owned())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn two_devices_leave_each_other_messages_by_etag() {
    let test = TestNode::new().await;
    let (status, headers, body) = send(&test, "POST", ETAG, &[("content-type", "text/plain")], "").await;
    assert_eq!(status, 201, "{body}");
    let url = serde_json::from_str::<Value>(&body).unwrap()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix("http://localhost:8008").unwrap();
    let first = header(&headers, "etag").to_owned();
    assert_eq!(header(&headers, "last-modified"), "Mon, 21 Sep 2026 14:13:20 GMT");
    assert_eq!(header(&headers, "expires"), "Mon, 21 Sep 2026 14:18:20 GMT");
    assert!(header(&headers, "access-control-expose-headers").contains("ETag"));
    assert_eq!(send(&test, "GET", path, &[("if-none-match", &first)], "").await.0, 304);
    let (status, headers, _) = send(&test, "PUT", path, &[("if-match", &first), ("content-type", "text/plain")], "hello").await;
    assert_eq!(status, 202);
    let second = header(&headers, "etag").to_owned();
    assert_ne!(first, second);
    let (status, _, body) = send(&test, "PUT", path, &[("if-match", &first), ("content-type", "text/plain")], "late").await;
    assert!(status == 412 && body.contains("M_CONCURRENT_WRITE"), "{body}");
    let (status, headers, body) = send(&test, "GET", path, &[("if-none-match", &first)], "").await;
    assert_eq!((status, body.as_str(), header(&headers, "etag"), header(&headers, "content-type")), (200, "hello", &*second, "text/plain"));
    assert_eq!(header(&headers, "x-content-type-options"), "nosniff");
    assert_eq!(send(&test, "GET", path, &[("sec-fetch-mode", "navigate")], "").await.0, 403);
    assert_eq!(send(&test, "PUT", path, &[("content-type", "text/plain")], "x").await.0, 400, "no If-Match");
    assert_eq!(send(&test, "PUT", path, &[("if-match", &second), ("content-type", "text/html")], "<script>").await.0, 400);
    assert_eq!(send(&test, "PUT", path, &[("if-match", &second)], &"x".repeat(5000)).await.0, 413);
    assert_eq!(send(&test, "DELETE", path, &[], "").await.0, 204);
    assert_eq!(send(&test, "GET", path, &[], "").await.0, 404);
}

#[tokio::test]
async fn two_devices_leave_each_other_messages_by_sequence_token() {
    let test = TestNode::new().await;
    let call = async |method: &str, path: &str, body: Value| test.call(method, path, None, body).await;
    assert_eq!(call("GET", SEQUENCE, Value::Null).await.1, json!({ "create_available": true }));
    let made = call("POST", SEQUENCE, json!({ "data": "" })).await.1;
    assert_eq!(made["expires_in_ms"], 300_000);
    let path = format!("{SEQUENCE}/{}", made["id"].as_str().unwrap());
    let first = made["sequence_token"].clone();
    let write = |token: &Value, data: &str| json!({ "sequence_token": token, "data": data });
    let second = call("PUT", &path, write(&first, "hello")).await.1["sequence_token"].clone();
    assert_ne!(first, second);
    assert_eq!(call("PUT", &path, write(&first, "hello")).await.1["sequence_token"], second, "the same again is no second write");
    assert_eq!(refused(&call("PUT", &path, write(&first, "other")).await), (409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE"));
    let read = call("GET", &path, Value::Null).await.1;
    assert_eq!((&read["data"], &read["sequence_token"]), (&json!("hello"), &second));
    assert_eq!(refused(&call("PUT", &path, write(&second, &"x".repeat(4097))).await), (413, "M_TOO_LARGE"));
    assert_eq!(refused(&call("POST", SEQUENCE, json!({})).await), (400, "M_MISSING_PARAM"));
    assert_eq!(send(&test, "GET", &format!("{ETAG}/{}", made["id"].as_str().unwrap()), &[], "").await.0, 404, "not by the other form");
    test.clock.advance(300_000);
    assert_eq!(refused(&call("GET", &path, Value::Null).await), (404, "M_NOT_FOUND"));
    assert_eq!(refused(&call("DELETE", &path, Value::Null).await), (404, "M_NOT_FOUND"));
}

#[tokio::test]
async fn sessions_are_limited_by_address_and_number() {
    let test = TestNode::with(|config| config.rate_limits = false).await;
    let mut opened = 0;
    let last = loop {
        let answer = test.call("POST", SEQUENCE, None, json!({ "data": "x" })).await;
        if answer.0 != 200 {
            break answer;
        }
        opened += 1;
    };
    assert_eq!((opened, refused(&last)), (256, (429, "M_LIMIT_EXCEEDED")));
    let limited = TestNode::new().await;
    for _ in 0..10 {
        assert_eq!(limited.call("POST", SEQUENCE, None, json!({ "data": "x" })).await.0, 200);
    }
    assert_eq!(refused(&limited.call("POST", SEQUENCE, None, json!({ "data": "x" })).await), (429, "M_LIMIT_EXCEEDED"));
}
