//! `homeroom demo`: a throw-away node with people, rooms and a past, to look around in and to measure with.
//!
//! Everything is in one temporary directory, which is removed at the end. The screen opens at once and signs in as the
//! guest; the stage is set while it is up.

mod cast;
mod company;
mod hand;
mod picture;
mod plan;
mod script;
mod stage;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::Args;
use tokio::sync::oneshot;

use super::{
    context::{Context, Process},
    exit::Failure,
    node::{self, OwnNode, Plan},
    profile::{Home, Profile},
    screen,
};
use crate::{
    base::{Clock as _, Randomness as _, Secret, Shutdown, SystemClock, SystemRandomness, Tasks, private},
    client::command::Setup,
    config::{Config, Dirs},
};

/// Reserved for examples: no server on the network can have it.
const SERVER_NAME: &str = "tannery.example";
/// Messages in the longest room.
const MESSAGES: usize = 3_200;
/// How long the play may take to end.
const STOP: std::time::Duration = std::time::Duration::from_secs(5);

/// Arguments of `homeroom demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Number that decides about everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nobody goes on talking once the past is told
    #[arg(long)]
    quiet: bool,
    /// Number of rooms, at least those that are written by hand
    #[arg(long, default_value_t = 0, value_name = "N")]
    rooms: usize,
    /// Number of messages in the longest room
    #[arg(long, default_value_t = MESSAGES, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    messages: usize,
    /// Address for other programs, plain HTTP; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self { seed: 1, quiet: false, rooms: 0, messages: MESSAGES, listen: Vec::new() }
    }
}

/// Where the demonstration's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Into its own directory, to be removed with it.
    Own,
    /// Where this process logs already.
    Running,
}

/// Runs the demonstration until the screen is left.
///
/// # Errors
/// When the node or the screen cannot run.
pub async fn run(context: &Context, args: &DemoArgs, log: Log) -> Result<(), Failure> {
    let house = House::build()?;
    let context = house.context(context, args);
    let _watch = (log == Log::Own).then(|| context.watch(Process::Screen)).transpose()?;
    context.dirs.create().map_err(|(path, error)| Failure::file(&path, &error))?;
    let mut profile = Profile::load(&context)?;
    let plan = Plan::new(&context, &profile)?;
    let node = OwnNode::start(&plan, &Shutdown::new()).await.map_err(|error| node::failure(&error))?;
    let result = open(&context, &mut profile, &node, &plan, args).await;
    let tasks = Tasks::new(Shutdown::new());
    let result = match result {
        Ok((theatre, setup)) => {
            let keeper = Keeper::of(node, &tasks);
            let (notices, outlet) = oneshot::channel();
            tasks.spawn("demo", theatre.play(outlet, tasks.shutdown().clone()));
            let result = screen::run_with(&context, Some(screen::Opening { setup, notices }), &mut None).await.map(drop);
            keeper.stop().await;
            result
        }
        Err(failure) => {
            node.stop().await;
            Err(failure)
        }
    };
    tasks.shutdown().trigger();
    if !tasks.finish(STOP).await {
        tracing::warn!("a part of the demonstration did not end in time");
    }
    result
}

/// Makes the accounts; afterwards the guest can sign in.
async fn open(
    context: &Context,
    profile: &mut Profile,
    node: &OwnNode,
    plan: &Plan,
    args: &DemoArgs,
) -> Result<(cast::Theatre, Setup), Failure> {
    profile.set_home(Home { server_name: SERVER_NAME.to_owned() }).await?;
    let password = Secret::new(SystemRandomness.alphanumeric(32));
    let theatre = cast::Theatre::open(node, plan.socket(), password.clone(), args, context.zone).await?;
    screen::remember_room(&context.dirs.state, Some(&theatre.first_room()));
    let setup = Setup::SignIn { user: format!("@{}:{SERVER_NAME}", script::GUEST), server: None, password };
    Ok((theatre, setup))
}

/// Ends the screen when the node fails, and stops the node after the screen.
struct Keeper {
    stop: Shutdown,
    done: tokio::sync::oneshot::Receiver<()>,
}

impl Keeper {
    fn of(node: OwnNode, tasks: &Tasks) -> Self {
        let stop = Shutdown::new();
        let (report, done) = tokio::sync::oneshot::channel();
        let (until, all) = (stop.clone(), tasks.shutdown().clone());
        tasks.spawn("demo-node", async move {
            tokio::select! {
                () = until.wait() => {}
                () = node.failed() => all.trigger(),
            }
            node.stop().await;
            // Nobody waits any more when the program ends for another reason.
            let _ = report.send(());
        });
        Self { stop, done }
    }

    async fn stop(self) {
        self.stop.trigger();
        let _ = self.done.await;
    }
}

/// The directory that everything is in. Removed when dropped.
#[derive(Debug)]
struct House(PathBuf);

impl House {
    fn build() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("homeroom-{}", SystemRandomness.alphanumeric(8)));
        private::create_dir(&path).map_err(|error| Failure::file(&path, &error))?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    /// The user's own look and keys; everything else is the demonstration's.
    fn context(&self, context: &Context, args: &DemoArgs) -> Context {
        let mut context = context.clone();
        let sub = |name: &str| self.path().join(name);
        context.dirs = Dirs { config: context.dirs.config, data: sub("d"), state: sub("s"), cache: sub("c") };
        let Config { ui, log, .. } = context.effective.config.clone();
        let mut config = Config { ui, log, ..Config::default() };
        config.client.keyring = false;
        config.node.server_name = ruma::ServerName::parse(SERVER_NAME).ok();
        config.node.rate_limits = false;
        config.node.listen.clone_from(&args.listen);
        context.effective.config = config;
        context
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the demonstration's directory could not be removed");
        }
    }
}

/// The present, in milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    SystemClock.now_ms()
}
