//! The client half on our own node, over its Unix socket: the same conversations as with the real peers, without any.

mod counts;
mod history;

use std::{path::Path, time::Instant};

use anyhow::{Result, bail, ensure};
use homeroom::client::{
    command::{Command, NewRoom, Ticket},
    puppet::Puppet,
    session::{self, Endpoint, LoginError},
    view::{Connection, ItemKind, Membership, Pagination, RoomKind, SendState},
};

use crate::support::{
    LocalNode,
    client::{PASSWORD, Running, draft, has_text, private_room, secret, store_in, text_of, until},
    node::SERVER_NAME,
};

fn endpoint(dir: &Path) -> Endpoint {
    Endpoint::Socket { path: dir.join("node.sock"), server_name: SERVER_NAME.to_owned() }
}

fn account(node: &LocalNode, name: &str) -> Result<ruma::OwnedUserId> {
    Ok(node.runtime().block_on(node.server().create_account(name, PASSWORD, false))?)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

#[test]
fn an_encrypted_conversation_on_the_own_node_survives_a_restart_and_a_dead_node() -> Result<()> {
    let home = tempfile::Builder::new().prefix("hr").tempdir()?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    account(&node, "ann")?;
    let bob_id = account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(home.path());
    let runtime = runtime()?;

    let (saved, room_id) = runtime.block_on(async {
        let refused = session::login(&endpoint, "ann", &secret("wrong"), &store, |_| {}).await;
        ensure!(matches!(refused, Err(LoginError::WrongPassword)), "{refused:?}");
        let outcome = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?;
        ensure!(outcome.recovery_key.is_some(), "a fresh account gets a recovery key: {:?}", outcome.notes);
        let saved = outcome.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.online().await?;
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;

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
        ann.shows(|timeline| has_text(timeline, "hello Ann") && has_text(timeline, "hello **Bob**")).await?;
        ann.row(|row| row.id == room_id && row.encrypted && row.last.as_ref().is_some_and(|last| last.text == "hello Ann")).await?;
        let direct = ann.room_ready(Command::StartDirect { ticket: Ticket(2), user_id: bob_id.clone() }).await?;
        bob.accept_invite(&direct).await?;
        ann.row(|row| row.id == direct && row.kind == RoomKind::Direct && row.encrypted).await?;
        ann.stop().await?;
        Ok((saved, room_id))
    })?;
    node.stop();

    runtime.block_on(async {
        let started = Instant::now();
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id && row.name == "Garden" && row.membership == Membership::Joined).await?;
        eprintln!("cached rooms after {:?}", started.elapsed());
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "hello Ann") && has_text(timeline, "hello **Bob**")).await?;
        eprintln!("cached messages after {:?}", started.elapsed());
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("written offline") })?;
        until(&mut ann.link.session, |view| view.queued == 1).await?;

        // The node comes back under the running client.
        let back = tokio::task::spawn_blocking({
            let dir = home.path().to_path_buf();
            move || LocalNode::open(dir)
        });
        let node = back.await??;
        let shown = ann
            .shows(|timeline| {
                timeline.items.iter().any(|item| text_of(item) == Some("written offline") && item.send_state == SendState::Sent)
            })
            .await?;
        let copies = shown.items.iter().filter(|item| text_of(item) == Some("written offline")).count();
        ensure!(copies == 1, "sent once, shown {copies} times");
        until(&mut ann.link.session, |view| view.queued == 0 && view.failed == 0 && view.connection == Connection::Online).await?;
        ann.stop().await?;
        tokio::task::spawn_blocking(move || node.stop()).await?;
        Ok(())
    })
}

#[test]
fn history_on_the_own_node_is_complete_and_changes_in_place() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) }).await?;
        for number in 0..120 {
            bob.send(&room_id, &format!("line {number}")).await?;
        }
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id && row.membership == Membership::Invited && row.invite.is_some()).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "line 119")).await?;
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
        ann.shows(|timeline| has_text(timeline, "in the thread")).await?;
        ann.ask(Command::OpenThread(Some(event_id.clone())))?;
        until(&mut ann.link.thread, |thread| {
            thread.as_ref().is_some_and(|thread| has_text(thread, "typo") && has_text(thread, "in the thread"))
        })
        .await?;
        bob.redact(&room_id, &event_id, Some("never mind")).await?;
        ann.shows(|timeline| timeline.items.iter().any(|item| matches!(&item.kind, ItemKind::Redacted { .. }))).await?;

        ann.ask(Command::OpenRoom(None))?;
        bob.mention(&room_id, &ann_id, "Ann, look").await?;
        ann.row(|row| row.id == room_id && row.unread >= 1 && row.mentions == 1).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "Ann, look")).await?;
        ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
        ann.row(|row| row.id == room_id && row.unread == 0 && row.mentions == 0).await?;

        ann.ask(Command::Leave { ticket: Ticket(9), room_id: room_id.clone() })?;
        until(&mut ann.link.rooms, |list| list.rows.iter().all(|row| row.id != room_id)).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// A text that cannot be sent is given back whole.
#[test]
fn a_text_that_cannot_be_sent_comes_back() -> Result<()> {
    let node = LocalNode::start();
    account(&node, "ann")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.online().await?;
        let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room: private_room("Notes", Vec::new()) }).await?;
        let text = "x".repeat(2_000_000);
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft(&text) })?;
        let homeroom::client::update::Update::NotSent { room_id: back_in, draft: back, reason } = ann.answer().await? else {
            bail!("the text comes back");
        };
        ensure!(back_in == room_id && back.text == text && reason.contains("too long"), "{reason}");
        ann.row(|row| row.id == room_id && row.last.is_none()).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}
