//! What is asked of rooms and said of their members.

use super::*;

impl Client {
    async fn refused(&self, method: Method, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.call(method, &format!("/_matrix/client/v3/{path}"), Some(body)).await;
        (status.as_u16(), answer["errcode"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn what_nobody_can_send_is_malformed_rather_than_forbidden() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let room = ann.create_room(json!({ "room_version": "12", "creation_content": { "additional_creators": [bob.id] } })).await;
    let levels = format!("rooms/{room}/state/m.room.power_levels");
    for creator in [&ann, &bob] {
        let body = json!({ "users": { creator.id.clone(): 100 } });
        assert_eq!(ann.refused(Method::PUT, &levels, body).await, (400, "M_BAD_JSON".into()), "{}", creator.id);
    }
    assert_eq!(ann.refused(Method::PUT, &format!("rooms/{room}/state/m.room.create"), json!({})).await, (400, "M_BAD_JSON".into()));
    assert_eq!(cat.refused(Method::PUT, &levels, json!({ "users": { cat.id.clone(): 100 } })).await, (403, "M_FORBIDDEN".into()));
    ann.put(&levels, json!({ "users": { cat.id.clone(): 50 } })).await;
    let listed = json!({ "room_version": "12", "power_level_content_override": { "users": { ann.id.clone(): 100 } } });
    assert_eq!(ann.refused(Method::POST, "createRoom", listed).await, (400, "M_INVALID_ROOM_STATE".into()));
    let old = ann.create_room(json!({ "room_version": "11" })).await;
    ann.put(&format!("rooms/{old}/state/m.room.power_levels"), json!({ "users": { ann.id.clone(): 100 } })).await;
}

#[tokio::test]
async fn members_are_listed_who_have_one_membership_or_have_not_another() {
    let home = Home::new().await;
    let (ann, bob, cat) = (home.user("ann").await, home.user("bob").await, home.user("cat").await);
    let dan = home.user("dan").await;
    let room = ann.create_room(json!({ "invite": [bob.id, cat.id] })).await;
    cat.join(&room).await;
    cat.post(&format!("rooms/{room}/leave"), json!({})).await;
    ann.post(&format!("rooms/{room}/ban"), json!({ "user_id": dan.id })).await;
    for (query, expected) in [
        ("", vec![&ann, &bob, &cat, &dan]),
        ("?membership=join", vec![&ann]),
        ("?not_membership=join", vec![&bob, &cat, &dan]),
        ("?membership=join&not_membership=leave", vec![&ann, &bob, &dan]),
        ("?membership=leave&not_membership=leave", vec![&ann, &bob, &cat, &dan]),
        ("?membership=ban&not_membership=ban", vec![&ann, &bob, &cat, &dan]),
    ] {
        let answer = ann.get(&format!("rooms/{room}/members{query}")).await;
        let mut found: Vec<&str> = answer["chunk"].as_array().unwrap().iter().filter_map(|event| event["state_key"].as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, expected.iter().map(|client| client.id.as_str()).collect::<Vec<_>>(), "{query}");
    }
}

#[tokio::test]
async fn what_a_member_has_not_set_is_null_among_the_joined() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({})).await;
    ann.set_state(&room, "m.room.member", &ann.id.clone(), json!({ "membership": "join" })).await;
    let unset = json!({ "display_name": null, "avatar_url": null });
    assert_eq!(ann.get(&format!("rooms/{room}/joined_members")).await, json!({ "joined": { ann.id.clone(): unset } }));
    let shown = json!({ "membership": "join", "displayname": "Annie", "avatar_url": "mxc://home.test/ann" });
    ann.set_state(&room, "m.room.member", &ann.id.clone(), shown).await;
    let set = json!({ "display_name": "Annie", "avatar_url": "mxc://home.test/ann" });
    assert_eq!(ann.get(&format!("rooms/{room}/joined_members")).await, json!({ "joined": { ann.id.clone(): set } }));
    assert_eq!(bob.refused(Method::GET, &format!("rooms/{room}/joined_members"), json!({})).await, (403, "M_FORBIDDEN".into()));
    assert_eq!(ann.refused(Method::GET, "rooms/nonsense/joined_members", json!({})).await, (400, "M_INVALID_PARAM".into()));
}
