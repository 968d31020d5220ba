//! The asking side of the sockets between processes.

use std::{io, path::Path, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    super::exit::{Exit, Failure},
    LINE_BYTES, Reply, Request,
};
use crate::base::sockets;

/// How long a process may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take: longer than the server's own time limits, which say more about what went wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection that has asked nothing yet.
#[derive(Debug)]
pub struct Connection(UnixStream);

/// Connects, if a process serves this socket.
pub async fn connect(path: &Path) -> Option<Connection> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(sockets::find(path))).await.ok()?;
    connected.ok().map(Connection)
}

impl Connection {
    /// Asks, and waits for the one answer.
    ///
    /// # Errors
    /// The failure that the other process reports, or that it did not answer.
    pub async fn ask(self, request: &Request) -> Result<Value, Failure> {
        let answer = async {
            let mut answers = self.start(request).await?;
            while answers.next().await?.is_some() {}
            Ok(answers.result)
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| Err(lost(&io::ErrorKind::TimedOut.into())))
    }

    /// Asks for several answers.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn start(self, request: &Request) -> Result<Answers, Failure> {
        let (reader, mut writer) = self.0.into_split();
        let mut line = zeroize::Zeroizing::new(serde_json::to_vec(request).map_err(|error| lost(&error.into()))?);
        line.push(b'\n');
        writer.write_all(&line).await.map_err(|error| lost(&error))?;
        Ok(Answers { reader: BufReader::new(reader), _writer: writer, result: Value::Null })
    }
}

/// The answers to a request, as they come.
#[derive(Debug)]
pub struct Answers {
    reader: BufReader<OwnedReadHalf>,
    /// Closing it would mean that nobody waits for the answer.
    _writer: OwnedWriteHalf,
    result: Value,
}

impl Answers {
    /// The next one, or `None` after the last.
    ///
    /// # Errors
    /// The failure that the other process reports, or that it ended before the answer did.
    pub async fn next(&mut self) -> Result<Option<Value>, Failure> {
        let mut line = Vec::new();
        (&mut self.reader).take(LINE_BYTES).read_until(b'\n', &mut line).await.map_err(|error| lost(&error))?;
        if !line.ends_with(b"\n") {
            return Err(lost(&io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(|error| lost(&error.into()))? {
            Reply::Item(item) => Ok(Some(item)),
            Reply::Done(result) => {
                self.result = result;
                Ok(None)
            }
            Reply::Failed { code, message } => Err(Failure::new(Exit::from_word(&code).unwrap_or(Exit::Failure), message)),
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ended before it had answered".to_owned(),
        io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Exit::Failure, format!("the running homeroom of this profile could not be asked: {why}"))
}
