//! `homeroom serve`: the node without a screen.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueHint};

use super::{
    context::{Context, Flag, Process},
    exit::{Exit, Failure},
    node::{self, OwnNode, Plan},
    output,
    profile::{Home, Profile},
};
use crate::{
    base::{
        Shutdown, Tasks,
        signals::{HangUp, shut_down_on_signal},
    },
    config::{
        types::Registration,
        value::{Setting as _, Value},
    },
};

/// Arguments of `homeroom serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Directory of the node's data (setting node.data_dir)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data_dir: Option<PathBuf>,
    /// Server name, the part behind the colon in user IDs; fixed once the node exists (setting node.server_name)
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Address for other programs, plain HTTP; may be given several times (setting node.listen)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    /// Address for clients and other servers, with TLS; may be given several times (setting node.listen_tls)
    #[arg(long, value_name = "ADDR:PORT")]
    listen_tls: Vec<SocketAddr>,
    /// PEM file with the certificate (setting node.tls_cert)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key (setting node.tls_key)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tls_key: Option<PathBuf>,
    /// PEM file of further certificate authorities for connections to other servers (setting node.extra_ca)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    extra_ca: Option<PathBuf>,
    /// Connect to other servers at private addresses as well (setting node.allow_private_networks)
    #[arg(long)]
    allow_private_networks: bool,
    /// Address at which others reach the node through a proxy (setting node.public_base_url)
    #[arg(long, value_name = "URL")]
    public_base_url: Option<String>,
    /// File with the secret by which scripts make accounts (setting node.registration_shared_secret_file)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    registration_shared_secret_file: Option<PathBuf>,
    /// Who may create an account: closed, token or open (setting node.registration)
    #[arg(long, value_name = "WHO")]
    registration: Option<Registration>,
    /// Do not limit how often a client may try passwords, send and register (setting node.rate_limits)
    #[arg(long)]
    no_rate_limits: bool,
}

impl ServeArgs {
    /// The flags as the settings that they stand for.
    ///
    /// # Errors
    /// When the working directory, which a relative path starts from, is gone.
    pub fn flags(&self) -> Result<Vec<Flag>, Failure> {
        let mut flags = Vec::new();
        if let Some(dir) = &self.data_dir {
            let path = std::path::absolute(dir).map_err(|error| Failure::file(dir, &error))?;
            flags.push(("node.data_dir", path.show(), format!("--data-dir {}", dir.display())));
        }
        if let Some(name) = &self.server_name {
            flags.push(("node.server_name", Value::Text(name.clone()), format!("--server-name {name}")));
        }
        if !self.listen.is_empty() {
            let written: Vec<String> = self.listen.iter().map(|address| format!("--listen {address}")).collect();
            flags.push(("node.listen", self.listen.show(), written.join(" ")));
        }
        if !self.listen_tls.is_empty() {
            let written: Vec<String> = self.listen_tls.iter().map(|address| format!("--listen-tls {address}")).collect();
            flags.push(("node.listen_tls", self.listen_tls.show(), written.join(" ")));
        }
        if self.allow_private_networks {
            flags.push(("node.allow_private_networks", Value::Bool(true), "--allow-private-networks".to_owned()));
        }
        flags.extend(self.files()?);
        if let Some(url) = &self.public_base_url {
            flags.push(("node.public_base_url", Value::Text(url.clone()), format!("--public-base-url {url}")));
        }
        if let Some(registration) = self.registration {
            flags.push(("node.registration", registration.show(), format!("--registration {}", registration.word())));
        }
        if self.no_rate_limits {
            flags.push(("node.rate_limits", Value::Bool(false), "--no-rate-limits".to_owned()));
        }
        Ok(flags)
    }

    /// Those that name a file.
    fn files(&self) -> Result<Vec<Flag>, Failure> {
        let all = [
            ("node.tls_cert", "--tls-cert", &self.tls_cert),
            ("node.tls_key", "--tls-key", &self.tls_key),
            ("node.extra_ca", "--extra-ca", &self.extra_ca),
            ("node.registration_shared_secret_file", "--registration-shared-secret-file", &self.registration_shared_secret_file),
        ];
        let given = all.into_iter().filter_map(|(setting, flag, file)| Some((setting, flag, file.as_ref()?)));
        given
            .map(|(setting, flag, file)| {
                let path = std::path::absolute(file).map_err(|error| Failure::file(file, &error))?;
                Ok((setting, path.show(), format!("{flag} {}", file.display())))
            })
            .collect()
    }
}

/// Runs the node until a signal.
///
/// # Errors
/// When it cannot start, or a part of it fails later.
pub async fn run(context: &Context) -> Result<(), Failure> {
    let _watch = context.watch(Process::Serve)?;
    let tasks = Tasks::new(Shutdown::new());
    let signals = shut_down_on_signal(&tasks, HangUp::Ignored);
    signals.map_err(|error| Failure::new(Exit::Failure, format!("the signals cannot be taken over: {error}")))?;
    let mut profile = Profile::load(context)?;
    let plan = Plan::new(context, &profile)?;
    let node_shutdown = Shutdown::new();
    let node = OwnNode::start(&plan, &node_shutdown).await.map_err(|error| node::failure(&error))?;
    let result = serve(&node, &plan, &mut profile, &tasks).await;
    node.stop().await;
    result
}

async fn serve(node: &OwnNode, plan: &Plan, profile: &mut Profile, tasks: &Tasks) -> Result<(), Failure> {
    if plan.of_profile {
        // The screen of this profile shall find the node.
        profile.set_home(Home { server_name: node.server_name() }).await?;
    }
    output::line(&format!("ready: {} on {}", node.server_name(), node.places().join(" ")))?;
    tokio::select! {
        () = tasks.shutdown().wait() => Ok(()),
        () = node.failed() => Err(Failure::new(Exit::Failure, "a part of the node failed, so it was stopped; the log file says more")),
    }
}
