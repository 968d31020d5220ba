//! What is sent, and what is typed, outlives what goes wrong around it.

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::client::{
    command::{Command, NewRoom, Ticket},
    session::{self, Endpoint},
    update::Update,
    view::{Connection, ItemKind, Membership, RoomDetails, SendState, Timeline},
};
use serde_json::json;

use super::{account, endpoint, runtime};
use crate::support::{
    LocalNode, Person,
    client::{PASSWORD, Running, draft, has_text, private_room, secret, store_in, text_of, until},
    eventually,
    proxy::{Mood, Proxy},
};

/// The server refuses one message. It waits for a decision; those that are written afterwards do not wait with it.
#[test]
fn a_refused_message_holds_up_no_other() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let mut bob = Person::login(node.address(), "bob", PASSWORD);
    let room = bob.create_room(&json!({ "invite": [ann_id], "power_level_content_override": { "events_default": 50 } }));
    let room_id: ruma::OwnedRoomId = room.as_str().try_into()?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(node.dir());
    let runtime = runtime()?;
    let mut ann = runtime.block_on(async {
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("not allowed") })?;
        until(&mut ann.link.session, |view| view.failed == 1 && view.queued == 0).await?;
        Ok::<_, anyhow::Error>(ann)
    })?;
    let levels = bob.http.get(&format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels")).ok();
    let mut open = levels;
    open["events_default"] = json!(0);
    bob.http.put(&format!("/_matrix/client/v3/rooms/{room}/state/m.room.power_levels"), &open).ok();
    runtime.block_on(async {
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("allowed") })?;
        let shown = ann.shows(|timeline| has_text(timeline, "allowed")).await?;
        let refused = shown.items.iter().find(|item| text_of(item) == Some("not allowed"));
        ensure!(refused.is_some_and(|item| matches!(item.send_state, SendState::Failed { .. })), "{shown:#?}");
        until(&mut ann.link.session, |view| view.failed == 1 && view.queued == 0).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// The store takes nothing for a while, as on a full disk.
#[test]
fn a_draft_that_could_not_be_saved_is_saved_later_and_at_the_end() -> Result<()> {
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
        let elsewhere = rusqlite::Connection::open(store.dir.join("matrix-sdk-state.sqlite3"))?;
        elsewhere.busy_timeout(std::time::Duration::from_secs(60))?;
        for text in ["important", "more important"] {
            elsewhere.execute_batch("BEGIN IMMEDIATE")?;
            ann.ask(Command::SaveDraft { room_id: room_id.clone(), text: text.to_owned() })?;
            while !matches!(ann.answer().await?, Update::Notice { text } if text.contains("could not be saved")) {}
            elsewhere.execute_batch("ROLLBACK")?;
            if text == "important" {
                while !matches!(ann.answer().await?, Update::News { text } if text.contains("saved again")) {}
            }
        }
        ann.stop().await?;
        let mut ann = Running::start(&saved, &store).await?;
        until(&mut ann.link.drafts, |drafts| drafts.get(&room_id).is_some_and(|text| text == "more important")).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// A reaction is taken back from a server that does not answer that: what is typed meanwhile does not wait for it.
#[test]
fn a_reaction_that_is_taken_back_slowly_holds_up_no_message() -> Result<()> {
    let node = LocalNode::start();
    account(&node, "ann")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    runtime()?.block_on(async {
        let proxy = Proxy::start(node.url(), true).await;
        let endpoint = Endpoint::Server { name_or_url: proxy.url() };
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.online().await?;
        let room = NewRoom { encrypted: false, ..private_room("Notes", Vec::new()) };
        let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("first") })?;
        let shown = ann.shows(|timeline| has_text(timeline, "first")).await?;
        let item = shown.items.iter().find(|item| text_of(item) == Some("first")).and_then(|item| item.id.clone()).context("its ID")?;
        let toggle = || Command::ToggleReaction { room_id: room_id.clone(), item: item.clone(), key: "👍".to_owned() };
        let mine = |timeline: &Timeline| {
            timeline.items.iter().any(|item| matches!(&item.kind, ItemKind::Message(message) if message.reactions.iter().any(|r| r.mine)))
        };
        ann.ask(toggle())?;
        ann.shows(&mine).await?;
        // The reaction itself has to be there before it can be taken back from there.
        let mut person = Person::login(node.address(), "ann", PASSWORD);
        let sent = tokio::task::spawn_blocking({
            let room = room_id.to_string();
            move || eventually("the reaction", || person.history(&room).iter().any(|event| event["type"] == "m.reaction").then_some(()))
        });
        sent.await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("second") })?;
        ann.shows(|timeline| has_text(timeline, "second")).await?;
        proxy.set(Mood::Holding(&["/redact/"]));
        ann.ask(toggle())?;
        ann.shows(|timeline| !mine(timeline)).await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("third") })?;
        ann.shows(|timeline| has_text(timeline, "third")).await?;
        ensure!(ann.link.updates.try_recv().is_err(), "the reaction is still being taken back: nothing has been told of it");
        proxy.set(Mood::Through);
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// Without a connection, too, a reaction can be taken back.
#[test]
fn a_reaction_is_taken_back_offline() -> Result<()> {
    let node = LocalNode::start();
    account(&node, "ann")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    runtime()?.block_on(async {
        let proxy = Proxy::start(node.url(), true).await;
        let endpoint = Endpoint::Server { name_or_url: proxy.url() };
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.online().await?;
        let room = NewRoom { encrypted: false, ..private_room("Notes", Vec::new()) };
        let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("first") })?;
        let shown = ann.shows(|timeline| has_text(timeline, "first")).await?;
        let item = shown.items.iter().find(|item| text_of(item) == Some("first")).and_then(|item| item.id.clone()).context("its ID")?;
        let toggle = || Command::ToggleReaction { room_id: room_id.clone(), item: item.clone(), key: "👍".to_owned() };
        let mine = |timeline: &Timeline| {
            timeline.items.iter().any(|item| matches!(&item.kind, ItemKind::Message(message) if message.reactions.iter().any(|r| r.mine)))
        };
        ann.ask(toggle())?;
        ann.shows(&mine).await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("second") })?;
        ann.shows(|timeline| has_text(timeline, "second")).await?;
        proxy.set(Mood::Away);
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
        ann.ask(toggle())?;
        let Update::News { text } = ann.answer().await? else { bail!("it is told that it happens later") };
        ensure!(text.contains("taken back"), "{text}");
        proxy.set(Mood::Through);
        ann.ask(Command::Reconnect)?;
        ann.shows(|timeline| has_text(timeline, "second") && !mine(timeline)).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// The list of members comes late, fails, and is asked for again; the header does not wait for it.
#[test]
fn a_late_list_of_members_holds_up_no_header_and_is_asked_for_again() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    account(&node, "carol")?;
    let (mut bob, mut carol) = (Person::login(node.address(), "bob", PASSWORD), Person::login(node.address(), "carol", PASSWORD));
    let room = bob.create_room(&json!({ "preset": "public_chat", "name": "Lounge", "invite": [ann_id] }));
    let room_id: ruma::OwnedRoomId = room.as_str().try_into()?;
    carol.join(&room);
    let topic = |person: &mut Person, topic: &str| {
        person.http.put(&format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic"), &json!({ "topic": topic })).ok();
    };
    bob.say(&room, "hello");
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let runtime = runtime()?;
    let (mut ann, proxy) = runtime.block_on(async {
        let proxy = Proxy::start(node.url(), true).await;
        let endpoint = Endpoint::Server { name_or_url: proxy.url() };
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.row(|row| row.id == room_id && row.membership == Membership::Joined).await?;
        proxy.set(Mood::Holding(&["/members"]));
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "hello")).await?;
        Ok::<_, anyhow::Error>((ann, proxy))
    })?;
    topic(&mut bob, "While the members are on their way");
    let knows =
        |details: &Option<std::sync::Arc<RoomDetails>>, what: &dyn Fn(&RoomDetails) -> bool| details.as_ref().is_some_and(|d| what(d));
    runtime.block_on(async {
        let told = |d: &RoomDetails| d.topic.as_deref() == Some("While the members are on their way");
        until(&mut ann.link.details, |details| knows(details, &told)).await?;
        // The request is answered with an error, and so is everything else.
        proxy.set(Mood::Away);
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
        proxy.set(Mood::Through);
        ann.ask(Command::Reconnect)?;
        let all = |d: &RoomDetails| d.members.iter().any(|member| member.id.localpart() == "carol");
        until(&mut ann.link.details, |details| knows(details, &all)).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}
