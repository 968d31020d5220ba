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

use super::{
    context::{Context, within},
    convert::name_of,
    rooms::room_name,
    words::one_line,
};
use crate::client::{
    update::Update,
    view::{Member, MemberRole, Membership, RoomDetails},
};

/// Shortest time between two snapshots.
const PACE: Duration = Duration::from_millis(250);
/// Longest wait for the member list from the server.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(60);

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
    let mut online = context.outlet.session.subscribe();
    publish(context, room).await;
    let mut asked = false;
    loop {
        if !asked && !room.are_members_synced() && online.borrow_and_update().connection == crate::client::view::Connection::Online {
            asked = true;
            match within(MEMBERS_TIMEOUT, room.sync_members()).await {
                Ok(()) => publish(context, room).await,
                Err(trouble) => tracing::debug!(room_id = %room.room_id(), %trouble, "members not loaded"),
            }
        }
        tokio::select! {
            changed = info.next() => if changed.is_none() { return },
            changed = online.changed(), if !asked => if changed.is_err() { return },
        }
        publish(context, room).await;
        if !matches!(room.state(), RoomState::Joined | RoomState::Invited | RoomState::Knocked) {
            let reason = match room.state() {
                RoomState::Banned => "you were banned from this room",
                _ => "you are no longer in this room",
            };
            context.tell(Update::RoomClosed(room.room_id().to_owned(), reason.to_owned())).await;
            return;
        }
        tokio::time::sleep(PACE).await;
    }
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
        topic: room.topic().map(|topic| one_line(&topic, 1000)).filter(|topic| !topic.is_empty()),
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
