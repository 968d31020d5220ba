//! Accounts on the own node: made while it runs and while it does not, and signed in to.

use super::serving::Serving;
use crate::support::Home;

fn secret(home: &Home) -> String {
    let path = home.path().join("secret");
    std::fs::write(&path, "correct horse battery\n").unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn without_a_node_there_is_nothing_to_make_an_account_on() {
    let home = Home::new();
    let done = home.run(&["account", "create", "ann", "--password-file", &secret(&home)]);
    assert_eq!(done.code(), 7, "{}", done.err());
    assert!(done.err().contains("homeroom serve --server-name"), "{}", done.err());
    assert!(!home.path().join("data/default/node").exists());
}

#[test]
fn accounts_are_made_whether_the_node_runs_or_not() {
    let home = Home::new();
    let secret = secret(&home);
    let serving = Serving::start(&home, &["--server-name", "first.example"]);
    let made = home.run(&["account", "create", "ann", "--admin", "--password-file", &secret, "--json"]);
    assert_eq!(made.code(), 0, "{}", made.err());
    assert_eq!(made.json(), serde_json::json!({ "user_id": "@ann:first.example" }));
    let again = home.run(&["account", "create", "ann", "--password-file", &secret]);
    assert_eq!(again.code(), 5, "{}", again.err());
    assert!(again.err().contains("taken"), "{}", again.err());
    assert_eq!(serving.stop().0, Some(0));
    let made = home.run(&["account", "create", "bob", "--password-file", &secret]);
    assert_eq!((made.code(), made.out().as_str()), (0, "@bob:first.example\n"), "{}", made.err());
    let bad = home.run(&["account", "create", "Not A Name", "--password-file", &secret]);
    assert_eq!(bad.code(), 2, "{}", bad.err());
}

#[test]
fn registration_tokens_are_made() {
    let home = Home::new();
    let _serving = Serving::start(&home, &["--server-name", "first.example", "--registration", "token"]);
    let token = home.run(&["account", "token", "--json"]);
    assert_eq!(token.code(), 0, "{}", token.err());
    assert!(token.json()["token"].as_str().unwrap().len() > 10);
    assert_eq!(home.run(&["account", "token", "--uses", "0"]).code(), 2);
}
