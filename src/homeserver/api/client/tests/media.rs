//! Files: up, down, small.

use axum::body::Body;
use http::{Request, Response, header};
use serde_json::{Value, json};

use crate::homeserver::{
    api::testing::{Client, TestNode, refused},
    media::samples::{frames, gif, png},
};

fn request(method: &str, path: &str, who: Option<&Client>, body: Vec<u8>, content_type: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(who) = who {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", who.token));
    }
    if let Some(content_type) = content_type {
        request = request.header(header::CONTENT_TYPE, content_type);
    }
    request.body(Body::from(body)).unwrap()
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()
}

pub(super) async fn upload(test: &TestNode, who: &Client, body: &[u8], content_type: &str, filename: &str) -> String {
    let path = format!("/_matrix/media/v3/upload?filename={filename}");
    let response = test.send(request("POST", &path, Some(who), body.to_vec(), Some(content_type))).await;
    assert_eq!(response.status(), 200);
    let answer: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    answer["content_uri"].as_str().unwrap().strip_prefix("mxc://home.test/").unwrap().to_owned()
}

async fn download(test: &TestNode, who: Option<&Client>, path: &str) -> Response<Body> {
    test.send(request("GET", path, who, Vec::new(), None)).await
}

fn head<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn what_was_uploaded_comes_back_with_headers_that_keep_it_from_running() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let data = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>();
    let id = upload(&test, &ann, &data, "text/html", "p%C3%A4ge.html").await;
    let response = download(&test, Some(&ann), &format!("/_matrix/client/v1/media/download/home.test/{id}")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(head(&response, "content-type"), "text/html");
    assert_eq!(head(&response, "content-disposition"), "attachment; filename*=utf-8''p%C3%A4ge.html");
    assert!(head(&response, "content-security-policy").starts_with("sandbox; default-src 'none'; script-src 'none'"));
    assert_eq!(head(&response, "x-content-type-options"), "nosniff");
    assert_eq!(head(&response, "cross-origin-resource-policy"), "cross-origin");
    assert_eq!(head(&response, "content-length"), "300000");
    assert_eq!(bytes(response).await, data);
    let named = download(&test, Some(&ann), &format!("/_matrix/client/v1/media/download/home.test/{id}/other.txt")).await;
    assert_eq!(head(&named, "content-disposition"), "attachment; filename=other.txt");
    let picture = upload(&test, &ann, &png(1, 1), "image/png", "a.png").await;
    let shown = download(&test, Some(&ann), &format!("/_matrix/client/v1/media/download/home.test/{picture}")).await;
    assert_eq!(head(&shown, "content-disposition"), "inline; filename=a.png");
}

#[tokio::test]
async fn strangers_get_no_files_from_either_endpoint() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let id = upload(&test, &ann, b"private", "text/plain", "x").await;
    assert_eq!(download(&test, None, &format!("/_matrix/client/v1/media/download/home.test/{id}")).await.status(), 401);
    for path in ["download", "thumbnail"] {
        let path = format!("/_matrix/media/v3/{path}/home.test/{id}?width=10&height=10");
        assert_eq!(download(&test, None, &path).await.status(), 404);
    }
    assert_eq!(download(&test, Some(&ann), &format!("/_matrix/media/v3/download/home.test/{id}")).await.status(), 200);
    assert_eq!(test.send(request("POST", "/_matrix/media/v3/upload", None, b"x".to_vec(), None)).await.status(), 401);
}

#[tokio::test]
async fn a_file_over_the_limit_leaves_nothing_behind() {
    let test = TestNode::with(|config| config.max_upload_bytes = 1000).await;
    let ann = test.client("ann", "ONE").await;
    assert_eq!(test.get(&ann, "/_matrix/client/v1/media/config").await.1, json!({ "m.upload.size": 1000 }));
    // Once without an announced length, so that it is the stream that is bounded.
    let chunks = futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[7; 100]))));
    let mut streamed = request("POST", "/_matrix/media/v3/upload", Some(&ann), Vec::new(), None);
    *streamed.body_mut() = Body::from_stream(chunks);
    let (_, made) = test.post(&ann, "/_matrix/media/v1/create", Value::Null).await;
    let place = made["content_uri"].as_str().unwrap().replace("mxc:/", "/_matrix/media/v3/upload");
    let filled = request("PUT", &place, Some(&ann), vec![7; 1001], None);
    for request in [request("POST", "/_matrix/media/v3/upload", Some(&ann), vec![7; 1001], None), streamed, filled] {
        let response = test.send(request).await;
        assert_eq!(response.status(), 413);
        let answer: Value = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(answer["errcode"], json!("M_TOO_LARGE"));
    }
    let left = std::fs::read_dir(test.dir.path().join("media/incoming")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn paths_lead_nowhere_but_to_media() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    for id in ["..%2F..%2Fsigning.key", "%2E%2E%2Fnode.db", "..", "files", "%00", "a%2Fb"] {
        let response = download(&test, Some(&ann), &format!("/_matrix/client/v1/media/download/home.test/{id}")).await;
        assert_eq!(response.status(), 404, "{id}");
        let small = format!("/_matrix/client/v1/media/thumbnail/home.test/{id}?width=32&height=32");
        assert_eq!(download(&test, Some(&ann), &small).await.status(), 404, "{id}");
    }
    assert_eq!(download(&test, Some(&ann), "/_matrix/client/v1/media/download/other.test/abcdef").await.status(), 404);
}

#[tokio::test]
async fn a_place_is_filled_once_by_its_owner_and_waited_for() {
    let test = TestNode::new().await;
    let (ann, ben) = (test.client("ann", "ONE").await, test.client("ben", "BEN").await);
    let (status, made) = test.post(&ann, "/_matrix/media/v1/create", Value::Null).await;
    assert_eq!((status.as_u16(), made["unused_expires_at"].as_u64()), (200, Some(1_790_000_000_000 + 24 * 3_600_000)));
    let id = made["content_uri"].as_str().unwrap().strip_prefix("mxc://home.test/").unwrap();
    let here = format!("/_matrix/client/v1/media/download/home.test/{id}");
    let early = test.get(&ann, &format!("{here}?timeout_ms=0")).await;
    assert_eq!(refused(&early), (504, "M_NOT_YET_UPLOADED"));
    let put =
        |who: &Client| request("PUT", &format!("/_matrix/media/v3/upload/home.test/{id}"), Some(who), b"late".to_vec(), Some("text/plain"));
    assert_eq!(test.send(put(&ben)).await.status(), 403);
    let (waiting, filled) = tokio::join!(download(&test, Some(&ben), &here), test.send(put(&ann)));
    assert_eq!(filled.status(), 200);
    assert_eq!(bytes(waiting).await, b"late");
    let again = test.send(put(&ann)).await;
    assert_eq!(again.status(), 409);
    assert_eq!(serde_json::from_slice::<Value>(&bytes(again).await).unwrap()["errcode"], json!("M_CANNOT_OVERWRITE_MEDIA"));
    let (_, unused) = test.post(&ann, "/_matrix/media/v1/create", Value::Null).await;
    let unused = unused["content_uri"].as_str().unwrap().strip_prefix("mxc://home.test/").unwrap().to_owned();
    test.clock.advance(24 * 3_600_000);
    assert_eq!(test.get(&ann, &format!("/_matrix/client/v1/media/download/home.test/{unused}?timeout_ms=0")).await.0, 404);
}

#[tokio::test]
async fn thumbnails_are_made_once_and_refused_for_what_is_no_image() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let id = upload(&test, &ann, &png(1000, 500), "image/png", "wide.png").await;
    for _ in 0..2 {
        let path = format!("/_matrix/client/v1/media/thumbnail/home.test/{id}?width=300&height=200&method=scale");
        let response = download(&test, Some(&ann), &path).await;
        assert_eq!((response.status().as_u16(), head(&response, "content-type")), (200, "image/jpeg"));
        let small = image::load_from_memory(&bytes(response).await).unwrap();
        assert_eq!((small.width(), small.height()), (320, 160));
    }
    let text = upload(&test, &ann, b"no image", "image/png", "x.png").await;
    let thumbnail = |id: &str, query: &str| format!("/_matrix/client/v1/media/thumbnail/home.test/{id}?{query}");
    assert_eq!(refused(&test.get(&ann, &thumbnail(&text, "width=32&height=32&method=crop")).await), (400, "M_UNKNOWN"));
    assert_eq!(refused(&test.get(&ann, &thumbnail(&id, "width=32")).await), (400, "M_MISSING_PARAM"));
    assert_eq!(refused(&test.get(&ann, &thumbnail(&id, "width=0&height=1")).await), (400, "M_INVALID_PARAM"));
    assert_eq!(refused(&test.get(&ann, &thumbnail(&id, "width=32&height=32&method=melt")).await), (400, "M_INVALID_PARAM"));
}

#[tokio::test]
async fn an_animation_moves_for_those_who_want_that_and_for_nobody_else() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let large = upload(&test, &ann, &gif(640, 320, 3), "image/gif", "large.gif").await;
    let small = upload(&test, &ann, &gif(64, 32, 3), "image/gif", "small.gif").await;
    let still = upload(&test, &ann, &png(1000, 500), "image/png", "still.png").await;
    let get = async |id: &str, more: &str| {
        let path = format!("/_matrix/client/v1/media/thumbnail/home.test/{id}?width=320&height=240{more}");
        let response = download(&test, Some(&ann), &path).await;
        let kind = head(&response, "content-type").to_owned();
        (response.status().as_u16(), kind, bytes(response).await)
    };
    // Twice: the second time it is there already.
    for _ in 0..2 {
        let (status, kind, made) = get(&large, "&animated=true").await;
        assert_eq!((status, kind.as_str(), frames(&made).len()), (200, "image/webp", 3));
        let (_, kind, made) = get(&small, "&animated=true").await;
        assert_eq!((kind.as_str(), made), ("image/gif", gif(64, 32, 3)), "small enough as it is");
        assert_eq!(get(&still, "&animated=true").await.1, "image/jpeg", "what cannot move does not");
        for more in ["", "&animated=false"] {
            for id in [&large, &small] {
                let (status, kind, made) = get(id, more).await;
                assert_eq!((status, kind.as_str()), (200, "image/png"));
                assert!(image::load_from_memory(&made).is_ok());
            }
        }
    }
    assert_eq!(get(&large, "&animated=perhaps").await.0, 400);
    assert!(test.node.media.delete(&large).await.unwrap() && test.node.media.delete(&still).await.unwrap());
    let left = walk(&test.node.config.data_dir.join("media/thumbnails"));
    assert!(left.iter().all(|name| name.starts_with(&small)), "{left:?}");
}

/// The names of the files below a directory.
fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let names =
        |entry: std::fs::DirEntry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.file_name().into_string().unwrap()] };
    entries.flat_map(names).collect()
}

#[tokio::test]
async fn a_part_of_a_file_can_be_asked_for() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ONE").await;
    let id = upload(&test, &ann, b"0123456789", "text/plain", "x").await;
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, "bytes 2-4/10", "234"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=4-2", 200, "", "0123456789"),
        ("bytes=90-", 200, "", "0123456789"),
        ("lines=1-2", 200, "", "0123456789"),
    ] {
        let mut asked = request("GET", &format!("/_matrix/client/v1/media/download/home.test/{id}"), Some(&ann), Vec::new(), None);
        asked.headers_mut().insert(header::RANGE, range.parse().unwrap());
        let response = test.send(asked).await;
        assert_eq!((response.status().as_u16(), head(&response, "content-range")), (status, content_range), "{range}");
        assert_eq!(bytes(response).await, body.as_bytes(), "{range}");
    }
}

#[tokio::test]
async fn files_of_other_servers_make_room_however_many_have_to_go() {
    use crate::homeserver::store::{StoreError, remote_media};
    let test = TestNode::new().await;
    let row = |number: i64| remote_media::RemoteMedia {
        server: "remote.test".into(),
        media_id: format!("id{number}"),
        variant: String::new(),
        file: format!("file{number}"),
        content_type: None,
        filename: None,
        size_bytes: 10,
        used_ms: number,
    };
    test.node
        .store
        .write(move |tx| {
            for number in 0..20 {
                remote_media::put(tx, &row(number))?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let kept = async || {
        let read = test.node.store.read(|db| {
            let has = |number: &i64| remote_media::is_kept(db, &format!("file{number}"));
            (0..20_i64).filter_map(|number| has(&number).map(|has| has.then_some(number)).transpose()).collect::<Result<Vec<_>, _>>()
        });
        read.await.unwrap()
    };
    test.node.media.shrink_remote(200, 3).await.unwrap();
    assert_eq!(kept().await.len(), 20, "there is room");
    test.node.media.shrink_remote(35, 3).await.unwrap();
    assert_eq!(kept().await, [17, 18, 19], "those that nobody has used for longest are gone");
    test.node.media.shrink_remote(0, 3).await.unwrap();
    assert!(kept().await.is_empty());
}
