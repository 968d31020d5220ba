//! `homeroom demo`: a throw-away node with people, rooms and a past, to look around in and to measure with.
//!
//! Everything is in one temporary directory, which is removed at the end. The screen opens at once and signs in as the
//! guest; the stage is set while it is up.

mod cast;
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
use time::UtcOffset;

use super::{
    context::Context,
    exit::{Exit, Failure},
    node::{self, NodeEvent, OwnNode, Plan},
    profile::{Home, Profile},
    screen,
};
use crate::{
    base::{Clock as _, Randomness as _, Secret, Shutdown, SystemClock, SystemRandomness, Tasks, private},
    client::{command::Setup, update},
    config::{Config, Dirs},
};

/// Reserved for examples: no server on the network can have it.
const SERVER_NAME: &str = "tannery.example";
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
    #[arg(long, default_value_t = 3200, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    messages: usize,
    /// Address for other programs, plain HTTP; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
}

/// Runs the demonstration until the screen is left.
///
/// # Errors
/// When the node or the screen cannot run.
pub async fn run(context: &Context, args: &DemoArgs, offset: UtcOffset) -> Result<(), Failure> {
    let house = House::build()?;
    let context = house.context(context, args);
    let _watch = context.watch("demo", true)?;
    let mut options = screen::options(&context, offset)?;
    options.start = crate::tui::Start::Main;
    let mut profile = Profile::load(&context)?;
    let plan = Plan::new(&context, &profile)?;
    let node_shutdown = Shutdown::new();
    let node = OwnNode::start(&plan, &node_shutdown).await.map_err(|error| node::failure(&error))?;
    profile.set_home(Home { server_name: SERVER_NAME.to_owned() }).await?;
    let password = Secret::new(SystemRandomness.alphanumeric(32));
    let tasks = Tasks::new(Shutdown::new());
    let result = async {
        let theatre = cast::Theatre::open(&node, plan.socket(), password.clone(), args, offset).await?;
        let (link, port) = update::link();
        let sign_in = Setup::SignIn { user: format!("@{}:{SERVER_NAME}", script::GUEST), server: None, password };
        link.setup.try_send(sign_in).map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        let played = tasks.shutdown().child();
        tasks.spawn("demo", theatre.play(port.feed.outlet.updates.clone(), played));
        let keeper = Keeper::of(node, &tasks);
        let result = screen::play(&context, profile, options, link, port, &tasks).await;
        keeper.stop().await;
        result
    }
    .await;
    tasks.shutdown().trigger();
    tasks.finish(STOP).await;
    drop(house);
    result
}

/// Fulfils what the node is asked for while the screen is up, and stops it afterwards.
struct Keeper {
    stop: Shutdown,
    done: tokio::sync::oneshot::Receiver<()>,
}

impl Keeper {
    fn of(mut node: OwnNode, tasks: &Tasks) -> Self {
        let stop = Shutdown::new();
        let (report, done) = tokio::sync::oneshot::channel();
        let (until, all) = (stop.clone(), tasks.shutdown().clone());
        tasks.spawn("demo-node", async move {
            loop {
                tokio::select! {
                    () = until.wait() => break,
                    event = node.next() => match event {
                        NodeEvent::Wish(wish) => node.fulfil(wish).await,
                        NodeEvent::Failed => {
                            all.trigger();
                            break;
                        }
                    },
                }
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
