//! `homeroom doctor`: can the node be reached, can it reach others, and what is wrong if not.

use std::sync::Arc;

use clap::Args;
use ruma::OwnedServerName;

use super::{
    context::{Context, Process},
    exit::{Exit, Failure},
    node::{self, Plan},
    output,
    profile::Profile,
};
use crate::{
    base::{Clock as _, Shutdown, SystemClock, SystemRandomness, Tasks},
    homeserver::{
        acme,
        federation::doctor::{
            Outcome, Report,
            practice::{Own, Practice},
        },
    },
};

/// Arguments of `homeroom doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Another server to look at, instead of the profile's own node
    server: Option<String>,
    /// The server that is asked to look at our node from outside
    #[arg(long, value_name = "SERVER", default_value = "matrix.org")]
    via: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks, and says what it found.
///
/// # Errors
/// When something is wrong: with the server, or with the command line.
pub async fn run(context: &Context, args: &DoctorArgs) -> Result<(), Failure> {
    let _watch = context.watch(Process::Command)?;
    let profile = Profile::load(context)?;
    let plan = Plan::new(context, &profile)?;
    let own = plan.federation_name().map(|name| Own { name, dir: plan.dir.clone() });
    let tasks = Tasks::new(Shutdown::new());
    let (settings, networks) = plan.federation();
    let open = {
        let (own, tasks) = (own.clone(), tasks.clone());
        move || Practice::open(&settings, networks, own, Arc::new(SystemClock), Arc::new(SystemRandomness), tasks)
    };
    let practice = tokio::task::spawn_blocking(open).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
    let practice = practice.map_err(|error| node::failure(&error))?;
    let mut report = match (&args.server, own) {
        (Some(other), _) => {
            let other = name(other)?;
            match plan.federation_name() {
                Some(own) if own == other => practice.examine_own(&own, &name(&args.via)?).await,
                _ => practice.examine_other(&other).await,
            }
        }
        (None, Some(own)) => practice.examine_own(&own.name, &name(&args.via)?).await,
        (None, None) => {
            let message = "the profile's node has no server name of its own, so it is for this machine only; to look at another server: homeroom doctor SERVER";
            return Err(Failure::new(Exit::NotFound, message));
        }
    };
    if let (None, Some(settings)) = (&args.server, plan.acme()) {
        let (dir, settings) = (plan.dir.clone(), settings.clone());
        let look = move || acme::standing::examine(&dir, &settings, SystemClock.now_ms());
        let found = tokio::task::spawn_blocking(look).await.map_err(|error| Failure::new(Exit::Failure, error.to_string()))?;
        // First: it says why the rest fails where it does.
        report.checks.insert(0, found);
    }
    tasks.shutdown().trigger();
    if args.json {
        output::json(&report)?
    } else {
        print(&report)?
    }
    match report.outcome() {
        // The report has said everything.
        Outcome::Bad => Err(Failure::new(Exit::Failure, "")),
        Outcome::Good | Outcome::Warning => Ok(()),
    }
}

fn name(text: &str) -> Result<OwnedServerName, Failure> {
    crate::homeserver::federation::names::parse(text).map_err(|error| Failure::usage(format!("`{text}`: {error}")))
}

fn print(report: &Report) -> Result<(), Failure> {
    output::line(&output::harmless(&report.server))?;
    for check in &report.checks {
        let mark = match check.outcome {
            Outcome::Good => "ok",
            Outcome::Warning => "look",
            Outcome::Bad => "WRONG",
        };
        output::line(&format!("  {mark:<6}{:<12}{}", check.what, output::harmless(&check.found)))?;
        if let Some(mend) = &check.mend {
            output::line(&format!("        {:<10}-> {mend}", ""))?;
        }
    }
    Ok(())
}
