//! The client half against Synapse: sign-in, an encrypted conversation with a second person, and what a restart keeps.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::{
    base::Shutdown,
    client::{
        command::{Command, NewRoom, Ticket},
        headless::SendOptions,
        puppet::Puppet,
        session::{self, LoginError},
        update::Update,
        view::{Connection, Item, ItemId, ItemKind, Membership, MessageKind, Pagination, RoomKind, SendState},
    },
};

use crate::support::{
    client::{PASSWORD, PATIENCE, Running, draft, has_text, private_room, secret, spawn_task, store_in, text_of, until},
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

    // Both ways, encrypted.
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
    let bob = Puppet::login(&synapse.endpoint(), "bob", &secret(PASSWORD)).await?;
    let room = NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) };
    let room_id = bob.create_room(room).await?;
    for number in 0..120 {
        bob.send(&room_id, &format!("line {number}")).await?;
    }
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let saved = session::login(&synapse.endpoint(), ann_id.as_str(), &secret(PASSWORD), &store, |_| {}).await?.session;
    let mut ann = Running::start(&saved, &store).await?;
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
    bob.mention(&room_id, &ann_id, "Ann, look").await?;
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
