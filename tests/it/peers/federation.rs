//! Our node and Synapse federate: memberships and messages, both ways.

use serde_json::{Value, json};

use crate::support::{
    Person,
    across::{ask, becomes, hears, invite_in, join, joined_members, membership, post, refused, removed, sync},
    eventually,
    federation::{Authority, FedNode},
    synapse_federating::FedSynapse,
};

/// Ann here and Bob on Synapse.
struct Two {
    node: FedNode,
    synapse: FedSynapse,
    ann: Person,
    bob: Person,
    /// Last: the others' certificates are in its directory.
    _authority: Authority,
}

impl Two {
    fn new() -> Self {
        let authority = Authority::new();
        let (node, synapse) = (FedNode::start(&authority), FedSynapse::start(&authority));
        let (ann, bob) = (node.person("ann"), synapse.person("bob"));
        Self { node, synapse, ann, bob, _authority: authority }
    }

    fn ours(&self) -> String {
        self.node.name().to_string()
    }

    fn theirs(&self) -> String {
        self.synapse.name().to_owned()
    }
}

/// Both see the same people, and hear each other.
fn talk(room: &str, one: &mut Person, other: &mut Person) {
    let text = |who: &Person| format!("{} speaks, {}", who.user_id, Person::transaction());
    let (from_one, from_other) = (text(one), text(other));
    one.say(room, &from_one);
    hears(other, room, &[&from_one]);
    other.say(room, &from_other);
    hears(one, room, &[&from_other]);
    let mut people = [joined_members(one, room), joined_members(other, room)];
    people.iter_mut().for_each(|people| people.sort());
    assert_eq!(people[0], people[1]);
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn rooms_of_either_are_joined_by_the_other_in_every_version() {
    let mut two = Two::new();
    let (ours, theirs) = (two.ours(), two.theirs());
    for version in ["3", "5", "6", "8", "9", "10", "11", "12"] {
        let body = json!({ "preset": "public_chat", "room_version": version, "name": "talk" });
        let room = two.ann.create_room(&body);
        join(&mut two.bob, &room, &ours);
        talk(&room, &mut two.ann, &mut two.bob);
        let room = two.bob.create_room(&body);
        join(&mut two.ann, &room, &theirs);
        talk(&room, &mut two.bob, &mut two.ann);
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn invites_of_either_are_accepted_turned_down_and_taken_back() {
    let mut two = Two::new();
    for version in ["10", "12"] {
        for turn in 0..2 {
            let (host, guest) = if turn == 0 { (&mut two.ann, &mut two.bob) } else { (&mut two.bob, &mut two.ann) };
            let room = host.create_room(&json!({ "preset": "private_chat", "room_version": version, "name": "quiet" }));
            host.invite(&room, &guest.user_id);
            let told = eventually("the invite", || invite_in(&sync(guest), &room));
            assert!(told.iter().any(|event| event["content"]["name"] == "quiet"), "{version} {turn}: {told:?}");
            guest.join(&room);
            becomes(host, &room, &guest.user_id, "join");
            talk(&room, host, guest);
            post(guest, &room, "leave", &json!({})).ok();
            becomes(host, &room, &guest.user_id, "leave");
            host.invite(&room, &guest.user_id);
            eventually("the second invite", || invite_in(&sync(guest), &room));
            post(guest, &room, "leave", &json!({})).ok();
            becomes(host, &room, &guest.user_id, "leave");
            host.invite(&room, &guest.user_id);
            eventually("the third invite", || invite_in(&sync(guest), &room));
            post(host, &room, "kick", &json!({ "user_id": guest.user_id })).ok();
            eventually("the invite to be gone", || invite_in(&sync(guest), &room).is_none().then_some(()));
        }
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn either_removes_and_bans_users_of_the_other() {
    let mut two = Two::new();
    let servers = [two.ours(), two.theirs()];
    for version in ["10", "12"] {
        for (turn, via) in servers.iter().enumerate() {
            let (host, guest) = if turn == 0 { (&mut two.ann, &mut two.bob) } else { (&mut two.bob, &mut two.ann) };
            let room = host.create_room(&json!({ "preset": "public_chat", "room_version": version }));
            join(guest, &room, via);
            post(host, &room, "kick", &json!({ "user_id": guest.user_id })).ok();
            removed(guest, &room, "leave");
            join(guest, &room, via);
            talk(&room, host, guest);
            post(host, &room, "ban", &json!({ "user_id": guest.user_id })).ok();
            removed(guest, &room, "ban");
            refused(&ask(guest, "join", &room, via), 403, "M_FORBIDDEN");
            post(host, &room, "unban", &json!({ "user_id": guest.user_id })).ok();
            eventually("the way to be free", || (ask(guest, "join", &room, via).status == 200).then_some(()));
            talk(&room, host, guest);
        }
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn either_knocks_at_the_others_door() {
    let mut two = Two::new();
    let servers = [two.ours(), two.theirs()];
    for version in ["7", "12"] {
        for (turn, via) in servers.iter().enumerate() {
            let (host, guest) = if turn == 0 { (&mut two.ann, &mut two.bob) } else { (&mut two.bob, &mut two.ann) };
            let room = host.create_room(&json!({ "preset": "private_chat", "room_version": version, "name": "door", "initial_state": [
                { "type": "m.room.join_rules", "state_key": "", "content": { "join_rule": "knock" } },
            ] }));
            ask(guest, "knock", &room, via).ok();
            becomes(host, &room, &guest.user_id, "knock");
            eventually("the knock", || {
                let told = sync(guest)["rooms"]["knock"][&room]["knock_state"]["events"].as_array().cloned()?;
                told.iter().any(|event: &Value| event["content"]["name"] == "door").then_some(())
            });
            host.invite(&room, &guest.user_id);
            eventually("the invite", || invite_in(&sync(guest), &room));
            guest.join(&room);
            talk(&room, host, guest);
        }
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn members_of_a_space_join_the_others_restricted_rooms() {
    let mut two = Two::new();
    let servers = [two.ours(), two.theirs()];
    for version in ["8", "10", "12"] {
        for (turn, via) in servers.iter().enumerate() {
            let (host, guest) = if turn == 0 { (&mut two.ann, &mut two.bob) } else { (&mut two.bob, &mut two.ann) };
            let space = host.create_room(&json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } }));
            let room = host.create_room(&json!({ "preset": "private_chat", "room_version": version, "initial_state": [{
                "type": "m.room.join_rules", "state_key": "",
                "content": { "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": space }] },
            }] }));
            refused(&ask(guest, "join", &room, via), 403, "M_FORBIDDEN");
            join(guest, &space, via);
            join(guest, &room, via);
            talk(&room, host, guest);
        }
    }
}

#[test]
#[ignore = "needs Synapse from PyPI: run by .ci/run"]
fn what_is_said_while_one_of_them_is_down_arrives() {
    let mut two = Two::new();
    let ours = two.ours();
    let room = two.ann.create_room(&json!({ "preset": "public_chat" }));
    join(&mut two.bob, &room, &ours);
    talk(&room, &mut two.ann, &mut two.bob);
    two.synapse.kill();
    two.ann.say(&room, "while Synapse was down");
    two.synapse.start_again();
    two.bob.say(&room, "Synapse is back");
    hears(&mut two.ann, &room, &["Synapse is back"]);
    hears(&mut two.bob, &room, &["while Synapse was down"]);
    two.node.stop();
    two.bob.say(&room, "while homeroom was down");
    two.node.start_again();
    let mut ann = Person::login(two.node.address(), "ann", &two.ann.password);
    ann.say(&room, "homeroom is back");
    hears(&mut two.bob, &room, &["homeroom is back"]);
    hears(&mut ann, &room, &["while homeroom was down"]);
    assert_eq!(membership(&mut ann, &room, &two.bob.user_id), "join");
}
