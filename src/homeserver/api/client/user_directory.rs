//! The user directory.

use std::sync::Arc;

use axum::Json;
use ruma::api::client::user_directory::search_users;
use serde_json::{Value, json};

use super::super::{
    call::{RawCall, Routes},
    error::{ApiError, ApiResult},
};
use crate::homeserver::{
    Node, Registration,
    events::{EventError, summary},
    store::{self, directory::Person},
};

/// Results when the client does not say how many, and at most.
const LIMIT: usize = 10;
const LARGEST_LIMIT: usize = 100;
/// Matches that are ranked; a search that finds more is too vague to be worth ranking them all.
const RANKED: usize = 2000;
/// Longest search term.
const TERM_BYTES: usize = 512;

pub(super) fn add(routes: Routes) -> Routes {
    routes.add_raw::<search_users::v3::Request, _, _, _>(search_users)
}

/// How well somebody fits the words: smaller is better, `None` is not at all.
fn rank(person: &Person, words: &[String]) -> Option<u8> {
    let user_id = person.user_id.to_lowercase();
    let name = person.displayname.as_deref().unwrap_or_default().to_lowercase();
    let local = user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
    if !words.iter().all(|word| user_id.contains(word.as_str()) || name.contains(word.as_str())) {
        return None;
    }
    let whole = words.join(" ");
    let starts = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|part| part.starts_with(whole.as_str()));
    Some(match () {
        () if user_id == whole || local == whole || name == whole => 0,
        () if local.starts_with(&whole) || name.starts_with(&whole) || user_id.starts_with(&whole) => 1,
        () if starts(local) || starts(&name) => 2,
        () => 3,
    })
}

/// `POST /_matrix/client/v3/user_directory/search`
async fn search_users(node: Arc<Node>, call: RawCall) -> ApiResult<Json<Value>> {
    let body = call.object()?;
    let term = body.get("search_term").and_then(Value::as_str).ok_or_else(|| ApiError::missing_param("`search_term` is missing"))?;
    if term.len() > TERM_BYTES {
        return Err(ApiError::invalid_param("`search_term` is too long"));
    }
    let limit = match body.get("limit") {
        None | Some(Value::Null) => LIMIT,
        Some(limit) => limit.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| ApiError::bad_json("`limit` is not a number"))?,
    };
    let limit = limit.min(LARGEST_LIMIT);
    let words = term.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    if words.is_empty() {
        return Ok(Json(json!({ "results": [], "limited": false })));
    }
    // Where accounts are given by the owner, they know each other; where strangers register, they do not.
    let everybody = node.config.registration != Registration::Open;
    let mut found = node
        .store
        .read(move |db| {
            let (mut open, mut found) = (Vec::new(), Vec::new());
            for room in store::directory::other_rooms(db, call.who.user)? {
                if summary::is_open(db, &store::rooms::by_nid(db, room)?)? {
                    open.push(room);
                }
            }
            store::directory::visit(db, call.who.user, &open, everybody, |person| {
                if let Some(rank) = rank(&person, &words) {
                    found.push((rank, person));
                }
                found.len() < RANKED
            })?;
            Ok::<_, EventError>(found)
        })
        .await?;
    found.sort_by(|(a, one), (b, two)| a.cmp(b).then_with(|| one.user_id.cmp(&two.user_id)));
    let limited = found.len() > limit;
    let results = found.into_iter().take(limit).map(|(_, person)| {
        let mut result = json!({ "user_id": person.user_id });
        for (field, value) in [("display_name", person.displayname), ("avatar_url", person.avatar_url)] {
            if let (Some(object), Some(value)) = (result.as_object_mut(), value) {
                object.insert(field.into(), value.into());
            }
        }
        result
    });
    Ok(Json(json!({ "results": results.collect::<Vec<_>>(), "limited": limited })))
}
