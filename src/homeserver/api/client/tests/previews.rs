//! Previews of links.
#![expect(clippy::disallowed_methods, reason = "the web server of a test ends with it")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect},
    routing::get,
};
use serde_json::json;

use crate::homeserver::api::testing::{Client, TestNode, refused};

/// A web server on loopback; counts the pages that it served.
async fn web() -> (String, Arc<AtomicUsize>) {
    const PIXEL: &[u8] = include_bytes!("pixel.png");
    let served = Arc::new(AtomicUsize::new(0));
    let (count, drawn) = (Arc::clone(&served), Arc::clone(&served));
    let page = r#"<html><head><title>T</title><meta property="og:title" content="A page"><meta property="og:image" content="/pixel.png">"#;
    let router = Router::new()
        .route(
            "/page",
            get(move || {
                count.fetch_add(1, Ordering::SeqCst);
                async move { Html(page) }
            }),
        )
        .route("/pixel.png", get(|| async { ([(header::CONTENT_TYPE, "image/png")], PIXEL) }))
        .route("/script.svg", get(|| async { ([(header::CONTENT_TYPE, "image/svg+xml")], "<svg/>") }))
        .route("/changing", get(|| async { Html(r#"<meta property="og:image" content="/drawn.png">"#) }))
        .route("/other", get(|| async { Html(r#"<meta property="og:image" content="/drawn.png">"#) }))
        .route(
            "/drawn.png",
            get(move || {
                let number = drawn.fetch_add(1, Ordering::SeqCst);
                // The decoder stops at the end of the picture: what follows makes each file another one.
                async move { ([(header::CONTENT_TYPE, "image/png")], [PIXEL, &number.to_le_bytes()].concat()) }
            }),
        )
        .route("/liar.png", get(|| async { ([(header::CONTENT_TYPE, "image/png")], "no picture") }))
        .route("/away", get(|| async { Redirect::to("/page") }))
        .route("/inside", get(|| async { Redirect::to("http://10.0.0.1/secret") }))
        .route("/round", get(|| async { Redirect::to("/round") }))
        .route("/error", get(|| async { StatusCode::NOT_FOUND.into_response() }))
        .route("/large", get(|| async { Html(format!("<title>Large</title>{}", " ".repeat(3 << 20))) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, served)
}

async fn preview(test: &TestNode, who: &Client, url: &str) -> (http::StatusCode, serde_json::Value) {
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    test.get(who, &format!("/_matrix/client/v1/media/preview_url?url={url}")).await
}

async fn node() -> TestNode {
    TestNode::with(|config| config.outbound_networks = vec!["127.0.0.1".parse().unwrap()]).await
}

#[tokio::test]
async fn a_page_is_described_its_picture_is_kept_here_and_it_is_fetched_once() {
    let test = node().await;
    let ann = test.client("ann", "A").await;
    let (web, served) = web().await;
    let mut pictures = Vec::new();
    for path in ["/page", "/page#part"] {
        let (status, body) = preview(&test, &ann, &format!("{web}{path}")).await;
        assert_eq!((status.as_u16(), body["og:title"].as_str()), (200, Some("A page")), "{body}");
        assert_eq!((body["og:image:type"].as_str(), body["og:image:width"].as_i64()), (Some("image/png"), Some(1)));
        assert!(body["matrix:image:size"].as_i64().unwrap() > 50);
        let media = body["og:image"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
        let response = test.call("GET", &format!("/_matrix/client/v1/media/download/{media}"), Some(&ann.token), json!(null)).await;
        assert_eq!(response.0, 200);
        pictures.push(body["og:image"].clone());
    }
    assert_eq!(served.load(Ordering::SeqCst), 1);
    test.clock.advance(2 * 60 * 60 * 1000);
    let again = preview(&test, &ann, &format!("{web}/page")).await.1;
    assert_eq!(served.load(Ordering::SeqCst), 2, "an hour later it may have changed");
    pictures.push(again["og:image"].clone());
    pictures.push(preview(&test, &ann, &format!("{web}/pixel.png")).await.1["og:image"].clone());
    pictures.dedup();
    assert_eq!(pictures.len(), 1, "the same picture is kept once: {pictures:?}");
}

#[tokio::test]
async fn a_picture_that_no_preview_shows_any_more_is_removed() {
    let test = node().await;
    let ann = test.client("ann", "A").await;
    let (web, served) = web().await;
    let mut media = Vec::new();
    for page in ["/changing", "/other", "/changing"] {
        test.clock.advance(2 * 60 * 60 * 1000);
        let (status, body) = preview(&test, &ann, &format!("{web}{page}")).await;
        assert_eq!(status, 200, "{body}");
        media.push(body["og:image"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned());
    }
    assert_eq!(served.load(Ordering::SeqCst), 3);
    let files = || walk(&test.dir.path().join("media/files"));
    let there = async |media: &str| test.get(&ann, &format!("/_matrix/client/v1/media/download/{media}")).await.0;
    assert_eq!(there(&media[0]).await, 404, "its page shows another one now");
    assert_eq!((there(&media[1]).await.as_u16(), there(&media[2]).await.as_u16(), files()), (200, 200, 2));
}

/// Files below a directory.
fn walk(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn redirects_are_followed_but_not_inside() {
    let test = node().await;
    let ann = test.client("ann", "A").await;
    let (web, _) = web().await;
    assert_eq!(preview(&test, &ann, &format!("{web}/away")).await.1["og:title"], "A page");
    assert_eq!(refused(&preview(&test, &ann, &format!("{web}/inside")).await), (403, "M_FORBIDDEN"));
    assert_eq!(refused(&preview(&test, &ann, &format!("{web}/round")).await), (502, "M_UNKNOWN"));
}

#[tokio::test]
async fn what_is_no_page_or_no_picture_has_no_preview_and_a_large_page_is_read_in_part() {
    let test = node().await;
    let ann = test.client("ann", "A").await;
    let (web, _) = web().await;
    assert_eq!(preview(&test, &ann, &format!("{web}/large")).await.1, json!({ "og:title": "Large" }));
    assert_eq!(preview(&test, &ann, &format!("{web}/liar.png")).await.1, json!({}));
    assert_eq!(preview(&test, &ann, &format!("{web}/pixel.png")).await.1["og:image:height"], 1);
    for path in ["/error", "/script.svg"] {
        assert_eq!(refused(&preview(&test, &ann, &format!("{web}{path}")).await), (502, "M_UNKNOWN"), "{path}");
    }
}

#[tokio::test]
async fn addresses_inside_the_network_are_not_reached_for_anybody() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "A").await;
    let (web, served) = web().await;
    let port = web.rsplit(':').next().unwrap();
    for url in
        [web.clone(), format!("http://[::ffff:127.0.0.1]:{port}/page"), "http://169.254.169.254/".into(), "http://192.168.1.1/".into()]
    {
        assert_eq!(refused(&preview(&test, &ann, &url).await), (403, "M_FORBIDDEN"), "{url}");
    }
    assert_eq!(refused(&preview(&test, &ann, &format!("http://localhost:{port}/page")).await), (502, "M_UNKNOWN"));
    assert_eq!(served.load(Ordering::SeqCst), 0);
    for url in ["ftp://example.org/", "file:///etc/passwd", "nonsense", "http://ann:secret@example.org/"] {
        assert_eq!(refused(&preview(&test, &ann, url).await), (400, "M_INVALID_PARAM"), "{url}");
    }
    assert_eq!(refused(&test.get(&ann, "/_matrix/client/v1/media/preview_url").await), (400, "M_MISSING_PARAM"));
}

#[tokio::test]
async fn previews_can_be_switched_off() {
    let test = TestNode::with(|config| config.url_previews = false).await;
    let ann = test.client("ann", "A").await;
    assert_eq!(refused(&preview(&test, &ann, "https://example.org/").await), (404, "M_UNRECOGNIZED"));
}
