//! What a server that takes our join answers (`PUT /_matrix/federation/v2/send_join`): the whole state of the room, read as it
//! comes.

use std::time::Duration;

use futures_util::{Stream, stream};
use http::Method;
use ruma::{EventId, RoomId, ServerName};
use tokio::time::{Instant, timeout};

use super::{MembershipError, Result};
use crate::homeserver::{
    Node,
    events::EventError,
    federation::{
        ingest::{
            ImportError,
            scan::{BadAnswer, Piece, Scanner},
        },
        lookup::escape,
        request::{Body, Limits, RequestError},
    },
};

/// How long a server may take until it begins to answer: it has to collect a room's state.
const TIME: Duration = Duration::from_secs(180);
/// How long it may take until all has come. Large rooms are sent as fast as they are read, and we check what we read.
const TIME_IN_ALL: Duration = Duration::from_secs(15 * 60);
/// How long it may stop in the middle.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest state of a room that is taken, in bytes of JSON.
const MAX_BYTES: usize = 384 << 20;

/// Why nothing comes of an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl Broken {
    /// As an answer of that server.
    pub(super) fn of(self, node: &Node, server: &ServerName) -> MembershipError {
        let unusable = |why: String| MembershipError::Nonsense(format!("{server} gives a room that cannot be used: {why}"));
        match self {
            Self::Request(error) => {
                node.federation.client.broke_off(server, &error);
                error.into()
            }
            Self::Answer(error) => unusable(error.to_string()),
            Self::Import(ImportError::Unusable(why)) => unusable(why),
            Self::Import(ImportError::Version(version)) => EventError::UnsupportedRoomVersion(version.to_string()).into(),
            Self::Import(ImportError::Event(error)) => error.into(),
        }
    }
}

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    scanner: Scanner,
    ended: bool,
}

impl Answer {
    /// Gives a join to a server.
    pub(super) async fn ask(
        node: &Node,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
        event: String,
    ) -> Result<Self, RequestError> {
        let path = format!("/_matrix/federation/v2/send_join/{}/{}", escape(room_id.as_str()), escape(event_id.as_str()));
        let limits = Limits::ORDINARY.insisting().within(TIME).bytes(MAX_BYTES);
        let answer = node.federation.client.stream(server, Method::PUT, &path, Some(event.into_bytes()), limits).await?;
        if !answer.status().is_success() {
            return Err(RequestError::Nonsense(format!("status {}", answer.status().as_u16())));
        }
        let mut body = answer.into_body();
        body.extend(Instant::now() + TIME_IN_ALL);
        Ok(Self { body, scanner: Scanner::default(), ended: false })
    }

    /// The room's events.
    pub(super) fn pieces(&mut self) -> impl Stream<Item = Result<Piece, Broken>> + Send {
        stream::try_unfold(self, |answer| async move { Ok(answer.piece().await?.map(|piece| (piece, answer))) })
    }

    /// Reads it to the end without looking at the events.
    pub(super) async fn skip(&mut self) -> Result<(), Broken> {
        while self.piece().await?.is_some() {}
        Ok(())
    }

    async fn piece(&mut self) -> Result<Option<Piece>, Broken> {
        loop {
            if let Some(piece) = self.scanner.piece() {
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(None);
            }
            match timeout(SILENCE, self.body.chunk()).await.map_err(|_| RequestError::TimedOut)?? {
                Some(bytes) => self.scanner.push(&bytes)?,
                None => {
                    self.ended = true;
                    self.scanner.finish()?;
                    // We have not asked for less than all.
                    if self.scanner.members_omitted() {
                        return Err(ImportError::Unusable("members are left out".into()).into());
                    }
                }
            }
        }
    }

    /// The join as the server returns it, once the answer has been read.
    pub(super) fn event(&self) -> Option<&str> {
        self.scanner.event()
    }
}
