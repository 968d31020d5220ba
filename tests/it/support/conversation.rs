//! Conversations that are the same with every server.

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::client::{
    command::{Command, NewRoom, Ticket},
    puppet::Puppet,
    session::{self, Endpoint, Store},
    view::{ItemKind, Membership, Pagination},
};
use ruma::{OwnedRoomId, OwnedUserId};

use super::client::{PASSWORD, Running, draft, has_text, private_room, secret, text_of, until};

/// Ann makes an encrypted room for herself and Bob, and each reads what the other writes.
pub async fn both_ways_encrypted(ann: &mut Running, bob: &Puppet, bob_id: &OwnedUserId) -> Result<OwnedRoomId> {
    let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room: private_room("Garden", vec![bob_id.clone()]) }).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    bob.accept_invite(&room_id).await?;
    ann.shows(|timeline| {
        timeline.items.iter().any(|item| matches!(&item.kind, ItemKind::State(change) if change.text.contains("bob joined")))
    })
    .await?;
    ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("hello **Bob**") })?;
    let hello = bob.wait_for_text(&room_id, "hello **Bob**").await?;
    bob.send_reply(&room_id, &hello, "hello Ann").await?;
    let shown = ann.shows(|timeline| has_text(timeline, "hello Ann") && has_text(timeline, "hello **Bob**")).await?;
    let reply = shown.items.iter().find(|item| text_of(item) == Some("hello Ann")).context("the reply")?;
    let ItemKind::Message(message) = &reply.kind else { bail!("a message") };
    ensure!(message.reply.as_ref().is_some_and(|reply| reply.event_id == hello), "{message:?}");
    ann.row(|row| {
        row.id == room_id && row.encrypted && row.last.as_ref().is_some_and(|last| last.text == "hello Ann" && last.sender == "bob")
    })
    .await?;
    Ok(room_id)
}

/// Bob writes, changes, reacts, answers in a thread and deletes; Ann has all of it, each thing once, and leaves.
pub async fn history_changes_in_place(endpoint: &Endpoint, ann_id: &OwnedUserId, store: &Store) -> Result<()> {
    let bob = Puppet::login(endpoint, "bob", &secret(PASSWORD)).await?;
    let room = NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) };
    let room_id = bob.create_room(room).await?;
    for number in 0..120 {
        bob.send(&room_id, &format!("line {number}")).await?;
    }
    let saved = session::login(endpoint, ann_id.as_str(), &secret(PASSWORD), store, |_| {}).await?.session;
    let mut ann = Running::start(&saved, store).await?;
    ann.row(|row| row.id == room_id && row.membership == Membership::Invited && row.invite.is_some()).await?;
    ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.shows(|timeline| has_text(timeline, "line 119")).await?;

    // All the way back, without anything missing or doubled.
    for _ in 0..20 {
        let timeline = ann.shows(|timeline| timeline.back != Pagination::Loading).await?;
        if timeline.back == Pagination::AtStart {
            break;
        }
        ann.ask(Command::LoadOlder { count: 50 })?;
        ann.shows(|now| now.items.len() != timeline.items.len() || now.back == Pagination::AtStart).await?;
    }
    let timeline = ann.shows(|timeline| timeline.back == Pagination::AtStart).await?;
    let lines: Vec<String> = timeline.items.iter().filter_map(|item| text_of(item)).map(ToOwned::to_owned).collect();
    let expected: Vec<String> = (0..120).map(|number| format!("line {number}")).collect();
    ensure!(lines == expected, "{lines:?}");

    // Everything that changes an item changes it in place.
    let event_id = bob.send(&room_id, "tpyo").await?;
    bob.edit(&room_id, &event_id, "typo").await?;
    bob.react(&room_id, &event_id, "👍").await?;
    bob.send_in_thread(&room_id, &event_id, "in the thread").await?;
    let shown = ann
        .shows(|timeline| {
            timeline.items.iter().any(|item| match &item.kind {
                ItemKind::Message(message) => message.body.plain == "typo" && message.edited && !message.reactions.is_empty(),
                _ => false,
            })
        })
        .await?;
    ensure!(!shown.items.iter().any(|item| text_of(item) == Some("tpyo")), "the old text is gone");
    ann.shows(|timeline| {
        timeline.items.iter().any(|item| match &item.kind {
            ItemKind::Message(message) => message.body.plain == "in the thread" && message.in_thread.as_ref() == Some(&event_id),
            _ => false,
        })
    })
    .await?;
    ann.ask(Command::OpenThread(Some(event_id.clone())))?;
    until(&mut ann.link.thread, |thread| {
        thread.as_ref().is_some_and(|thread| has_text(thread, "typo") && has_text(thread, "in the thread"))
    })
    .await?;
    bob.redact(&room_id, &event_id, Some("never mind")).await?;
    ann.shows(|timeline| timeline.items.iter().any(|item| matches!(&item.kind, ItemKind::Redacted { .. }))).await?;

    // Unread counts rise with what arrives and fall when it is read.
    ann.ask(Command::OpenRoom(None))?;
    bob.mention(&room_id, ann_id, "Ann, look").await?;
    ann.row(|row| row.id == room_id && row.unread >= 1 && row.mentions == 1).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.shows(|timeline| has_text(timeline, "Ann, look")).await?;
    ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
    ann.row(|row| row.id == room_id && row.unread == 0 && row.mentions == 0).await?;

    // Leaving takes the room off the list.
    ann.ask(Command::Leave { ticket: Ticket(9), room_id: room_id.clone() })?;
    until(&mut ann.link.rooms, |list| list.rows.iter().all(|row| row.id != room_id)).await?;
    ann.stop().await
}
