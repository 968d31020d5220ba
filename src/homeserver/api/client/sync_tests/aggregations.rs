//! Whose edits, replies and references are told along with an event.

use super::*;

impl Client {
    /// An event that relates to another.
    async fn relate(&self, room: &str, kind: &str, rel_type: &str, to: &str, body: &str) -> String {
        let relation = json!({ "rel_type": rel_type, "event_id": to, "key": "+" });
        let mut content = json!({ "msgtype": "m.text", "body": body, "m.relates_to": relation });
        if rel_type == "m.replace" {
            content["m.new_content"] = json!({ "msgtype": "m.text", "body": body });
        }
        self.send(room, kind, content).await
    }

    /// What is told along with an event.
    async fn bundled(&self, room: &str, event: &str) -> Value {
        self.get(&format!("rooms/{room}/event/{event}")).await["unsigned"]["m.relations"].clone()
    }

    async fn v1(&self, path: &str) -> Value {
        self.ok(Method::GET, &format!("/_matrix/client/v1/{path}"), None).await
    }
}

const MESSAGE: &str = "m.room.message";

#[tokio::test]
async fn what_relates_to_an_event_is_told_up_to_where_one_left_and_no_further() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await;
    let root = ann.say(&room, "hello world").await;
    let late = ann.say(&room, "not yet a thread").await;
    ann.relate(&room, MESSAGE, "m.replace", &root, "first edit").await;
    let reply = ann.relate(&room, MESSAGE, "m.thread", &root, "first reply").await;
    let reference = ann.relate(&room, MESSAGE, "m.reference", &root, "first reference").await;
    bob.post(&format!("rooms/{room}/leave"), json!({})).await;
    let hidden = [
        ann.relate(&room, MESSAGE, "m.replace", &root, "secret edit").await,
        ann.relate(&room, MESSAGE, "m.replace", &late, "secret edit").await,
        ann.relate(&room, MESSAGE, "m.replace", &reply, "secret edit of a reply").await,
        ann.relate(&room, MESSAGE, "m.thread", &root, "secret reply").await,
        ann.relate(&room, MESSAGE, "m.thread", &late, "secret thread").await,
        ann.relate(&room, MESSAGE, "m.reference", &root, "secret reference").await,
        ann.relate(&room, MESSAGE, "m.reference", &late, "secret reference").await,
    ];
    let left = "%7B%22room%22:%7B%22include_leave%22:true,%22timeline%22:%7B%22limit%22:50%7D%7D%7D";
    let search = json!({ "search_categories": { "room_events": { "search_term": "hello" } } });
    let answers = [
        bob.get(&format!("rooms/{room}/event/{root}")).await,
        bob.get(&format!("rooms/{room}/event/{late}")).await,
        bob.get(&format!("rooms/{room}/messages?dir=b&limit=50")).await,
        bob.get(&format!("rooms/{room}/context/{root}?limit=20")).await,
        bob.v1(&format!("rooms/{room}/relations/{root}?recurse=true")).await,
        bob.v1(&format!("rooms/{room}/threads")).await,
        bob.get(&format!("sync?filter={left}")).await,
        bob.post("search", search).await,
    ];
    for answer in &answers {
        let text = answer.to_string();
        assert!(text.contains(&root) || text.contains(&late), "{answer}");
        assert!(!text.contains("secret") && !hidden.iter().any(|event| text.contains(event)), "{answer}");
    }
    let bundled = bob.bundled(&room, &root).await;
    assert_eq!(bundled["m.replace"]["content"]["body"], "first edit");
    assert_eq!((&bundled["m.thread"]["count"], &bundled["m.thread"]["latest_event"]["event_id"]), (&json!(1), &json!(reply)));
    assert_eq!(bundled["m.reference"], json!({ "chunk": [{ "event_id": reference }] }));
    assert_eq!(bob.bundled(&room, &late).await, Value::Null);
    assert_eq!(answers[5]["chunk"].as_array().unwrap().len(), 1, "what became a thread later is none to Bob");
    // Whoever stayed is told everything, and so is whoever comes back to a shared history.
    ann.post(&format!("rooms/{room}/invite"), json!({ "user_id": bob.id })).await;
    bob.join(&room).await;
    for who in [&ann, &bob] {
        let bundled = who.bundled(&room, &root).await;
        assert_eq!((&bundled["m.thread"]["count"], &bundled["m.thread"]["latest_event"]["event_id"]), (&json!(2), &json!(hidden[3])));
        assert_eq!(bundled["m.reference"]["chunk"].as_array().unwrap().len(), 2);
        assert_eq!(who.bundled(&room, &late).await["m.replace"]["content"]["body"], "secret edit");
    }
}

#[tokio::test]
async fn what_was_said_for_members_alone_counts_for_nobody_who_came_later() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "preset": "public_chat" })).await;
    let root = ann.say(&room, "everybody may read this").await;
    ann.set_state(&room, "m.room.history_visibility", "", json!({ "history_visibility": "joined" })).await;
    ann.relate(&room, MESSAGE, "m.thread", &root, "secret").await;
    bob.join(&room).await;
    assert_eq!(bob.bundled(&room, &root).await, Value::Null);
    let seen = ann.relate(&room, MESSAGE, "m.thread", &root, "seen").await;
    let bundled = bob.bundled(&room, &root).await;
    assert_eq!((&bundled["m.thread"]["count"], &bundled["m.thread"]["latest_event"]["event_id"]), (&json!(1), &json!(seen)));
    assert_eq!(ann.bundled(&room, &root).await["m.thread"]["count"], 2);
}

#[tokio::test]
async fn ignored_people_have_no_part_in_what_is_told_along_with_an_event() {
    let home = Home::new().await;
    let (ann, eve) = (home.user("ann").await, home.user("eve").await);
    let room = ann.create_room(json!({ "invite": [eve.id] })).await;
    eve.join(&room).await;
    let (root, other) = (ann.say(&room, "root").await, ann.say(&room, "other").await);
    let own = ann.relate(&room, MESSAGE, "m.thread", &root, "mine").await;
    eve.relate(&room, MESSAGE, "m.thread", &root, "unwanted").await;
    eve.relate(&room, MESSAGE, "m.thread", &other, "unwanted").await;
    eve.relate(&room, MESSAGE, "m.reference", &root, "unwanted").await;
    assert_eq!(ann.bundled(&room, &root).await["m.thread"]["count"], 2);
    let path = format!("user/{}/account_data/m.ignored_user_list", ann.id);
    ann.put(&path, json!({ "ignored_users": { eve.id.clone(): {}, "@unknown:else.test": {}, "nonsense": {} } })).await;
    let bundled = ann.bundled(&room, &root).await;
    assert_eq!((&bundled["m.thread"]["count"], &bundled["m.thread"]["latest_event"]["event_id"]), (&json!(1), &json!(own)));
    assert!(bundled.get("m.reference").is_none(), "{bundled}");
    assert_eq!(ann.bundled(&room, &other).await, Value::Null);
    let threads = ann.v1(&format!("rooms/{room}/threads")).await;
    assert_eq!(threads["chunk"].as_array().unwrap().len(), 1, "{threads}");
    assert_eq!(eve.bundled(&room, &root).await["m.thread"]["count"], 2, "others' lists are their own");
}

#[tokio::test]
async fn relations_are_followed_through_matching_events_only() {
    let home = Home::new().await;
    let ann = home.user("ann").await;
    let room = ann.create_room(json!({})).await;
    let root = ann.say(&room, "root").await;
    let reply = ann.relate(&room, MESSAGE, "m.thread", &root, "reply").await;
    let reaction = ann.relate(&room, "m.reaction", "m.annotation", &reply, "").await;
    let direct = ann.relate(&room, "m.reaction", "m.annotation", &root, "").await;
    let further = ann.relate(&room, "m.reaction", "m.annotation", &direct, "").await;
    let found = async |query: &str| -> Vec<String> {
        let answer = ann.v1(&format!("rooms/{room}/relations/{root}{query}dir=f")).await;
        let ids = answer["chunk"].as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    assert_eq!(found("/m.annotation?recurse=true&").await, [direct.clone(), further.clone()]);
    assert_eq!(found("/m.annotation/m.reaction?recurse=true&").await, [direct.clone(), further.clone()]);
    assert_eq!(found("/m.annotation?").await, std::slice::from_ref(&direct));
    assert_eq!(found("/m.thread?recurse=true&").await, std::slice::from_ref(&reply));
    assert_eq!(found("?recurse=true&").await, [reply, reaction, direct, further]);
}

#[tokio::test]
async fn the_event_that_ends_a_shared_history_is_still_seen_by_who_joins_later() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "preset": "public_chat" })).await;
    let narrowed = ann.set_state(&room, "m.room.history_visibility", "", json!({ "history_visibility": "joined" })).await;
    ann.say(&room, "secret").await;
    bob.join(&room).await;
    let answer = bob.get("sync?filter=%7B%22room%22:%7B%22timeline%22:%7B%22limit%22:50%7D%7D%7D").await;
    let timeline = &answer["rooms"]["join"][&room]["timeline"];
    let shown = timeline["events"].as_array().unwrap().iter().any(|event| event["event_id"] == narrowed.as_str());
    assert!(shown && !timeline.to_string().contains("secret"), "{timeline}");
    let slid = bob.slide(None, json!({ "lists": { "all": { "ranges": [[0, 9]], "timeline_limit": 50, "required_state": [] } } })).await;
    let timeline = &slid["rooms"][&room]["timeline"];
    let shown = timeline.as_array().unwrap().iter().any(|event| event["event_id"] == narrowed.as_str());
    assert!(shown && !timeline.to_string().contains("secret"), "{timeline}");
}
