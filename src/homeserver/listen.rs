//! Sockets: a Unix socket for the own process and its neighbours, TCP by configuration.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, response::IntoResponse as _};
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tower::Service;

use super::{StartError, api::error::ApiError};
use crate::base::{Shutdown, Tasks};

/// Connections at one time and per listener; further ones wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// A client must have sent its request's head within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where a node listens.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// Unix socket, made with mode 0600. A file left behind by a process that is gone is replaced.
    pub socket: Option<PathBuf>,
    /// TCP addresses, plain HTTP. Port 0 lets the system choose.
    pub tcp: Vec<SocketAddr>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub Option<SocketAddr>);

/// Binds everything, then serves. Returns the TCP addresses.
pub(super) async fn start(listeners: &Listeners, router: Router, tasks: &Tasks) -> Result<Vec<SocketAddr>, StartError> {
    let mut tcp = Vec::new();
    let mut addresses = Vec::new();
    for address in &listeners.tcp {
        let failed = |error| StartError::Listen { address: address.to_string(), error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        addresses.push(listener.local_addr().map_err(failed)?);
        tcp.push(listener);
    }
    if let Some(path) = &listeners.socket {
        let listener = bind_socket(path).map_err(|error| StartError::Listen { address: path.display().to_string(), error })?;
        let (router, owner) = (router.clone(), tasks.clone());
        tasks.spawn("node-socket", async move {
            accept(|| async { listener.accept().await.map(|(stream, _)| (stream, Peer(None))) }, router, owner).await;
        });
    }
    for listener in tcp {
        let (router, owner) = (router.clone(), tasks.clone());
        tasks.spawn("node-tcp", async move {
            let next = || async {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((stream, Peer(Some(peer))))
            };
            accept(next, router, owner).await;
        });
    }
    Ok(addresses)
}

fn bind_socket(path: &Path) -> std::io::Result<UnixListener> {
    let path = &crate::base::sockets::place(path)?;
    // The caller holds the data directory's lock, so a socket file that exists has no owner any more.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept<S, F, Fut>(next: F, router: Router, tasks: Tasks)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Fn() -> Fut,
    Fut: Future<Output = std::io::Result<(S, Peer)>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shutdown = tasks.shutdown().clone();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        // Cancel-safe: a connection that was not accepted stays in the system's queue.
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = next() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn("node-connection", async move {
                    serve(stream, peer, router, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors or a connection that broke at once: neither ends the listener.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve<S>(stream: S, peer: Peer, router: Router, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = AssertUnwindSafe(router.clone().call(request)).catch_unwind();
        async move {
            // What a stranger sends may at worst cost its own answer, never the node. The panic hook has logged it.
            let fault = |_| Ok(ApiError::internal("a handler panicked").into_response());
            answer.await.unwrap_or_else(fault)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        // Cancel-safe: polling the connection again carries on where it was.
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = shutdown.wait(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_handler_costs_its_own_answer_only() -> Result<(), Box<dyn std::error::Error>> {
        async fn boom() -> &'static str {
            panic!("on purpose")
        }
        let router = Router::new().route("/boom", axum::routing::get(boom)).route("/fine", axum::routing::get(|| async { "fine" }));
        let tasks = Tasks::new(Shutdown::new());
        let listeners = Listeners { socket: None, tcp: vec![([127, 0, 0, 1], 0).into()] };
        let addresses = start(&listeners, router, &tasks).await?;
        let base = format!("http://{}", addresses.first().ok_or("no address")?);
        assert_eq!(reqwest::get(format!("{base}/boom")).await?.status(), 500);
        assert_eq!(reqwest::get(format!("{base}/fine")).await?.text().await?, "fine");
        assert!(!tasks.shutdown().is_triggered());
        tasks.shutdown().trigger();
        assert!(tasks.finish(Duration::from_secs(5)).await);
        Ok(())
    }
}
