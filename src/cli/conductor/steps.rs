//! The steps that change who is signed in: creating a home, signing in, in again, in anew, and out.

use super::{Client, Conductor};
use crate::{
    base::{Secret, Shutdown},
    cli::{
        exit::{Exit, Failure},
        node::{self, LOCAL_SERVER_NAME, Plan},
        profile::Home,
        role::Role,
        sign_in::{self, Account, Renewed, SignedIn},
    },
    client::{command::Setup, session::Endpoint, update::Update},
    homeserver::AccountError,
};

impl Conductor {
    /// Carries a step out, unless it is cancelled, and tells how it ended.
    pub(super) async fn on_setup(&mut self, setup: Setup, cancel: &Shutdown) {
        let result = match setup {
            Setup::CreateHome { username, password, server_name } => self.create_home(&username, &password, server_name, cancel).await,
            Setup::SignIn { user, server, password } => self.sign_in(&user, server.as_deref(), &password, cancel).await,
            Setup::SignInAgain { password, new_device: false, .. } => self.sign_in_again(&password, cancel).await,
            Setup::SignInAgain { password, new_device: true, recovery_key } => self.sign_in_anew(&password, recovery_key, cancel).await,
            // Ends the session: see `conduct`.
            Setup::LookAround => Ok(()),
            Setup::SignOut => self.sign_out().await,
        };
        match result {
            Err(_) if cancel.is_triggered() => self.tell(Update::SetupCancelled).await,
            Err(failure) => {
                tracing::warn!(%failure, "a step of setting up failed");
                self.tell(Update::SetupFailed { reason: failure.message }).await;
            }
            Ok(()) => {}
        }
    }

    async fn create_home(
        &mut self,
        username: &str,
        password: &Secret,
        server_name: Option<String>,
        cancel: &Shutdown,
    ) -> Result<(), Failure> {
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
            self.restart.give_up();
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
        self.finish_sign_in(&endpoint, username, password, cancel).await
    }

    async fn sign_in(&mut self, user: &str, server: Option<&str>, password: &Secret, cancel: &Shutdown) -> Result<(), Failure> {
        self.profile.reload()?;
        let plan = Plan::new(&self.context, &self.profile)?;
        let endpoint = sign_in::endpoint(user.trim(), server.map(str::trim).filter(|server| !server.is_empty()), &self.profile, &plan)?;
        if matches!(endpoint, Endpoint::Socket { .. }) {
            self.take_node().await;
        }
        self.finish_sign_in(&endpoint, user.trim(), password, cancel).await
    }

    /// After the server ended the session. What is on screen stays there meanwhile.
    async fn sign_in_again(&mut self, password: &Secret, cancel: &Shutdown) -> Result<(), Failure> {
        let progress = self.progress_to_screen();
        match sign_in::renew(&mut self.profile, password, cancel, progress).await? {
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
                    "Encrypted history comes back with your recovery key, if you have one; without it, older encrypted messages cannot \
                     be read here."
                };
                let text = format!(
                    "The server has deleted this device, so it cannot go on where it was. You can sign in as a new device: rooms \
                     and messages come from the server again, drafts stay, and what was not sent goes back into the composer. {history}"
                );
                self.tell(Update::DeviceGone { text, recovery_key_kept: kept }).await;
            }
        }
        Ok(())
    }

    /// The same, when the server has deleted the device.
    async fn sign_in_anew(&mut self, password: &Secret, recovery_key: Option<Secret>, cancel: &Shutdown) -> Result<(), Failure> {
        // The old store is read, which takes it for oneself.
        self.stop_client().await;
        let progress = self.progress_to_screen();
        match sign_in::sign_in_anew(&mut self.profile, password, recovery_key, cancel, progress).await {
            Ok((SignedIn { account, notes, .. }, leftovers)) => {
                // Before the client starts: what the screen has stands in front of the drafts that the new store brings, which
                // hold the same for whoever does not get this far.
                for (room_id, draft) in leftovers.unsent {
                    let reason = "it waited on the device that is gone".to_owned();
                    self.tell(Update::NotSent { room_id, draft, edited: None, reason }).await;
                }
                self.start_client(&account).await?;
                self.tell(Update::SignedIn).await;
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

    async fn finish_sign_in(&mut self, endpoint: &Endpoint, user: &str, password: &Secret, cancel: &Shutdown) -> Result<(), Failure> {
        // Signing in again after the server ended the session: the store must be free meanwhile.
        let was_running = matches!(self.client, Client::Running { .. });
        self.stop_client().await;
        let progress = self.progress_to_screen();
        let signed_in = sign_in::sign_in(&mut self.profile, endpoint, user, password, cancel, progress).await;
        match signed_in {
            Ok(SignedIn { account, notes, news }) => {
                self.start_client(&account).await?;
                self.tell(Update::SignedIn).await;
                if account.recovery_key().is_some() && !self.throwaway {
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

    fn progress(&self, text: &str) {
        drop(self.outlet.updates.try_send(Update::SetupProgress { text: text.to_owned() }));
    }
}
