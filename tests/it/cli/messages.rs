//! Rooms and messages from the command line, on the own node: with another process running it, and without.

use super::serving::Serving;
use crate::support::Home;

#[test]
fn a_message_is_sent_and_listed_without_a_screen() {
    let home = Home::new();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    let secret = secret.to_str().unwrap();
    let serving = Serving::start(&home, &["--server-name", "first.example"]);
    for name in ["ann", "bob"] {
        let made = home.run(&["account", "create", name, "--password-file", secret]);
        assert_eq!(made.code(), 0, "{}", made.err());
    }
    let wrong = home.path().join("wrong");
    std::fs::write(&wrong, "something else\n").unwrap();
    let refused = home.run(&["login", "@ann:first.example", "--password-file", wrong.to_str().unwrap()]);
    assert_eq!(refused.code(), 5, "{}", refused.err());
    let login = home.run(&["login", "@ann:first.example", "--password-file", secret, "--json"]);
    assert_eq!(login.code(), 0, "{}", login.err());
    assert_eq!(login.json()["user_id"], "@ann:first.example");
    let key = login.json()["recovery_key"].as_str().unwrap().to_owned();
    assert_eq!(home.run(&["recovery-key"]).out().trim(), key);
    assert_eq!(home.run(&["rooms", "--json"]).out(), "");

    let sent = home.run(&["send", "@bob:first.example", "hello", "--json"]);
    assert_eq!(sent.code(), 0, "{}", sent.err());
    assert!(sent.json()["event_id"].as_str().unwrap().starts_with('$'));
    assert_eq!(home.run(&["send", "Nowhere", "hello"]).code(), 7);

    // Nobody runs the node any more: the command does so for its moment.
    assert_eq!(serving.stop().0, Some(0));
    let rooms = home.run(&["rooms", "--json"]);
    assert_eq!(rooms.code(), 0, "{}", rooms.err());
    let room = rooms.json();
    assert_eq!((&room["kind"], &room["membership"], &room["encrypted"]), (&"direct".into(), &"joined".into(), &true.into()));
    assert_eq!(room["room_id"], sent.json()["room_id"]);
    let logout = home.run(&["logout"]);
    assert_eq!(logout.code(), 0, "{}", logout.err());
    assert_eq!(home.run(&["rooms"]).code(), 3);
}
