//! Carries commands out: each in a task of its own, so that none delays another; what goes into one room keeps its order.

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use ruma::OwnedRoomId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{
    context::{Context, within},
    drafts, media, membership, receipts, send,
    timelines::{Handles, Timelines},
    words::Trouble,
};
use crate::client::{
    command::{Command, Draft, Ticket},
    update::Update,
    view::{Connection, ItemId},
};

/// Commands under way at the same time; more are refused with words.
const CONCURRENT: usize = 256;
/// Longest wait for a small request.
const SMALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a text waits for a file that was sent before it.
const FILE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a small request may still take once we stop.
const GRACE: Duration = Duration::from_millis(1_500);

/// What a command without a ticket was about, for the notice when it fails.
type About = &'static str;

/// Starts commands.
pub(super) struct Commands {
    context: Context,
    timelines: Timelines,
    drafts: mpsc::Sender<drafts::Change>,
    slots: Arc<Semaphore>,
    late_receipts: receipts::Late,
    tails: HashMap<OwnedRoomId, Tails>,
    /// Texts that were to be sent so far.
    texts: u64,
}

/// What keeps its order among its own kind in a room. A server that lets one of them wait (a file's size limit, a reaction that is
/// taken back) does not let the others wait: what is typed shows at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Messages and edits.
    Texts,
    /// Files. A text that is sent after one waits a moment for it; a file waits for the texts before it.
    Files,
    /// Reactions, removals, attempts anew.
    Others,
}

/// Ends when a command is done: its sender is dropped, never used.
type Done = watch::Receiver<()>;

/// The last command of each kind that went into a room.
#[derive(Debug, Default)]
struct Tails {
    texts: Option<Done>,
    files: Option<Done>,
    others: Option<Done>,
}

impl Tails {
    /// Puts a command at the end of its lane. Gives what it waits for as long as that takes, and what for a moment only.
    fn append(&mut self, lane: Lane, done: Done) -> (Vec<Done>, Option<Done>) {
        match lane {
            Lane::Texts => (self.texts.replace(done).into_iter().collect(), self.files.clone()),
            Lane::Files => (self.files.replace(done).into_iter().chain(self.texts.clone()).collect(), None),
            Lane::Others => (self.others.replace(done).into_iter().collect(), None),
        }
    }

    fn is_over(&self) -> bool {
        [&self.texts, &self.files, &self.others].into_iter().flatten().all(|done| done.has_changed().is_err())
    }
}

impl Commands {
    pub(super) fn new(context: Context, drafts: mpsc::Sender<drafts::Change>) -> Self {
        let late_receipts = receipts::Late::default();
        context.tasks.spawn("late receipts", receipts::run(context.clone(), late_receipts.clone()));
        Self {
            timelines: Timelines::new(context.clone()),
            context,
            drafts,
            slots: Arc::new(Semaphore::new(CONCURRENT)),
            late_receipts,
            tails: HashMap::new(),
            texts: 0,
        }
    }

    /// Subscribes the rooms with live timelines anew, after the connection was rebuilt.
    pub(super) fn resubscribe(&self) {
        let (context, rooms) = (self.context.clone(), self.timelines.room_ids());
        if !rooms.is_empty() {
            self.context.tasks.spawn("subscribe rooms", async move { super::sync::subscribe_rooms(&context, &rooms).await });
        }
    }

    /// Starts one command.
    pub(super) async fn start(&mut self, command: Command) {
        match command {
            Command::OpenRoom(room_id) => {
                self.timelines.open_room(room_id);
                self.resubscribe();
            }
            Command::OpenThread(root) => self.timelines.open_thread(root),
            Command::LoadOlder { count } => self.timelines.load_older(count),
            Command::LoadOlderInThread { count } => self.timelines.load_older_in_thread(count),
            Command::SaveDraft { room_id, text } => {
                // The writer never waits for anything but the local disk.
                if self.drafts.send(drafts::Change::Typed(room_id, text)).await.is_err() {
                    tracing::warn!("the drafts' writer has ended");
                }
            }
            Command::Reconnect => self.context.poke.notify_one(),
            Command::MarkRead { room_id } => self.mark_read(room_id),
            Command::Typing { room_id, typing } => self.typing(room_id, typing),
            command @ (Command::Send { .. }
            | Command::SendFile { .. }
            | Command::Edit { .. }
            | Command::ToggleReaction { .. }
            | Command::Redact { .. }
            | Command::Retry { .. }) => self.within_room(command).await,
            command => self.by_itself(command),
        }
    }

    /// A text that there was no time to send.
    pub(super) async fn keep_unsent(&self, room_id: OwnedRoomId, text: String) {
        if self.drafts.send(drafts::Change::Unsent(room_id, text)).await.is_err() {
            tracing::warn!("the drafts' writer has ended");
        }
    }

    /// Commands whose order within a room matters.
    async fn within_room(&mut self, command: Command) {
        match command {
            Command::Send { room_id, draft } => {
                let answer = Answer::Text(room_id.clone(), draft.clone(), None);
                self.ordered(Lane::Texts, room_id, answer, move |context, room_id, handles| async move {
                    send::message(&context.room(&room_id)?, &draft, handles).await?;
                    Ok(None)
                })
                .await;
            }
            Command::SendFile { ticket, room_id, path, caption } => {
                self.ordered(Lane::Files, room_id, Answer::Ticket(ticket), move |context, room_id, _| async move {
                    let online = context.outlet.session.borrow().connection == Connection::Online;
                    send::file(&context.room(&room_id)?, &path, caption.as_deref(), online).await?;
                    Ok(Some(Update::Done(ticket)))
                })
                .await;
            }
            Command::Edit { room_id, item, draft } => {
                let answer = Answer::Text(room_id.clone(), draft.clone(), Some(item.clone()));
                self.ordered(Lane::Texts, room_id, answer, move |context, room_id, handles| async move {
                    send::edit(&context.room(&room_id)?, &item, &draft, handles).await?;
                    Ok(None)
                })
                .await;
            }
            Command::ToggleReaction { room_id, item, key } => {
                self.ordered(
                    Lane::Others,
                    room_id,
                    Answer::About("Your reaction was not sent"),
                    move |context, room_id, handles| async move {
                        let online = context.outlet.session.borrow().connection == Connection::Online;
                        let done = send::toggle_reaction(&context.room(&room_id)?, &item, &key, online, handles).await?;
                        let later = "your reaction is taken back once the server can be reached";
                        Ok((!done).then(|| Update::News { text: later.to_owned() }))
                    },
                )
                .await;
            }
            Command::Redact { room_id, item, reason } => {
                let answer = Answer::About("The message was not deleted");
                self.ordered(Lane::Others, room_id, answer, move |context, room_id, handles| async move {
                    send::redact(&context.room(&room_id)?, &item, reason.as_deref(), handles).await?;
                    Ok(None)
                })
                .await;
            }
            Command::Retry { room_id, item } => {
                let answer = Answer::About("The message cannot be tried again");
                self.ordered(Lane::Others, room_id, answer, move |context, room_id, handles| async move {
                    send::retry(&context.room(&room_id)?, &item, handles).await?;
                    Ok(None)
                })
                .await;
            }
            _ => {}
        }
    }

    /// Commands that stand for themselves.
    fn by_itself(&mut self, command: Command) {
        match command {
            Command::CreateRoom { ticket, room } => self.free(Answer::Ticket(ticket), move |context| async move {
                Ok(Some(Update::RoomReady(ticket, membership::create(&context.client, room).await?)))
            }),
            Command::StartDirect { ticket, user_id } => self.free(Answer::Ticket(ticket), move |context| async move {
                Ok(Some(Update::RoomReady(ticket, membership::direct(&context.client, &user_id).await?)))
            }),
            Command::Join { ticket, room } => self.free(Answer::Ticket(ticket), move |context| async move {
                Ok(Some(membership::join_or_ask(&context.client, ticket, &room).await?))
            }),
            Command::Knock { ticket, room, reason } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::knock(&context.client, &room, reason).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::AcceptInvite { ticket, room_id } => self.free(Answer::Ticket(ticket), move |context| async move {
                Ok(Some(Update::RoomReady(ticket, membership::accept(&context.room(&room_id)?).await?)))
            }),
            Command::Leave { ticket, room_id } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::leave(&context.room(&room_id)?).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::Invite { ticket, room_id, user_id } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::invite(&context.room(&room_id)?, &user_id).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::SetName { ticket, room_id, name } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::set_name(&context.room(&room_id)?, name).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::SetTopic { ticket, room_id, topic } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::set_topic(&context.room(&room_id)?, &topic).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::SetDisplayName { ticket, name } => self.free(Answer::Ticket(ticket), move |context| async move {
                membership::set_display_name(&context, &name).await?;
                Ok(Some(Update::Done(ticket)))
            }),
            Command::Download { ticket, room_id, item, to } => {
                let handles = self.timelines.handles(&room_id);
                self.free(Answer::Ticket(ticket), move |context| async move {
                    let found = send::find(handles, &item).await;
                    let source = found.and_then(|(_, event)| media::source_of(&event));
                    let (source, name) = source.ok_or_else(|| Trouble::Other("there is no file in that message".to_owned()))?;
                    Ok(Some(Update::Saved(ticket, media::download(&context.client, source, &name, to).await?)))
                });
            }
            _ => {}
        }
    }

    fn mark_read(&mut self, room_id: OwnedRoomId) {
        let handles = self.timelines.handles(&room_id);
        let late = self.late_receipts.clone();
        self.quiet("mark read", move |context| async move {
            for timeline in handles.ready().await.into_iter().filter(|timeline| !timeline.is_threaded()) {
                let Some(event_id) = timeline.latest_event_id().await else {
                    if context.room(&room_id)?.is_marked_unread() {
                        within(SMALL_TIMEOUT, context.room(&room_id)?.set_unread_flag(false)).await?;
                    }
                    continue;
                };
                // The list shows it at once, whatever becomes of the receipt. Nobody listens only while we stop.
                let _ = context.read_here.send((room_id.clone(), event_id.clone()));
                if context.outlet.session.borrow().connection != Connection::Online {
                    late.keep(&context, room_id.clone(), event_id).await;
                    continue;
                }
                let receipts = receipts::of(&event_id);
                let sent = async { timeline.send_multiple_receipts(receipts).await.map_err(Trouble::from) };
                match within(SMALL_TIMEOUT, sent).await {
                    Err(trouble) if trouble.is_connection() => late.keep(&context, room_id.clone(), event_id).await,
                    sent => sent?,
                }
            }
            Ok(())
        });
    }

    fn typing(&mut self, room_id: OwnedRoomId, typing: bool) {
        self.quiet("typing", move |context| async move { within(SMALL_TIMEOUT, context.room(&room_id)?.typing_notice(typing)).await });
    }

    /// A command whose failure is not worth telling.
    fn quiet<F, Fut>(&mut self, what: &'static str, work: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), Trouble>> + Send,
    {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return };
        let context = self.context.clone();
        self.context.tasks.spawn(what, async move {
            let _slot = slot;
            let shutdown = context.tasks.shutdown().clone();
            // Whoever reads a room and leaves at once has read it.
            let late = async {
                shutdown.wait().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                result = work(context) => if let Err(trouble) = result {
                    tracing::debug!(%trouble, command = what, "a small command failed");
                },
                () = late => {}
            }
        });
    }

    fn free<F, Fut>(&mut self, answer: Answer, work: F)
    where
        F: FnOnce(Context) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<Update>, Trouble>> + Send,
    {
        let Some(slot) = self.slot(&answer) else { return };
        let context = self.context.clone();
        self.context.tasks.spawn("command", async move {
            let _slot = slot;
            answer.give(&context, None, work(context.clone())).await;
        });
    }

    async fn ordered<F, Fut>(&mut self, lane: Lane, room_id: OwnedRoomId, answer: Answer, work: F)
    where
        F: FnOnce(Context, OwnedRoomId, Handles) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<Update>, Trouble>> + Send,
    {
        let Some(slot) = self.slot(&answer) else { return };
        let (done, tail) = watch::channel(());
        let (before, file) = self.tails.entry(room_id.clone()).or_default().append(lane, tail);
        if self.tails.len() > CONCURRENT {
            self.tails.retain(|_, tails| !tails.is_over());
        }
        let handles = self.timelines.handles(&room_id);
        let (context, drafts) = (self.context.clone(), self.drafts.clone());
        let flying = self.takes_off(&answer).await;
        self.context.tasks.spawn("command", async move {
            let (_slot, _done) = (slot, done);
            for before in before {
                over(before).await;
            }
            if let Some(file) = file {
                // One that takes longer is passed.
                let _ = tokio::time::timeout(FILE_PATIENCE, over(file)).await;
            }
            answer.give(&context, Some(&drafts), work(context.clone(), room_id, handles)).await;
            if let Some(landed) = flying
                && drafts.send(landed).await.is_err()
            {
                tracing::warn!("the drafts' writer has ended");
            }
        });
    }

    /// A text that is not in the queue yet is kept among the drafts until it is, or has come back: the composer has let go of it.
    /// Gives what to say then.
    async fn takes_off(&mut self, answer: &Answer) -> Option<drafts::Change> {
        let Answer::Text(room_id, draft, edited) = answer else { return None };
        self.texts += 1;
        let change = drafts::Change::Flying(room_id.clone(), self.texts, draft.kept(edited.is_some()));
        if self.drafts.send(change).await.is_err() {
            tracing::warn!("the drafts' writer has ended");
        }
        Some(drafts::Change::Landed(room_id.clone(), self.texts))
    }

    fn slot(&self, answer: &Answer) -> Option<OwnedSemaphorePermit> {
        match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) => {
                let (context, answer) = (self.context.clone(), answer.clone());
                self.context.tasks.spawn("refusal", async move {
                    let busy = async { Err(Trouble::Other("too many things are under way; wait for some to finish".to_owned())) };
                    answer.give(&context, None, busy).await;
                });
                None
            }
        }
    }
}

/// Waits until a command is done.
async fn over(mut done: Done) {
    while done.changed().await.is_ok() {}
}

/// To whom the outcome is told.
#[derive(Debug, Clone)]
enum Answer {
    Ticket(Ticket),
    About(About),
    /// The text is given back when it cannot be sent.
    Text(OwnedRoomId, Draft, Option<ItemId>),
}

impl Answer {
    /// Does the work and tells the outcome. Stopping ends it; a text that is still on its way gets a moment, and goes back to the
    /// drafts then.
    async fn give(
        &self,
        context: &Context,
        drafts: Option<&mpsc::Sender<drafts::Change>>,
        work: impl Future<Output = Result<Option<Update>, Trouble>>,
    ) {
        let shutdown = context.tasks.shutdown();
        let late = shutdown.is_triggered();
        let mut work = std::pin::pin!(work);
        let result = tokio::select! {
            biased;
            () = shutdown.wait(), if late => None,
            result = &mut work => Some(result),
            () = shutdown.wait() => match self {
                Self::Text(..) => tokio::time::timeout(GRACE, work).await.ok(),
                _ => None,
            },
        };
        if shutdown.is_triggered() && !matches!(result, Some(Ok(_))) {
            if let (Self::Text(room_id, draft, edited), Some(drafts)) = (self, drafts)
                && drafts.send(drafts::Change::Unsent(room_id.clone(), draft.kept(edited.is_some()))).await.is_err()
            {
                tracing::warn!("the drafts' writer ended before a text could be given back");
            }
            return;
        }
        let Some(result) = result else { return };
        match (self, result) {
            // Shown by the timeline itself.
            (_, Ok(None)) => {}
            (_, Ok(Some(update))) => context.tell(update).await,
            (Self::Ticket(ticket), Err(trouble)) => context.tell(Update::Failed(*ticket, sentence(&trouble))).await,
            (Self::Text(room_id, draft, edited), Err(trouble)) => {
                let (room_id, draft, edited) = (room_id.clone(), draft.clone(), edited.clone());
                let update = Update::NotSent { room_id, draft, edited, reason: trouble.to_string() };
                context.tell(update).await;
            }
            (Self::About(about), Err(trouble)) => context.tell(Update::Notice { text: format!("{about}: {trouble}.") }).await,
        }
    }
}

/// A reason as a sentence of its own.
fn sentence(trouble: &Trouble) -> String {
    let text = trouble.to_string();
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}
