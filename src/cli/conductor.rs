//! Conducts a session with a screen: owns the profile's node and the client actor, carries out what the screen asks for
//! before there is an account, takes the node over when the process that ran it ends, and stops everything in order.
//!
//! Knows nothing of what the screen looks like: it holds the other end of its `Link`.

use tokio::{sync::mpsc, time::Instant};

use super::{
    context::Context,
    control,
    exit::{Exit, Failure},
    headless::ClientHandler,
    node::{self, LOCAL_SERVER_NAME, Plan},
    profile::{Home, Profile},
    restart::Restart,
    role::{Role, RoleEvent},
    sign_in::{self, Account, Renewed, SignedIn},
};
use crate::{
    base::{Secret, Shutdown, Tasks},
    client::{
        actor::{self, Actor},
        command::Setup,
        session::Endpoint,
        update::{Feed, Outlet, Port, Update},
    },
    homeserver::AccountError,
};

/// How long what stands beside the actor may take to end.
const STOP: std::time::Duration = std::time::Duration::from_secs(2);

/// A keyring that takes longer than this wants something of its owner.
const KEYRING_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// The client, running or waiting to.
#[derive(Debug)]
enum Client {
    Idle(Feed),
    Running {
        actor: Actor,
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
    outlet: Outlet,
    client: Client,
    role: Role,
    restart: Restart,
    shutdown: Shutdown,
}

impl Conductor {
    /// A session that has not begun. The caller holds the profile's [`ClientLock`](super::profile::ClientLock).
    #[must_use]
    pub fn new(context: Context, profile: Profile, port: Port, shutdown: Shutdown) -> Self {
        let Port { setup, feed } = port;
        let outlet = feed.outlet.clone();
        Self { context, profile, setup, outlet, client: Client::Idle(feed), role: Role::None, restart: Restart::default(), shutdown }
    }

    /// Runs until the shutdown signal, or until what it returns is known. Afterwards nothing of the session is left running.
    ///
    /// # Errors
    /// When a part of the program failed.
    pub async fn run(mut self) -> Result<Ending, Failure> {
        let shutdown = self.shutdown.clone();
        let result = tokio::select! {
            // Cancelled where it waits; what follows puts an end to whatever runs.
            () = shutdown.wait() => Ok(Ending::Asked),
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
                    Some(setup) => self.on_setup(setup).await,
                    // The screen is gone; so is the reason to be here.
                    None => return Ok(Ending::Asked),
                },
            }
        }
    }

    async fn begin(&mut self) {
        if self.profile.home().is_some() {
            self.take_node().await;
        }
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
            RoleEvent::Wish(wish) => {
                if let Role::Here(node) = &self.role {
                    node.fulfil(wish).await;
                }
            }
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
            return;
        }
        self.role = match Plan::new(&self.context, &self.profile) {
            Ok(plan) => Role::take(&plan).await,
            Err(failure) => Role::Down(failure),
        };
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

    async fn on_setup(&mut self, setup: Setup) {
        let result = match setup {
            Setup::CreateHome { username, password, server_name } => self.create_home(&username, &password, server_name).await,
            Setup::SignIn { user, server, password } => self.sign_in(&user, server.as_deref(), &password).await,
            Setup::SignInAgain { password, new_device: false, .. } => self.sign_in_again(&password).await,
            Setup::SignInAgain { password, new_device: true, recovery_key } => self.sign_in_anew(&password, recovery_key).await,
            // Ends the session: see `conduct`.
            Setup::LookAround => Ok(()),
            Setup::SignOut => self.sign_out().await,
        };
        if let Err(failure) = result {
            tracing::warn!(%failure, "a step of setting up failed");
            self.tell(Update::SetupFailed { reason: failure.message }).await;
        }
    }

    async fn create_home(&mut self, username: &str, password: &Secret, server_name: Option<String>) -> Result<(), Failure> {
        let name = server_name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(LOCAL_SERVER_NAME);
        let name = node::parse_name(name)?;
        if let Some(home) = self.profile.home().filter(|home| home.server_name != name.as_str()) {
            let message = format!("this profile has a home already, called {}; use that name, or another profile", home.server_name);
            return Err(Failure::usage(message));
        }
        self.progress("Starting your node");
        let mut plan = Plan::new(&self.context, &self.profile)?;
        let configured = plan.server_name.replace(name.clone()).filter(|configured| *configured != name);
        if let Some(configured) = configured {
            return Err(Failure::usage(format!("your settings name this node {configured} (node.server_name); use that name")));
        }
        if !matches!(self.role, Role::Here(_) | Role::Attached(_)) {
            self.role = Role::take(&plan).await;
        }
        match &self.role {
            Role::Here(node) => {
                self.progress("Creating your account");
                let created = node.create_account(username, password, true).await;
                // A name that is taken here was made by an earlier try that did not get to its end; the password decides.
                match created {
                    Ok(_) | Err(AccountError::InUse) => {}
                    Err(error) => return Err(node::account_failure(&error)),
                }
            }
            Role::Attached(attached) => {
                let message = format!(
                    "a node called {} runs in another process (`homeroom serve`); sign in with your account there, or make one with \
                     `homeroom account create`",
                    attached.server_name
                );
                return Err(Failure::new(Exit::Busy, message));
            }
            Role::Down(failure) => return Err(Failure::new(failure.exit, failure.message.clone())),
            Role::None => return Err(Failure::new(Exit::Failure, "the node did not start")),
        }
        self.profile.set_home(Home { server_name: name.to_string() }).await?;
        let endpoint = Endpoint::Socket { path: plan.socket(), server_name: name.to_string() };
        self.finish_sign_in(&endpoint, username, password).await
    }

    async fn sign_in(&mut self, user: &str, server: Option<&str>, password: &Secret) -> Result<(), Failure> {
        self.profile.reload()?;
        let plan = Plan::new(&self.context, &self.profile)?;
        let endpoint = sign_in::endpoint(user.trim(), server.map(str::trim).filter(|server| !server.is_empty()), &self.profile, &plan)?;
        if matches!(endpoint, Endpoint::Socket { .. }) {
            self.take_node().await;
        }
        self.finish_sign_in(&endpoint, user.trim(), password).await
    }

    /// After the server ended the session. What is on screen stays there meanwhile.
    async fn sign_in_again(&mut self, password: &Secret) -> Result<(), Failure> {
        let progress = self.progress_to_screen();
        match sign_in::renew(&mut self.profile, password, progress).await? {
            Renewed::Same(account) => {
                self.stop_client().await;
                self.start_client(&account).await?;
                self.tell(Update::SignedIn).await;
            }
            Renewed::DeviceGone => {
                let kept = Account::need(&self.profile).await?.recovery_key().is_some();
                let history = if kept {
                    "The recovery key that is kept here brings encrypted history back."
                } else {
                    "Encrypted history comes back with your recovery key, if you have one; without it, older encrypted messages cannot be                      read here."
                };
                let text = format!(
                    "The server has deleted this device, so it cannot go on where it was. You can sign in as a new device: rooms and                      messages come from the server again, drafts stay, and what was not sent goes back into the composer. {history}"
                );
                self.tell(Update::DeviceGone { text, recovery_key_kept: kept }).await;
            }
        }
        Ok(())
    }

    /// The same, when the server has deleted the device.
    async fn sign_in_anew(&mut self, password: &Secret, recovery_key: Option<Secret>) -> Result<(), Failure> {
        // The old store is read, which takes it for oneself.
        self.stop_client().await;
        let progress = self.progress_to_screen();
        match sign_in::sign_in_anew(&mut self.profile, password, recovery_key, progress).await {
            Ok((SignedIn { account, notes, .. }, leftovers)) => {
                self.start_client(&account).await?;
                self.tell(Update::SignedIn).await;
                for (room_id, draft) in leftovers.unsent {
                    self.tell(Update::NotSent { room_id, draft, reason: "it waited on the device that is gone".to_owned() }).await;
                }
                if leftovers.others > 0 {
                    let text = format!("{} files, reactions, edits or deletions that waited to be sent are lost.", leftovers.others);
                    self.tell(Update::Notice { text }).await;
                }
                for text in notes {
                    self.tell(Update::Notice { text }).await;
                }
                Ok(())
            }
            Err(failure) => {
                if let Some(account) = Account::load(&self.profile).await? {
                    self.start_client(&account).await?;
                }
                Err(failure)
            }
        }
    }

    /// A step that the screen has no room for is one that nobody misses: the next one follows.
    fn progress_to_screen(&self) -> impl Fn(&str) + use<> {
        let updates = self.outlet.updates.clone();
        move |text: &str| drop(updates.try_send(Update::SetupProgress { text: text.to_owned() }))
    }

    async fn finish_sign_in(&mut self, endpoint: &Endpoint, user: &str, password: &Secret) -> Result<(), Failure> {
        // Signing in again after the server ended the session: the store must be free meanwhile.
        let was_running = matches!(self.client, Client::Running { .. });
        self.stop_client().await;
        let progress = self.progress_to_screen();
        let signed_in = sign_in::sign_in(&mut self.profile, endpoint, user, password, progress).await;
        match signed_in {
            Ok(SignedIn { account, notes, news }) => {
                self.start_client(&account).await?;
                self.tell(Update::SignedIn).await;
                if account.recovery_key().is_some() {
                    let text = "Encrypted history is backed up. `homeroom recovery-key` shows the key that opens it on another device.";
                    self.tell(Update::News { text: text.to_owned() }).await;
                }
                for text in news {
                    self.tell(Update::News { text }).await;
                }
                for text in notes {
                    self.tell(Update::Notice { text }).await;
                }
                Ok(())
            }
            Err(failure) => {
                if was_running && let Some(account) = Account::load(&self.profile).await? {
                    self.start_client(&account).await?;
                }
                Err(failure)
            }
        }
    }

    async fn sign_out(&mut self) -> Result<(), Failure> {
        self.stop_client().await;
        let result = sign_in::sign_out(&mut self.profile, false).await;
        match result {
            Ok(()) => {
                self.tell(Update::SignedOut).await;
                Ok(())
            }
            Err(failure) => {
                if let Some(account) = Account::load(&self.profile).await? {
                    self.start_client(&account).await?;
                }
                Err(failure)
            }
        }
    }

    async fn start_client(&mut self, account: &Account) -> Result<(), Failure> {
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
        self.client = Client::Running { actor, tasks, control };
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

    fn progress(&self, text: &str) {
        drop(self.outlet.updates.try_send(Update::SetupProgress { text: text.to_owned() }));
    }

    async fn tell(&self, update: Update) {
        // A screen that is gone needs no news.
        let _ = self.outlet.updates.send(update).await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use std::time::Duration;

    use super::*;
    use crate::{
        client::{update::link, view::NodeState},
        config::{self, Effective, Sources},
    };

    fn context(dir: &std::path::Path) -> Context {
        let profile = config::Profile::new("default").unwrap();
        let dirs = config::Dirs::find(&profile, |name| Some(dir.join(name).into())).unwrap();
        dirs.create().unwrap();
        let assignments = vec!["client.keyring=false".to_owned()];
        let effective = Effective::load(&Sources { assignments, ..Sources::default() }).unwrap();
        Context { profile, dirs, effective, utc_offset: time::UtcOffset::UTC }
    }

    #[tokio::test]
    async fn a_node_that_fails_under_the_screen_is_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let context = context(dir.path());
        let mut profile = Profile::load(&context).unwrap();
        profile.set_home(Home { server_name: LOCAL_SERVER_NAME.to_owned() }).await.unwrap();
        let (link, port) = link();
        let mut conductor = Conductor::new(context, profile, port, Shutdown::new());
        conductor.begin().await;
        let Role::Here(node) = &conductor.role else { panic!("{:?}", conductor.role) };
        node.node().tasks.spawn("doomed", async { panic!("on purpose") });
        let mut session = link.session.clone();
        let seen = async {
            session.wait_for(|view| matches!(&view.node, NodeState::Down { reason } if reason.contains("again in 1 s"))).await.unwrap();
            session.wait_for(|view| matches!(view.node, NodeState::Here { .. })).await.unwrap();
        };
        tokio::select! {
            ended = conductor.conduct() => panic!("{ended:?}"),
            seen = tokio::time::timeout(Duration::from_secs(60), seen) => seen.unwrap(),
        }
        conductor.role.stop().await;
    }
}
