//! `homeroom doctor`, and a node that `homeroom serve` runs with TLS.

use serde_json::Value;

use crate::support::{
    Home, eventually,
    federation::{Authority, FedNode, free_port},
    node::ServedNode,
};

fn outcomes(report: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    report["checks"].as_array().unwrap().iter().map(|check| (text(check, "what"), text(check, "outcome"))).collect()
}

#[test]
fn the_doctor_finds_a_healthy_node_healthy_and_says_what_is_wrong_with_another() {
    let authority = Authority::new();
    let other = FedNode::start(&authority);
    let port = free_port();
    let certificate = authority.issue("own", &["localhost"]);
    let home = Home::new();
    home.configure(&format!(
        "[node]\nserver_name = \"localhost:{port}\"\nlisten_tls = [\"127.0.0.1:{port}\"]\ntls_cert = {:?}\ntls_key = {:?}\nextra_ca = {:?}\n\
         allow_private_networks = true\nnotaries = []\n",
        certificate.chain,
        certificate.key,
        authority.file()
    ));
    // It is not there yet.
    let done = home.run(&["doctor", "--json", "--via", other.name().as_str()]);
    assert_eq!(done.code(), 1, "{}{}", done.out(), done.err());
    assert!(outcomes(&done.json()).contains(&("port".to_owned(), "bad".to_owned())), "{}", done.out());

    let node = ServedNode::spawn(home.command(&["serve", "--listen", "127.0.0.1:0"])).unwrap();
    assert!(node.ready.contains(&format!("https://127.0.0.1:{port}")), "{}", node.ready);
    let done = home.run(&["doctor", "--json", "--via", other.name().as_str()]);
    assert_eq!(done.code(), 0, "{}{}", done.out(), done.err());
    let good = |what: &str| outcomes(&done.json()).contains(&(what.to_owned(), "good".to_owned()));
    assert!(["name", "dns", "tls", "clock", "keys", "version"].into_iter().all(good), "{}", done.out());

    let done = home.run(&["doctor", other.name().as_str()]);
    assert_eq!(done.code(), 0, "{}{}", done.out(), done.err());
    assert!(done.out().contains("it runs homeroom"), "{}", done.out());
    let done = home.run(&["doctor", "no server"]);
    assert_eq!(done.code(), 2, "{}{}", done.out(), done.err());
}

#[test]
fn without_a_name_there_is_nothing_for_others_to_see() {
    let home = Home::new();
    let done = home.run(&["doctor"]);
    assert_eq!(done.code(), 7, "{}{}", done.out(), done.err());
}

#[test]
fn a_node_does_not_start_with_half_of_what_tls_needs() {
    let home = Home::new();
    let done = home.run(&["serve", "--server-name", "a.example", "--listen-tls", "127.0.0.1:0", "--tls-cert", "/nonexistent"]);
    assert_eq!(done.code(), 2, "{}", done.err());
    let done = home.run(&[
        "serve",
        "--server-name",
        "a.example",
        "--listen-tls",
        "127.0.0.1:0",
        "--tls-cert",
        "/nonexistent",
        "--tls-key",
        "/nonexistent",
    ]);
    assert_eq!(done.code(), 1, "{}", done.err());
    assert!(done.err().contains("/nonexistent"), "{}", done.err());
}

#[test]
fn without_files_a_certificate_is_asked_for_only_of_an_authority_that_the_owner_agrees_with() {
    let (home, port) = (Home::new(), free_port());
    let (name, listen) = (format!("localhost:{port}"), format!("127.0.0.1:{port}"));
    let start = ["serve", "--server-name", &name, "--listen-tls", &listen];
    let refused = |further: &[&str], why: &str| {
        let done = home.run(&[&start[..], further].concat());
        assert_eq!(done.code(), 2, "{}", done.err());
        assert!(done.err().contains(why), "{}", done.err());
    };
    refused(&[], "acme.agree_terms");
    refused(&["-c", "acme.agree_terms=true", "-c", "acme.challenge=http-01"], "node.listen");
    refused(&["-c", "acme.agree_terms=true", "-c", "acme.domains=192.0.2.1"], "192.0.2.1");
    refused(&["-c", "acme.agree_terms=true", "-c", "acme.directory=http://127.0.0.1:1/"], "https");

    // An authority that is not there: nobody listens at that port.
    home.configure(&format!(
        "[node]\nserver_name = \"{name}\"\nlisten_tls = [\"{listen}\"]\nallow_private_networks = true\nnotaries = []\n\
         [acme]\nagree_terms = true\ndirectory = \"https://127.0.0.1:1/directory\"\n",
    ));
    let told = || {
        let done = home.run(&["doctor", "--json", "--via", "localhost:1"]);
        assert_eq!(done.code(), 1, "{}{}", done.out(), done.err());
        let report = done.json();
        assert_eq!(report["checks"][0]["what"], "acme", "{report}");
        assert_eq!(report["checks"][0]["outcome"], "bad", "{report}");
        report["checks"][0]["found"].as_str().unwrap().to_owned()
    };
    assert!(told().contains("none has been asked for yet"));
    let _node = ServedNode::spawn(home.command(&["serve", "--listen", "127.0.0.1:0"])).unwrap();
    eventually("the doctor to say that the authority cannot be reached", || told().contains("cannot be reached").then_some(()));
}
