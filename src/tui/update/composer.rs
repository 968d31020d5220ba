//! Typing and sending.

use ruma::{OwnedRoomId, OwnedUserId};

use super::{Effects, actions, ask, complete, error, slash, ticket, timeline};
use crate::{
    client::{
        command::{Command, Draft, Ticket},
        view::{ItemId, ItemKind},
    },
    tui::{
        action::Action,
        composer::Mode,
        effect::Effect,
        model::{Awaiting, Focus, Model, Motion},
        slash::{self as table, Line},
        text,
    },
};

/// A draft is saved when nothing was typed for so long.
const DRAFT_MS: u64 = 1_000;
/// The notice that we type is repeated after this, and taken back after that much idleness.
const TYPING_AGAIN_MS: u64 = 3_000;
const TYPING_STOP_MS: u64 = 5_000;

/// A character was typed.
pub(super) fn typed(model: &mut Model, c: char, fx: &mut Effects) {
    if model.invitation_open() {
        return;
    }
    model.composer_mut().insert(c);
    changed(model, fx);
}

/// Text was pasted: goes in at one go, and never sends.
pub(super) fn pasted(model: &mut Model, text: &str, fx: &mut Effects) {
    model.composer_mut().paste(text);
    changed(model, fx);
}

/// The text has changed.
pub(super) fn changed(model: &mut Model, fx: &mut Effects) {
    complete::refresh(model);
    let Some(room_id) = model.open.clone() else { return };
    model.drafts_due.insert(room_id.clone(), model.now_ms + DRAFT_MS);
    let lines = model.composer().area().lines();
    let command = lines.first().is_some_and(|line| line.starts_with('/') && !line.starts_with("//"));
    if model.composer().area().is_empty() || command {
        return stop_typing(model, fx);
    }
    let stop = model.now_ms + TYPING_STOP_MS;
    match &mut model.typing {
        Some((where_, told, until)) if *where_ == room_id => {
            *until = stop;
            if model.now_ms.saturating_sub(*told) < TYPING_AGAIN_MS {
                return;
            }
            *told = model.now_ms;
        }
        _ => model.typing = Some((room_id.clone(), model.now_ms, stop)),
    }
    ask(fx, Command::Typing { room_id, typing: true });
}

/// Tells others that we no longer type.
pub(super) fn stop_typing(model: &mut Model, fx: &mut Effects) {
    if let Some((room_id, ..)) = model.typing.take() {
        ask(fx, Command::Typing { room_id, typing: false });
    }
}

/// Saves a room's draft when it differs from what was saved last.
pub(super) fn save_draft(model: &mut Model, room_id: &OwnedRoomId, fx: &mut Effects) {
    model.drafts_due.remove(room_id);
    let flying = pastes(model, room_id);
    let Some(composer) = model.composers.get_mut(room_id) else { return };
    let text = flying.into_iter().chain(Some(composer.draft()).filter(|draft| !draft.is_empty())).collect::<Vec<_>>().join("\n");
    if text != composer.saved {
        if text.is_empty() {
            model.drafts_gone.insert(room_id.clone());
        }
        composer.saved.clone_from(&text);
        ask(fx, Command::SaveDraft { room_id: room_id.clone(), text });
    }
}

/// Long pastes of a room that are on their way: until the queue has them they are nowhere else that outlives a kill.
fn pastes(model: &Model, room_id: &OwnedRoomId) -> Vec<String> {
    let mut pastes: Vec<(Ticket, String)> = model
        .awaiting
        .iter()
        .filter_map(|(ticket, awaiting)| match awaiting {
            Awaiting::Paste { room_id: to, text, caption } if to == room_id => {
                let caption = if caption.is_empty() { String::new() } else { format!("{caption}\n") };
                Some((*ticket, format!("{caption}{text}")))
            }
            _ => None,
        })
        .collect();
    pastes.sort_by_key(|(ticket, _)| ticket.0);
    pastes.into_iter().map(|(_, text)| text).collect()
}

/// Runs an action on the text. False when it is none for the composer.
pub(super) fn act(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    match action {
        Action::Send => send(model, fx),
        Action::Complete | Action::CompleteBack => return complete::step(model, action == Action::Complete, fx),
        Action::Up if model.composer().is_empty() => timeline::edit_last(model, fx),
        Action::Down if model.composer().is_empty() => model.active_view_mut().motions.push(Motion::Bottom),
        Action::EditLast => timeline::edit_last(model, fx),
        Action::Open | Action::Top | Action::Bottom => return false,
        action => match model.composer_mut().act(action) {
            None => return false,
            Some(true) => changed(model, fx),
            Some(false) => model.composer_mut().completion = None,
        },
    }
    true
}

/// Sends what is typed, or runs it.
fn send(model: &mut Model, fx: &mut Effects) {
    if model.invitation_open() {
        return;
    }
    model.composer_mut().completion = None;
    let text = model.composer().text();
    if text.trim().is_empty() && model.composer().paste.is_none() {
        return;
    }
    match table::parse(&text) {
        Line::Text(text) => {
            let text = text.into_owned();
            send_text(model, &text, false, false, fx);
        }
        Line::Command(command, argument) => slash::run(model, command, argument, fx),
        Line::Action(action) => {
            clear(model, fx);
            actions::run(model, action, fx);
        }
        Line::Unknown { name, nearest } => {
            let near = nearest.map(|near| format!("; did you mean /{near}?")).unwrap_or_default();
            let words = format!("there is no command /{name}{near} (type // to send a text that begins with /)");
            error(model, words);
        }
    }
}

/// Empties the composer, and what is stored of it; what was put aside for an edit stands there then.
pub(super) fn clear(model: &mut Model, fx: &mut Effects) {
    model.composer_mut().done();
    if let Some(room_id) = model.open.clone() {
        model.drafts_gone.insert(room_id.clone());
        if pastes(model, &room_id).is_empty() {
            save_draft(model, &room_id, fx);
        } else {
            // Written once more only where it takes longer than most.
            model.drafts_due.insert(room_id, model.now_ms + DRAFT_MS);
        }
    }
    stop_typing(model, fx);
}

/// The open room, where one may write in it.
///
/// # Errors
/// Why not, in words.
pub(super) fn may_write(model: &Model) -> Result<OwnedRoomId, &'static str> {
    let room_id = model.open.clone().filter(|_| actions::in_room(model)).ok_or("open a room first; what you typed stays here")?;
    if model.details.as_ref().is_some_and(|details| details.id == room_id && !details.can_send) {
        return Err("you may not write in this room; what you typed stays here");
    }
    Ok(room_id)
}

/// Sends a text as message, answer or edit.
pub(super) fn send_text(model: &mut Model, text: &str, emote: bool, literal: bool, fx: &mut Effects) {
    let room_id = match may_write(model) {
        Ok(room_id) => room_id,
        Err(why) => return error(model, why),
    };
    if let Some(paste) = model.composer_mut().paste.take() {
        let awaiting = Awaiting::Paste { room_id: room_id.clone(), text: paste.text.clone(), caption: text.to_owned() };
        let ticket = ticket(model, awaiting);
        let caption = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        fx.push(Effect::SendText { ticket, room_id, text: paste.text, caption });
        return clear(model, fx);
    }
    let text = text.trim_end().to_owned();
    if text.trim().is_empty() {
        return;
    }
    let composer = model.composer();
    let mentions = composer.mentioned(&text);
    let reply_to = if let Mode::Reply { event_id, .. } = &composer.mode { Some(event_id.clone()) } else { None };
    let draft = Draft { text, emote, literal, reply_to, thread_root: model.thread_root.clone(), mentions };
    if let Mode::Edit { unique, item, .. } = composer.mode.clone() {
        let current = model.live_timeline().and_then(|t| t.items.iter().find(|i| i.unique == unique)).and_then(|i| i.id.clone());
        ask(fx, Command::Edit { room_id, item: current.unwrap_or(item), draft });
        clear(model, fx);
        return changed(model, fx);
    }
    ask(fx, Command::Send { room_id, draft });
    clear(model, fx);
    // Whoever writes wants to see it.
    let view = model.active_view_mut();
    view.to_start = false;
    view.seek = None;
    view.first_unread = None;
    view.motions.push(Motion::Bottom);
    model.focus = Focus::Composer;
}

/// A message or an edit could not even be queued: its text goes back where it came from, with what it answers or edits. What has
/// been typed since is kept below it, or comes back after the edit. False where the text stands in another edit's way, so that
/// it comes back only after that one.
pub(super) fn give_back(model: &mut Model, room_id: &OwnedRoomId, draft: &Draft, edited: Option<&ItemId>) -> bool {
    let names = mentions(model, room_id, &draft.mentions, &draft.typed());
    let before = edited.and_then(|item| original(model, room_id, item));
    let now = model.now_ms;
    let composer = model.composers.entry(room_id.clone()).or_default();
    composer.completion = None;
    let in_the_way = matches!(composer.mode, Mode::Edit { .. });
    match edited {
        Some(item) if composer.mode == Mode::New => {
            let (unique, before) = before.unwrap_or((u64::MAX, String::new()));
            composer.edit(unique, item.clone(), before, names);
            composer.set_text(&draft.typed());
        }
        // An edit that comes back into a composer that has something else to say is text to be kept, no more.
        _ => {
            let names = names.into_iter().filter(|(words, _)| !words.is_empty());
            match &mut composer.mode {
                Mode::Edit { stash_mentions, .. } => stash_mentions.extend(names),
                Mode::New | Mode::Reply { .. } => composer.mentions.extend(names),
            }
            let text = if edited.is_some() { draft.text.clone() } else { draft.typed() };
            composer.put_before(&text);
            if let Some(event_id) = draft.reply_to.clone().filter(|_| composer.mode == Mode::New) {
                composer.mode = Mode::Reply { event_id, sender: "the message before".to_owned(), text: String::new() };
            }
        }
    }
    model.drafts_due.insert(room_id.clone(), now + DRAFT_MS);
    !in_the_way
}

/// These people with the words that stand for them in a text; none where it does not name them (whoever is answered is mentioned
/// all the same).
pub(super) fn mentions(model: &Model, room_id: &OwnedRoomId, people: &[OwnedUserId], said: &str) -> Vec<(String, OwnedUserId)> {
    let members = || model.details.iter().filter(|details| details.id == *room_id).flat_map(|details| details.members.iter());
    let words = |id: &OwnedUserId| {
        let name = members().find(|member| member.id == *id).map(|member| text::one_line(&member.name));
        name.into_iter().chain([id.to_string(), id.localpart().to_owned()]).find(|name| said.contains(name.as_str())).unwrap_or_default()
    };
    people.iter().map(|id| (words(id), id.clone())).collect()
}

/// How the timeline counts a message of ours, and its text now.
fn original(model: &Model, room_id: &OwnedRoomId, item: &ItemId) -> Option<(u64, String)> {
    let timeline = model.live_timeline().filter(|timeline| timeline.room_id == *room_id)?;
    let found = timeline.items.iter().rev().find(|found| found.id.as_ref() == Some(item))?;
    match &found.kind {
        ItemKind::Message(message) => Some((found.unique, Draft::again(message).typed())),
        _ => None,
    }
}

/// A long paste that was not sent goes back to where it was pasted.
pub(super) fn give_back_paste(model: &mut Model, room_id: &OwnedRoomId, text: &str, caption: &str) {
    let now = model.now_ms;
    let composer = model.composers.entry(room_id.clone()).or_default();
    if !caption.is_empty() {
        composer.put_before(caption);
    }
    composer.keep_beside(text);
    model.drafts_due.insert(room_id.clone(), now + DRAFT_MS);
}
