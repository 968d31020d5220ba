//! The client half against Synapse: sign-in, an encrypted conversation with a second person, and what a restart keeps.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command as Process, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use homeroom::{
    base::Shutdown,
    client::{
        command::{Command, Ticket},
        headless::SendOptions,
        puppet::Puppet,
        session::{self, Endpoint, LoginError},
        update::Update,
        view::{Connection, Item, ItemId, ItemKind, Membership, MessageKind, RoomKind, SendState},
    },
};
use ruma::OwnedUserId;

use crate::support::{
    client::{PASSWORD, PATIENCE, Running, draft, has_text, secret, spawn_task, store_in, text_of, until},
    conversation,
};

const SYNAPSE: &str = "matrix-synapse==1.163.2";

/// A Synapse on a loopback port, killed when dropped.
struct Synapse {
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

/// The Python environment with Synapse, made once per checkout.
fn provision() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    fs::create_dir_all(&root)?;
    let lock = File::create(root.join("synapse.lock"))?;
    lock.lock()?;
    let environment = root.join("synapse");
    let python = environment.join("bin/python");
    let done = environment.join(".ready");
    if fs::read_to_string(&done).is_ok_and(|version| version == SYNAPSE) {
        return Ok(python);
    }
    run(Process::new("python3").args(["-m", "venv"]).arg(&environment))?;
    run(Process::new(environment.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", SYNAPSE]))?;
    fs::write(&done, SYNAPSE)?;
    Ok(python)
}

fn run(command: &mut Process) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Synapse {
    async fn start() -> Result<Self> {
        let python = tokio::task::spawn_blocking(provision).await??;
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
        for name in ["rc_message", "rc_registration", "rc_joins_per_room", "rc_key_requests"] {
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
                 registration_shared_secret: for-this-test-only\nbcrypt_rounds: 4\ncaches: {{sync_response_cache_duration: 0s}}\n{limits}",
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

    fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Server { name_or_url: self.url() }
    }

    fn user(&self, name: &str) -> Result<OwnedUserId> {
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

    fn stop(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(&self.python, self.dir.path())?;
        self.ready().await
    }

    async fn register(&self, name: &str) -> Result<OwnedUserId> {
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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn an_encrypted_conversation_survives_a_restart_and_a_dead_server() -> Result<()> {
    let mut synapse = Synapse::start().await?;
    synapse.register("ann").await?;
    let bob_id = synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());

    // A wrong password says so, and leaves nothing behind.
    let refused = session::login(&synapse.endpoint(), "ann", &secret("wrong"), &store, |_| {}).await;
    let error = refused.err().context("a wrong password is refused")?;
    ensure!(matches!(error, LoginError::WrongPassword), "{error:?}");
    ensure!(error.to_string() == "wrong user name or password", "{error}");
    ensure!(!store.exists(), "no store is left behind");

    let outcome = session::login(&synapse.endpoint(), "ann", &secret(PASSWORD), &store, |_| {}).await?;
    ensure!(outcome.recovery_key.is_some(), "a fresh account gets a recovery key: {:?}", outcome.notes);
    let saved = outcome.session;
    let mut ann = Running::start(&saved, &store).await?;
    ann.online().await?;
    let bob = Puppet::login(&synapse.endpoint(), "bob", &secret(PASSWORD)).await?;

    let room_id = conversation::both_ways_encrypted(&mut ann, &bob, &bob_id).await?;

    // A restart with the server gone: rooms and messages are there, and what is written waits.
    ann.ask(Command::SaveDraft { room_id: room_id.clone(), text: "half a thou".to_owned() })?;
    ann.stop().await?;
    synapse.stop()?;
    let started = Instant::now();
    let mut ann = Running::start(&saved, &store).await?;
    ann.row(|row| row.id == room_id && row.name == "Garden" && row.membership == Membership::Joined).await?;
    eprintln!("cached rooms after {:?}", started.elapsed());
    until(&mut ann.link.drafts, |drafts| drafts.get(&room_id).is_some_and(|text| text == "half a thou")).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.shows(|timeline| has_text(timeline, "hello Ann") && has_text(timeline, "hello **Bob**")).await?;
    eprintln!("cached messages after {:?}", started.elapsed());
    until(&mut ann.link.session, |view| matches!(view.connection, Connection::Offline { .. })).await?;
    ann.ask(Command::Send { room_id: room_id.clone(), draft: draft("written offline") })?;
    ann.shows(|timeline| timeline.items.iter().any(|item| text_of(item) == Some("written offline") && item.send_state != SendState::Sent))
        .await?;
    until(&mut ann.link.session, |view| view.queued == 1).await?;
    ann.stop().await?;

    // The message goes out once, by itself, after yet another start.
    let mut ann = Running::start(&saved, &store).await?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    synapse.start_again().await?;
    ann.online().await?;
    bob.wait_for_text(&room_id, "written offline").await?;
    let shown = ann.shows(|timeline| has_text(timeline, "written offline")).await?;
    let copies = shown.items.iter().filter(|item| text_of(item) == Some("written offline")).count();
    ensure!(copies == 1, "sent once, shown {copies} times");
    until(&mut ann.link.session, |view| view.queued == 0 && view.failed == 0).await?;
    ann.stop().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn history_edits_reactions_threads_and_redactions_arrive() -> Result<()> {
    let synapse = Synapse::start().await?;
    let ann_id = synapse.register("ann").await?;
    synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    conversation::history_changes_in_place(&synapse.endpoint(), &ann_id, &store_in(dir.path())).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
async fn files_direct_conversations_and_notifications_work_and_an_ended_session_says_so() -> Result<()> {
    let synapse = Synapse::start().await?;
    let ann_id = synapse.register("ann").await?;
    let bob_id = synapse.register("bob").await?;
    let dir = tempfile::tempdir()?;
    let store = store_in(dir.path());
    let saved = session::login(&synapse.endpoint(), "ann", &secret(PASSWORD), &store, |_| {}).await?.session;
    let mut ann = Running::start(&saved, &store).await?;
    ann.online().await?;
    let bob = Puppet::login(&synapse.endpoint(), "bob", &secret(PASSWORD)).await?;

    // One direct conversation, however often it is asked for; encrypted.
    let room_id = ann.room_ready(Command::StartDirect { ticket: Ticket(1), user_id: bob_id.clone() }).await?;
    bob.accept_invite(&room_id).await?;
    ann.row(|row| row.id == room_id && row.kind == RoomKind::Direct && row.encrypted && row.name == "bob").await?;
    let again = ann.room_ready(Command::StartDirect { ticket: Ticket(2), user_id: bob_id.clone() }).await?;
    ensure!(again == room_id, "a second conversation was made");

    // A message in a room that is not open is announced, readable, with its sender.
    bob.send(&room_id, "psst").await?;
    let notified = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Update::Notify { room_id, text, .. }) = ann.link.updates.recv().await {
                return (room_id, text);
            }
        }
    });
    ensure!(notified.await? == (room_id.clone(), "bob: psst".to_owned()), "the announcement");

    // A file goes up encrypted and comes back the same, beside the one that is there.
    let original: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = dir.path().join("numbers.bin");
    fs::write(&path, &original)?;
    ann.ask(Command::OpenRoom(Some(room_id.clone())))?;
    ann.ask(Command::SendFile {
        ticket: Ticket(3),
        room_id: room_id.clone(),
        path: path.clone(),
        caption: Some("all of them".to_owned()),
    })?;
    ensure!(matches!(ann.answer().await?, Update::Done(Ticket(3))), "the file is queued");
    let is_file = |item: &Item| match &item.kind {
        ItemKind::Message(message) => matches!(&message.kind, MessageKind::Media { filename, .. } if filename == "numbers.bin"),
        _ => false,
    };
    let sent = |item: &Item| is_file(item) && item.send_state == SendState::Sent && matches!(item.id, Some(ItemId::Event(_)));
    let shown = ann.shows(|timeline| timeline.items.iter().any(|item| sent(item))).await?;
    let item = shown.items.iter().find(|item| sent(item)).and_then(|item| item.id.clone()).context("the file")?;
    ann.ask(Command::Download { ticket: Ticket(4), room_id: room_id.clone(), item, to: Some(dir.path().to_owned()) })?;
    let Update::Saved(Ticket(4), saved_to) = ann.answer().await? else { bail!("a saved file") };
    ensure!(saved_to != path && fs::read(&saved_to)? == original && fs::read(&path)? == original, "{saved_to:?}");
    ann.ask(Command::SendFile { ticket: Ticket(5), room_id: room_id.clone(), path: dir.path().join("missing"), caption: None })?;
    let Update::Failed(Ticket(5), reason) = ann.answer().await? else { bail!("a refusal") };
    ensure!(reason == "There is no such file.", "{reason}");

    // The running client serves headless commands, too.
    let service = ann.actor.headless();
    let (lines, mut tail) = tokio::sync::mpsc::channel(16);
    let stop = Shutdown::new();
    let (following, stopping) = (service.clone(), stop.clone());
    let follower = spawn_task(async move { following.tail(Some("bob"), lines, stopping).await });
    let line = service.send("bob", "from a script", &SendOptions::default()).await?;
    ensure!(line.room_id == room_id, "{line:?}");
    bob.wait_for_text(&room_id, "from a script").await?;
    bob.send(&room_id, "to a script").await?;
    let body = tokio::time::timeout(PATIENCE, async {
        loop {
            match tail.recv().await {
                Some(line) if line.sender == bob_id && line.event_type == "m.room.message" => return line.body,
                Some(_) => {}
                None => return None,
            }
        }
    });
    ensure!(body.await?.as_deref() == Some("to a script"), "the tail");
    stop.trigger();
    follower.await??;
    let rooms = service.rooms().await?;
    ensure!(rooms.iter().any(|line| line.room_id == room_id && line.kind == "direct"), "{rooms:?}");

    // The session ends elsewhere: said, and not hammered at.
    let other = reqwest::Client::new().post(format!("{}/_matrix/client/v3/login", synapse.url())).body(
        serde_json::json!({"type": "m.login.password", "identifier": {"type": "m.id.user", "user": ann_id}, "password": PASSWORD})
            .to_string(),
    );
    let other: serde_json::Value = serde_json::from_str(&other.send().await?.text().await?)?;
    let token = other["access_token"].as_str().context("a token")?;
    let ended = reqwest::Client::new().post(format!("{}/_matrix/client/v3/logout/all", synapse.url())).bearer_auth(token).send().await?;
    ensure!(ended.status().is_success(), "{ended:?}");
    bob.send(&room_id, "are you there?").await?;
    until(&mut ann.link.session, |view| matches!(view.connection, Connection::Expired { .. })).await?;
    ann.stop().await?;
    let renewed = session::renew(&saved, &secret(PASSWORD), |_| {}).await;
    ensure!(matches!(renewed, Err(LoginError::DeviceGone)), "{renewed:?}");
    session::logout(&saved).await.context("signing out of a session that has ended is fine")?;
    Ok(())
}
