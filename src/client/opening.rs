//! Opens the SDK's timeline of a room or a thread.

use std::{sync::Arc, time::Duration};

use eyeball_im::{Vector, VectorDiff};
use futures_util::{StreamExt, stream::BoxStream};
use matrix_sdk::Room;
use matrix_sdk_ui::timeline::{RoomExt, Timeline as SdkTimeline, TimelineFocus, TimelineItem, TimelineReadReceiptTracking};
use ruma::RoomId;
use tokio::sync::broadcast;

use super::{
    context::Context,
    timelines::Key,
    words::{Trouble, one_line},
};
use crate::client::view::{Connection, SyncPhase};

/// Longest wait for sync to tell of a room.
const TOLD_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait for a timeline to open.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// What changes after that.
pub(super) type Changes = BoxStream<'static, Vec<VectorDiff<Arc<TimelineItem>>>>;
/// A timeline, what it holds, and what changes.
type Built = (Arc<SdkTimeline>, Vector<Arc<TimelineItem>>, Changes);

async fn open(room: &Room, key: &Key) -> Result<Built, matrix_sdk_ui::timeline::Error> {
    let focus = match &key.thread_root {
        Some(root) => TimelineFocus::Thread { root_event_id: root.clone() },
        None => TimelineFocus::Live { hide_threaded_events: false },
    };
    let tracking =
        if key.thread_root.is_some() { TimelineReadReceiptTracking::Disabled } else { TimelineReadReceiptTracking::MessageLikeEvents };
    let timeline = Arc::new(room.timeline_builder().with_focus(focus).track_read_marker_and_receipts(tracking).build().await?);
    let (items, changes) = timeline.subscribe().await;
    Ok((timeline, items, changes.boxed()))
}

/// Opens a timeline. The SDK may have to ask the server whether the room is encrypted: without a connection that is waited for,
/// since the room has not gone away.
pub(super) async fn open_patiently(context: &Context, room: &Room, key: &Key) -> Result<Built, String> {
    let mut session = context.outlet.session.subscribe();
    loop {
        match tokio::time::timeout(OPEN_TIMEOUT, open(room, key)).await {
            Ok(Ok(built)) => return Ok(built),
            Ok(Err(error)) => {
                tracing::warn!(room_id = %key.room_id, %error, "a timeline could not be opened");
                return Err(timeline_trouble(&error).to_string());
            }
            Err(_) if session.borrow().connection == Connection::Online => return Err("it takes too long to open".to_owned()),
            Err(_) => {
                if session.wait_for(|view| view.connection == Connection::Online).await.is_err() {
                    return Err("homeroom is stopping".to_owned());
                }
            }
        }
    }
}

/// The room, once sync has told of it: on a new device the screen may show a room that the list has not brought yet.
pub(super) async fn find(context: &Context, room_id: &RoomId) -> Option<Room> {
    let mut updates = context.client.subscribe_to_all_room_updates();
    let mut session = context.outlet.session.subscribe();
    loop {
        let live = session.borrow_and_update().sync == SyncPhase::Live;
        let room = context.client.get_room(room_id);
        if room.is_some() || live {
            return room;
        }
        tokio::select! {
            update = updates.recv() => if matches!(update, Err(broadcast::error::RecvError::Closed)) { return None },
            changed = session.changed() => if changed.is_err() { return None },
        }
    }
}

/// Waits until sync has told of the room, within reason. A room that we have just made or joined is open before that, and
/// history fetched then would come a second time with the sync.
pub(super) async fn told_of(room: &Room) {
    let mut changes = room.subscribe_info();
    let told = async { while room.create_content().is_none() && changes.next().await.is_some() {} };
    if tokio::time::timeout(TOLD_TIMEOUT, told).await.is_err() {
        tracing::debug!(room_id = %room.room_id(), "sync tells nothing of the room");
    }
}

/// Reads a timeline error.
pub(super) fn timeline_trouble(error: &matrix_sdk_ui::timeline::Error) -> Trouble {
    use matrix_sdk::{event_cache::EventCacheError, paginators::PaginatorError};
    use matrix_sdk_ui::timeline::{Error, PaginationError};
    let cache = match error {
        Error::EventCacheError(error) | Error::PaginationError(PaginationError::EventCache(error)) => Some(error),
        _ => None,
    };
    match cache {
        Some(EventCacheError::PaginationError(error) | EventCacheError::InitialPaginationError(PaginatorError::SdkError(error))) => {
            Trouble::of(error)
        }
        Some(EventCacheError::Storage(error)) => Trouble::of_store(error),
        _ => match error {
            Error::RedactError(matrix_sdk_ui::timeline::RedactError::HttpError(error)) => Trouble::of_http(error),
            Error::ReplyError(matrix_sdk::room::reply::ReplyError::Fetch(error)) => Trouble::of(error),
            other => Trouble::Other(one_line(&other.to_string(), 160)),
        },
    }
}
