//! How homeroom processes of one user talk to each other: a Unix socket, one request for each connection, lines of JSON.
//!
//! The screen serves `control.sock` for `send`, `tail` and `rooms`; whoever runs the node serves `admin.sock` for the
//! owner's commands, and for those who want to know when it ends. Both are open to the same user only.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exit::Failure;
use crate::{base::Secret, client::headless::SendOptions};

/// Longest line of a request or a reply. The largest event is 64 KiB, and JSON may write a character as six.
const LINE_BYTES: u64 = 512 * 1024;

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// One item that says who runs the node, then silence until its end.
    Watch,
    /// A new account on the node.
    CreateAccount {
        /// Localpart.
        name: String,
        /// Its password.
        #[serde(with = "secret")]
        password: Secret,
        /// May do everything on the node.
        admin: bool,
    },
    /// A new registration token for the node.
    CreateToken {
        /// How many accounts it is good for.
        uses: Option<u32>,
        /// For how long.
        valid_ms: Option<u64>,
    },
    /// A new signing key for the node.
    NewKey,
    /// What users of the node reported to its owner, newest first.
    Reports {
        /// How many at most.
        limit: u32,
    },
    /// What of the node does not work at the moment.
    Troubles,
    /// The rooms of the account.
    Rooms,
    /// Send a message and wait until the server has it.
    Send {
        /// ID, alias, name, or user ID for a direct conversation.
        room: String,
        /// The text.
        text: String,
        /// How to send it.
        options: SendOptions,
    },
    /// Invites that the node holds.
    HeldInvites {
        /// How many at most.
        limit: u32,
    },
    /// What becomes of an invite that the node holds.
    JudgeInvite {
        /// Who is invited.
        user_id: String,
        /// The room.
        room_id: String,
        /// It is let through; otherwise it is turned down.
        release: bool,
    },
    /// Messages as they arrive, one item each.
    Tail {
        /// One room only.
        room: Option<String>,
    },
}

/// A line of an answer. `Done` or `Failed` is the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// One of several.
    Item(Value),
    /// The end, with the result.
    Done(Value),
    /// The end without success.
    Failed {
        /// The word of an exit code.
        code: String,
        /// In words for a person.
        message: String,
    },
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Failed { code: failure.exit.word().to_owned(), message: failure.message }
    }
}

mod secret {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::base::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]
    use std::sync::Arc;

    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{
        server::{Handler, Replies},
        *,
    };
    use crate::{
        base::{Shutdown, Tasks},
        cli::exit::Exit,
    };

    struct Echo;

    impl Handler for Echo {
        async fn handle(&self, request: Request, replies: &mut Replies) -> Result<Value, Failure> {
            match request {
                Request::Send { text, .. } => Ok(json!({ "text": text })),
                Request::Tail { .. } => {
                    for number in 0..3 {
                        replies.item(json!(number)).await?;
                    }
                    Ok(Value::Null)
                }
                Request::Watch => {
                    replies.item(json!("here")).await?;
                    std::future::pending().await
                }
                _ => Err(Failure::new(Exit::Refused, "not today")),
            }
        }
    }

    struct Served {
        dir: tempfile::TempDir,
        tasks: Tasks,
    }

    impl Served {
        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join("x.sock")
        }
    }

    fn served() -> Served {
        let served = Served { dir: tempfile::tempdir().unwrap(), tasks: Tasks::new(Shutdown::new()) };
        server::serve(&served.path(), Arc::new(Echo), &served.tasks).unwrap();
        served
    }

    fn send(text: &str) -> Request {
        Request::Send { room: "r".into(), text: text.into(), options: SendOptions::default() }
    }

    #[tokio::test]
    async fn a_request_has_an_answer() {
        let served = served();
        let connection = client::connect(&served.path()).await.unwrap();
        let long = "ü".repeat(60_000);
        assert_eq!(connection.ask(&send(&long)).await.unwrap()["text"], long);
        let connection = client::connect(&served.path()).await.unwrap();
        let failure = connection.ask(&Request::Rooms).await.unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Refused, "not today"));
    }

    #[tokio::test]
    async fn items_come_one_by_one_and_the_end_is_noticed() {
        let served = served();
        let mut connection = client::connect(&served.path()).await.unwrap().start(&Request::Tail { room: None }).await.unwrap();
        let mut items = Vec::new();
        while let Some(item) = connection.next().await.unwrap() {
            items.push(item);
        }
        assert_eq!(items, [0, 1, 2]);
        let mut watch = client::connect(&served.path()).await.unwrap().start(&Request::Watch).await.unwrap();
        assert_eq!(watch.next().await.unwrap(), Some(json!("here")));
        served.tasks.shutdown().trigger();
        assert!(watch.next().await.is_err(), "the connection ends with the server");
        assert!(served.tasks.finish(std::time::Duration::from_secs(60)).await);
    }

    #[tokio::test]
    async fn nobody_there_is_no_connection_and_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert!(client::connect(&dir.path().join("none.sock")).await.is_none());
        // A socket whose process has died.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("dead.sock")).unwrap());
        assert!(client::connect(&dir.path().join("dead.sock")).await.is_none());
    }

    #[tokio::test]
    async fn a_request_that_is_none_is_refused() {
        let served = served();
        for garbage in ["{}\n", "GET / HTTP/1.1\r\n\r\n", "{\"op\":\"burn\"}\n", "no end"] {
            let mut stream = tokio::net::UnixStream::connect(served.path()).await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains("\"usage\""), "{garbage}: {answer}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let request = Request::CreateAccount { name: "ann".into(), password: Secret::new("hunter2".into()), admin: false };
        assert!(!format!("{request:?}").contains("hunter2"));
        assert!(serde_json::to_string(&request).unwrap().contains("hunter2"));
    }
}
