//! The largest rooms: how long taking one over takes, how much memory, and how long others wait for the writer meanwhile. Run it
//! in release, where signatures cost what they cost:
//! `cargo test --release --lib -- --ignored --nocapture a_room_of_many_members`.

use std::{
    io::{BufWriter, Read as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use futures_util::stream;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomVersionId};
use serde_json::json;

use super::{
    super::{Head, ImportError, scan::Scanner},
    world::{JoinAnswer, World, wire},
};
use crate::homeserver::{
    rooms::build::event_id,
    store::meta,
    types::{Pdu, RoomHandle},
};

/// Events that stand behind each other in the auth chain.
const DEEP: usize = 2000;

fn count(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Writes what a server would send of a room: so many members, and as many others who have left, whose joins stand in the auth
/// chain, as does a line of power levels.
async fn write_answer(path: &Path, world: &World, answer: &JoinAnswer, handle: &RoomHandle, members: usize, gone: usize) {
    let user = world.user(0, "pattern");
    let join = json!({ "membership": "join", "displayname": "Somebody", "avatar_url": "mxc://a.test/abcdefghijklmnopqrstuvwx" });
    let pattern = world.forge(0, &answer.room_id, &user, "m.room.member", Some(user.as_str()), join, |_| ()).await;
    let mut pattern = pattern.json().clone();
    pattern.remove("signatures");
    pattern.remove("hashes");
    let ann = world.user(0, "ann");
    let levels = json!({ "users": { ann.as_str(): 100 } });
    let levels = world.forge(0, &answer.room_id, &ann, "m.room.power_levels", Some(""), levels, |_| ()).await;
    let of_state = |kind: &str| -> String {
        let found = answer.state.iter().find(|json| json.get().contains(&format!("\"type\":\"{kind}\""))).unwrap();
        let json: CanonicalJsonObject = serde_json::from_str(found.get()).unwrap();
        event_id(&json, &handle.rules).unwrap().to_string()
    };
    let rule = of_state("m.room.join_rules");
    let member = |n: usize, change: &dyn Fn(&mut CanonicalJsonObject)| -> Pdu {
        let mut json = pattern.clone();
        let user = format!("@user{n}:a.test");
        json.insert("sender".into(), CanonicalJsonValue::String(user.clone()));
        json.insert("state_key".into(), CanonicalJsonValue::String(user));
        change(&mut json);
        world.sign(0, handle, json)
    };
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    let mut chain: Vec<String> = answer.auth_chain.iter().map(|json| json.get().to_owned()).collect();
    file.write_all(b"{\"state\":[").unwrap();
    let state: Vec<&str> = answer.state.iter().map(|json| json.get()).collect();
    file.write_all(state.join(",").as_bytes()).unwrap();
    for n in 0..members + gone {
        let join = member(n, &|_| ());
        let shown = if n < members {
            wire(&join)
        } else {
            let left = member(n, &|json| {
                json.insert("content".into(), CanonicalJsonValue::try_from(json!({ "membership": "leave" })).unwrap());
                let Some(CanonicalJsonValue::Array(auth)) = json.get_mut("auth_events") else { panic!("no auth events") };
                // Who leaves needs no rule for joining.
                auth.retain(|id| id.as_str() != Some(rule.as_str()));
                auth.push(CanonicalJsonValue::String(join.event_id().to_string()));
            });
            chain.push(wire(&join));
            wire(&left)
        };
        file.write_all(b",").unwrap();
        file.write_all(shown.as_bytes()).unwrap();
    }
    let mut named = of_state("m.room.power_levels");
    let mut last = levels;
    for n in 0..DEEP {
        chain.push(wire(&last));
        let (id, mut json) = (last.event_id().to_string(), last.json().clone());
        json.insert("depth".into(), CanonicalJsonValue::Integer(i32::try_from(n + 100).unwrap().into()));
        let Some(CanonicalJsonValue::Array(auth)) = json.get_mut("auth_events") else { panic!("no auth events") };
        for before in auth.iter_mut().filter(|auth| auth.as_str() == Some(named.as_str())) {
            *before = CanonicalJsonValue::String(id.clone());
        }
        named = id;
        json.remove("signatures");
        json.remove("hashes");
        last = world.sign(0, handle, json);
    }
    write!(file, "],\"auth_chain\":[{}]}}", chain.join(",")).unwrap();
    file.flush().unwrap();
}

/// A field of `/proc/self/status` in MiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute"]
async fn a_room_of_many_members_comes_over() {
    let (members, gone) = (count("HOMEROOM_MEMBERS", 60_000), count("HOMEROOM_GONE", 40_000));
    let world = World::at_full_stride(2);
    let (ann, bob) = (world.user(0, "ann"), world.user(1, "bob"));
    let room = world.room(0, &ann, RoomVersionId::V11).await;
    let (answer, _) = world.join_answer(1, &bob, &room, 0).await;
    let handle = world.handle(0, &room).await;
    let path = world.servers[1].dir.path().join("answer.json");
    write_answer(&path, &world, &answer, &handle, members, gone).await;
    drop(std::fs::write("/proc/self/clear_refs", "5"));
    let (before, size) = (memory("VmRSS"), std::fs::metadata(&path).unwrap().len() >> 20);

    let store = world.servers[1].store.clone();
    let (done, mut stop) = tokio::sync::oneshot::channel::<()>();
    let other = async move {
        let mut longest = Duration::ZERO;
        while stop.try_recv().is_err() {
            let at = Instant::now();
            store.write(|tx| meta::set_number(tx, "measure", 1)).await.unwrap();
            longest = longest.max(at.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        longest
    };
    let started = Instant::now();
    let (file, ingest) = (std::fs::File::open(&path).unwrap(), &world.servers[1].ingest);
    let pieces = stream::try_unfold((file, Scanner::default(), false), |(mut file, mut scanner, mut ended)| async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            if let Some(piece) = scanner.piece() {
                return Ok::<_, ImportError>(Some((piece, (file, scanner, ended))));
            }
            if ended {
                return Ok(None);
            }
            match file.read(&mut buffer).unwrap() {
                0 => {
                    scanner.finish().unwrap();
                    ended = true;
                }
                length => scanner.push(&buffer[..length]).unwrap(),
            }
        }
    });
    let head = Head { room_id: room.clone(), version: RoomVersionId::V11, origin: world.servers[0].name.clone() };
    let import = async {
        let gathered = ingest.gather(head, pieces).await.unwrap();
        let (checked, after_checks) = (started.elapsed(), memory("VmRSS"));
        let imported = ingest.take(gathered, answer.join.get()).await.unwrap();
        done.send(()).unwrap();
        (imported, checked, after_checks, started.elapsed())
    };
    let ((imported, checked, after_checks, all), longest) = tokio::join!(import, other);
    println!(
        "{members} members, {} state events in {size} MiB: checked after {checked:?}, here after {all:?}; memory {before} MiB before, \
         {after_checks} with all events, at most {}; another write waited for {longest:?} at most",
        imported.state_events,
        memory("VmHWM"),
    );
    assert_eq!(imported.refused, 0);
    assert_eq!(imported.state_events, world.state(0, &room).await.len() + members + gone);
}
