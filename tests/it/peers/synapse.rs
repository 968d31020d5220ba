//! The client half against Synapse: sign-in, an encrypted conversation with a second person, and what a restart keeps.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::{
    base::Shutdown,
    client::{
        command::{Command, Ticket},
        headless::SendOptions,
        puppet::Puppet,
        session::{self, LoginError},
        update::Update,
        view::{Connection, Item, ItemId, ItemKind, Membership, MessageKind, RoomKind, SendState},
    },
};

use crate::support::{
    client::{PASSWORD, PATIENCE, Running, draft, has_text, secret, spawn_task, store_in, text_of, until},
    conversation,
    peers::Synapse,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn an_encrypted_conversation_survives_a_restart_and_a_dead_server() -> Result<()> {
    let mut synapse = Synapse::start().await?;
    synapse.register("ann").await?;
    let bob_id = synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());

    // A wrong password says so, and leaves nothing behind.
    let refused = session::login(&synapse.endpoint(), "ann", &secret("wrong"), &store, |_| {}).await;
    let error = refused.err().context("a wrong password is refused")?;
    ensure!(matches!(error, LoginError::WrongPassword), "{error:?}");
    ensure!(error.to_string() == "wrong user name or password", "{error}");
    ensure!(!store.exists(), "no store is left behind");

    let outcome = session::login(&synapse.endpoint(), "ann", &secret(PASSWORD), &store, |_| {}).await?;
    ensure!(outcome.recovery_key.is_some(), "a fresh account gets a recovery key: {:?}", outcome.notes);
    let saved = outcome.session;
    let mut ann = Running::start(&saved, &store).await?;
    ann.online().await?;
    let bob = Puppet::login(&synapse.endpoint(), "bob", &secret(PASSWORD)).await?;

    let room_id = conversation::both_ways_encrypted(&mut ann, &bob, &bob_id).await?;

    // A restart with the server gone: rooms and messages are there, and what is written waits.
    ann.ask(Command::SaveDraft { room_id: room_id.clone(), text: "half a thou".to_owned() })?;
    ann.stop().await?;
    synapse.stop()?;
    let started = Instant::now();
    let mut ann = Running::start(&saved, &store).await?;
    ann.row(|row| row.id == room_id && row.name == "Garden" && row.membership == Membership::Joined).await?;
    eprintln!("cached rooms after {:?}", started.elapsed());
    until(&mut ann.link.drafts, |drafts| drafts.get(&room_id).is_some_and(|text| text == "half a thou")).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.shows(|timeline| has_text(timeline, "hello Ann") && has_text(timeline, "hello **Bob**")).await?;
    eprintln!("cached messages after {:?}", started.elapsed());
    until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
    ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("written offline") })?;
    ann.shows(|timeline| timeline.items.iter().any(|item| text_of(item) == Some("written offline") && item.send_state != SendState::Sent))
        .await?;
    until(&mut ann.link.session, |view| view.queued == 1).await?;
    ann.stop().await?;

    // The message goes out once, by itself, after yet another start.
    let mut ann = Running::start(&saved, &store).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    synapse.start_again().await?;
    ann.online().await?;
    bob.wait_for_text(&room_id, "written offline").await?;
    let shown = ann.shows(|timeline| has_text(timeline, "written offline")).await?;
    let copies = shown.items.iter().filter(|item| text_of(item) == Some("written offline")).count();
    ensure!(copies == 1, "sent once, shown {copies} times");
    until(&mut ann.link.session, |view| view.queued == 0 && view.failed == 0).await?;
    ann.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn history_edits_reactions_threads_and_redactions_arrive() -> Result<()> {
    let synapse = Synapse::start().await?;
    let ann_id = synapse.register("ann").await?;
    synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    conversation::history_changes_in_place(&synapse.endpoint(), &ann_id, &store_in(dir.path())).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn files_direct_conversations_and_notifications_work_and_an_ended_session_says_so() -> Result<()> {
    let synapse = Synapse::start().await?;
    let ann_id = synapse.register("ann").await?;
    let bob_id = synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let saved = session::login(&synapse.endpoint(), "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
    let mut ann = Running::start(&saved, &store).await?;
    ann.online().await?;
    let bob = Puppet::login(&synapse.endpoint(), "bob", &secret(PASSWORD)).await?;

    // One direct conversation, however often it is asked for; encrypted.
    let room_id = ann.room_ready(Command::StartDirect { ticket: Ticket(1), user_id: bob_id.clone() }).await?;
    bob.accept_invite(&room_id).await?;
    ann.row(|row| row.id == room_id && row.kind == RoomKind::Direct && row.encrypted && row.name == "bob").await?;
    let again = ann.room_ready(Command::StartDirect { ticket: Ticket(2), user_id: bob_id.clone() }).await?;
    ensure!(again == room_id, "a second conversation was made");

    // A message in a room that is not open is announced, readable, with its sender.
    bob.send(&room_id, "psst").await?;
    let notified = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Update::Notify { room_id, text, .. }) = ann.link.updates.recv().await {
                return (room_id, text);
            }
        }
    });
    ensure!(notified.await? == (room_id.clone(), "bob: psst".to_owned()), "the announcement");

    // A file goes up encrypted and comes back the same, beside the one that is there.
    let original: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = dir.path().join("numbers.bin");
    fs::write(&path, &original)?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.ask(Command::SendFile {
        ticket: Ticket(3),
        room_id: room_id.clone(),
        path: path.clone(),
        caption: Some("all of them".to_owned()),
    })?;
    ensure!(matches!(ann.answer().await?, Update::Done(Ticket(3))), "the file is queued");
    let is_file = |item: &Item| match &item.kind {
        ItemKind::Message(message) => matches!(&message.kind, MessageKind::Media { filename, .. } if filename == "numbers.bin"),
        _ => false,
    };
    let sent = |item: &Item| is_file(item) && item.send_state == SendState::Sent && matches!(item.id, Some(ItemId::Event(_)));
    let shown = ann.shows(|timeline| timeline.items.iter().any(|item| sent(item))).await?;
    let item = shown.items.iter().find(|item| sent(item)).and_then(|item| item.id.clone()).context("the file")?;
    ann.ask(Command::Download { ticket: Ticket(4), room_id: room_id.clone(), item, to: Some(dir.path().to_owned()) })?;
    let Update::Saved(Ticket(4), saved_to) = ann.answer().await? else { bail!("a saved file") };
    ensure!(saved_to != path && fs::read(&saved_to)? == original && fs::read(&path)? == original, "{saved_to:?}");
    ann.ask(Command::SendFile { ticket: Ticket(5), room_id: room_id.clone(), path: dir.path().join("missing"), caption: None })?;
    let Update::Failed(Ticket(5), reason) = ann.answer().await? else { bail!("a refusal") };
    ensure!(reason == "There is no such file.", "{reason}");

    // The running client serves headless commands, too.
    let service = ann.actor.headless();
    let (lines, mut tail) = tokio::sync::mpsc::channel(16);
    let stop = Shutdown::new();
    let (following, stopping) = (service.clone(), stop.clone());
    let follower = spawn_task(async move { following.tail(Some("bob"), lines, stopping).await });
    let line = service.send("bob", "from a script", &SendOptions::default()).await?;
    ensure!(line.room_id == room_id, "{line:?}");
    bob.wait_for_text(&room_id, "from a script").await?;
    bob.send(&room_id, "to a script").await?;
    let body = tokio::time::timeout(PATIENCE, async {
        loop {
            match tail.recv().await {
                Some(line) if line.sender == bob_id && line.event_type == "m.room.message" => return line.body,
                Some(_) => {}
                None => return None,
            }
        }
    });
    ensure!(body.await?.as_deref() == Some("to a script"), "the tail");
    stop.trigger();
    follower.await??;
    let rooms = service.rooms().await?;
    ensure!(rooms.iter().any(|line| line.room_id == room_id && line.kind == "direct"), "{rooms:?}");

    // The session ends elsewhere: said, and not hammered at.
    let other = reqwest::Client::new().post(format!("{}/_matrix/client/v3/login", synapse.url())).body(
        serde_json::json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": ann_id}, "password": PASSWORD})
            .to_string(),
    );
    let other: serde_json::Value = serde_json::from_str(&other.send().await?.text().await?)?;
    let token = other["access_token"].as_str().context("a token")?;
    let ended = reqwest::Client::new().post(format!("{}/_matrix/client/v3/logout/all", synapse.url())).bearer_auth(token).send().await?;
    ensure!(ended.status().is_success(), "{ended:?}");
    bob.send(&room_id, "are you there?").await?;
    until(&mut ann.link.session, |view| matches!(view.connection, Connection::Expired { .. })).await?;
    ann.stop().await?;
    let renewed = session::renew(&saved, &secret(PASSWORD), |_| {}).await;
    ensure!(matches!(renewed, Err(LoginError::DeviceGone)), "{renewed:?}");
    session::logout(&saved).await.context("signing out of a session that has ended is fine")?;
    Ok(())
}
