//! Requests that no client should send. None of them may make the node fail.

use serde_json::json;

use crate::support::LocalNode;

#[test]
fn an_unknown_path_is_unrecognized() {
    let node = LocalNode::start();
    let mut http = node.http();
    for path in
        ["/", "/_matrix", "/_matrix/client", "/_matrix/client/v3/nothing", "/_matrix/federation/v9/x", "/%00", "/_matrix/client/v3/%ff%fe"]
    {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.errcode().as_str()), (404, "M_UNRECOGNIZED"), "{path}");
    }
}

#[test]
fn a_known_path_with_another_method_is_unrecognized() {
    let node = LocalNode::start();
    let answer = node.http().post("/_matrix/client/versions", &json!({}));
    assert_eq!((answer.status, answer.errcode().as_str()), (405, "M_UNRECOGNIZED"));
}
