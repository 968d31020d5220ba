//! Header and members of the room that is shown.

use std::{sync::Arc, time::Duration};

use matrix_sdk::{Room, RoomMemberships, RoomState, room::RoomMember};
use ruma::{
    OwnedRoomId,
    events::{
        MessageLikeEventType,
        room::{member::MembershipState, power_levels::UserPowerLevel},
    },
};

use tokio::time::Instant;

use super::{
    aside::Aside,
    context::{Context, within},
    convert::name_of,
    rooms::room_name,
    words::Trouble,
};
use crate::client::{
    update::Update,
    view::{Connection, Member, MemberRole, Membership, RoomDetails},
};

/// Shortest time between two snapshots.
const PACE: Duration = Duration::from_millis(250);
/// Longest wait for the member list from the server.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before it is asked for again, while there seems to be a connection.
const MEMBERS_AGAIN: Duration = Duration::from_secs(30);

/// Runs until shutdown.
pub(super) async fn run(context: Context) {
    let mut shown = context.shown.subscribe();
    let shutdown = context.tasks.shutdown().clone();
    let mut current: Option<OwnedRoomId> = None;
    loop {
        let room_id = shown.borrow_and_update().room.clone();
        if room_id != current {
            current = room_id;
        }
        let follow = async {
            match current.as_ref().and_then(|room_id| context.client.get_room(room_id)) {
                Some(room) => follow(&context, &room).await,
                None => {
                    context.outlet.details.send_replace(None);
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            () = follow => {
                // The room's record ended: nothing more to follow until another is shown.
                tokio::select! {
                    changed = shown.changed() => if changed.is_err() { return },
                    () = shutdown.wait() => return,
                }
            }
            () = another(&mut shown, current.as_ref()) => {}
            () = shutdown.wait() => return,
        }
    }
}

/// Waits until another room is shown.
async fn another(shown: &mut tokio::sync::watch::Receiver<super::context::Shown>, current: Option<&OwnedRoomId>) {
    if shown.wait_for(|shown| shown.room.as_ref() != current).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn follow(context: &Context, room: &Room) {
    let mut info = room.subscribe_info();
    let mut session = context.outlet.session.subscribe();
    let mut online = session.borrow_and_update().connection == Connection::Online;
    publish(context, room).await;
    let mut members = Members::Wanted;
    loop {
        if online && matches!(members, Members::Wanted) {
            members = if room.are_members_synced() { Members::Settled } else { Members::ask(context, room) };
        }
        tokio::select! {
            // Beside the rest: a slow server keeps nobody from seeing a new topic, or that they were removed.
            told = members.told() => {
                members = match told {
                    Told::All => Members::Settled,
                    Told::Nothing(trouble) => {
                        tracing::debug!(room_id = %room.room_id(), %trouble, "members not loaded");
                        if trouble.is_connection() { Members::Later(Instant::now() + MEMBERS_AGAIN) } else { Members::Settled }
                    }
                    Told::Again => Members::Wanted,
                };
            }
            changed = info.next() => if changed.is_none() { return },
            changed = session.changed() => {
                if changed.is_err() { return }
                let now = session.borrow_and_update().connection == Connection::Online;
                if std::mem::replace(&mut online, now) == now { continue }
                if matches!(members, Members::Later(_)) { members = Members::Wanted; }
                continue
            }
        }
        publish(context, room).await;
        if !matches!(room.state(), RoomState::Joined | RoomState::Invited | RoomState::Knocked) {
            let name = room_name(room);
            let reason = match room.state() {
                RoomState::Banned => format!("you were banned from {name}"),
                _ => format!("you are no longer in {name}"),
            };
            context.tell(Update::RoomClosed(room.room_id().to_owned(), reason)).await;
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// The server's list of a room's members.
enum Members {
    /// To be asked for as soon as there is a connection.
    Wanted,
    /// Asked for.
    Asked(Aside<Result<(), Trouble>>),
    /// It did not come; asked for again then, or when the connection is back.
    Later(Instant),
    /// It is here, or the server will not tell.
    Settled,
}

impl Members {
    fn ask(context: &Context, room: &Room) -> Self {
        let room = room.clone();
        Self::Asked(Aside::start(&context.tasks, "members", async move { within(MEMBERS_TIMEOUT, room.sync_members()).await }))
    }

    /// Ends when there is an answer, or it is time to ask again. Cancel-safe: what was asked goes on.
    async fn told(&mut self) -> Told {
        match self {
            Self::Asked(answer) => answer.await.map_or_else(Told::Nothing, |()| Told::All),
            Self::Later(then) => {
                tokio::time::sleep_until(*then).await;
                Told::Again
            }
            Self::Wanted | Self::Settled => std::future::pending().await,
        }
    }
}

/// What came of asking for members.
enum Told {
    All,
    Nothing(Trouble),
    Again,
}

async fn publish(context: &Context, room: &Room) {
    let details = Arc::new(details(room).await);
    context.outlet.details.send_if_modified(|slot| {
        let shown = context.shown.borrow().room.as_ref() == Some(&details.id);
        let same = slot.as_ref().is_some_and(|before| *before == details);
        if shown && !same {
            *slot = Some(details);
        }
        shown && !same
    });
}

async fn details(room: &Room) -> RoomDetails {
    let mut members: Vec<Member> = match room.members_no_sync(RoomMemberships::ACTIVE | RoomMemberships::KNOCK).await {
        Ok(members) => members.iter().filter_map(member).collect(),
        Err(error) => {
            tracing::warn!(room_id = %room.room_id(), %error, "members could not be read");
            Vec::new()
        }
    };
    members.sort_by(|a, b| {
        let rank = |member: &Member| member.membership != Membership::Joined;
        rank(a)
            .cmp(&rank(b))
            .then_with(|| b.role.cmp(&a.role))
            .then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase()))
            .then_with(|| a.id.cmp(&b.id))
    });
    let can_send = room.state() == RoomState::Joined
        && !room.is_tombstoned()
        && room.power_levels_or_default().await.user_can_send_message(room.own_user_id(), MessageLikeEventType::RoomMessage);
    RoomDetails {
        id: room.room_id().to_owned(),
        name: room_name(room),
        given_name: room.name().filter(|name| !name.trim().is_empty()),
        topic: room.topic().filter(|topic| !topic.trim().is_empty()),
        alias: room.canonical_alias(),
        encrypted: room.encryption_state().is_encrypted(),
        version: room.version().map(|version| version.to_string()).unwrap_or_default(),
        joined_count: room.joined_members_count(),
        members: members.into(),
        can_send,
        pinned: room.pinned_event_ids().unwrap_or_default(),
    }
}

fn member(member: &RoomMember) -> Option<Member> {
    let membership = match member.membership() {
        MembershipState::Join => Membership::Joined,
        MembershipState::Invite => Membership::Invited,
        MembershipState::Knock => Membership::Knocked,
        _ => return None,
    };
    let role = match member.power_level() {
        UserPowerLevel::Infinite => MemberRole::Admin,
        UserPowerLevel::Int(level) if i64::from(level) >= 100 => MemberRole::Admin,
        UserPowerLevel::Int(level) if i64::from(level) >= 50 => MemberRole::Moderator,
        _ => MemberRole::User,
    };
    Some(Member {
        id: member.user_id().to_owned(),
        name: name_of(member.user_id(), member.display_name(), member.name_ambiguous()),
        membership,
        role,
    })
}
