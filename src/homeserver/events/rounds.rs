//! What is done in all of a user's rooms when the user changes: a few rooms per transaction, so that others get their turn.

use ruma::OwnedUserId;

use super::{Ctx, EventError, Result, membership, policy};
use crate::homeserver::{
    store::{Store, Tx, members, rooms},
    types::{RoomHandle, RoomNid, UserNid},
};

/// Rooms in one transaction.
const ROOMS: usize = 16;

/// Shows the user's present display name and avatar in every room that they are joined to.
///
/// # Errors
///
/// [`EventError::Store`]. A room that refuses the change is passed over.
pub async fn show_profile(store: &Store, ctx: &Ctx, user: UserNid, user_id: OwnedUserId) -> Result<()> {
    each_room(store, ctx, user, &["join"], move |tx, ctx, room| membership::show_profile(tx, ctx, room, &user_id)).await
}

/// Leaves every room, declines every invite and withdraws every knock.
///
/// # Errors
///
/// [`EventError::Store`]. A room that cannot be left is passed over.
pub async fn leave_all(store: &Store, ctx: &Ctx, user: UserNid, user_id: OwnedUserId) -> Result<()> {
    each_room(store, ctx, user, &["join", "invite", "knock"], move |tx, ctx, room| membership::leave(tx, ctx, room, &user_id, None)).await
}

async fn each_room<F>(store: &Store, ctx: &Ctx, user: UserNid, memberships: &'static [&'static str], change: F) -> Result<()>
where
    F: Fn(&mut Tx<'_>, &Ctx, &RoomHandle) -> Result<()> + Clone + Send + 'static,
{
    let found = store.read(move |db| members::of_user(db, user)).await?;
    let rooms: Vec<RoomNid> =
        found.into_iter().filter(|member| memberships.contains(&member.membership.as_str())).map(|member| member.room).collect();
    for some in rooms.chunks(ROOMS) {
        let (some, change) = (some.to_vec(), change.clone());
        let job = move |tx: &mut Tx<'_>, ctx: &Ctx| {
            for room in some {
                let room = rooms::by_nid(&tx.reader(), room)?;
                match change(tx, ctx, &room) {
                    Ok(()) => {}
                    Err(error @ (EventError::Store(_) | EventError::Internal(_) | EventError::NeedsApproval(_))) => return Err(error),
                    Err(error) => tracing::warn!(room_id = %room.room_id, %error, "a room refused a change of its member"),
                }
            }
            Ok(())
        };
        policy::writing(store, ctx.clone(), job).await?;
    }
    Ok(())
}
