#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use ruma::server_name;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::{
    base::{ManualClock, Shutdown, SystemRandomness, Tasks},
    homeserver::{Config, store::outbox::OutgoingEdu},
};

type Call = (OwnedServerName, Transaction, oneshot::Sender<Result<Refusals, Failure>>);

/// Hands each transaction to the test, which answers it.
#[derive(Debug)]
struct Fake(mpsc::Sender<Call>);

impl Carrier for Fake {
    fn carry<'a>(&'a self, _: &'a ServerName, to: &'a ServerName, t: &'a Transaction) -> BoxFuture<'a, Result<Refusals, Failure>> {
        async move {
            let (answer, answered) = oneshot::channel();
            self.0.send((to.to_owned(), t.clone(), answer)).await.unwrap();
            answered.await.unwrap_or_else(|_| later())
        }
        .boxed()
    }
}

fn later() -> Result<Refusals, Failure> {
    Err(Failure::Later { why: "no route".into(), after: None })
}

struct Setting {
    node: Arc<Node>,
    clock: ManualClock,
    calls: mpsc::Receiver<Call>,
    dir: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), 1_790_000_000_000).await
    }

    async fn on(dir: tempfile::TempDir, now_ms: u64) -> Self {
        let clock = ManualClock::at(now_ms);
        let config = Config::new(server_name!("home.test").to_owned(), dir.path().to_owned());
        let tasks = Tasks::new(Shutdown::new());
        let node = Arc::new(Node::open(config, Arc::new(clock.clone()), Arc::new(SystemRandomness), tasks).await.unwrap());
        let (sender, calls) = mpsc::channel(64);
        start_with(&node, Arc::new(Fake(sender)));
        Self { node, clock, calls, dir }
    }

    /// As a process that is killed: nothing is told to anybody.
    async fn restarted(self) -> Self {
        let Self { node, clock, calls, dir } = self;
        drop(calls);
        node.tasks.shutdown().trigger();
        assert!(node.tasks.finish(Duration::from_secs(60)).await);
        let store = node.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
        Self::on(dir, crate::base::Clock::now_ms(&clock)).await
    }

    async fn queue(&self, to: &'static str, content: &'static str) {
        let queued = self.node.store.write(move |tx| {
            let edu = OutgoingEdu { kind: "k", content, key: None, expires_ms: None };
            queue_edu(tx, <&ServerName>::try_from(to).unwrap(), &edu)
        });
        queued.await.unwrap();
    }

    async fn call(&mut self) -> Call {
        tokio::time::timeout(Duration::from_secs(60), self.calls.recv()).await.expect("something is sent").unwrap()
    }

    /// Nothing is sent, however long the task looks.
    async fn silence(&mut self) {
        self.node.federation.sender.look();
        // Two writes and two reads later the task has looked.
        for _ in 0..4 {
            self.node.store.write(|_| Ok::<_, StoreError>(())).await.unwrap();
            self.node.store.read(|_| Ok::<_, StoreError>(())).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(self.calls.try_recv().is_err());
    }

    /// Waits until the failure is on disk.
    async fn failures(&self, server: &'static str, wanted: usize) -> Waiting {
        let name = <&ServerName>::try_from(server).unwrap();
        let stored = async {
            loop {
                let found = self.node.store.read(|db| outbox::due(db, i64::MAX, 100)).await.unwrap();
                if let Some(found) =
                    found.into_iter().find(|waiting| waiting.name == name && usize::try_from(waiting.failures) == Ok(wanted))
                {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), stored).await.unwrap_or_else(|_| panic!("{server} has not failed {wanted} times"))
    }
}

fn contents(transaction: &Transaction) -> Vec<&str> {
    transaction.edus.iter().map(|(_, content)| content.as_str()).collect()
}

#[tokio::test]
async fn one_transaction_is_under_way_and_what_comes_meanwhile_is_in_the_next() {
    let mut s = Setting::new().await;
    s.queue("b.test", "1").await;
    let (to, first, answer) = s.call().await;
    assert_eq!((to.as_str(), contents(&first)), ("b.test", vec!["1"]));
    s.queue("b.test", "2").await;
    s.queue("b.test", "3").await;
    s.silence().await;
    s.queue("c.test", "4").await;
    let (to, other, other_answer) = s.call().await;
    assert_eq!((to.as_str(), contents(&other)), ("c.test", vec!["4"]), "another server does not wait");
    answer.send(Ok(Vec::new())).unwrap();
    let (to, second, answer) = s.call().await;
    assert_eq!((to.as_str(), contents(&second)), ("b.test", vec!["2", "3"]));
    assert_ne!(first.id, second.id);
    answer.send(Ok(vec![("$x".into(), "not allowed".into())])).unwrap();
    other_answer.send(Ok(Vec::new())).unwrap();
    s.silence().await;
}

#[tokio::test]
async fn a_failure_repeats_the_same_transaction_when_its_time_has_come() {
    let mut s = Setting::new().await;
    s.queue("b.test", "1").await;
    let (_, first, answer) = s.call().await;
    answer.send(later()).unwrap();
    s.failures("b.test", 1).await;
    s.queue("b.test", "2").await;
    s.silence().await;
    s.clock.advance(2_000);
    s.node.federation.sender.look();
    let (_, again, answer) = s.call().await;
    assert_eq!(again, first);
    answer.send(later()).unwrap();
    s.failures("b.test", 2).await;
    s.clock.advance(1_000);
    s.silence().await;
    s.clock.advance(3_000);
    s.node.federation.sender.look();
    let (_, again, answer) = s.call().await;
    assert_eq!(again, first);
    answer.send(Ok(Vec::new())).unwrap();
    assert_eq!(contents(&s.call().await.1), vec!["2"]);
}

#[tokio::test]
async fn a_server_that_speaks_to_us_is_sent_to_at_once() {
    let mut s = Setting::new().await;
    s.queue("b.test", "1").await;
    s.call().await.2.send(later()).unwrap();
    s.failures("b.test", 1).await;
    s.silence().await;
    s.node.federation.sender.heard_from(server_name!("c.test"));
    s.silence().await;
    s.node.federation.sender.heard_from(server_name!("b.test"));
    assert_eq!(contents(&s.call().await.1), vec!["1"]);
}

#[tokio::test]
async fn a_restart_repeats_the_transaction_and_still_hears_the_server() {
    let mut s = Setting::new().await;
    s.queue("b.test", "1").await;
    let (_, first, answer) = s.call().await;
    s.queue("b.test", "2").await;
    // Killed while it waits for the answer: what it would have learned from it is lost.
    let mut s = s.restarted().await;
    drop(answer);
    let (_, again, answer) = s.call().await;
    assert_eq!(again, first);
    answer.send(later()).unwrap();
    s.failures("b.test", 1).await;
    let mut s = s.restarted().await;
    s.silence().await;
    s.node.federation.sender.heard_from(server_name!("b.test"));
    let (_, again, answer) = s.call().await;
    assert_eq!(again, first);
    answer.send(Ok(Vec::new())).unwrap();
    assert_eq!(contents(&s.call().await.1), vec!["2"]);
}

#[tokio::test]
async fn a_transaction_that_is_refused_for_good_does_not_block_the_next() {
    let mut s = Setting::new().await;
    s.queue("b.test", "1").await;
    let (_, _, answer) = s.call().await;
    s.queue("b.test", "2").await;
    answer.send(Err(Failure::Refused("403".into()))).unwrap();
    assert_eq!(contents(&s.call().await.1), vec!["2"]);
}

#[tokio::test]
async fn of_a_transaction_that_is_refused_only_the_bad_part_is_lost() {
    let s = Setting::new().await;
    let (sender, mut calls) = mpsc::channel(64);
    let fake = Fake(sender);
    let pdus: Vec<String> = vec!["1".into(), "2".into()];
    let transaction = Transaction { id: "t".into(), origin_server_ts: 1, pdus, edus: vec![("k".into(), "{}".into())] };
    let sent = in_parts(&s.node, &fake, server_name!("b.test"), &transaction, "400".into());
    let answered = async {
        let mut seen = Vec::new();
        for outcome in [Ok(Refusals::new()), Err(Failure::Refused("400".into())), Ok(Refusals::new())] {
            let (_, part, answer) = calls.recv().await.unwrap();
            seen.push((part.id, part.pdus, part.edus.len()));
            answer.send(outcome).unwrap();
        }
        seen
    };
    let (sent, seen) = tokio::join!(sent, answered);
    assert_eq!(sent, Ok(()));
    let part = |id: &str, pdus: &[&str], edus| (id.to_owned(), pdus.iter().map(|pdu| (*pdu).to_owned()).collect::<Vec<_>>(), edus);
    assert_eq!(seen, [part("t-0", &["1"], 0), part("t-1", &["2"], 0), part("t-2", &[], 1)]);
}

/// One EDU that another server does not take costs none of those that are sent with it.
#[tokio::test]
async fn of_many_edus_only_the_one_that_is_refused_is_lost() {
    let s = Setting::new().await;
    let (sender, mut calls) = mpsc::channel(64);
    let fake = Fake(sender);
    let edus: Vec<(String, String)> = (0..100).map(|n| ("k".to_owned(), n.to_string())).collect();
    let transaction = Transaction { id: "t".into(), origin_server_ts: 1, pdus: Vec::new(), edus };
    let sent = in_parts(&s.node, &fake, server_name!("b.test"), &transaction, "413".into());
    let answered = async {
        let (mut taken, mut asked, mut ids) = (Vec::new(), 0, std::collections::BTreeSet::new());
        while taken.len() < 99 {
            let (_, part, answer) = calls.recv().await.unwrap();
            asked += 1;
            assert!(ids.insert(part.id.clone()), "another part is another transaction");
            let refused = part.edus.iter().any(|(_, content)| content == "37");
            if !refused {
                taken.extend(part.edus.iter().map(|(_, content)| content.parse::<usize>().unwrap()));
            }
            answer.send(if refused { Err(Failure::Refused("413".into())) } else { Ok(Refusals::new()) }).unwrap();
        }
        (taken, asked)
    };
    let (sent, (taken, asked)) = tokio::join!(sent, answered);
    assert_eq!(sent, Ok(()));
    assert_eq!(taken, (0..100).filter(|n| *n != 37).collect::<Vec<_>>());
    assert!(asked < 20, "{asked}");
}

#[test]
fn a_server_that_speaks_while_its_failure_is_stored_is_not_missed() {
    let (sender, b) = (Sender::default(), server_name!("b.test"));
    sender.is_silent(b);
    sender.heard_from(b);
    assert!(sender.take_heard().contains(b), "the task undoes a failure that is not stored yet");
    sender.failure_is_stored(b);
    assert!(sender.take_heard().contains(b), "it undoes it once it is");
    sender.is_silent(b);
    sender.failure_is_stored(b);
    assert!(sender.take_heard().is_empty());
}

#[tokio::test]
async fn no_more_than_so_many_servers_are_sent_to_at_one_time() {
    let mut s = Setting::new().await;
    let queued = s.node.store.write(|tx| {
        for number in 0..AT_ONCE + 10 {
            let name = ServerName::parse(format!("s{number}.test")).unwrap();
            queue_edu(tx, &name, &OutgoingEdu { kind: "k", content: "{}", key: None, expires_ms: None })?;
        }
        Ok::<_, StoreError>(())
    });
    queued.await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..AT_ONCE {
        answers.push(s.call().await.2);
    }
    s.silence().await;
    for answer in answers {
        answer.send(Ok(Vec::new())).unwrap();
    }
    for _ in 0..10 {
        s.call().await;
    }
    s.silence().await;
}
