//! Settings, usage and generated texts, which need neither a server nor a screen.

use crate::support::Home;

#[test]
fn settings_say_where_they_come_from() {
    let home = Home::new();
    home.configure("[ui]\ntheme = \"light\"\n");
    let done = home.run(&["config", "--json", "-c", "ui.mouse=false"]);
    assert_eq!(done.code(), 0, "{}", done.err());
    let json = done.json();
    assert_eq!(json["ui.theme"]["value"], "light");
    assert_eq!(json["ui.theme"]["source"], "file");
    assert!(json["ui.theme"]["origin"].as_str().unwrap().ends_with("config.toml:2"));
    assert_eq!(json["ui.mouse"], serde_json::json!({ "value": false, "source": "argument", "origin": "argument -c ui.mouse=false" }));
    assert_eq!(json["node.registration"]["source"], "default");
    let text = home.run(&["config"]).out();
    assert!(text.lines().any(|line| line.starts_with("theme = \"light\"") && line.ends_with("config.toml:2")), "{text}");
}

#[test]
fn a_profile_has_settings_of_its_own() {
    let home = Home::new();
    home.configure("[ui]\ntheme = \"light\"\nmouse = false\n");
    std::fs::create_dir_all(home.path().join("config/profiles")).unwrap();
    std::fs::write(home.path().join("config/profiles/work.toml"), "[ui]\ntheme = \"ansi\"\n").unwrap();
    let json = home.run(&["config", "--json", "--profile", "work"]).json();
    assert_eq!(json["ui.theme"]["value"], "ansi");
    assert_eq!(json["ui.mouse"]["value"], false);
    assert_eq!(home.run(&["config", "--json"]).json()["ui.theme"]["value"], "light");
}

#[test]
fn a_typing_error_names_line_key_and_remedy() {
    let home = Home::new();
    home.configure("[ui]\ntheme = \"dark\"\n\n[node]\nregistraton = \"open\"\nrate_limits = 3\n");
    for command in [&["config"][..], &[]] {
        let done = home.run(command);
        assert_eq!(done.code(), 2);
        let err = done.err();
        assert!(err.contains("config.toml:5: unknown key `node.registraton`; did you mean `node.registration`?"), "{err}");
        assert!(err.contains("config.toml:6: `node.rate_limits` must be `true` or `false`, not the number 3"), "{err}");
    }
}

#[test]
fn usage_errors_are_code_2() {
    let home = Home::new();
    for args in [&["--nonsense"][..], &["frobnicate"], &["config", "--profile", "../x"], &["config", "--config", "/nonexistent.toml"]] {
        let done = home.run(args);
        assert_eq!(done.code(), 2, "{args:?}: {}", done.err());
        assert!(!done.err().is_empty());
        assert!(done.out().is_empty());
    }
    assert_eq!(home.run(&["--version"]).code(), 0);
    assert!(home.run(&["--help"]).out().contains("Usage: homeroom"));
}

#[test]
fn completions_know_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = home.run(&["completions", shell]);
        assert_eq!(done.code(), 0);
        assert!(done.out().contains("manual"), "{shell}");
    }
}

#[test]
fn an_unknown_manual_page_is_named() {
    let home = Home::new();
    let done = home.run(&["manual", "nothing"]);
    assert_eq!(done.code(), 7);
    assert!(done.err().contains("homeroom.toml"));
    assert!(home.run(&["manual", "homeroom.toml"]).out().contains("max_upload"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let home = Home::new();
    let mut child =
        home.command(&["completions", "zsh"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
}
