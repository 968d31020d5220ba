//! A homeserver that is older, or stricter, than ours: our node behind something that changes its answers.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::client::spawn_task;

/// Larger bodies are cut off.
const BODY: usize = 16 << 20;

struct Between {
    target: String,
    http: reqwest::Client,
    sliding_sync: bool,
    seen: Mutex<HashSet<String>>,
    ended: Mutex<HashSet<String>>,
    mood: watch::Sender<Mood>,
}

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// They reach the node.
    Through,
    /// Nobody is there; waiting requests hear so, too.
    Away,
    /// Each is answered with a page for browsers, as a hotel's network does; waiting ones, too.
    WebPage,
    /// Each is answered with JSON that has nothing to do with Matrix; waiting ones, too.
    OtherJson,
    /// Those whose paths have one of these in them wait.
    Holding(&'static [&'static str]),
}

/// Stands between a client and a node until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    between: Arc<Between>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// Starts one before the node at this URL. Without `sliding_sync` the node knows `/v3/sync` only.
    pub async fn start(target: String, sliding_sync: bool) -> Self {
        let between = Arc::new(Between {
            target,
            http: reqwest::Client::new(),
            sliding_sync,
            seen: Mutex::default(),
            ended: Mutex::default(),
            mood: watch::Sender::new(Mood::Through),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(forward).with_state(between.clone());
        let serving = spawn_task(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, between, serving }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on requests fare like this.
    pub fn set(&self, mood: Mood) {
        self.between.mood.send_replace(mood);
    }

    /// Ends every session that has been seen, each to be renewed by signing in again (`soft_logout`).
    pub fn end_sessions(&self) {
        let seen = self.between.seen.lock().unwrap().clone();
        self.between.ended.lock().unwrap().extend(seen);
    }
}

fn refused(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn forward(State(between): State<Arc<Between>>, request: Request) -> Response {
    let (mut broken, mut held) = (between.mood.subscribe(), between.mood.subscribe());
    let path = request.uri().path().to_owned();
    let broken = async {
        let mood = broken.wait_for(|mood| !matches!(mood, Mood::Through | Mood::Holding(_))).await;
        *mood.unwrap()
    };
    let passed = async {
        let waits = |mood: &Mood| matches!(mood, Mood::Holding(parts) if parts.iter().any(|part| path.contains(part)));
        // The sender is as old as the proxy.
        let _ = held.wait_for(|mood| !waits(mood)).await;
        pass_on(between.clone(), request).await
    };
    tokio::select! {
        biased;
        mood = broken => match mood {
            Mood::WebPage => (StatusCode::OK, [(header::CONTENT_TYPE, "text/html")], "<html>Welcome to our hotel</html>").into_response(),
            Mood::OtherJson => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "[{\"hotel\": true}]").into_response(),
            _ => refused(StatusCode::BAD_GATEWAY, &json!({})),
        },
        response = passed => response,
    }
}

async fn pass_on(between: Arc<Between>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    if let Some(token) = parts.headers.get(header::AUTHORIZATION) {
        let token = token.to_str().unwrap().to_owned();
        if between.ended.lock().unwrap().contains(&token) {
            let body = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "expired", "soft_logout": true });
            return refused(StatusCode::UNAUTHORIZED, &body);
        }
        between.seen.lock().unwrap().insert(token);
    }
    if !between.sliding_sync && path.contains("org.matrix.simplified_msc3575") {
        return refused(StatusCode::NOT_FOUND, &json!({ "errcode": "M_UNRECOGNIZED", "error": "unknown" }));
    }
    let mut sent = between.http.request(parts.method, format!("{}{path}", between.target)).body(to_bytes(body, BODY).await.unwrap());
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            sent = sent.header(name, value);
        }
    }
    let Ok(answer) = sent.send().await else { return refused(StatusCode::BAD_GATEWAY, &json!({})) };
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut bytes = answer.bytes().await.unwrap_or_default();
    if !between.sliding_sync && path.ends_with("/versions") {
        let mut versions: Value = serde_json::from_slice(&bytes).unwrap();
        versions["unstable_features"] = json!({});
        bytes = Bytes::from(versions.to_string());
    }
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    response
}
