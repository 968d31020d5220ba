//! A stretch of a room's timeline, as one viewer may see it.

use std::collections::BTreeSet;

use super::{Raw, format, visibility::History};
use crate::homeserver::{
    events::view::View,
    rooms::visibility::DUMMY,
    store::{
        Reader, Result,
        events::{self, Order, StoredEvent},
    },
    types::{RoomNid, StreamPos, Token},
};

/// Rows that are looked at for one room, however few of them pass.
const MOST_SCANNED: usize = 2000;

/// What to read.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub room: RoomNid,
    /// The stretch begins after this position (0: with the room).
    pub after: StreamPos,
    /// And ends here.
    pub up_to: StreamPos,
    /// At most this many events.
    pub limit: usize,
    /// The viewer's relation to the room.
    pub history: &'a History,
    /// Users whose messages are left out.
    pub ignored: &'a BTreeSet<String>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Slice {
    /// Oldest first.
    pub events: Vec<StoredEvent>,
    /// There is more between `after` and the first event.
    pub limited: bool,
    /// The position before the first event.
    pub start: StreamPos,
}

impl Slice {
    /// The newest events of the stretch that `keep` accepts.
    pub fn read(db: &Reader<'_>, request: &Request<'_>, keep: impl Fn(&StoredEvent) -> bool) -> Result<Self> {
        let mut kept: Vec<StoredEvent> = Vec::new();
        let mut upper = request.up_to;
        let mut scanned = 0;
        let mut limited = false;
        'scan: loop {
            let batch = (request.limit + 1).saturating_sub(kept.len()).clamp(10, 200);
            let rows = events::range(db, request.room, request.after, upper, Order::Backwards, batch)?;
            let exhausted = rows.len() < batch;
            for event in rows {
                scanned += 1;
                let Some(pos) = event.pos else { continue };
                upper = StreamPos(pos.0 - 1);
                if event.kind == DUMMY || !request.history.visible(pos) || !keep(&event) || is_ignored(&event, request.ignored)? {
                    continue;
                }
                if kept.len() == request.limit {
                    limited = true;
                    break 'scan;
                }
                kept.push(event);
            }
            if exhausted {
                break;
            }
            if scanned >= MOST_SCANNED {
                limited = true;
                break;
            }
        }
        kept.reverse();
        let start = kept.first().and_then(|e| e.pos).map_or(request.up_to, |pos| StreamPos(pos.0 - 1));
        Ok(Self { events: kept, limited, start })
    }

    /// Where to go on reading backwards.
    pub fn prev_batch(&self) -> String {
        Token(self.start).to_string()
    }

    /// The events as JSON.
    pub fn to_json(&self, view: &View<'_, '_>) -> Result<Vec<Raw>> {
        self.events.iter().map(|event| view.event(event).map_err(format::internal)).collect()
    }
}

/// State stays visible whoever set it: the room would not make sense without.
fn is_ignored(event: &StoredEvent, ignored: &BTreeSet<String>) -> Result<bool> {
    Ok(!ignored.is_empty() && event.state_key.is_none() && ignored.contains(&format::sender(event)?))
}
