//! What is unread.

use anyhow::{Result, ensure};
use homeroom::client::{
    command::{Command, NewRoom, Ticket},
    puppet::Puppet,
    session,
    view::{Connection, RoomRow},
};

use super::{account, endpoint, runtime};
use crate::support::{
    LocalNode,
    client::{PASSWORD, Running, has_text, private_room, secret, store_in, until},
};

fn unread(row: &RoomRow) -> (u64, u64) {
    (row.unread, row.mentions)
}

/// The list's sync brings the newest few messages; the server knows how many there are.
#[test]
fn what_came_in_a_long_absence_is_counted_and_reading_it_counts_at_once_and_for_good() -> Result<()> {
    let home = tempfile::Builder::new().prefix("hr").tempdir()?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    let ann_id = account(&node, "ann")?;
    account(&node, "bob")?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let endpoint = endpoint(home.path());
    let runtime = runtime()?;
    let (ann, bob, room_id, other) = runtime.block_on(async {
        let bob = Puppet::login(&endpoint, "bob", &secret(PASSWORD)).await?;
        let plain = |name: &str| NewRoom { encrypted: false, ..private_room(name, vec![ann_id.clone()]) };
        let (room_id, other) = (bob.create_room(plain("Long")).await?, bob.create_room(plain("Other")).await?);
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
        let mut ann = Running::start(&saved, &store).await?;
        for (room, ticket) in [(&room_id, 1), (&other, 2)] {
            ann.row(|row| row.id == *room).await?;
            ann.room_ready(Command::AcceptInvite { ticket: Ticket(ticket), room_id: room.clone() }).await?;
        }
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        bob.send(&room_id, "before").await?;
        ann.shows(|timeline| has_text(timeline, "before")).await?;
        ann.row(|row| row.id == room_id && unread(row) == (1, 0)).await?;
        ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
        ann.row(|row| row.id == room_id && unread(row) == (0, 0)).await?;
        // At once: whoever leaves now has read it all the same.
        ann.stop().await?;

        bob.mention(&room_id, &ann_id, "Ann, are you there?").await?;
        for number in 0..29 {
            bob.send(&room_id, &format!("line {number}")).await?;
        }
        let mut ann = Running::start(&saved, &store).await?;
        ann.row(|row| row.id == room_id && unread(row) == (30, 1)).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "line 28")).await?;
        ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
        ann.row(|row| row.id == room_id && unread(row) == (0, 0)).await?;
        // Whatever the server still has to say has been said once something later has come.
        ann.ask(Command::OpenRoom(None))?;
        bob.send(&other, "elsewhere").await?;
        ann.row(|row| row.id == other && unread(row) == (1, 0)).await?;
        ann.row(|row| row.id == room_id && unread(row) == (0, 0)).await?;
        bob.send(&room_id, "and another").await?;
        ann.row(|row| row.id == room_id && unread(row) == (1, 0)).await?;
        Ok::<_, anyhow::Error>((ann, bob, room_id, other))
    })?;

    // Read without a connection: zero at once all the same, and the server hears of it later.
    node.stop();
    let mut ann = ann;
    runtime.block_on(async {
        until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
        ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
        ann.shows(|timeline| has_text(timeline, "and another")).await?;
        ann.ask(Command::MarkRead { room_id: room_id.clone() })?;
        ann.row(|row| row.id == room_id && unread(row) == (0, 0)).await
    })?;
    let node = LocalNode::open(home.path().to_path_buf())?;
    runtime.block_on(async {
        ann.online().await?;
        let second = store_in(&dir.path().join("second"));
        let saved = session::login(&endpoint, "ann", &secret(PASSWORD), &second, |_| {}).await?.session;
        let mut elsewhere = Running::start(&saved, &second).await?;
        elsewhere.row(|row| row.id == other && unread(row) == (1, 0)).await?;
        elsewhere.row(|row| row.id == room_id && unread(row) == (0, 0)).await?;
        let rooms = elsewhere.link.rooms.borrow().clone();
        ensure!(rooms.rows.len() == 2, "{rooms:#?}");
        elsewhere.stop().await?;
        ann.stop().await
    })?;
    drop(bob);
    node.stop();
    Ok(())
}
