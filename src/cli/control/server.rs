//! The serving side of the sockets between processes.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::Semaphore,
};

use super::{
    super::exit::{Exit, Failure},
    LINE_BYTES, Reply, Request,
};
use crate::base::{Tasks, sockets};

/// Connections at one time; further ones wait in the system's queue.
const CONNECTIONS: usize = 16;
/// A request is one line that is written at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A reader that takes no line for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Carries a request out. What it returns is the last line of the answer.
    fn handle(&self, request: Request, replies: &mut Replies) -> impl Future<Output = Result<Value, Failure>> + Send;
}

/// The way back to who asked.
#[derive(Debug)]
pub struct Replies(OwnedWriteHalf);

impl Replies {
    /// Sends one of several results.
    ///
    /// # Errors
    /// When the asker is gone or does not read.
    pub async fn item(&mut self, item: Value) -> Result<(), Failure> {
        self.line(&Reply::Item(item)).await
    }

    async fn line(&mut self, reply: &Reply) -> Result<(), Failure> {
        let gone = |error: io::Error| Failure::new(Exit::Failure, format!("who asked is gone: {error}"));
        let mut line = serde_json::to_vec(reply).map_err(|error| gone(error.into()))?;
        line.push(b'\n');
        match tokio::time::timeout(WRITE_TIMEOUT, self.0.write_all(&line)).await {
            Ok(written) => written.map_err(gone),
            Err(_) => Err(gone(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Serves the socket until the shutdown signal. The caller holds the lock that goes with the path, so a file that is there
/// already belongs to nobody.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve<H: Handler>(path: &Path, handler: Arc<H>, tasks: &Tasks) -> io::Result<()> {
    let place = sockets::place(path)?;
    match std::fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&place)?;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600))?;
    let (owner, path) = (tasks.clone(), path.to_path_buf());
    tasks.spawn("control", async move {
        accept(&listener, &handler, &owner).await;
        // A missing file tells the next one sooner than a refused connection does.
        if let Err(error) = sockets::remove(&path) {
            tracing::debug!(%error, path = %path.display(), "the control socket could not be removed");
        }
    });
    Ok(())
}

async fn accept<H: Handler>(listener: &UnixListener, handler: &Arc<H>, tasks: &Tasks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shutdown = tasks.shutdown();
    loop {
        // Cancel-safe: a connection that was not accepted stays in the system's queue.
        let stream = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted.map(|(stream, _)| stream),
        };
        let place = tokio::select! {
            () = shutdown.wait() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        match (stream, place) {
            (Ok(stream), Ok(place)) => {
                let (handler, shutdown) = (Arc::clone(handler), shutdown.clone());
                tasks.spawn("control-connection", async move {
                    // Cancelled on shutdown: the asker sees the connection end without a last line and says so.
                    tokio::select! {
                        () = shutdown.wait() => {}
                        () = answer(stream, handler.as_ref()) => {}
                    }
                    drop(place);
                });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "could not accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (Ok(_), Err(_)) => return,
        }
    }
}

async fn answer<H: Handler>(stream: UnixStream, handler: &H) {
    let ours = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0) {
        tracing::warn!("another user tried the control socket");
        return;
    }
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader).take(LINE_BYTES);
    let mut replies = Replies(writer);
    let mut line = Vec::new();
    let read = tokio::time::timeout(REQUEST_TIMEOUT, reader.read_until(b'\n', &mut line)).await;
    let request = match read {
        Ok(Ok(_)) if line.ends_with(b"\n") => {
            serde_json::from_slice(&line).map_err(|error| Failure::usage(format!("not a request: {error}")))
        }
        Ok(Ok(0)) => return,
        _ => Err(Failure::usage("not a request: the line has no end")),
    };
    let result = match request {
        // An asker that hangs up is not waited for.
        Ok(request) => tokio::select! {
            result = handler.handle(request, &mut replies) => result,
            () = hung_up(&mut reader) => return,
        },
        Err(failure) => Err(failure),
    };
    let last = result.map_or_else(Reply::from, Reply::Done);
    if let Err(failure) = replies.line(&last).await {
        tracing::debug!(%failure, "an answer was not read");
    }
}

/// Resolves when the other side has closed. Cancel-safe: whatever it sends after its request is of no use.
async fn hung_up<R: tokio::io::AsyncRead + Unpin>(reader: &mut R) {
    let mut rest = [0_u8; 64];
    while reader.read(&mut rest).await.is_ok_and(|len| len > 0) {}
}
