//! The client half as the program runs it, with the screen's end of its channels in the test's hands.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::{
    base::{Shutdown, Tasks},
    client::{
        actor::{self, Actor},
        command::{Command, Draft, NewRoom, Secret},
        session::{SavedSession, Store},
        update::{self, Link, Update},
        view::{Connection, Item, ItemKind, NodeState, RoomRow, SendState, SyncPhase, Timeline},
    },
};
use ruma::{OwnedRoomId, OwnedUserId};
use tokio::sync::watch;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";

/// The test's own helper tasks; the program's go through `Tasks`.
#[expect(clippy::disallowed_methods, reason = "the handle's value is what the test is after")]
pub fn spawn_task<F: Future<Output: Send> + Send + 'static>(future: F) -> tokio::task::JoinHandle<F::Output> {
    tokio::spawn(future)
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A client as the program runs it, and the screen's end of its channels.
pub struct Running {
    pub actor: Actor,
    pub link: Link,
    pub tasks: Tasks,
}

impl Running {
    pub async fn start(saved: &SavedSession, store: &Store) -> Result<Self> {
        let (link, port) = update::link();
        let tasks = Tasks::new(Shutdown::new());
        let started = actor::start(saved.clone(), store.clone(), port.feed, NodeState::None, &tasks).await;
        let actor = started.map_err(|(error, _)| error)?;
        Ok(Self { actor, link, tasks })
    }

    pub async fn stop(self) -> Result<()> {
        self.actor.stop().await;
        self.tasks.shutdown().trigger();
        ensure!(self.tasks.finish(PATIENCE).await, "tasks end");
        Ok(())
    }

    pub fn ask(&self, command: Command) -> Result<()> {
        Ok(self.link.commands.try_send(command)?)
    }

    pub async fn answer(&mut self) -> Result<Update> {
        loop {
            match tokio::time::timeout(PATIENCE, self.link.updates.recv()).await?.context("the client is there")? {
                Update::Notify { .. } => {}
                update => return Ok(update),
            }
        }
    }

    pub async fn room_ready(&mut self, command: Command) -> Result<OwnedRoomId> {
        self.ask(command)?;
        match self.answer().await? {
            Update::RoomReady(_, room_id) => Ok(room_id),
            other => bail!("{other:?}"),
        }
    }

    pub async fn online(&mut self) -> Result<()> {
        until(&mut self.link.session, |view| view.connection == Connection::Online && view.sync == SyncPhase::Live).await
    }

    pub async fn row(&mut self, found: impl Fn(&RoomRow) -> bool) -> Result<()> {
        until(&mut self.link.rooms, |list| list.rows.iter().any(|row| found(row))).await
    }

    pub async fn thread(&mut self, what: impl Fn(&Timeline) -> bool) -> Result<Timeline> {
        seen(&mut self.link.thread, |thread| thread.as_ref().is_some_and(&what)).await?.context("a thread")
    }

    pub async fn shows(&mut self, what: impl Fn(&Timeline) -> bool) -> Result<Timeline> {
        seen(&mut self.link.timeline, |timeline| timeline.as_ref().is_some_and(&what)).await?.context("a timeline")
    }
}

/// The very value that the condition held for: the next one may be another.
pub async fn seen<T: Clone + std::fmt::Debug>(receiver: &mut watch::Receiver<T>, condition: impl Fn(&T) -> bool) -> Result<T> {
    let reached = tokio::time::timeout(PATIENCE, receiver.wait_for(|value| condition(value))).await;
    match reached.map(|result| result.map(|value| value.clone())) {
        Ok(result) => Ok(result?),
        Err(_) => bail!("not reached: {:#?}", *receiver.borrow()),
    }
}

pub async fn until<T: std::fmt::Debug>(receiver: &mut watch::Receiver<T>, condition: impl Fn(&T) -> bool) -> Result<()> {
    let reached = tokio::time::timeout(PATIENCE, receiver.wait_for(|value| condition(value))).await.map(|result| result.map(|_| ()));
    match reached {
        Ok(result) => Ok(result?),
        Err(_) => bail!("not reached: {:#?}", *receiver.borrow()),
    }
}

pub fn text_of(item: &Item) -> Option<&str> {
    match &item.kind {
        ItemKind::Message(message) => Some(&message.body.plain),
        _ => None,
    }
}

pub fn has_text(timeline: &Timeline, text: &str) -> bool {
    timeline.items.iter().any(|item| text_of(item) == Some(text) && item.send_state == SendState::Sent)
}

pub fn draft(text: &str) -> Draft {
    Draft { text: text.to_owned(), emote: false, literal: false, reply_to: None, thread_root: None, mentions: Vec::new() }
}

pub fn store_in(dir: &Path) -> Store {
    Store { dir: dir.join("client"), passphrase: secret("0123456789abcdef0123456789abcdef") }
}

pub fn private_room(name: &str, invite: Vec<OwnedUserId>) -> NewRoom {
    NewRoom { name: Some(name.to_owned()), topic: None, alias: None, public: false, encrypted: true, space: false, invite }
}
