//! Signing in and out of a profile's account: what the client half does on the network, and what must be kept on disk.

use serde::{Deserialize, Serialize};

use super::{
    exit::{Exit, Failure},
    node::Plan,
    profile::Profile,
};
use crate::{
    base::{Randomness as _, Secret, Shutdown, SystemRandomness},
    client::{
        actor::StartError,
        leftovers::Leftovers,
        session::{self, Endpoint, LoginError, LoginOutcome, SavedSession, Store, StoreError},
        words::Trouble,
    },
};

/// The name of the one secret that everything about the account is in.
const ACCOUNT: &str = "account";
/// 256 bits and more: the client's store does not stretch its key.
const KEY_CHARACTERS: usize = 44;

/// An account that is signed in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// The session.
    pub session: SavedSession,
    /// Directory of its store, below the profile's `client` directory.
    store: String,
    key: Hidden,
    /// What restores encrypted history on another device, where this sign-in made it.
    recovery_key: Option<Hidden>,
}

/// Text that is kept among the secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Hidden(Secret);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(Secret::new(text))
    }
}

impl From<Hidden> for String {
    fn from(hidden: Hidden) -> Self {
        hidden.0.expose().to_owned()
    }
}

impl Account {
    /// The account of a profile, if one is signed in.
    ///
    /// # Errors
    /// When its secrets cannot be read.
    pub async fn load(profile: &Profile) -> Result<Option<Self>, Failure> {
        let Some(secrets) = profile.secrets() else { return Ok(None) };
        if profile.user_id().is_none() {
            return Ok(None);
        }
        let secret = secrets.get(ACCOUNT).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let missing = "this profile's keys are gone from where they were kept; sign out with `homeroom logout --force`, then sign in again";
        let secret = secret.ok_or_else(|| Failure::new(Exit::NotSignedIn, missing))?;
        // The error of the parser could quote the secret.
        serde_json::from_str(secret.expose()).map(Some).map_err(|_| Failure::new(Exit::Failure, "this profile's keys are damaged"))
    }

    /// As `load`, for commands that need an account.
    ///
    /// # Errors
    /// `NotSignedIn` when there is none.
    pub async fn need(profile: &Profile) -> Result<Self, Failure> {
        let none = || Failure::new(Exit::NotSignedIn, "nobody is signed in; run `homeroom login USER_ID`, or `homeroom` to set up");
        Self::load(profile).await?.ok_or_else(none)
    }

    /// The own node is where this profile has it now: its directories may have been moved since the account was saved, to
    /// another machine for instance.
    #[must_use]
    pub fn at(mut self, plan: &Plan) -> Self {
        if let Endpoint::Socket { path, .. } = &mut self.session.endpoint {
            *path = plan.socket();
        }
        self
    }

    /// Where the client keeps what it knows.
    #[must_use]
    pub fn store(&self, profile: &Profile) -> Store {
        Store { dir: profile.stores().join(&self.store), passphrase: self.key.0.clone() }
    }

    /// The recovery key, where this sign-in made it.
    #[must_use]
    pub fn recovery_key(&self) -> Option<&str> {
        self.recovery_key.as_ref().map(|key| key.0.expose())
    }

    async fn save(&self, profile: &mut Profile) -> Result<(), Failure> {
        let secrets = profile.secrets_or_new().await?;
        let text = serde_json::to_string(self).map_err(|_| Failure::new(Exit::Failure, "the session cannot be written down"))?;
        secrets.set(ACCOUNT, &Secret::new(text)).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        profile.set_user(Some(self.session.user_id.to_string())).await
    }
}

/// Where a user's homeserver is: the profile's own node if the name is its name, else whatever the person said.
///
/// # Errors
/// When neither the user ID nor `server` says where.
pub fn endpoint(user: &str, server: Option<&str>, profile: &Profile, plan: &Plan) -> Result<Endpoint, Failure> {
    let home = profile.home().map(|home| home.server_name.as_str());
    let own = |server_name: &str| Endpoint::Socket { path: plan.socket(), server_name: server_name.to_owned() };
    let of_user = user.strip_prefix('@').and_then(|rest| rest.split_once(':')).map(|(_, name)| name);
    match (server, of_user, home) {
        (Some(server), _, Some(home)) if server == home => Ok(own(home)),
        (Some(server), ..) => Ok(Endpoint::Server { name_or_url: server.to_owned() }),
        (None, Some(name), Some(home)) if name == home => Ok(own(home)),
        (None, Some(name), _) => Ok(Endpoint::Server { name_or_url: name.to_owned() }),
        (None, None, Some(home)) => Ok(own(home)),
        (None, None, None) => Err(Failure::usage(format!("`{user}` does not say which server; write it as @name:server"))),
    }
}

/// What signing in left to tell the person.
#[derive(Debug)]
pub struct SignedIn {
    /// The account.
    pub account: Account,
    /// Things that did not work and do not stand in the way.
    pub notes: Vec<String>,
    /// Things worth knowing; nothing is wrong.
    pub news: Vec<String>,
}

/// Signs in and keeps the result, unless it is cancelled. An account that is there already is signed in again as the same device
/// if it is the same user, and refused otherwise.
///
/// # Errors
/// Whatever the server or the disk says; the profile is then as it was.
pub async fn sign_in(
    profile: &mut Profile,
    endpoint: &Endpoint,
    user: &str,
    password: &Secret,
    cancel: &Shutdown,
    progress: impl Fn(&str),
) -> Result<SignedIn, Failure> {
    if let Some(mut account) = Account::load(profile).await? {
        let present = account.session.user_id.as_str();
        if user != present && user != account.session.user_id.localpart() {
            let message = format!("{present} is signed in; sign out first, or use another profile with --profile");
            return Err(Failure::new(Exit::Failure, message));
        }
        account.session = renewed(&account, password, cancel, progress).await.map_err(|error| login_failure(&error))?;
        account.save(profile).await?;
        return Ok(SignedIn { account, notes: Vec::new(), news: Vec::new() });
    }
    let (name, store) = new_store(profile);
    let outcome = session::login_unless(cancel, endpoint, user, password, None, &store, progress).await;
    let SignedIn { account, notes, .. } = signed_in(outcome, name, &store)?;
    if let Err(failure) = account.save(profile).await {
        give_up(&account.session, &store).await;
        return Err(failure);
    }
    let news = profile.take_note().into_iter().collect();
    Ok(SignedIn { account, notes, news })
}

/// The session, signed in again as the same device. One that is given up on the way costs nothing: the next one is of the same
/// device, and the token before has ended anyway.
async fn renewed(account: &Account, password: &Secret, cancel: &Shutdown, progress: impl Fn(&str)) -> Result<SavedSession, LoginError> {
    tokio::select! {
        session = session::renew(&account.session, password, progress) => session,
        () = cancel.wait() => Err(LoginError::Cancelled),
    }
}

/// How signing in again ended.
#[derive(Debug)]
pub enum Renewed {
    /// With the same device: the store stays as it is.
    Same(Box<Account>),
    /// It cannot be the same device any more; see [`sign_in_anew`].
    DeviceGone,
}

/// Signs the profile's account in again as the same device, after the server ended the session. Touches nothing but the saved
/// session, so that a client may have the store open meanwhile. Can be cancelled.
///
/// # Errors
/// Whatever the server or the disk says; the profile is then as it was.
pub async fn renew(profile: &mut Profile, password: &Secret, cancel: &Shutdown, progress: impl Fn(&str)) -> Result<Renewed, Failure> {
    let mut account = Account::need(profile).await?;
    match renewed(&account, password, cancel, progress).await {
        Ok(session) => account.session = session,
        Err(LoginError::DeviceGone) => return Ok(Renewed::DeviceGone),
        Err(error) => return Err(login_failure(&error)),
    }
    account.save(profile).await?;
    Ok(Renewed::Same(Box::new(account)))
}

/// Signs the profile's account in as a new device with a new store, after the server deleted the old one. Drafts and what was
/// not sent go along, into the new store's drafts, before the old store is deleted; for a screen that is up they are given back
/// as well. The recovery key that is kept here, or else the given one, opens encrypted history. Can be cancelled.
///
/// # Errors
/// Whatever the server or the disk says; the profile is then as it was.
pub async fn sign_in_anew(
    profile: &mut Profile,
    password: &Secret,
    recovery_key: Option<Secret>,
    cancel: &Shutdown,
    progress: impl Fn(&str),
) -> Result<(SignedIn, Leftovers), Failure> {
    let old = Account::need(profile).await?;
    let old_store = old.store(profile);
    let leftovers = Leftovers::read(&old.session, &old_store).await.map_err(|error| Failure::new(store_exit(&error), error.to_string()))?;
    let kept = old.recovery_key.as_ref().map(|key| key.0.clone()).or(recovery_key);
    let (name, store) = new_store(profile);
    let (user, endpoint) = (old.session.user_id.as_str(), &old.session.endpoint);
    let outcome = session::login_unless(cancel, endpoint, user, password, kept.as_ref(), &store, progress).await;
    let SignedIn { mut account, notes, news } = signed_in(outcome, name, &store)?;
    account.recovery_key = account.recovery_key.or(old.recovery_key);
    let saved = async {
        let kept = leftovers.keep_drafts(&account.session, &store).await;
        kept.map_err(|error| Failure::new(store_exit(&error), error.to_string()))?;
        account.save(profile).await
    };
    if let Err(failure) = saved.await {
        give_up(&account.session, &store).await;
        return Err(failure);
    }
    remove_store(&old_store);
    Ok((SignedIn { account, notes, news }, leftovers))
}

/// The account that a sign-in with a new store made; the store goes where there is none.
fn signed_in(outcome: Result<LoginOutcome, LoginError>, name: String, store: &Store) -> Result<SignedIn, Failure> {
    let outcome = outcome.map_err(|error| {
        remove_store(store);
        login_failure(&error)
    })?;
    let account = Account {
        session: outcome.session,
        store: name,
        key: Hidden(store.passphrase.clone()),
        recovery_key: outcome.recovery_key.map(Hidden),
    };
    Ok(SignedIn { account, notes: outcome.notes, news: Vec::new() })
}

/// Name and place of a store that does not exist yet.
fn new_store(profile: &Profile) -> (String, Store) {
    let name = SystemRandomness.alphanumeric(8);
    let store = Store { dir: profile.stores().join(&name), passphrase: Secret::new(SystemRandomness.alphanumeric(KEY_CHARACTERS)) };
    (name, store)
}

/// Undoes a sign-in that cannot be kept.
async fn give_up(session: &SavedSession, store: &Store) {
    if let Err(trouble) = session::logout(session).await {
        tracing::warn!(%trouble, "a device that could not be kept is still signed in");
    }
    remove_store(store);
}

/// Signs out: tells the server, then deletes everything local. With `force`, a server that cannot be reached is no hindrance.
///
/// # Errors
/// When the server cannot be told and `force` is not set, or the disk refuses.
pub async fn sign_out(profile: &mut Profile, force: bool) -> Result<(), Failure> {
    match Account::load(profile).await {
        Ok(Some(account)) => {
            match session::logout(&account.session).await {
                Ok(()) => {}
                Err(trouble) if force => tracing::warn!(%trouble, "the server could not be told of the sign-out"),
                Err(trouble) => {
                    let message = format!(
                        "the server could not be told, so nothing was deleted: {trouble}. `homeroom logout --force` signs out without it"
                    );
                    return Err(Failure::new(trouble_exit(&trouble), message));
                }
            }
            profile.set_user(None).await?;
            remove_store(&account.store(profile));
        }
        Ok(None) => return Err(Failure::new(Exit::NotSignedIn, "nobody is signed in")),
        Err(failure) if !force => return Err(failure),
        Err(failure) => {
            tracing::warn!(%failure, "signing out of an account whose keys cannot be read");
            profile.set_user(None).await?;
        }
    }
    if let Some(secrets) = profile.secrets() {
        secrets.delete(ACCOUNT).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    }
    Ok(())
}

fn remove_store(store: &Store) {
    match std::fs::remove_dir_all(&store.dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, dir = %store.dir.display(), "a store that is of no use any more could not be deleted");
        }
        _ => {}
    }
    // Fails where other stores are, which is what should be.
    let _ = store.dir.parent().map(std::fs::remove_dir);
}

fn login_failure(error: &LoginError) -> Failure {
    let exit = match error {
        LoginError::WrongPassword | LoginError::Deactivated | LoginError::Unsupported(_) => Exit::Refused,
        LoginError::UnknownServer(_)
        | LoginError::Unreachable(_)
        | LoginError::Tls(_)
        | LoginError::NotMatrix(_)
        | LoginError::Timeout(_)
        | LoginError::RateLimited { .. } => Exit::Unreachable,
        LoginError::DeviceGone => Exit::NotSignedIn,
        LoginError::Store(error) => store_exit(error),
        LoginError::Occupied(_) | LoginError::Cancelled | LoginError::Other(_) => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

/// The exit code for trouble with a server.
#[must_use]
pub fn trouble_exit(trouble: &Trouble) -> Exit {
    match trouble {
        Trouble::Expired { .. } => Exit::NotSignedIn,
        Trouble::Refused { status, .. } if *status == 404 => Exit::NotFound,
        Trouble::Refused { status, .. } if *status < 500 => Exit::Refused,
        trouble if trouble.is_connection() => Exit::Unreachable,
        _ => Exit::Failure,
    }
}

/// The exit code for trouble with the client's store.
#[must_use]
pub fn store_exit(error: &StoreError) -> Exit {
    match error {
        StoreError::InUse(_) => Exit::Busy,
        _ => Exit::Failure,
    }
}

/// A failure to open the account.
#[must_use]
pub fn start_failure(error: &StartError) -> Failure {
    let exit = match error {
        StartError::Store(error) => store_exit(error),
        StartError::Session(trouble) => trouble_exit(trouble),
    };
    Failure::new(exit, error.to_string())
}
