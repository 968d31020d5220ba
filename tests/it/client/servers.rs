//! Servers that are not like ours, and sessions that end.

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::client::{
    command::{Command, NewRoom, Ticket},
    leftovers::Leftovers,
    puppet::Puppet,
    session::{self, Endpoint, LoginError},
    view::{Connection, Membership, Pagination, SendState},
};

use super::{account, runtime};
use crate::support::{
    LocalNode,
    client::{PASSWORD, Running, draft, has_text, private_room, secret, store_in, text_of, until},
    proxy::{Mood, Proxy},
};

/// All of a room is there, then the connection goes while a message is on its way, and comes back to much that was said: what
/// is older than that can still be had.
#[test]
fn history_goes_on_after_an_absence_during_which_a_message_waited() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    runtime()?.block_on(async {
        let proxy = Proxy::start(node.url(), true).await;
        let bob = Puppet::login(&Endpoint::Server { name_or_url: node.url() }, "bob", &secret(PASSWORD)).await?;
        let room_id = bob.create_room(NewRoom { encrypted: false, ..private_room("Long", vec![ann_id.clone()]) }).await?;
        bob.send(&room_id, "the first words").await?;
        let endpoint = Endpoint::Server { name_or_url: proxy.url() };
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.room_ready(Command::AcceptInvite { ticket: Ticket(1), room_id: room_id.clone() }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| timeline.back == Pagination::AtStart && has_text(timeline, "the first words")).await?;
        proxy.set(Mood::Away);
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("on its way") })?;
        until(&mut ann.link.session, |view| view.queued == 1).await?;
        for number in 0..60 {
            bob.send(&room_id, &format!("missed {number}")).await?;
        }
        proxy.set(Mood::Through);
        ann.ask(Command::Reconnect)?;
        ann.shows(|timeline| has_text(timeline, "missed 59")).await?;
        let expected: Vec<String> = std::iter::once("the first words".to_owned()).chain((0..60).map(|n| format!("missed {n}"))).collect();
        for _ in 0..20 {
            let timeline = ann.shows(|timeline| timeline.back != Pagination::Loading).await?;
            if timeline.back == Pagination::AtStart {
                break;
            }
            ann.ask(Command::LoadOlder { count: 50 })?;
            ann.shows(|now| now.items.len() != timeline.items.len() || now.back == Pagination::AtStart).await?;
        }
        let timeline = ann.shows(|timeline| timeline.back == Pagination::AtStart).await?;
        let texts: Vec<&str> = timeline.items.iter().filter_map(|item| text_of(item)).filter(|text| *text != "on its way").collect();
        ensure!(texts == expected, "{texts:?}");
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// Everything works over `/v3/sync`, too.
#[test]
fn a_server_without_sliding_sync_is_as_good() -> Result<()> {
    let node = LocalNode::start();
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    runtime()?.block_on(async {
        let proxy = Proxy::start(node.url(), false).await;
        let endpoint = Endpoint::Server { name_or_url: proxy.url() };
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        ann.online().await?;
        for (name, encrypted, ticket) in [("Plain", false, 1), ("Secret", true, 2)] {
            let room_id = bob.create_room(NewRoom { encrypted, ..private_room(name, vec![ann_id.clone()]) }).await?;
            ann.row(|row| row.id == room_id && row.membership == Membership::Invited && row.invite.is_some()).await?;
            ann.room_ready(Command::AcceptInvite { ticket: Ticket(ticket), room_id: room_id.clone() }).await?;
            ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
            ann.row(|row| row.id == room_id && row.membership == Membership::Joined && row.encrypted == encrypted).await?;
            ann.shows(|timeline| timeline.room_id == room_id && timeline.back == Pagination::AtStart).await?;
            ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("hello Bob") })?;
            let hello = bob.wait_for_text(&room_id, "hello Bob").await?;
            ann.shows(|timeline| has_text(timeline, "hello Bob")).await?;
            bob.typing(&room_id, true).await?;
            ann.shows(|timeline| timeline.typing.len() == 1).await?;
            ann.row(|row| row.id == room_id && row.typing == ["bob"]).await?;
            bob.send_reply(&room_id, &hello, "hello Ann").await?;
            bob.read(&room_id, &hello).await?;
            ann.shows(|timeline| has_text(timeline, "hello Ann")).await?;
            ann.ask(Command::OpenRoom(None))?;
            bob.mention(&room_id, &ann_id, "Ann, look").await?;
            ann.row(|row| row.id == room_id && row.mentions >= 1 && row.last.as_ref().is_some_and(|last| last.text == "Ann, look")).await?;
            ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
            ann.shows(|timeline| timeline.room_id == room_id && has_text(timeline, "Ann, look")).await?;
            ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
            ann.row(|row| row.id == room_id && row.unread == 0 && row.mentions == 0).await?;
        }
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// The server wants the password again (`soft_logout`): the same device goes on with everything that it had.
#[test]
fn an_expired_session_goes_on_after_signing_in_again() -> Result<()> {
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
        let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room: private_room("Notes", Vec::new()) }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("before") })?;
        ann.shows(|timeline| has_text(timeline, "before")).await?;
        proxy.end_sessions();
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("meanwhile") })?;
        ann.ask(Command::SaveDraft { room_id: room_id.clone(), text: "half a thought".to_owned() })?;
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Expired { .. })).await?;
        ann.shows(|timeline| timeline.items.iter().any(|item| text_of(item) == Some("meanwhile"))).await?;
        let wrong = session::renew(&saved, &secret("wrong"), |_| {}).await;
        ensure!(matches!(wrong, Err(LoginError::WrongPassword)), "{wrong:?}");
        let renewed = session::renew(&saved, &secret(PASSWORD), |_| {}).await?;
        ensure!(renewed.device_id == saved.device_id, "the same device");
        ann.stop().await?;

        let mut ann = Running::start(&renewed, &store).await?;
        until(&mut ann.link.drafts, |drafts| drafts.get(&room_id).is_some_and(|text| text == "half a thought")).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "before") && has_text(timeline, "meanwhile")).await?;
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}

/// The server has deleted the device. What only this device has goes along to the new one.
#[test]
fn drafts_and_unsent_messages_outlive_a_deleted_device() -> Result<()> {
    let home = tempfile::Builder::new().prefix("hr").tempdir()?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    account(&node, "ann")?;
    let dir = tempfile::tempdir()?;
    let (store, other) = (store_in(dir.path()), store_in(&dir.path().join("new")));
    let endpoint = super::endpoint(home.path());
    let runtime = runtime()?;
    let mut elsewhere = crate::support::Person::login(node.address(), "ann", PASSWORD);
    let (outcome, mut ann, room_id) = runtime.block_on(async {
        let outcome = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?;
        let mut ann = Running::start(&outcome.session, &store).await?;
        ann.online().await?;
        let room = NewRoom { encrypted: false, ..private_room("Notes", Vec::new()) };
        let room_id = ann.room_ready(Command::CreateRoom { ticket: Ticket(1), room }).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("an old message") })?;
        ann.shows(|timeline| has_text(timeline, "an old message")).await?;
        Ok::<_, anyhow::Error>((outcome, ann, room_id))
    })?;
    elsewhere.http.post("/_matrix/client/v3/logout/all", &serde_json::json!({})).ok();
    runtime.block_on(async {
        let saved = outcome.session;
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Expired { .. })).await?;
        ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("never *sent*") })?;
        ann.ask(Command::SaveDraft { room_id: room_id.clone(), text: "half a thought".to_owned() })?;
        until(&mut ann.link.session, |view| view.failed == 1).await?;
        ann.stop().await?;
        let gone = session::renew(&saved, &secret(PASSWORD), |_| {}).await;
        ensure!(matches!(gone, Err(LoginError::DeviceGone)), "{gone:?}");

        let leftovers = Leftovers::read(&saved, &store).await?;
        let [(room, unsent)] = &leftovers.unsent[..] else { bail!("{leftovers:?}") };
        ensure!((room, unsent.text.as_str(), leftovers.others) == (&room_id, "never *sent*", 0), "{leftovers:?}");
        let key = outcome.recovery_key.context("a recovery key")?;
        let new = session::login_with_recovery(&endpoint, "ann", &secret(PASSWORD), Some(&key), &other, |_| {}).await?.session;
        ensure!(new.device_id != saved.device_id, "another device");
        leftovers.keep_drafts(&new, &other).await?;
        let mut ann = Running::start(&new, &other).await?;
        until(&mut ann.link.drafts, |drafts| drafts.get(&room_id).is_some_and(|text| text == "never *sent*\nhalf a thought")).await?;
        ann.row(|row| row.id == room_id).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        let shown = ann.shows(|timeline| has_text(timeline, "an old message")).await?;
        ensure!(shown.items.iter().all(|item| item.send_state == SendState::Sent), "nothing waits: {shown:#?}");
        ann.stop().await
    })?;
    node.stop();
    Ok(())
}
