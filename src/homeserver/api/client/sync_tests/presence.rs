//! How people are, as those hear of it who share a room with them.

use super::*;

#[tokio::test]
async fn how_people_are_is_told_to_whom_they_come_to_share_a_room_with() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "preset": "public_chat" })).await;
    bob.put(&format!("presence/{}/status", bob.id), json!({ "presence": "unavailable", "status_msg": "Out" })).await;
    let known = |answer: &Value, who: &Client| -> Vec<Value> {
        let events = answer["presence"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().filter(|event| event["sender"] == who.id.as_str()).map(|event| event["content"]["presence"].clone()).collect()
    };
    let (ann_first, bob_first) = (ann.sync(None, "").await, bob.sync(None, "set_presence=unavailable").await);
    assert!(known(&ann_first, &bob).is_empty() && known(&bob_first, &ann).is_empty(), "strangers");
    bob.join(&room).await;
    let ann_second = ann.sync(Some(&ann_first["next_batch"]), "").await;
    assert_eq!(known(&ann_second, &bob), ["unavailable"], "{ann_second}");
    let bob_second = bob.sync(Some(&bob_first["next_batch"]), "set_presence=unavailable").await;
    assert_eq!(known(&bob_second, &ann), ["online"], "{bob_second}");
    ann.say(&room, "news").await;
    let ann_third = ann.sync(Some(&ann_second["next_batch"]), "").await;
    assert!(known(&ann_third, &bob).is_empty(), "told already: {ann_third}");
}

#[tokio::test]
async fn presence_carries_the_profile_and_turns_with_what_the_user_does() {
    let home = Home::new().await;
    let (ann, bob) = (home.user("ann").await, home.user("bob").await);
    let room = ann.create_room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    bob.put(&format!("presence/{}/status", bob.id), json!({ "presence": "unavailable" })).await;
    let first = ann.sync(None, "").await;
    let of_bob = |answer: &Value| -> Vec<Value> {
        let events = answer["presence"]["events"].as_array().cloned().unwrap_or_default();
        events.into_iter().filter(|event| event["sender"] == bob.id.as_str()).map(|event| event["content"].clone()).collect()
    };
    assert_eq!(of_bob(&first).len(), 1);
    bob.put(&format!("profile/{}/displayname", bob.id), json!({ "displayname": "Bobby" })).await;
    bob.put(&format!("profile/{}/avatar_url", bob.id), json!({ "avatar_url": "mxc://home.test/bob" })).await;
    let second = ann.sync(Some(&first["next_batch"]), "timeout=30000").await;
    let told = of_bob(&second);
    assert_eq!(told.len(), 1, "{second}");
    assert_eq!((&told[0]["displayname"], &told[0]["avatar_url"]), (&json!("Bobby"), &json!("mxc://home.test/bob")));
    assert_eq!((&told[0]["presence"], &told[0]["currently_active"]), (&json!("unavailable"), &json!(false)));
    bob.say(&room, "here I am").await;
    let third = ann.sync(Some(&second["next_batch"]), "timeout=30000").await;
    let told = of_bob(&third);
    assert_eq!((told.len(), &told[0]["presence"], &told[0]["currently_active"]), (1, &json!("online"), &json!(true)));
}
