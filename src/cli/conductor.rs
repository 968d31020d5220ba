//! Conducts a session with a screen: owns the profile's node and the client actor, carries out what the screen asks for
//! before there is an account, takes the node over when the process that ran it ends, and stops everything in order.
//!
//! Knows nothing of what the screen looks like: it holds the other end of its `Link`.

mod steps;

use std::sync::Arc;

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    context::Context,
    control,
    exit::{Exit, Failure},
    headless::ClientHandler,
    node::Plan,
    profile::Profile,
    restart::Restart,
    role::{Role, RoleEvent},
    sign_in::{self, Account},
};
use crate::{
    base::{Shutdown, Tasks},
    client::{
        actor::{self, Actor},
        command::Setup,
        update::{Feed, Outlet, Port, Update},
    },
};

/// How long what stands beside the actor may take to end.
const STOP: std::time::Duration = std::time::Duration::from_secs(2);

/// How long a step of the set-up that can no longer be given up may take to come to its end.
const SETUP_END: std::time::Duration = std::time::Duration::from_secs(6);

/// How long the account waits for the node when the session begins.
const HEAD_START: std::time::Duration = std::time::Duration::from_secs(1);

/// A keyring that takes longer than this wants something of its owner.
const KEYRING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// The client, running or waiting to.
#[derive(Debug)]
enum Client {
    Idle(Feed),
    Running {
        actor: Box<Actor>,
        /// The actor's tasks stop on this.
        tasks: Tasks,
        /// The control socket's.
        control: Tasks,
    },
    /// Between the two.
    Changing,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By the shutdown signal, or because the screen was left.
    Asked,
    /// The person wants to see the demonstration.
    LookAround,
}

/// A session with a screen.
#[derive(Debug)]
pub struct Conductor {
    context: Context,
    profile: Profile,
    setup: mpsc::Receiver<Setup>,
    /// The step that is under way is to be given up.
    cancel: Arc<Notify>,
    /// Held while a step is under way.
    busy: Arc<tokio::sync::Mutex<()>>,
    outlet: Outlet,
    client: Client,
    role: Role,
    restart: Restart,
    shutdown: Shutdown,
    /// Nothing of it lasts: whoever looks around needs no key to come back.
    throwaway: bool,
}

impl Conductor {
    /// A session that has not begun. The caller holds the profile's [`ClientLock`](super::profile::ClientLock).
    #[must_use]
    pub fn new(context: Context, profile: Profile, port: Port, shutdown: Shutdown) -> Self {
        let Port { setup, cancel, feed } = port;
        let outlet = feed.outlet.clone();
        let (client, role, restart) = (Client::Idle(feed), Role::None, Restart::default());
        let busy = Arc::default();
        Self { context, profile, setup, cancel, busy, outlet, client, role, restart, shutdown, throwaway: false }
    }

    /// The same for a profile that is deleted when the screen is left.
    #[must_use]
    pub fn throwaway(self, throwaway: bool) -> Self {
        Self { throwaway, ..self }
    }

    /// Runs until the shutdown signal, or until what it returns is known. Afterwards nothing of the session is left running.
    ///
    /// # Errors
    /// When a part of the program failed.
    pub async fn run(mut self) -> Result<Ending, Failure> {
        let (shutdown, busy) = (self.shutdown.clone(), Arc::clone(&self.busy));
        let asked = async {
            shutdown.wait().await;
            // Half a sign-in would cost a new account its identity.
            if tokio::time::timeout(SETUP_END, busy.lock()).await.is_err() {
                tracing::warn!("signing in was cut off");
            }
        };
        let result = tokio::select! {
            // Cancelled where it waits; what follows puts an end to whatever runs.
            () = asked => Ok(Ending::Asked),
            result = self.conduct() => result,
        };
        self.stop_client().await;
        self.role.stop().await;
        result
    }

    async fn conduct(&mut self) -> Result<Ending, Failure> {
        self.begin().await;
        loop {
            let failed = match &self.client {
                Client::Running { tasks, .. } => tasks.shutdown().clone(),
                _ => Shutdown::new(),
            };
            tokio::select! {
                () = failed.wait() => {
                    return Err(Failure::new(Exit::Failure, "a part of the client failed; the log file says more"));
                }
                event = self.role.next() => self.on_role(event).await,
                () = self.restart.due() => self.take_node().await,
                setup = self.setup.recv() => match setup {
                    Some(Setup::LookAround) => return Ok(Ending::LookAround),
                    Some(setup) => {
                        let (cancel, asked, end) = (Shutdown::new(), Arc::clone(&self.cancel), self.shutdown.clone());
                        let busy = Arc::clone(&self.busy);
                        let _busy = busy.lock().await;
                        let step = self.on_setup(setup, &cancel);
                        tokio::pin!(step);
                        tokio::select! {
                            () = &mut step => {}
                            () = async { tokio::select! { () = asked.notified() => {}, () = end.wait() => {} } } => {
                                cancel.trigger();
                                step.await;
                            }
                        }
                    }
                    // The screen is gone; so is the reason to be here.
                    None => return Ok(Ending::Asked),
                },
            }
        }
    }

    async fn begin(&mut self) {
        if self.profile.home().is_none() || matches!(self.role, Role::Here(_) | Role::Attached(_)) {
            return self.open_account().await;
        }
        let plan = Plan::new(&self.context, &self.profile);
        let taking = async move {
            match plan {
                Ok(plan) => Role::take(&plan).await,
                Err(failure) => Role::Down(failure),
            }
        };
        tokio::pin!(taking);
        if let Ok(role) = tokio::time::timeout(HEAD_START, &mut taking).await {
            self.taken(role);
            return self.open_account().await;
        }
        // Maybe another process has it and hangs. What is cached can be read, and drafts written, meanwhile.
        self.tell(Update::News { text: "the node is not there yet; what is here can be read meanwhile".to_owned() }).await;
        let (role, ()) = tokio::join!(taking, self.open_account());
        self.taken(role);
    }

    async fn open_account(&mut self) {
        match self.load_account().await {
            Ok(None) => {}
            Ok(Some(account)) => {
                if let Err(failure) = self.start_client(&account).await {
                    self.not_signed_in(failure).await;
                }
            }
            Err(failure) => self.not_signed_in(failure).await,
        }
    }

    /// A locked keyring asks its owner for a password, maybe behind this very window.
    async fn load_account(&self) -> Result<Option<Account>, Failure> {
        let load = Account::load(&self.profile);
        tokio::pin!(load);
        tokio::select! {
            loaded = &mut load => return loaded,
            () = tokio::time::sleep(KEYRING_PATIENCE), if self.profile.in_keyring() => {}
        }
        let text = "waiting for the system's keyring; it may ask you to unlock it";
        self.tell(Update::News { text: text.to_owned() }).await;
        load.await
    }

    /// The main screen may be up already, expecting an account that cannot be opened.
    async fn not_signed_in(&self, failure: Failure) {
        tracing::error!(%failure, "the account could not be opened");
        self.tell(Update::SignedOut).await;
        self.tell(Update::SetupFailed { reason: failure.message }).await;
    }

    async fn on_role(&mut self, event: RoleEvent) {
        match event {
            RoleEvent::OtherEnded => {
                tracing::info!("the process that ran the node has ended; taking it over");
                self.role = Role::None;
                self.take_node().await;
            }
            RoleEvent::Failed => {
                self.role.stop().await;
                self.node_is_down(&Failure::new(Exit::Failure, "the node stopped because a part of it failed; the log file says more"));
                self.show_node();
            }
        }
    }

    /// Starts the node or attaches to it, unless that has been done.
    async fn take_node(&mut self) {
        if matches!(self.role, Role::Here(_) | Role::Attached(_)) {
            // Another step has taken it before the next attempt was due, which would be due for ever.
            self.restart.give_up();
            return;
        }
        let role = match Plan::new(&self.context, &self.profile) {
            Ok(plan) => Role::take(&plan).await,
            Err(failure) => Role::Down(failure),
        };
        self.taken(role);
    }

    fn taken(&mut self, role: Role) {
        self.role = role;
        match &self.role {
            Role::Down(failure) => {
                let failure = Failure::new(failure.exit, failure.message.clone());
                self.node_is_down(&failure);
            }
            _ => self.restart.started(Instant::now()),
        }
        self.show_node();
        if let Client::Running { actor, .. } = &self.client {
            actor.reconnect();
        }
    }

    /// Says why, and when it is tried again, where trying again can help: wrong settings stay wrong.
    fn node_is_down(&mut self, failure: &Failure) {
        let mut message = failure.message.clone();
        if failure.exit == Exit::Usage {
            self.restart.give_up();
        } else {
            let pause = self.restart.failed(Instant::now());
            message = format!("{message} (trying again in {} s)", pause.as_secs());
        }
        tracing::warn!(message, "the node is down");
        self.role = Role::Down(Failure::new(failure.exit, message));
    }

    fn show_node(&self) {
        let state = self.role.state();
        match &self.client {
            Client::Running { actor, .. } => actor.set_node(state),
            _ => self.outlet.session.send_modify(|view| view.node = state),
        }
    }

    async fn start_client(&mut self, account: &Account) -> Result<(), Failure> {
        // With settings that are no good the account can still be read; what is wrong with them is said about the node.
        let account = match Plan::new(&self.context, &self.profile) {
            Ok(plan) => account.clone().at(&plan),
            Err(_) => account.clone(),
        };
        let feed = match std::mem::replace(&mut self.client, Client::Changing) {
            Client::Idle(feed) => feed,
            running => {
                self.client = running;
                return Ok(());
            }
        };
        let tasks = Tasks::new(Shutdown::new());
        let started = actor::start(account.session.clone(), account.store(&self.profile), feed, self.role.state(), &tasks).await;
        let actor = match started {
            Ok(actor) => actor,
            Err((error, feed)) => {
                self.client = Client::Idle(feed);
                return Err(sign_in::start_failure(&error));
            }
        };
        let control = Tasks::new(Shutdown::new());
        let handler = std::sync::Arc::new(ClientHandler::new(actor.headless(), &control));
        let socket = self.profile.dirs().control_socket();
        if let Err(error) = control::server::serve(&socket, handler, &control) {
            // The screen works without it; `homeroom send` will say that the profile is open.
            tracing::error!(%error, path = %socket.display(), "the control socket could not be made");
        }
        self.client = Client::Running { actor: Box::new(actor), tasks, control };
        Ok(())
    }

    async fn stop_client(&mut self) {
        match std::mem::replace(&mut self.client, Client::Changing) {
            Client::Running { actor, tasks, control } => {
                control.shutdown().trigger();
                let _ = control.finish(STOP).await;
                let feed = actor.stop().await;
                tasks.shutdown().trigger();
                let _ = tasks.finish(STOP).await;
                self.client = Client::Idle(feed);
                self.show_node();
            }
            other => self.client = other,
        }
    }

    async fn tell(&self, update: Update) {
        // A screen that is gone needs no news.
        let _ = self.outlet.updates.send(update).await;
    }
}

#[cfg(test)]
mod tests;
