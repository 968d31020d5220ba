//! What is shown of a room's past: offline, with holes in the cache, in threads.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Result, ensure};
use homeroom::client::{
    command::{Command, Draft, NewRoom, Ticket},
    puppet::Puppet,
    session,
    view::{Connection, ItemKind, Pagination, SyncPhase, Timeline},
};

use super::{account, endpoint, runtime};
use crate::support::{
    LocalNode,
    client::{PASSWORD, Running, draft, has_text, private_room, secret, spawn_task, store_in, text_of, until},
};

/// A room was read, then much was said while we were away, and the list's sync brought only the end of that. The server is
/// gone when the room is opened again.
#[test]
fn what_is_cached_before_a_hole_shows_while_offline() -> Result<()> {
    let home = tempfile::Builder::new().prefix("hr").tempdir()?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(home.path());
    let runtime = runtime()?;
    let (saved, room_id) = runtime.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) }).await?;
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        for number in 0..10 {
            bob.send(&room_id, &format!("line {number}")).await?;
        }
        let typo = bob.send(&room_id, "lien 10").await?;
        bob.edit(&room_id, &typo, "line 10").await?;
        ann.shows(|timeline| has_text(timeline, "line 9") && has_text(timeline, "line 10")).await?;
        ann.stop().await?;
        for number in 0..40 {
            bob.send(&room_id, &format!("missed {number}")).await?;
        }
        let last = bob.send(&room_id, "the last words").await?;
        for key in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            // Nothing of this is a message of its own.
            bob.react(&room_id, &last, key).await?;
        }
        let mut ann = Running::start(&saved, &store).await?;
        until(&mut ann.link.session, |view| view.sync == SyncPhase::Live).await?;
        // The lines that were there before, and those that came meanwhile: so the sync has brought the room.
        ann.row(|row| row.id == room_id && row.unread > 40).await?;
        ann.stop().await?;
        Ok::<_, anyhow::Error>((saved, room_id))
    })?;
    node.stop();
    runtime.block_on(async {
        let mut ann = Running::start(&saved, &store).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        let shown = ann.shows(|timeline| has_text(timeline, "line 0") && has_text(timeline, "line 9")).await?;
        let texts: Vec<&str> = shown.items.iter().filter_map(|item| text_of(item)).collect();
        let expected: Vec<String> = (0..11).map(|number| format!("line {number}")).collect();
        ensure!(texts == expected, "{texts:?}");
        ensure!(shown.items.iter().any(|item| matches!(item.kind, ItemKind::Gap)), "{shown:#?}");
        ann.stop().await
    })
}

/// The question stands above its answers, all of which can be had, and new ones come by themselves.
#[test]
fn a_thread_begins_with_its_root_and_loads_to_its_start() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) }).await?;
        let root = bob.send(&room_id, "the question").await?;
        for number in 0..80 {
            bob.send_in_thread(&room_id, &root, &format!("answer {number}")).await?;
        }
        for number in 0..60 {
            bob.send(&room_id, &format!("other {number}")).await?;
        }
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "other 59")).await?;
        ann.ask(Command::OpenThread(Some(root.clone())))?;
        let first = |thread: &Timeline| thread.items.iter().find_map(|item| text_of(item)).map(ToOwned::to_owned);
        let thread = ann.thread(|thread| has_text(thread, "answer 79") && has_text(thread, "the question")).await?;
        ensure!(first(&thread).as_deref() == Some("the question"), "{thread:#?}");
        ensure!(!has_text(&thread, "answer 0"), "the history of the thread comes in pages");
        for _ in 0..20 {
            let thread = ann.thread(|thread| thread.back != Pagination::Loading).await?;
            if thread.back == Pagination::AtStart {
                break;
            }
            ann.ask(Command::LoadOlderInThread { count: 20 })?;
            ann.thread(|now| now.items.len() != thread.items.len() || now.back == Pagination::AtStart).await?;
        }
        bob.send_in_thread(&room_id, &root, "answer 80").await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: Draft { thread_root: Some(root.clone()), ..draft("my answer") } })?;
        let thread = ann.thread(|thread| has_text(thread, "answer 80") && has_text(thread, "my answer")).await?;
        let texts: Vec<&str> = thread.items.iter().filter_map(|item| text_of(item)).filter(|text| *text != "my answer").collect();
        let mut expected = vec!["the question".to_owned()];
        expected.extend((0..=80).map(|number| format!("answer {number}")));
        ensure!(texts == expected, "{texts:?}");
        ensure!(thread.items.iter().filter(|item| text_of(item) == Some("my answer")).count() == 1, "{thread:#?}");
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// Rooms are opened and evicted while others write: what is shown is never there twice.
#[test]
fn a_timeline_that_is_opened_in_the_middle_of_a_sync_has_every_event_once() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let bob = Arc::new(Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?);
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        let mut rooms = Vec::new();
        // More than stay live, so that opening one again builds its timeline again.
        for number in 0..5 {
            let name = format!("Room {number}");
            let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room(&name, vec![ann_id.clone()]) }).await?;
            ann.row(|row| row.id == room_id).await?;
            ann.room_ready(Command::AcceptInvite { ticket: Ticket(number), room_id: room_id.clone() }).await?;
            rooms.push(room_id);
        }
        let writer = spawn_task({
            let (bob, rooms) = (bob.clone(), rooms.clone());
            async move {
                for number in 0..30 {
                    for room_id in &rooms {
                        bob.send(room_id, &format!("words {number}")).await?;
                    }
                }
                Ok::<_, anyhow::Error>(())
            }
        });
        while !writer.is_finished() {
            for room_id in &rooms {
                ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
                let shown = ann.shows(|timeline| timeline.room_id == *room_id).await?;
                let mut seen = HashSet::new();
                let twice = shown.items.iter().filter_map(|item| item.id.as_ref()).find(|id| !seen.insert(*id));
                ensure!(twice.is_none(), "{twice:?} in {shown:#?}");
            }
        }
        writer.await??;
        for room_id in &rooms {
            ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
            ann.shows(|timeline| timeline.room_id == *room_id && has_text(timeline, "words 29")).await?;
            let shown = loop {
                let shown = ann.shows(|timeline| timeline.room_id == *room_id && timeline.back != Pagination::Loading).await?;
                if shown.back == Pagination::AtStart {
                    break shown;
                }
                ann.ask(Command::LoadOlder { count: 50 })?;
                ann.shows(|now| now.items.len() != shown.items.len() || now.back == Pagination::AtStart).await?;
            };
            let texts: Vec<&str> = shown.items.iter().filter_map(|item| text_of(item)).collect();
            let expected: Vec<String> = (0..30).map(|number| format!("words {number}")).collect();
            // In order, once each, up to the newest; how far back is what `LoadOlder` is asked for.
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            ensure!(!texts.is_empty() && expected.ends_with(&texts), "{texts:?}");
        }
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// A page of nothing but reactions to a message that is older than it shows nothing, and is an answer all the same: whoever wants
/// more asks again.
#[test]
fn pages_that_show_nothing_are_counted_on_the_way_to_the_beginning() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("News", vec![ann_id.clone()]) }).await?;
        let first = bob.send(&room_id, "the announcement").await?;
        for number in 0..90 {
            bob.react(&room_id, &first, &number.to_string()).await?;
        }
        bob.send(&room_id, "the last words").await?;
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "the last words")).await?;
        let mut silent = 0;
        loop {
            let before = ann.shows(|timeline| timeline.back != Pagination::Loading).await?;
            if before.back == Pagination::AtStart {
                break;
            }
            // As the screen does: asked again when something has changed that says that an answer came.
            ann.ask(Command::LoadOlder { count: 20 })?;
            let now = ann.shows(|now| now.pages > before.pages || now.back == Pagination::AtStart).await?;
            silent += u32::from(now.items.len() == before.items.len());
        }
        ensure!(silent > 0, "no page was silent: the test tests nothing");
        let shown = ann.shows(|timeline| has_text(timeline, "the announcement")).await?;
        let announced = shown.items.iter().find(|item| text_of(item) == Some("the announcement"));
        let reactions = announced.and_then(|item| match &item.kind {
            ItemKind::Message(message) => Some(message.reactions.len()),
            _ => None,
        });
        ensure!(reactions == Some(90), "{reactions:?}");
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// The SDK had kept the position of a sync, and was killed before its cache had the messages.
#[test]
fn what_a_kill_kept_from_the_cache_comes_again() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    runtime()?.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("News", vec![ann_id.clone()]) }).await?;
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        for number in 0..5 {
            bob.send(&room_id, &format!("line {number}")).await?;
        }
        ann.shows(|timeline| has_text(timeline, "line 4")).await?;
        let marker = store.dir.join("unfinished");
        ensure!(marker.exists(), "it is there as long as the client runs");
        ann.stop().await?;
        ensure!(!marker.exists(), "an end in order leaves none");
        {
            let cache = rusqlite::Connection::open(store.dir.join("matrix-sdk-event-cache.sqlite3"))?;
            let newest = "(SELECT event_id FROM event_chunks ORDER BY chunk_id DESC, position DESC LIMIT 1)";
            let gone: rusqlite::types::Value = cache.query_row(newest.trim_matches(['(', ')']), [], |row| row.get(0))?;
            ensure!(cache.execute("DELETE FROM event_chunks WHERE event_id = ?1", [&gone])? == 1);
            ensure!(cache.execute("DELETE FROM events WHERE event_id = ?1", [&gone])? == 1);
        }
        std::fs::write(&marker, b"")?;
        let mut ann = Running::start(&saved, &store).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "line 0") && has_text(timeline, "line 4")).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// Rooms that were read without a connection stay read when the client starts without one.
#[test]
fn what_was_read_offline_is_read_after_a_restart() -> Result<()> {
    let home = tempfile::Builder::new().prefix("hr").tempdir()?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(home.path());
    let runtime = runtime()?;
    let (saved, mut ann, room_id) = runtime.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("News", vec![ann_id.clone()]) }).await?;
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        for number in 0..3 {
            bob.send(&room_id, &format!("line {number}")).await?;
        }
        ann.row(|row| row.id == room_id && row.unread == 3).await?;
        Ok::<_, anyhow::Error>((saved, ann, room_id))
    })?;
    node.stop();
    runtime
        .block_on(async {
            until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
            ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
            ann.shows(|timeline| has_text(timeline, "line 2")).await?;
            ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
            ann.row(|row| row.id == room_id && row.unread == 0).await?;
            ann.stop().await?;
            let mut ann = Running::start(&saved, &store).await?;
            ann.row(|row| row.id == room_id && row.unread == 0).await?;
            until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
            ann.row(|row| row.id == room_id && row.unread == 0).await?;
            Ok::<_, anyhow::Error>(ann)
        })
        .and_then(|ann| {
            // The server hears of it once it is there.
            let node = LocalNode::open(home.path().to_path_buf())?;
            let mut person = crate::support::Person::login(node.address(), "ann", PASSWORD);
            let receipt = || {
                let sync = person.http.get("/_matrix/client/v3/sync?timeout=0").ok();
                let unread = &sync["rooms"]["join"][room_id.as_str()]["unread_notifications"]["notification_count"];
                (*unread == 0).then_some(())
            };
            crate::support::eventually("the receipt to reach the server", receipt);
            runtime.block_on(ann.stop())?;
            node.stop();
            Ok(())
        })
}
