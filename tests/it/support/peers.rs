//! Real peers from the package registries, made once per checkout below `target/peers`.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::client::session::Endpoint;
use ruma::OwnedUserId;

use super::{
    client::{PASSWORD, PATIENCE},
    http::Address,
};

const SYNAPSE: &str = "matrix-synapse==1.163.2";

/// A Synapse on a loopback port, killed when dropped.
pub struct Synapse {
    child: Child,
    port: u16,
    python: PathBuf,
    dir: tempfile::TempDir,
}

impl Drop for Synapse {
    fn drop(&mut self) {
        // It holds nothing worth an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What peers are made of, below `target`, where nothing else cleans up.
fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    fs::create_dir_all(&root)?;
    Ok(root)
}

/// Makes something once per checkout and again when its recipe changes, also with several test processes.
fn once(name: &str, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = root()?.join(name);
    let lock = File::create(root()?.join(format!("{name}.lock")))?;
    lock.lock()?;
    let done = place.join(".ready");
    if !fs::read_to_string(&done).is_ok_and(|found| found == recipe) {
        make(&place)?;
        fs::write(&done, recipe)?;
    }
    Ok(place)
}

/// A Python environment with these packages; its interpreter.
fn environment(name: &str, packages: &str) -> Result<PathBuf> {
    let place = once(name, packages, |place| {
        run(Process::new("python3").args(["-m", "venv"]).arg(place))?;
        let pip = place.join("bin/pip");
        run(Process::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(packages.split_whitespace()))
    })?;
    Ok(place.join("bin/python"))
}

/// Synapse: the interpreter that runs it.
///
/// # Errors
/// When Python or the package registry cannot be used.
pub fn synapse_python() -> Result<PathBuf> {
    environment("synapse", SYNAPSE)
}

/// matrix-nio: its interpreter and the peer's script.
///
/// # Errors
/// When Python or the package registry cannot be used.
pub fn nio() -> Result<(PathBuf, PathBuf)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/python");
    let requirements = fs::read_to_string(source.join("requirements.txt"))?;
    Ok((environment("nio", requirements.trim())?, source.join("nio_peer.py")))
}

/// matrix-js-sdk as the lock file says, with the suites beside it: the directory.
///
/// # Errors
/// When Node or the package registry cannot be used.
pub fn js_sdk() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/js");
    let recipe = fs::read_to_string(source.join("package-lock.json"))?;
    let place = once("js", &recipe, |place| {
        fs::create_dir_all(place)?;
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source.join(file), place.join(file))?;
        }
        run(Process::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(place))
    })?;
    // Modules are looked for beside the file that asks for them.
    for entry in fs::read_dir(&source)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "mjs") {
            fs::copy(entry.path(), place.join(entry.file_name()))?;
        }
    }
    Ok(place)
}

fn run(command: &mut Process) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Synapse {
    /// Starts one with registration open to everybody and without limits.
    ///
    /// # Errors
    /// When it cannot be made or does not answer.
    pub async fn start() -> Result<Self> {
        let python = tokio::task::spawn_blocking(|| environment("synapse", SYNAPSE)).await??;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::write(
            dir.path().join("log.yaml"),
            format!(
                "version: 1\nformatters: {{plain: {{format: '%(asctime)s %(levelname)s %(name)s %(message)s'}}}}\n\
                 handlers: {{file: {{class: logging.FileHandler, formatter: plain, filename: '{}'}}}}\n\
                 root: {{level: WARNING, handlers: [file]}}\ndisable_existing_loggers: false\n",
                at("synapse.log")
            ),
        )?;
        run(Process::new(&python).args(["-m", "synapse._scripts.generate_signing_key", "-o", &at("signing.key")]))?;
        let mut limits = String::new();
        for name in ["rc_message", "rc_registration", "rc_joins_per_room", "rc_key_requests", "rc_room_creation"] {
            limits.push_str(&format!("{name}: {{per_second: 10000, burst_count: 10000}}\n"));
        }
        limits.push_str("rc_joins: {local: {per_second: 10000, burst_count: 10000}, remote: {per_second: 10000, burst_count: 10000}}\n");
        limits.push_str("rc_invites: {per_room: {per_second: 10000, burst_count: 10000}, per_user: {per_second: 10000, burst_count: 10000}, per_issuer: {per_second: 10000, burst_count: 10000}}\n");
        limits.push_str("rc_login: {address: {per_second: 10000, burst_count: 10000}, account: {per_second: 10000, burst_count: 10000}, failed_attempts: {per_second: 10000, burst_count: 10000}}\n");
        fs::write(
            dir.path().join("homeserver.yaml"),
            format!(
                "server_name: \"localhost:{port}\"\npid_file: {pid}\nsigning_key_path: {key}\nlog_config: {log}\nmedia_store_path: {media}\n\
                 listeners: [{{port: {port}, bind_addresses: ['127.0.0.1'], type: http, tls: false, resources: [{{names: [client]}}]}}]\n\
                 database: {{name: sqlite3, args: {{database: {database}}}}}\nreport_stats: false\ntrusted_key_servers: []\n\
                 suppress_key_server_warning: true\nenable_registration: true\nenable_registration_without_verification: true\n\
                 registration_shared_secret: for-this-test-only\nbcrypt_rounds: 4\n\
                 room_list_publication_rules: [{{action: allow}}]\npresence: {{enabled: true}}\nrc_presence: {{per_user: {{per_second: 10000, burst_count: 10000}}}}\ncaches: {{sync_response_cache_duration: 0s}}\n{limits}",
                pid = at("pid"),
                key = at("signing.key"),
                log = at("log.yaml"),
                media = at("media"),
                database = at("homeserver.db"),
            ),
        )?;
        let child = spawn(&python, dir.path())?;
        let mut synapse = Self { child, port, python, dir };
        synapse.ready().await?;
        Ok(synapse)
    }

    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Where it listens, for the plain client.
    pub fn address(&self) -> Address {
        Address::Tcp(([127, 0, 0, 1], self.port).into())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Server { name_or_url: self.url() }
    }

    pub fn user(&self, name: &str) -> Result<OwnedUserId> {
        Ok(OwnedUserId::try_from(format!("@{name}:localhost:{}", self.port))?)
    }

    async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/_matrix/client/versions", self.url());
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("Synapse ended: {status}: {}", fs::read_to_string(self.dir.path().join("synapse.log")).unwrap_or_default());
            }
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("Synapse does not answer")
    }

    pub fn stop(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.python, self.dir.path())?;
        self.ready().await
    }

    pub async fn register(&self, name: &str) -> Result<OwnedUserId> {
        let body = serde_json::json!({"username": name, "password": PASSWORD, "inhibit_login": true, "auth": {"type": "m.login.dummy"}});
        let request = reqwest::Client::new().post(format!("{}/_matrix/client/v3/register", self.url())).body(body.to_string());
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "registration: {}", answer.text().await?);
        self.user(name)
    }
}

fn spawn(python: &Path, dir: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("output.log"))?;
    Ok(Process::new(python)
        .args(["-m", "synapse.app.homeserver", "-c"])
        .arg(dir.join("homeserver.yaml"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?)
}
