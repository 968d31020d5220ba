#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
//! What we know of rooms that nobody of ours is in any more is what once was: it lets nobody in anywhere.

use ruma::{RoomId, ServerName, UserId};
use serde_json::json;

use crate::homeserver::{
    api::testing::TestNode,
    events::{self, EventError, membership, summary},
    store::users,
};

#[tokio::test]
async fn members_of_a_room_that_we_left_are_let_into_no_other() {
    let test = TestNode::new().await;
    let ann = test.client("ann", "ANN").await;
    let space = test.room(&ann, json!({})).await;
    test.set_member(&space, "@ben:remote.test", "join").await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": space }] });
    let closed = test
        .room(
            &ann,
            json!({ "preset": "private_chat", "initial_state": [{ "type": "m.room.join_rules", "state_key": "", "content": rule }] }),
        )
        .await;
    for there in [true, false] {
        let (space_id, closed_id) = (RoomId::parse(&space).unwrap(), RoomId::parse(&closed).unwrap());
        let known = test.node.store.read(move |db| {
            let ben = users::find(db, &UserId::parse("@ben:remote.test").unwrap())?.unwrap();
            let room = events::room(db, &closed_id)?;
            let server = ServerName::parse("remote.test").unwrap();
            assert_eq!(membership::allowed_rooms(db, &room)?, Some(vec![space_id.clone()]));
            Ok::<_, EventError>((membership::in_any(db, &[space_id], ben)?, summary::may_server_know(db, &room, &server)?))
        });
        assert_eq!(known.await.unwrap(), (there, there));
        if there {
            let (status, body) = test.post(&ann, &format!("/_matrix/client/v3/rooms/{space}/leave"), json!({})).await;
            assert_eq!(status, 200, "{body}");
        }
    }
}
