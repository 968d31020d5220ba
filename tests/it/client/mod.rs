//! The client half on our own node, over its Unix socket: the same conversations as with the real peers, without any.

mod counts;
mod history;
mod sending;
mod servers;

use std::{path::Path, time::Instant};

use anyhow::{Result, bail, ensure};
use homeroom::client::{
    command::{Command, Ticket},
    puppet::Puppet,
    session::{self, Endpoint, LoginError},
    view::{Connection, Membership, RoomKind, SendState},
};

use crate::support::{
    LocalNode,
    client::{PASSWORD, Running, draft, has_text, private_room, secret, store_in, text_of, until},
    conversation,
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

        let room_id = conversation::both_ways_encrypted(&mut ann, &bob, &bob_id).await?;
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
    runtime()?.block_on(conversation::history_changes_in_place(&endpoint, &ann_id, &store))?;
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
        let homeroom::client::update::Update::NotSent { room_id: back_in, draft: back, reason, .. } = ann.answer().await? else {
            bail!("the text comes back");
        };
        ensure!(back_in == room_id && back.text == text && reason.contains("too long"), "{reason}");
        ann.row(|row| row.id == room_id && row.last.is_none()).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}
