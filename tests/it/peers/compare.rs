//! Real clients at our node and at Synapse: the same suite runs against both, and what it sees there has to be the same.
//!
//! A suite writes one line of JSON per check, with the facts that it found or the error that it ended with. An error on either
//! side fails the test. So does a difference between the facts that [`super::differences`] does not explain, and an
//! explanation for which there is no difference any more.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::differences::{DIFFERENCES, Difference};
use crate::support::{
    Home, ServedNode,
    peers::{self, Synapse},
};

/// What a suite found: facts or an error by check.
type Findings = BTreeMap<String, Result<Value, String>>;

/// Runs a suite to its end.
fn findings(mut command: Command) -> Result<Findings> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut found = Findings::new();
    let mut done = false;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        done |= line["done"] == true;
        let Some(name) = line["check"].as_str() else { continue };
        let facts = line["error"].as_str().map_or_else(|| Ok(line["facts"].clone()), |error| Err(error.to_owned()));
        found.insert(name.to_owned(), facts);
    }
    ensure!(done, "{command:?} ended early, {}: {text}{errors}", output.status);
    Ok(found)
}

/// Where two values differ, as paths with both values.
fn differ(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<(String, String)>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_else(|| "(missing)".into());
                differ(&format!("{path}/{key}"), &of(ours), &of(theirs), found);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                differ(&format!("{path}/{index}"), ours, theirs, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push((path.to_owned(), format!("ours {ours}, Synapse's {theirs}"))),
    }
}

/// Everything that is wrong, readable.
fn judge(suite: &str, ours: &Findings, theirs: &Findings) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = vec![false; DIFFERENCES.len()];
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (ours, theirs) = match (ours.get(name), theirs.get(name)) {
            (Some(Ok(ours)), Some(Ok(theirs))) => (ours, theirs),
            (ours, theirs) => {
                wrong.push(format!("{name}: ours {ours:?}, Synapse's {theirs:?}"));
                continue;
            }
        };
        let mut found = Vec::new();
        differ(name, ours, theirs, &mut found);
        for (path, what) in found {
            match DIFFERENCES.iter().position(|known| known.covers(suite, &path)) {
                Some(index) => used[index] = true,
                None => wrong.push(format!("{path}: {what}")),
            }
        }
    }
    let stale = |(known, used): &(&Difference, bool)| known.suite == suite && !used && !known.may_be_gone;
    wrong.extend(DIFFERENCES.iter().zip(used).filter(stale).map(|(known, _)| format!("no difference any more: {}", known.path)));
    wrong
}

async fn compare(suite: &'static str, command: impl Fn(&str) -> Command) -> Result<()> {
    let synapse = Synapse::start().await?;
    let home = Home::new();
    let node = ServedNode::start(&home);
    let (ours, theirs) = (command(&node.url()), command(&synapse.url()));
    let ours = tokio::task::spawn_blocking(move || findings(ours));
    let theirs = tokio::task::spawn_blocking(move || findings(theirs));
    let (ours, theirs) = (ours.await??, theirs.await??);
    let wrong = judge(suite, &ours, &theirs);
    ensure!(wrong.is_empty(), "{} of {} checks:\n{}", wrong.len(), ours.len(), wrong.join("\n"));
    Ok(())
}

async fn compare_js(suite: &'static str) -> Result<()> {
    let place = tokio::task::spawn_blocking(peers::js_sdk).await??;
    compare(suite, |url| node_script(&place, suite, &[url])).await
}

/// A suite of the JavaScript peer.
pub fn node_script(place: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(place.join(format!("{script}.mjs"))).args(arguments).current_dir(place);
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI and matrix-js-sdk from npm: run by .ci/run"]
async fn matrix_js_sdk_converses_as_it_does_at_synapse() -> Result<()> {
    compare_js("chat").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI and matrix-js-sdk from npm: run by .ci/run"]
async fn matrix_js_sdk_encrypts_verifies_and_restores_as_it_does_at_synapse() -> Result<()> {
    compare_js("crypto").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI and matrix-js-sdk from npm: run by .ci/run"]
async fn matrix_js_sdk_slides_as_it_does_at_synapse() -> Result<()> {
    compare_js("sliding").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse from PyPI and matrix-js-sdk from npm: run by .ci/run"]
async fn requests_by_hand_are_answered_as_they_are_by_synapse() -> Result<()> {
    compare_js("wire").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Synapse and matrix-nio from PyPI: run by .ci/run"]
async fn matrix_nio_converses_as_it_does_at_synapse() -> Result<()> {
    let (python, script) = tokio::task::spawn_blocking(peers::nio).await??;
    compare("nio", |url| {
        let mut command = Command::new(&python);
        command.arg(&script).args(["suite", url]);
        command
    })
    .await
}

#[test]
fn a_difference_is_found_and_an_explanation_covers_it_alone() {
    let facts = |status: u64| Findings::from([("check".to_owned(), Ok(serde_json::json!({ "a": [1, { "status": status }], "b": 2 })))]);
    assert!(differences_of(&facts(200), &facts(200)).is_empty());
    assert_eq!(differences_of(&facts(200), &facts(404)), ["check/a/1/status: ours 200, Synapse's 404"]);
    let failed = Findings::from([("check".to_owned(), Err("broken".to_owned()))]);
    assert_eq!(differences_of(&facts(200), &failed).len(), 1);
    assert_eq!(differences_of(&failed, &failed).len(), 1, "what fails at both is no comparison");
    assert_eq!(differences_of(&facts(200), &Findings::new()).len(), 1);
    let known = Difference { suite: "chat", path: "check/a/1", why: "", may_be_gone: false };
    assert!(known.covers("chat", "check/a/1/status") && known.covers("chat", "check/a/1"));
    assert!(!known.covers("chat", "check/a/10") && !known.covers("nio", "check/a/1"));
}

fn differences_of(ours: &Findings, theirs: &Findings) -> Vec<String> {
    judge("no such suite", ours, theirs)
}
