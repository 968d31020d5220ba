//! Secrets with a real keyring: open, locked, and none at all. Each in a session bus of its own.

use std::process::{Command, Stdio};

use crate::support::{Home, ServedNode, home::program};

/// Runs the program in a new session in which `before` has been done.
fn in_session(home: &Home, before: &str, args: &[&str]) -> (i32, String) {
    let runtime = home.path().join("runtime");
    std::fs::create_dir_all(&runtime).unwrap();
    rustix::fs::chmod(&runtime, rustix::fs::Mode::RWXU).unwrap();
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", &format!("{before}\nprogram=$1; shift; exec \"$program\" \"$@\""), "sh"]).arg(program()).args(args);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("XDG_RUNTIME_DIR", &runtime);
    let done = command.envs(home.environment()).stdin(Stdio::null()).output().unwrap();
    let words = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&words).into_owned())
}

const OPEN: &str = "printf 'open sesame' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1";
const LOCKED: &str = "gnome-keyring-daemon --start --components=secrets >/dev/null 2>&1";

#[test]
#[ignore = "needs gnome-keyring and dbus-run-session: run by .ci/run"]
fn secrets_are_in_the_keyring_where_it_is_open_and_in_private_files_otherwise() {
    let (server, home) = (Home::new(), Home::new());
    let node = ServedNode::start(&server);
    let ann = node.person("ann");
    let password = home.path().join("password");
    std::fs::write(&password, &ann.password).unwrap();
    let login = |profile: &str, before: &str| {
        let url = node.url();
        let args = ["--profile", profile, "login", &ann.user_id, "--server", &url, "--password-file", password.to_str().unwrap()];
        in_session(&home, before, &args)
    };
    let file = |profile: &str| home.path().join("data").join(profile).join("secrets/account");

    let (code, words) = login("open", OPEN);
    assert!(code == 0 && !file("open").exists(), "{words}");
    assert!(!words.contains("keys of this profile"), "{words}");
    let (code, words) = in_session(&home, OPEN, &["--profile", "open", "rooms"]);
    assert_eq!(code, 0, "{words}");

    // Nobody is there to unlock it: the profile that needs it says so, and a new one goes on without.
    let (code, words) = login("locked", LOCKED);
    assert!(code == 0 && file("locked").exists(), "{words}");
    assert!(words.contains("files that only you can read") && words.contains("keyring"), "{words}");
    let (code, words) = in_session(&home, LOCKED, &["--profile", "open", "rooms"]);
    assert!(code != 0 && words.contains("keyring"), "{words}");

    let (code, words) = login("none", "");
    assert!(code == 0 && file("none").exists(), "{words}");
    assert!(words.contains("files that only you can read"), "{words}");
}
