//! One encrypted room on our node with three clients of different make in it: matrix-js-sdk, matrix-nio and homeroom's own
//! headless commands. Everybody reads everybody.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::compare::node_script;
use crate::support::{Home, Person, ServedNode, eventually, node::SERVER_NAME, peers};

/// A process that takes commands and tells what happens in lines of JSON. Killed when dropped.
struct Talker {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
    /// Lines that nobody has asked for yet.
    seen: Mutex<Vec<Value>>,
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Talker {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("a pipe")?);
        let (line_in, lines) = mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line)
                    && line_in.send(line).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines, seen: Mutex::new(Vec::new()) })
    }

    fn ask(&mut self, command: &Value) -> Result<()> {
        let input = self.input.as_mut().context("the talker is there")?;
        writeln!(input, "{command}")?;
        Ok(input.flush()?)
    }

    /// Waits for a line.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        eventually(what, || {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.extend(self.lines.try_iter());
            assert!(!seen.iter().any(|line| line.get("failed").is_some()), "{seen:?}");
            seen.iter().find_map(&wanted)
        })
    }

    fn says(&mut self, room: &str, body: &str) -> Result<()> {
        self.ask(&json!({ "send": { "room": room, "body": body } }))
    }

    /// Waits for a message that came encrypted.
    fn reads(&self, sender: &str, body: &str) {
        let message = |line: &Value| (line["message"]["body"] == body).then(|| line["message"].clone());
        let message = self.wait(body, message);
        assert_eq!((message["sender"].as_str(), message["encrypted"].as_bool()), (Some(sender), Some(true)), "{message}");
    }
}

#[test]
#[ignore = "needs matrix-js-sdk from npm and matrix-nio from PyPI: run by .ci/run"]
fn three_makes_of_client_talk_in_one_encrypted_room() -> Result<()> {
    let place = peers::js_sdk()?;
    let (python, script) = peers::nio()?;
    let home = Home::new();
    let node = ServedNode::start(&home);
    let id = |name: &str| format!("@{name}:{SERVER_NAME}");

    let mut jane = Talker::start(node_script(&place, "talker", &[&node.url(), "jane"]))?;
    let mut command = Command::new(python);
    command.arg(script).args(["talk", &node.url(), "nina"]);
    let mut nina = Talker::start(command)?;
    jane.wait("jane", |line| line.get("ready").cloned());
    nina.wait("nina", |line| line.get("ready").cloned());

    // Our own client in a home of its own, where no node runs.
    let mut hanna = node.person("hanna");
    let own = Home::new();
    let secret = own.path().join("password");
    std::fs::write(&secret, &hanna.password)?;
    let login = own.run(&["login", &hanna.user_id, "--server", &node.url(), "--password-file", secret.to_str().context("a path")?]);
    ensure!(login.code() == 0, "{}", login.err());
    let mut tail = Talker::start(own.command(&["tail", "--json"]))?;

    jane.ask(&json!({ "create": { "name": "Together", "invite": [id("nina"), id("hanna")] } }))?;
    let room = jane.wait("the room", |line| line["created"].as_str().map(ToOwned::to_owned));
    hanna.join(&room);
    for name in ["nina", "hanna"] {
        jane.wait(name, |line| (line["member"]["user"] == id(name) && line["member"]["membership"] == "join").then_some(()));
    }
    ensure!(tail.child.try_wait()?.is_none(), "the tail runs");
    // What is in a room when it comes to be known is its past, which a tail does not tell. The tail has the account: it answers.
    eventually("the tail to know the room", || own.run(&["rooms", "--json"]).out().contains("Together").then_some(()));

    let hears = |body: &str| {
        let event = tail.wait(body, |line| (line["body"] == body).then(|| line.clone()));
        assert_eq!((&event["room_id"], &event["undecryptable"]), (&json!(room), &json!(false)), "{event}");
    };
    jane.says(&room, "from the browser's kit")?;
    nina.reads(&id("jane"), "from the browser's kit");
    hears("from the browser's kit");
    nina.says(&room, "from the bot's kit")?;
    jane.reads(&id("nina"), "from the bot's kit");
    hears("from the bot's kit");
    let sent = own.run(&["send", "Together", "from the terminal"]);
    ensure!(sent.code() == 0, "{}", sent.err());
    jane.reads(&id("hanna"), "from the terminal");
    nina.reads(&id("hanna"), "from the terminal");

    // Nobody told the node what was said.
    let raw = Person { http: hanna.http.another(), ..hanna }.history(&room);
    ensure!(raw.iter().filter(|event| event["type"] == "m.room.encrypted").count() >= 3, "{raw:?}");
    ensure!(!raw.iter().any(|event| event["type"] == "m.room.message"), "{raw:?}");
    Ok(())
}
