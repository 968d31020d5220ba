//! Joining rooms.
//!
//! A join that goes through other servers is written down before the first of them takes it, so that a restart in between
//! finishes it: the others count the user as joined already.

use std::{sync::Arc, time::Duration};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomOrAliasId, ServerName,
    room_version_rules::RoomVersionRules, signatures::Verified,
};
use serde_json::Map;

use super::{
    Kind, MembershipError, Result,
    answered::{Answer, Broken},
    ask, find,
    invited::signatures_of,
    leave::senders_of,
};
use crate::homeserver::{
    Node,
    events::{
        self, Ctx, EventError,
        membership::{self, content},
        policy,
    },
    federation::ingest::Head,
    rooms::{build, proposal::Wanted},
    store::{
        self, Tx, members, outside,
        remote_joins::{self, RemoteJoin},
        rooms, servers, users,
    },
    types::{Pdu, RoomHandle, RoomNid},
};

/// Servers that may say no before we believe it.
const MAX_NO: usize = 3;
/// How often a join that a restart interrupted is tried while nobody can be reached, and the first pause between two tries.
const RESUMED: u32 = 6;
const RESUME_PAUSE: Duration = Duration::from_secs(10);

/// A join that somebody wants.
#[derive(Debug, Clone)]
pub struct Join {
    /// Who.
    pub user_id: OwnedUserId,
    /// The room or an alias of it.
    pub room: ruma::OwnedRoomOrAliasId,
    /// Servers that may help.
    pub via: Vec<OwnedServerName>,
    /// Why.
    pub reason: Option<String>,
}

/// Joins a user of ours to a room, here or through servers that are in it.
///
/// # Errors
///
/// [`MembershipError`]: what the servers that were asked say, the best of it.
pub async fn join(node: &Arc<Node>, join: Join) -> Result<OwnedRoomId> {
    let id: &RoomOrAliasId = &join.room;
    let (room_id, named) = find::room(node, id, join.via.clone()).await?;
    if here(node, &room_id, &join).await?.is_none() {
        return Ok(room_id);
    }
    if !node.federation.is_enabled() {
        return Err(MembershipError::not_found(format!("{room_id} is not on this server, and this one does not talk to others")));
    }
    // A client that goes away must not leave a join half done.
    let (answer, answered) = tokio::sync::oneshot::channel();
    let worker = Arc::clone(node);
    let wanted = Wish { user_id: join.user_id.clone(), room_id: room_id.clone(), named, reason: join.reason.clone() };
    node.tasks.spawn("node-join", async move {
        // The client may be gone; the join stands.
        let (outcome, again_later) = attempt_and_settle(&worker, &wanted, Try::Asked).await;
        drop(answer.send(outcome));
        if again_later && pause(&worker, 0).await {
            again(&worker, &wanted).await;
        }
    });
    answered.await.map_err(|_| MembershipError::Unreachable("the server is stopping".into()))??;
    Ok(room_id)
}

/// Goes on with the joins that a restart interrupted, and those that nobody knows the outcome of.
pub fn resume(node: &Arc<Node>) {
    if !node.federation.is_enabled() {
        return;
    }
    let node = Arc::clone(node);
    node.tasks.clone().spawn("node-join-resume", async move {
        let waiting = match node.store.read(remote_joins::all).await {
            Ok(waiting) => waiting,
            Err(error) => return tracing::warn!(%error, "interrupted joins could not be read"),
        };
        // An end in the middle of taking a room over leaves the invite that led to it aside.
        let rooms: Vec<OwnedRoomId> = waiting.iter().map(|join| join.room_id.clone()).collect();
        let back = node.store.write(move |tx| rooms.iter().try_for_each(|room_id| set_outside(tx, room_id, outside::put_back)));
        if let Err(error) = back.await {
            return tracing::warn!(%error, "interrupted joins wait for the next start");
        }
        for RemoteJoin { room_id, user_id, via, reason } in waiting {
            again(&node, &Wish { user_id, room_id, named: via, reason }).await;
        }
    });
}

/// Which try of a join it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// Somebody waits for it.
    Asked,
    /// In the background.
    Again,
    /// The last in the background before the next start.
    Last,
}

/// Tries a join until it is done or refused, or the others have been out of reach for too long.
async fn again(node: &Arc<Node>, wish: &Wish) {
    let room_id = &wish.room_id;
    for attempt in 0..RESUMED {
        match attempt_and_settle(node, wish, if attempt + 1 == RESUMED { Try::Last } else { Try::Again }).await.0 {
            Ok(()) => return tracing::info!(%room_id, "a join that was interrupted is done"),
            Err(error @ MembershipError::Unreachable(_)) => tracing::info!(%room_id, %error, "a join that was interrupted waits"),
            Err(error) => return tracing::warn!(%room_id, %error, "a join that was interrupted failed"),
        }
        if !pause(node, attempt).await {
            return;
        }
    }
}

/// Waits before the next try. False when the node stops.
async fn pause(node: &Node, attempt: u32) -> bool {
    let shutdown = node.tasks.shutdown().clone();
    tokio::select! {
        () = shutdown.wait() => false,
        () = tokio::time::sleep(RESUME_PAUSE * 2_u32.pow(attempt)) => true,
    }
}

#[derive(Clone)]
struct Wish {
    user_id: OwnedUserId,
    room_id: OwnedRoomId,
    named: Vec<OwnedServerName>,
    reason: Option<String>,
}

/// Joins here, if we are in the room and may let the user in. Otherwise gives servers to ask.
async fn here(node: &Arc<Node>, room_id: &RoomId, join: &Join) -> Result<Option<Vec<OwnedServerName>>> {
    let (room_id, user, reason) = (room_id.to_owned(), join.user_id.clone(), join.reason.clone());
    let tried = policy::writing(&node.store, Ctx::of(node), move |tx, ctx| try_here(tx, ctx, &room_id, &user, reason.as_deref()));
    Ok(tried.await?)
}

fn try_here(
    tx: &mut Tx<'_>,
    ctx: &Ctx,
    room_id: &RoomId,
    user: &ruma::UserId,
    reason: Option<&str>,
) -> Result<Option<Vec<OwnedServerName>>, EventError> {
    let Some(room) = rooms::by_id(&tx.reader(), room_id)? else { return Ok(Some(Vec::new())) };
    let mut others: Vec<OwnedServerName> =
        servers::in_room(&tx.reader(), room.nid)?.into_iter().filter(|server| *server != ctx.server_name).collect();
    let inside = servers::is_in_room(&tx.reader(), room.nid, &ctx.server_name)?;
    // A room that everybody has left, and that has never been anywhere but here, can be entered again.
    let ours_alone = others.is_empty() && rooms::current_group(&tx.reader(), room.nid)?.is_some();
    if inside || ours_alone {
        match membership::join(tx, ctx, &room, user, reason) {
            Ok(()) => return Ok(None),
            // Somebody else's server may know more, or have somebody who may.
            Err(EventError::UnableToGrantJoin(_)) if !others.is_empty() => return Ok(Some(others)),
            Err(EventError::Forbidden(_)) if !others.is_empty() && !membership::knows_allowed_rooms(&tx.reader(), ctx, &room)? => {
                return Ok(Some(others));
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(nid) = users::find(&tx.reader(), user)?
        && let Some(member) = members::get(&tx.reader(), room.nid, nid)?.filter(|member| member.membership == "invite")
    {
        let inviter = crate::homeserver::store::events::by_nid(&tx.reader(), member.event)?.sender;
        others.insert(0, users::user_id(&tx.reader(), inviter)?.server_name().to_owned());
        others.extend(senders_of(member.invite_state.as_deref().unwrap_or_default()));
    }
    Ok(Some(others))
}

/// Of several servers' answers, the one that says most.
#[derive(Debug, Default)]
pub(super) struct Best {
    error: Option<MembershipError>,
    refusals: usize,
}

impl Best {
    pub(super) fn note(&mut self, error: MembershipError) {
        if matches!(error, MembershipError::Refused { status: 403, .. }) {
            self.refusals += 1;
        }
        if self.error.as_ref().is_none_or(|best| error.rank() > best.rank()) {
            self.error = Some(error);
        }
    }

    pub(super) fn error(self, room_id: &RoomId) -> MembershipError {
        self.error.unwrap_or_else(|| MembershipError::not_found(format!("No server is known that is in {room_id}")))
    }
}

/// Joins, and forgets that the join was under way, unless it can be tried again. True with the outcome when it is to be.
async fn attempt_and_settle(node: &Arc<Node>, wish: &Wish, which: Try) -> (Result<()>, bool) {
    // Was a join sent that nobody has refused? Then the others may count the user as joined whatever we know of it.
    let mut sent = false;
    let outcome = elsewhere(node, wish, &mut sent).await;
    let unreachable = matches!(outcome, Err(MembershipError::Unreachable(_)));
    let again = match which {
        Try::Asked => outcome.is_err() && sent,
        Try::Again => unreachable,
        Try::Last => unreachable && sent,
    };
    let stopping = outcome.is_err() && node.tasks.shutdown().is_triggered();
    if !again && !stopping {
        let (room_id, user_id) = (wish.room_id.clone(), wish.user_id.clone());
        if let Err(error) = node.store.write(move |tx| remote_joins::done(tx, &room_id, &user_id)).await {
            return (outcome.and(Err(error.into())), false);
        }
    }
    let outcome = outcome.map_err(|error| match error {
        MembershipError::Unreachable(why) if again => MembershipError::Unreachable(uncertain(&why)),
        MembershipError::Nonsense(why) if again => MembershipError::Nonsense(uncertain(&why)),
        other => other,
    });
    (outcome, again)
}

fn uncertain(why: &str) -> String {
    format!("{why}. The join may have been taken all the same: it is tried again in the background")
}

/// Joins through the servers that may help, one after the other.
async fn elsewhere(node: &Arc<Node>, wish: &Wish, sent: &mut bool) -> Result<()> {
    let turn = node.federation.joining.turn(&wish.room_id);
    let _turn = turn.lock().await;
    // Somebody else's join may have brought the room here while we waited.
    let room = <&RoomOrAliasId>::from(&*wish.room_id).to_owned();
    let again = Join { user_id: wish.user_id.clone(), room, via: Vec::new(), reason: wish.reason.clone() };
    match here(node, &wish.room_id, &again).await? {
        None => Ok(()),
        Some(known) => {
            let of_room = wish.room_id.server_name().map(ToOwned::to_owned);
            let candidates = find::candidates(node, wish.named.iter().cloned().chain(known).chain(of_room));
            through_any(node, wish, &candidates, sent).await
        }
    }
}

async fn through_any(node: &Arc<Node>, wish: &Wish, candidates: &[OwnedServerName], sent: &mut bool) -> Result<()> {
    let mut best = Best::default();
    for server in candidates {
        if node.tasks.shutdown().is_triggered() || best.refusals >= MAX_NO {
            break;
        }
        match through(node, wish, server, candidates, sent).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::info!(peer = %server, room_id = %wish.room_id, %error, "a server did not let us in");
                best.note(error);
            }
        }
    }
    Err(best.error(&wish.room_id))
}

async fn through(node: &Arc<Node>, wish: &Wish, server: &ServerName, candidates: &[OwnedServerName], sent: &mut bool) -> Result<()> {
    let wanted = Wanted { room_id: &wish.room_id, user_id: &wish.user_id, membership: Kind::Join.membership(), server };
    let proposal = ask::proposal(node, server, Kind::Join, wanted).await?;
    let ctx = Ctx::of(node);
    if let Some(room) = room_inside(node, &wish.room_id).await?
        && room.version != proposal.version
    {
        return Err(MembershipError::Nonsense(format!("{server} says that the room has version {}", proposal.version)));
    }
    let written =
        RemoteJoin { room_id: wish.room_id.clone(), user_id: wish.user_id.clone(), via: candidates.to_vec(), reason: wish.reason.clone() };
    let (user, reason, now_ms) = (wish.user_id.clone(), wish.reason.clone(), ctx.now_ms);
    let version = proposal.version.clone();
    let content = node.store.write(move |tx| -> Result<_, EventError> {
        let nid = users::intern(tx, &user)?;
        remote_joins::put(tx, &written, &version, now_ms)?;
        content(&tx.reader(), Some(nid), "join", reason.as_deref(), Map::new())
    });
    let lets_in = proposal.place.authorised_via.as_ref().map(|user| user.server_name().to_owned());
    let (pdu, json) = ask::event(&ctx, wanted, proposal.place, &proposal.rules, content.await?)?;
    let _place = node.federation.joining.place().await;
    let before = std::mem::replace(sent, true);
    let mut answer = Answer::ask(node, server, &wish.room_id, pdu.event_id(), json).await.map_err(|error| {
        let error = MembershipError::from(error);
        // Who says no has not taken it. (What was sent to another server before is another matter.)
        *sent = before || !matches!(error, MembershipError::Refused { .. });
        error
    })?;
    let room = wish.room_id.clone();
    let inside = room_inside(node, &room).await?;
    let gathered = match &inside {
        // Only the event matters.
        Some(_) => answer.skip().await.map(|()| None),
        None => {
            let head = Head { room_id: room.clone(), version: proposal.version.clone(), origin: server.to_owned() };
            node.federation.inbound.gather(head, answer.pieces()).await.map(Some)
        }
    };
    let gathered = gathered.map_err(|error| error.of(node, server))?;
    let event = match lets_in {
        Some(by) => the_same(&pdu, answer.event(), &by, &proposal.rules)?,
        // Where nobody need let us in, what we have signed is all that is needed.
        None => pdu,
    };
    if let Some(here) = inside {
        // We are in it and could not let the user in ourselves: the event is like any other of the room.
        if here.version != proposal.version {
            return Err(MembershipError::Nonsense(format!("{server} says that the room has version {}", proposal.version)));
        }
        match node.federation.keys.verify_event(event.json(), &here.rules).await {
            Ok(Verified::All) => {}
            Ok(Verified::Signatures) => return Err(MembershipError::internal("the hash of our join is wrong")),
            Err(fault) => return Err(MembershipError::Nonsense(format!("{server} has not signed the join: {fault}"))),
        }
        let (ctx, server) = (Ctx::of(node), server.to_owned());
        let placed = node.store.write(move |tx| {
            let room = events::room(&tx.reader(), &room)?;
            events::place(tx, &ctx, &room, &event, &events::Source::Server(&server)).map(drop)
        });
        return Ok(placed.await?);
    }
    let Some(gathered) = gathered else { return Err(MembershipError::internal("a room is neither here nor gathered")) };
    let join = build::canonical(event.json()).map_err(EventError::from)?;
    let (aside, back) = (room.clone(), room);
    node.store.write(move |tx| set_outside(tx, &aside, outside::put_aside)).await?;
    let taken = node.federation.inbound.take(gathered, &join).await;
    node.store.write(move |tx| set_outside(tx, &back, outside::put_back)).await?;
    taken.map(drop).map_err(|error| Broken::Import(error).of(node, server))
}

/// Does something with the events of a room that came before the room did.
fn set_outside(tx: &Tx<'_>, room_id: &RoomId, step: fn(&Tx<'_>, RoomNid) -> store::Result<()>) -> store::Result<()> {
    match rooms::by_id(&tx.reader(), room_id)? {
        Some(room) => step(tx, room.nid),
        None => Ok(()),
    }
}

/// Our event with the signatures of the server that lets us in. Nothing else is taken from what comes back.
fn the_same(ours: &Pdu, theirs: Option<&str>, by: &ServerName, rules: &RoomVersionRules) -> Result<Pdu> {
    let unsigned = || MembershipError::Nonsense(format!("{by} has not signed the join"));
    let theirs: CanonicalJsonObject = serde_json::from_str(theirs.ok_or_else(unsigned)?)
        .map_err(|e| MembershipError::Nonsense(format!("the server returns no event: {e}")))?;
    let theirs = signatures_of(&theirs, by).ok_or_else(unsigned)?;
    let mut signed = ours.json().clone();
    if let Some(CanonicalJsonValue::Object(signatures)) = signed.get_mut("signatures") {
        signatures.insert(by.to_string(), theirs);
    }
    Pdu::from_json(ours.event_id().to_owned(), signed, rules).map_err(MembershipError::internal)
}

/// The room, if somebody here is in it.
async fn room_inside(node: &Node, room_id: &RoomId) -> Result<Option<RoomHandle>> {
    let (room_id, ours) = (room_id.to_owned(), node.config.server_name.clone());
    let found = node.store.read(move |db| -> Result<Option<RoomHandle>, MembershipError> {
        let Some(room) = rooms::by_id(db, &room_id)? else { return Ok(None) };
        Ok(servers::is_in_room(db, room.nid, &ours)?.then_some(room))
    });
    found.await
}
