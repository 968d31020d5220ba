//! Sockets: a Unix socket for the own process and its neighbours, TCP by configuration, in the clear or with TLS.

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
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::{
    StartError, acme,
    api::error::ApiError,
    tls::{self, Files},
};
use crate::base::Tasks;

/// Connections at one time and per listener; further ones wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// A client must have sent its request's head within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client must have shaken hands within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests of one HTTP/2 connection that are answered at a time.
const STREAMS: u32 = 64;
/// Bytes of a request's header fields, over HTTP/2.
const HEADER_BYTES: u32 = 64 * 1024;
/// A silent HTTP/2 connection is asked for a sign of life after this time, and closed when it gives none.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Where a node listens.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// Unix socket, made with mode 0600. A file left behind by a process that is gone is replaced.
    pub socket: Option<PathBuf>,
    /// TCP addresses, plain HTTP. Port 0 lets the system choose.
    pub tcp: Vec<SocketAddr>,
    /// TCP addresses with TLS.
    pub tls: Option<TlsListeners>,
}

/// Where a node listens with TLS.
#[derive(Debug, Clone)]
pub struct TlsListeners {
    /// TCP addresses. Port 0 lets the system choose.
    pub addresses: Vec<SocketAddr>,
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
}

/// Where a certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// Files that the owner keeps. They are read again when they change.
    Files {
        /// PEM file with the certificate and those that vouch for it.
        certificate: PathBuf,
        /// PEM file with the private key.
        key: PathBuf,
    },
    /// An authority that the node asks itself.
    Acme(acme::Settings),
}

/// What a TLS listener shows.
#[derive(Debug, Clone)]
enum Shown {
    Files(Arc<Files>),
    Acme(Arc<acme::Certificates>),
}

impl Shown {
    /// As configured; `kept` is what the node keeps itself.
    async fn open(source: &CertificateSource, kept: Option<&Arc<acme::Certificates>>) -> Result<Self, StartError> {
        match (source, kept) {
            (CertificateSource::Files { certificate, key }, _) => {
                let unreadable = |error| StartError::Io { path: certificate.clone(), error: std::io::Error::other(error) };
                let (certificate, key) = (certificate.clone(), key.clone());
                let files = tokio::task::spawn_blocking(move || Files::open(certificate, key)).await.map_err(unreadable)??;
                Ok(Self::Files(files))
            }
            (CertificateSource::Acme(_), Some(kept)) => Ok(Self::Acme(Arc::clone(kept))),
            (CertificateSource::Acme(_), None) => Ok(Self::Acme(Arc::default())),
        }
    }

    fn config(&self) -> Arc<ServerConfig> {
        match self {
            Self::Files(files) => tls::server_config(Arc::clone(files) as _, None),
            Self::Acme(kept) => tls::server_config(Arc::clone(kept) as _, Some(acme::TLS_ALPN)),
        }
    }
}

/// The addresses that are listened on, with the ports that the system chose.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses {
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub Option<SocketAddr>);

/// Binds everything, then serves.
pub(super) async fn start(
    listeners: &Listeners,
    kept: Option<&Arc<acme::Certificates>>,
    router: Router,
    tasks: &Tasks,
) -> Result<Addresses, StartError> {
    let mut addresses = Addresses::default();
    let tcp = bind(&listeners.tcp, &mut addresses.tcp).await?;
    let encrypted = match &listeners.tls {
        Some(tls) => {
            let shown = Shown::open(&tls.certificate, kept).await?;
            Some((bind(&tls.addresses, &mut addresses.tls).await?, shown))
        }
        None => None,
    };
    if let Some(path) = &listeners.socket {
        let listener = bind_socket(path).map_err(|error| StartError::Listen { address: path.display().to_string(), error })?;
        let (router, owner) = (router.clone(), tasks.clone());
        tasks.spawn("node-socket", async move {
            let next = || async { listener.accept().await.map(|(stream, _)| (stream, Peer(None))) };
            let serve = |stream, peer, tasks| serve(stream, peer, router.clone(), tasks, Protocol::Http1);
            accept(next, serve, owner).await;
        });
    }
    for listener in tcp {
        let (router, owner) = (router.clone(), tasks.clone());
        tasks.spawn("node-tcp", async move {
            let serve = |stream, peer, tasks| serve(stream, peer, router.clone(), tasks, Protocol::Http1);
            accept(|| next_tcp(&listener), serve, owner).await;
        });
    }
    if let Some((listeners, shown)) = encrypted {
        let config = shown.config();
        for listener in listeners {
            let (router, owner, config, shown) = (router.clone(), tasks.clone(), Arc::clone(&config), shown.clone());
            tasks.spawn("node-tls", async move {
                let serve = |stream, peer, tasks| serve_tls(stream, peer, router.clone(), tasks, Arc::clone(&config), shown.clone());
                accept(|| next_tcp(&listener), serve, owner).await;
            });
        }
    }
    Ok(addresses)
}

/// Binds all of these addresses, and notes what they became.
async fn bind(wanted: &[SocketAddr], bound: &mut Vec<SocketAddr>) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    for address in wanted {
        let failed = |error| StartError::Listen { address: address.to_string(), error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        bound.push(listener.local_addr().map_err(failed)?);
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn next_tcp(listener: &TcpListener) -> std::io::Result<(TcpStream, Peer)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, Peer(Some(peer))))
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

/// Drives a connection to its end; on the shutdown signal it takes no further requests.
macro_rules! until_ended {
    ($connection:ident, $shutdown:ident) => {{
        tokio::pin!($connection);
        let mut stopping = false;
        loop {
            // Cancel-safe: polling the connection again carries on where it was.
            tokio::select! {
                ended = $connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    break;
                }
                () = $shutdown.wait(), if !stopping => {
                    stopping = true;
                    $connection.as_mut().graceful_shutdown();
                }
            }
        }
    }};
}

async fn accept<S, F, Fut, G, Gut>(next: F, serve: G, tasks: Tasks)
where
    F: Fn() -> Fut,
    Fut: Future<Output = std::io::Result<(S, Peer)>>,
    G: Fn(S, Peer, Tasks) -> Gut,
    Gut: Future<Output = ()> + Send + 'static,
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
                let connection = serve(stream, peer, tasks.clone());
                tasks.spawn("node-connection", async move {
                    connection.await;
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

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Shakes hands, then serves what was agreed on.
async fn serve_tls(stream: TcpStream, peer: Peer, router: Router, tasks: Tasks, config: Arc<ServerConfig>, shown: Shown) {
    if let Shown::Files(files) = &shown
        && files.is_due()
    {
        let files = Arc::clone(files);
        if tokio::task::spawn_blocking(move || files.refresh()).await.is_err() {
            tracing::error!("looking at the certificate failed");
        }
    }
    let shutdown = tasks.shutdown().clone();
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
    let stream = tokio::select! {
        () = shutdown.wait() => return,
        stream = handshake => stream,
    };
    match stream {
        Ok(Ok(stream)) => {
            let agreed = stream.get_ref().1.alpn_protocol();
            if agreed == Some(acme::TLS_ALPN) {
                // An authority has seen what it wanted to see (RFC 8737, section 3).
                return;
            }
            let protocol = if agreed == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
            serve(stream, peer, router, tasks, protocol).await;
        }
        // Scanners and those who do not trust the certificate: nothing that the owner has to know.
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve<S>(stream: S, peer: Peer, router: Router, tasks: Tasks, protocol: Protocol)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = AssertUnwindSafe(router.clone().call(request)).catch_unwind();
        async move {
            // What a stranger sends may at worst cost its own answer, never the node. The panic hook has logged it.
            let fault = |_| {
                let mut response = ApiError::internal("a handler panicked").into_response();
                super::api::let_everybody_read(&mut response);
                Ok(response)
            };
            answer.await.unwrap_or_else(fault)
        }
    });
    let shutdown = tasks.shutdown().clone();
    match protocol {
        Protocol::Http1 => {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            until_ended!(connection, shutdown);
        }
        Protocol::Http2 => {
            let connection = hyper::server::conn::http2::Builder::new(OnTasks(tasks))
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEADER_BYTES)
                .keep_alive_interval(KEEP_ALIVE)
                .serve_connection(TokioIo::new(stream), service);
            until_ended!(connection, shutdown);
        }
    }
}

/// Requests of an HTTP/2 connection run as tasks of the node.
#[derive(Debug, Clone)]
struct OnTasks(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for OnTasks {
    fn execute(&self, request: F) {
        self.0.spawn("node-request", request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shutdown;

    #[tokio::test]
    async fn a_panicking_handler_costs_its_own_answer_only() -> Result<(), Box<dyn std::error::Error>> {
        async fn boom() -> &'static str {
            panic!("on purpose")
        }
        let router = Router::new().route("/boom", axum::routing::get(boom)).route("/fine", axum::routing::get(|| async { "fine" }));
        let tasks = Tasks::new(Shutdown::new());
        let listeners = Listeners { tcp: vec![([127, 0, 0, 1], 0).into()], ..Listeners::default() };
        let addresses = start(&listeners, None, router, &tasks).await?;
        let base = format!("http://{}", addresses.tcp.first().ok_or("no address")?);
        let boom = reqwest::get(format!("{base}/boom")).await?;
        assert_eq!(boom.status(), 500);
        assert!(boom.headers().contains_key("access-control-allow-origin"), "a web client can read what went wrong");
        assert_eq!(reqwest::get(format!("{base}/fine")).await?.text().await?, "fine");
        assert!(!tasks.shutdown().is_triggered());
        tasks.shutdown().trigger();
        assert!(tasks.finish(Duration::from_secs(60)).await);
        Ok(())
    }

    #[tokio::test]
    async fn tls_carries_both_versions_of_http() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let tasks = Tasks::new(Shutdown::new());
        let certificate = CertificateSource::Files { certificate, key };
        let tls = Some(TlsListeners { addresses: vec![([127, 0, 0, 1], 0).into()], certificate });
        let router = Router::new().route("/", axum::routing::get(|| async { "fine" }));
        let addresses = start(&Listeners { tls, ..Listeners::default() }, None, router, &tasks).await?;
        let port = addresses.tls.first().ok_or("no address")?.port();
        let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?;
        for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
            let client = reqwest::Client::builder().add_root_certificate(trusted.clone());
            let client = if version == http::Version::HTTP_11 { client.http1_only() } else { client }.build()?;
            let answer = client.get(format!("https://localhost:{port}/")).send().await?;
            assert_eq!(answer.version(), version);
            assert_eq!(answer.text().await?, "fine");
        }
        // Who does not speak TLS gets nothing, and takes no place for long.
        assert!(reqwest::get(format!("http://127.0.0.1:{port}/")).await.is_err());
        tasks.shutdown().trigger();
        assert!(tasks.finish(Duration::from_secs(60)).await);
        Ok(())
    }
}
