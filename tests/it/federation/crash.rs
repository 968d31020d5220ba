//! A power cut while something waits for another server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::support::{
    Home, Http, Person,
    across::{becomes, join},
    eventually,
    federation::{Authority, FedNode, free_port},
    https::Https,
    node::ServedNode,
};

const MESSAGES: usize = 70;

/// What the other server was sent.
#[derive(Default)]
struct Mail {
    /// By transaction: what was in it, each time that it came.
    came: BTreeMap<String, Vec<Vec<String>>>,
    /// Transactions that have been answered, in order.
    answered: Vec<String>,
}

impl Mail {
    /// The texts that have arrived.
    fn texts(&self) -> BTreeSet<&String> {
        self.answered.iter().filter_map(|id| self.came[id].first()).flatten().collect()
    }

    /// A transaction that waits for an answer and is none of these.
    fn hanging_beside(&self, known: &BTreeSet<String>) -> Option<String> {
        self.came.keys().find(|id| !self.answered.contains(id) && !known.contains(*id)).cloned()
    }
}

/// Texts of the messages in a transaction; other events by their types.
fn texts(transaction: &Value) -> Vec<String> {
    let pdus = transaction["pdus"].as_array().cloned().unwrap_or_default();
    pdus.iter().map(|pdu| pdu["content"]["body"].as_str().or(pdu["type"].as_str()).unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_waits_for_another_server_outlives_kills_and_goes_out_under_one_transaction_id() {
    let authority = Authority::new();
    let (home, port, mut other) = (Home::new(), free_port(), FedNode::start(&authority));
    let certificate = authority.issue("own", &["localhost"]);
    home.configure(&format!(
        "[node]\nserver_name = \"localhost:{port}\"\nlisten_tls = [\"127.0.0.1:{port}\"]\ntls_cert = {:?}\ntls_key = {:?}\nextra_ca = {:?}\n\
         allow_private_networks = true\nnotaries = []\nregistration = \"open\"\nrate_limits = false\n",
        certificate.chain,
        certificate.key,
        authority.file()
    ));
    let serve = || ServedNode::spawn(home.command(&["serve", "--listen", "127.0.0.1:0"])).unwrap();
    let mut node = serve();
    let (mut ann, mut bob) = (node.person("ann"), other.person("bob"));
    let room = ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut bob, &room, &format!("localhost:{port}"));
    becomes(&mut ann, &room, &bob.user_id, "join");
    other.stop();

    // In its place somebody who notes everything, and answers a transaction only when it comes for the second time.
    let mail = Arc::<Mutex<Mail>>::default();
    let notes = Arc::clone(&mail);
    let server = Https::start(other.tls(), other.certificate(), move |asked| {
        let Some(id) = asked.path.strip_prefix("/_matrix/federation/v1/send/") else {
            return Some((404, json!({ "errcode": "M_UNRECOGNIZED", "error": "not here" })));
        };
        let mut mail = notes.lock().unwrap();
        let came = mail.came.entry(id.to_owned()).or_default();
        came.push(texts(&asked.body));
        let again = came.len() > 1;
        if again && !mail.answered.iter().any(|known| known == id) {
            mail.answered.push(id.to_owned());
        }
        again.then(|| (200, json!({ "pdus": {} })))
    });
    let sent: Vec<String> = (0..MESSAGES).map(|number| format!("message {number}")).collect();
    for text in &sent {
        ann.say(&room, text);
    }
    // Each transaction is cut off once while it is under way.
    let arrived = |mail: &Mail| sent.iter().all(|text| mail.texts().contains(text));
    let mut cut_off = BTreeSet::new();
    loop {
        let under_way = eventually("another transaction to be under way, or everything to have arrived", || {
            let mail = mail.lock().unwrap();
            if arrived(&mail) { Some(None) } else { mail.hanging_beside(&cut_off).map(Some) }
        });
        let Some(under_way) = under_way else { break };
        cut_off.insert(under_way);
        node.kill();
        node = serve();
    }
    assert!(cut_off.len() >= 2, "more than one transaction was cut off");
    let mail = mail.lock().unwrap();
    for (id, came) in &mail.came {
        assert!(came.iter().all(|texts| *texts == came[0]), "{id} is the same each time: {came:?}");
    }
    for text in &sent {
        let under: Vec<_> = mail.came.iter().filter(|(_, came)| came[0].contains(text)).map(|(id, _)| id).collect();
        assert_eq!(under.len(), 1, "{text} under one transaction ID: {under:?}");
    }
    // In order.
    let order: Vec<&String> = mail.answered.iter().flat_map(|id| &mail.came[id][0]).filter(|text| text.starts_with("message")).collect();
    assert_eq!(order, sent.iter().collect::<Vec<_>>());
    drop(mail);
    drop(server);

    // And who was away finds all of it.
    other.start_again();
    let mut bob = Person::login(other.address(), "bob", "the password of bob");
    let mut http = Http::new(node.address());
    http.token.clone_from(&ann.http.token);
    let mut ann = Person { http, user_id: ann.user_id.clone(), device_id: ann.device_id.clone(), password: ann.password.clone() };
    ann.say(&room, "the last");
    eventually("the last message to arrive", || {
        let last = bob.history(&room).iter().any(|event| event["content"]["body"] == "the last");
        last.then_some(())
    });
}
