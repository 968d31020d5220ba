//! Commands without a screen: through the running homeroom of the profile where there is one, else on a client of their own.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    context::Context,
    control::{
        self, Request,
        client::{Answers, Connection},
        server::{Handler, Replies},
    },
    exit::{Exit, Failure},
    node::Plan,
    profile::{ClientLock, Profile},
    role::Role,
    sign_in::{self, Account},
};
use crate::{
    base::{Shutdown, Tasks},
    client::{
        headless::{EventLine, HeadlessError, RoomLine, SendOptions, SentLine, Service},
        session::Endpoint,
    },
};

/// One-shot commands of one profile take turns; one that waits longer than this gives up.
const TURN: Duration = Duration::from_secs(20);
/// Events that may wait for their reader. Beyond them the client holds a few syncs more, and then the following ends.
const EVENTS: usize = 4096;
const STOP: Duration = Duration::from_secs(2);

/// Serves a client to other processes.
#[derive(Debug)]
pub struct ClientHandler {
    service: Service,
    shutdown: Shutdown,
    tasks: Tasks,
}

impl ClientHandler {
    /// `tasks` are those of the socket.
    #[must_use]
    pub fn new(service: Service, tasks: &Tasks) -> Self {
        Self { service, shutdown: tasks.shutdown().clone(), tasks: tasks.clone() }
    }
}

impl Handler for ClientHandler {
    async fn handle(&self, request: Request, replies: &mut Replies) -> Result<Value, Failure> {
        match request {
            Request::Rooms => value(&self.service.rooms().await.map_err(|error| failure(&error))?),
            Request::Send { room, text, options } => {
                value(&self.service.send(&room, &text, &options).await.map_err(|error| failure(&error))?)
            }
            Request::Tail { room } => {
                let mut events = Following::start(&self.service, room, &self.tasks, self.shutdown.child());
                while let Some(event) = events.next().await? {
                    replies.item(value(&event)?).await?;
                }
                Ok(Value::Null)
            }
            Request::Watch
            | Request::CreateAccount { .. }
            | Request::CreateToken { .. }
            | Request::NewKey
            | Request::Reports { .. }
            | Request::HeldInvites { .. }
            | Request::JudgeInvite { .. }
            | Request::Troubles => Err(Failure::usage("this socket is the profile's; the node is asked through its admin socket")),
        }
    }
}

fn value(result: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(result).map_err(|error| Failure::new(Exit::Failure, error.to_string()))
}

fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    let different = |error| Failure::new(Exit::Failure, format!("the running homeroom is of another version: {error}"));
    serde_json::from_value(value).map_err(different)
}

/// Events as they arrive, from a client of this process.
#[derive(Debug)]
struct Following {
    events: mpsc::Receiver<EventLine>,
    result: tokio::sync::oneshot::Receiver<Result<(), HeadlessError>>,
    stop: Shutdown,
}

impl Following {
    fn start(service: &Service, room: Option<String>, tasks: &Tasks, stop: Shutdown) -> Self {
        let (sink, events) = mpsc::channel(EVENTS);
        let (done, result) = tokio::sync::oneshot::channel();
        let (service, ending) = (service.clone(), stop.clone());
        tasks.spawn("tail", async move {
            let result = service.tail(room.as_deref(), sink, ending).await;
            // Who follows no longer does not care how it ended.
            let _ = done.send(result);
        });
        Self { events, result, stop }
    }

    /// The next event; `None` when following has ended in order.
    async fn next(&mut self) -> Result<Option<EventLine>, Failure> {
        if let Some(event) = self.events.recv().await {
            return Ok(Some(event));
        }
        match (&mut self.result).await {
            Ok(Err(error)) => Err(failure(&error)),
            Ok(Ok(())) | Err(_) => Ok(None),
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

/// What carries a command out.
#[derive(Debug)]
pub enum Desk {
    /// The running homeroom.
    Running(Connection),
    /// A client of our own.
    Own(Box<OwnDesk>),
}

/// A client of our own, for one command.
#[derive(Debug)]
pub struct OwnDesk {
    service: Service,
    role: Role,
    /// The socket's, so that another command can be served meanwhile.
    tasks: Tasks,
    _lock: ClientLock,
}

impl Desk {
    /// Finds the running homeroom, or opens the account for `what`.
    ///
    /// # Errors
    /// When nobody is signed in, or the account cannot be opened.
    pub async fn open(context: &Context, what: &str) -> Result<Self, Failure> {
        let socket = context.dirs.control_socket();
        let deadline = tokio::time::Instant::now() + TURN;
        loop {
            if let Some(connection) = control::client::connect(&socket).await {
                return Ok(Self::Running(connection));
            }
            match ClientLock::wait(&context.dirs, what, Duration::from_millis(200)).await {
                Ok(lock) => return OwnDesk::open(context, lock).await.map(|desk| Self::Own(Box::new(desk))),
                // Whoever has it may be about to make its socket, or about to end.
                Err(failure) if failure.exit == Exit::Busy && tokio::time::Instant::now() < deadline => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The rooms.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn rooms(self) -> Result<Vec<RoomLine>, Failure> {
        match self {
            Self::Running(connection) => parsed(connection.ask(&Request::Rooms).await?),
            Self::Own(desk) => {
                let rooms = desk.service.rooms().await;
                desk.close().await;
                rooms.map_err(|error| failure(&error))
            }
        }
    }

    /// Sends, and waits until the server has it.
    ///
    /// # Errors
    /// When there is no such room, or the server cannot be reached or refuses.
    pub async fn send(self, room: &str, text: &str, options: SendOptions) -> Result<SentLine, Failure> {
        match self {
            Self::Running(connection) => {
                parsed(connection.ask(&Request::Send { room: room.to_owned(), text: text.to_owned(), options }).await?)
            }
            Self::Own(desk) => {
                let sent = desk.service.send(room, text, &options).await;
                desk.close().await;
                sent.map_err(|error| failure(&error))
            }
        }
    }

    /// Gives every new event to `show` until the shutdown signal.
    ///
    /// # Errors
    /// When there is no such room, the connection is lost for good, or `show` fails.
    pub async fn tail(
        self,
        room: Option<&str>,
        shutdown: &Shutdown,
        mut show: impl FnMut(&EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Running(connection) => {
                let mut answers: Answers = connection.start(&Request::Tail { room: room.map(str::to_owned) }).await?;
                loop {
                    let next = tokio::select! {
                        () = shutdown.wait() => return Ok(()),
                        next = answers.next() => next?,
                    };
                    let Some(event) = next else { return Ok(()) };
                    show(&parsed(event)?)?;
                }
            }
            Self::Own(mut desk) => {
                let result = desk.follow(room, shutdown, &mut show).await;
                desk.close().await;
                result
            }
        }
    }
}

impl OwnDesk {
    async fn open(context: &Context, lock: ClientLock) -> Result<Self, Failure> {
        let profile = Profile::load(context)?;
        let mut account = Account::need(&profile).await?;
        let mut role = Role::None;
        if matches!(account.session.endpoint, Endpoint::Socket { .. }) {
            let plan = Plan::new(context, &profile)?;
            account = account.at(&plan);
            role = Role::take(&plan).await;
            if let Role::Down(failure) = role {
                return Err(failure);
            }
        }
        match Service::open(account.session.clone(), account.store(&profile)).await {
            Ok(service) => {
                let tasks = Tasks::new(Shutdown::new());
                let handler = std::sync::Arc::new(ClientHandler::new(service.clone(), &tasks));
                if let Err(error) = control::server::serve(&context.dirs.control_socket(), handler, &tasks) {
                    tracing::warn!(%error, "other commands have to wait for this one: the control socket could not be made");
                }
                Ok(Self { service, role, tasks, _lock: lock })
            }
            Err(error) => {
                role.stop().await;
                Err(sign_in::start_failure(&error))
            }
        }
    }

    async fn follow(
        &mut self,
        room: Option<&str>,
        shutdown: &Shutdown,
        show: &mut impl FnMut(&EventLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut events = Following::start(&self.service, room.map(str::to_owned), &self.tasks, shutdown.child());
        loop {
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                event = events.next() => match event? {
                    Some(event) => show(&event)?,
                    None => return Ok(()),
                },
                event = self.role.next() => return Err(event.failure()),
            }
        }
    }

    async fn close(mut self) {
        self.tasks.shutdown().trigger();
        if !self.tasks.finish(STOP).await {
            tracing::debug!("a control connection did not end in time");
        }
        self.service.close().await;
        self.role.stop().await;
    }
}

/// A failure with its exit code.
fn failure(error: &HeadlessError) -> Failure {
    let exit = match error {
        HeadlessError::NoSuchRoom(_) => Exit::NotFound,
        HeadlessError::Ambiguous { .. } => Exit::Usage,
        HeadlessError::Offline(_) => Exit::Unreachable,
        HeadlessError::Expired(_) => Exit::NotSignedIn,
        HeadlessError::Refused(_) => Exit::Refused,
        HeadlessError::TooSlow => Exit::Failure,
        HeadlessError::Stopping => Exit::Busy,
    };
    Failure::new(exit, error.to_string())
}
