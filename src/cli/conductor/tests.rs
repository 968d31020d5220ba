//! Tests of the conductor.
#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::{
    base::Secret,
    cli::{node::LOCAL_SERVER_NAME, profile::Home},
    client::{update::link, view::NodeState},
    config::{self, Effective, Sources},
};

fn context(dir: &std::path::Path) -> Context {
    let profile = config::Profile::new("default").unwrap();
    let dirs = config::Dirs::find(&profile, |name| Some(dir.join(name).into())).unwrap();
    dirs.create().unwrap();
    let assignments = vec!["client.keyring=false".to_owned()];
    let effective = Effective::load(&Sources { assignments, ..Sources::default() }).unwrap();
    Context { profile, dirs, effective, zone: crate::base::Zone::UTC }
}

#[tokio::test]
async fn a_node_that_fails_under_the_screen_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let mut profile = Profile::load(&context).unwrap();
    profile.set_home(Home { server_name: LOCAL_SERVER_NAME.to_owned() }).await.unwrap();
    let (link, port) = link();
    let mut conductor = Conductor::new(context, profile, port, Shutdown::new());
    conductor.begin().await;
    let Role::Here(node) = &conductor.role else { panic!("{:?}", conductor.role) };
    node.node().tasks.spawn("doomed", async { panic!("on purpose") });
    let mut session = link.session.clone();
    let seen = async {
        session.wait_for(|view| matches!(&view.node, NodeState::Down { reason } if reason.contains("again in 1 s"))).await.unwrap();
        session.wait_for(|view| matches!(view.node, NodeState::Here { .. })).await.unwrap();
    };
    tokio::select! {
        ended = conductor.conduct() => panic!("{ended:?}"),
        seen = tokio::time::timeout(Duration::from_secs(60), seen) => seen.unwrap(),
    }
    conductor.role.stop().await;
}

#[tokio::test]
async fn a_node_that_another_step_has_taken_is_not_tried_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let mut profile = Profile::load(&context).unwrap();
    profile.set_home(Home { server_name: LOCAL_SERVER_NAME.to_owned() }).await.unwrap();
    let (_link, port) = link();
    let mut conductor = Conductor::new(context, profile, port, Shutdown::new());
    conductor.begin().await;
    assert!(matches!(conductor.role, Role::Here(_)), "{:?}", conductor.role);
    conductor.restart.failed(Instant::now());
    conductor.take_node().await;
    assert!(!conductor.restart.is_waiting());
    conductor.role.stop().await;
}

#[tokio::test]
async fn a_sign_in_that_is_under_way_can_be_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let profile = Profile::load(&context).unwrap();
    // Takes connections and never says a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Some(format!("http://{}", silent.local_addr().unwrap()));
    let (mut link, port) = link();
    let mut conductor = Conductor::new(context, profile, port, Shutdown::new());
    link.setup.try_send(Setup::SignIn { user: "@ann:example.org".to_owned(), server, password: Secret::new("sesame".to_owned()) }).unwrap();
    let screen = async {
        let _connection = silent.accept().await.unwrap();
        link.cancel.notify_waiters();
        loop {
            match link.updates.recv().await.unwrap() {
                Update::SetupProgress { .. } => {}
                update => break update,
            }
        }
    };
    let update = tokio::select! {
        ended = conductor.conduct() => panic!("{ended:?}"),
        update = tokio::time::timeout(Duration::from_secs(20), screen) => update.unwrap(),
    };
    assert!(matches!(update, Update::SetupCancelled), "{update:?}");
}

#[tokio::test]
async fn leaving_in_the_middle_of_a_first_sign_in_keeps_the_account_whole() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path());
    let profile = Profile::load(&context).unwrap();
    let (mut link, port) = link();
    let shutdown = Shutdown::new();
    let conductor = Conductor::new(context.clone(), profile, port, shutdown.clone());
    let password = Secret::new("correct horse".to_owned());
    link.setup.try_send(Setup::CreateHome { username: "ann".to_owned(), password, server_name: None }).unwrap();
    // From there on the server has the account's identity, and only this store its keys.
    let screen = async {
        loop {
            match link.updates.recv().await.unwrap() {
                Update::SetupProgress { text } if text.contains("encryption") => break,
                Update::SetupProgress { .. } => {}
                update => panic!("{update:?}"),
            }
        }
        shutdown.trigger();
    };
    let (ended, ()) = tokio::join!(conductor.run(), tokio::time::timeout(Duration::from_secs(60), screen).map(Result::unwrap));
    assert_eq!(ended.unwrap(), Ending::Asked);
    let profile = Profile::load(&context).unwrap();
    let account = Account::load(&profile).await.unwrap().expect("it is signed in");
    assert!(account.recovery_key().is_some());
}
