//! Opening dialogs and pickers, and carrying out what they ask for.

use ruma::{OwnedRoomId, OwnedUserId, RoomOrAliasId, UserId};

use super::{Effects, actions, again, ask, error, info, slash::user_ids, ticket};
use crate::{
    client::{
        command::{Command, NewRoom, Setup, Ticket},
        view::{Item, ItemId, MemberRole, Membership, RoomKind},
    },
    tui::{
        action::ACTIONS,
        effect::Effect,
        emoji::EMOJI,
        form::Form,
        keymap::CONTEXTS,
        layers::{Choice, Entry, FormLayer, Layer, Page, Picker, PickerKind, Purpose, Question},
        line_input::LINE_BYTES,
        model::{Awaiting, Model},
        slash::COMMANDS,
        text,
        widgets::room_list,
    },
};

/// Forms that were closed with text in them and are kept.
const KEPT: usize = 16;
/// Columns of a message that a question quotes.
const QUOTE: usize = 60;

fn open_form(model: &mut Model, purpose: Purpose, fresh: Form) {
    // What was typed before the dialog was closed is still there.
    let kept = model.kept.iter().position(|(kept, _)| *kept == purpose).map(|at| model.kept.remove(at).1);
    let form = kept.unwrap_or(fresh);
    model.layers.push(Layer::Form(Box::new(FormLayer { purpose, form, ticket: None })));
}

/// Closes a form and keeps what was typed for the next time.
pub(super) fn keep(model: &mut Model, layer: FormLayer) {
    model.kept.retain(|(purpose, _)| *purpose != layer.purpose);
    if model.kept.len() >= KEPT {
        model.kept.remove(0);
    }
    model.kept.push((layer.purpose, layer.form));
}

/// The command of a dialog is done: the dialog goes. True when there was one.
pub(super) fn close_for(model: &mut Model, ticket: Ticket) -> bool {
    let before = model.layers.len();
    model.layers.retain(|layer| !matches!(layer, Layer::Form(form) if form.ticket == Some(ticket)));
    model.layers.len() < before
}

fn open_room(model: &mut Model) -> Option<OwnedRoomId> {
    let open = model.open.clone().filter(|_| actions::in_room(model));
    if open.is_none() {
        error(model, "open a room first");
    }
    open
}

pub(super) fn create_room(model: &mut Model, name: &str) {
    let form = Form::new("Create a room", "", "Create")
        .line("name", "Name", "what people see", "May stay empty.", name)
        .line("topic", "Topic", "what it is about", "May stay empty.", "")
        .toggle("encrypted", "Encrypted", "Only members can read along, not even servers. Cannot be switched off later.", true)
        .toggle("public", "Public", "Anybody may find and join it; then encryption makes little sense.", false)
        .line("alias", "Address", "lounge, for #lounge:server", "Short name under which a public room is found.", "")
        .line("invite", "Invite", "@bob:example.org", "User IDs with blanks between them; may stay empty.", "");
    if !name.is_empty() {
        // The rest of what was typed before may still be meant; this name certainly is.
        let kept = model.kept.iter_mut().filter(|(purpose, _)| *purpose == Purpose::CreateRoom);
        kept.for_each(|(_, form)| form.set("name", name));
    }
    open_form(model, Purpose::CreateRoom, form);
}

pub(super) fn start_direct(model: &mut Model, user_id: &str) {
    let help = "The chat is encrypted. If you have one with this person already, it opens.";
    let form = Form::new("Start a direct chat", "", "Start").line("user", "User ID", "@bob:example.org", help, user_id);
    open_form(model, Purpose::StartDirect, form);
}

pub(super) fn join(model: &mut Model, room: &str) {
    let form = Form::new("Join a room", "", "Join").line(
        "room",
        "Room",
        "#lounge:example.org",
        "An alias (#room:server) or a room ID (!id:server).",
        room,
    );
    open_form(model, Purpose::Join, form);
}

pub(super) fn knock(model: &mut Model, room: &str, intro: &str) {
    let form = Form::new("Ask to join", intro, "Ask")
        .line("room", "Room", "#lounge:example.org", "An alias (#room:server) or a room ID (!id:server).", room)
        .line("reason", "Reason", "", "Its members read it; may stay empty.", "");
    // What is kept may be about another room.
    model.kept.retain(|(purpose, form)| *purpose != Purpose::Knock || room.is_empty() || form.text("room") == room);
    open_form(model, Purpose::Knock, form);
    if !room.is_empty()
        && let Some(Layer::Form(layer)) = model.layers.last_mut()
    {
        layer.form.focus = 1;
    }
}

/// A room lets nobody in just so: offers to ask, unless somebody is in the middle of something.
pub(super) fn may_knock(model: &mut Model, ticket: Ticket, room: &RoomOrAliasId) {
    model.awaiting.remove(&ticket);
    let waited = close_for(model, ticket);
    if waited || (model.layers.is_empty() && model.composer().is_empty()) {
        return knock(model, room.as_str(), "This room is joined on request: somebody who is in it lets you in.");
    }
    error(model, format!("{room} is joined on request; /knock {room} asks to be let in"));
}

pub(super) fn invite(model: &mut Model) {
    if let Some(room_id) = open_room(model) {
        let help = "User IDs with blanks between them.";
        let form = Form::new("Invite to this room", "", "Invite").line("users", "User IDs", "@bob:example.org", help, "");
        open_form(model, Purpose::Invite(room_id), form);
    }
}

pub(super) fn set_name(model: &mut Model) {
    if let Some(room_id) = open_room(model) {
        let now = model.details.as_ref().filter(|d| d.id == room_id).and_then(|d| d.given_name.clone()).unwrap_or_default();
        let form = Form::new("Name of this room", "", "Set").line("name", "Name", "", "Everybody in the room sees it.", &now);
        open_form(model, Purpose::SetName(room_id), form);
    }
}

pub(super) fn set_topic(model: &mut Model) {
    if let Some(room_id) = open_room(model) {
        let now = topic(model, &room_id).unwrap_or_default();
        // One line cannot hold it: what is written anew takes its place, and nothing is cut by the way.
        let (intro, now) = match fits_a_line(&now) {
            true => ("", now.as_str()),
            false => ("The topic has several lines, or a very long one (about this room shows it). What you write replaces it.", ""),
        };
        let form = Form::new("Topic of this room", intro, "Set").line("topic", "Topic", "", "Everybody in the room sees it.", now);
        open_form(model, Purpose::SetTopic(room_id), form);
    }
}

fn topic(model: &Model, room_id: &OwnedRoomId) -> Option<String> {
    model.details.as_ref().filter(|details| details.id == *room_id).and_then(|details| details.topic.clone())
}

fn fits_a_line(text: &str) -> bool {
    text.len() <= LINE_BYTES && text::one_line(text) == text
}

pub(super) fn display_name(model: &mut Model) {
    let now = model.session.display_name.clone().unwrap_or_default();
    let form = Form::new("Your display name", "", "Set").line("name", "Name", "", "Others see it beside your messages.", &now);
    open_form(model, Purpose::DisplayName, form);
}

fn question(model: &mut Model, purpose: Purpose, title: &str, text: String, yes: &'static str) {
    model.layers.push(Layer::Question(Question { purpose, title: title.to_owned(), text, yes, on_yes: false }));
}

pub(super) fn leave(model: &mut Model) {
    if let Some(room_id) = open_room(model) {
        let row = model.row(&room_id);
        let name = row.map_or_else(|| room_id.to_string(), |row| text::one_line(&row.name));
        let words = format!("Leave {name}? You may need an invitation to come back.");
        question(model, Purpose::Leave(room_id), "Leave room", words, "Leave");
    }
}

pub(super) fn decline(model: &mut Model, room_id: OwnedRoomId, name: &str) {
    let words = format!("Decline the invitation to {}?", text::one_line(name));
    question(model, Purpose::Decline(room_id), "Decline invitation", words, "Decline");
}

pub(super) fn withdraw(model: &mut Model, room_id: OwnedRoomId, name: &str) {
    let words = format!("Take back your request to join {}?", text::one_line(name));
    question(model, Purpose::Decline(room_id), "Take back request", words, "Take back");
}

pub(super) fn redact(model: &mut Model, purpose: Purpose, item: &Item, said: &str) {
    let whose = if item.is_own { "your message".to_owned() } else { format!("the message of {}", text::one_line(&item.sender_name)) };
    let said = text::one_line(said);
    let quote = if said.is_empty() { String::new() } else { format!(" “{}”", text::fit(&said, QUOTE)) };
    let words = format!("Remove {whose}{quote} for everybody? This cannot be undone.");
    question(model, purpose, "Remove message", words, "Remove");
}

pub(super) fn sign_out(model: &mut Model) {
    let words = "Sign out? This deletes this device's local data. Encrypted messages whose keys only this device has cannot be read again.";
    let unsent = u64::from(model.session.queued) + u64::from(model.session.failed);
    let drafts = model.composers.values().filter(|composer| !composer.draft().trim().is_empty()).count();
    let lost: Vec<String> = [
        (unsent, "message that was not sent", "messages that were not sent"),
        (u64::try_from(drafts).unwrap_or(u64::MAX), "draft", "drafts"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
    .collect();
    let words = if lost.is_empty() { words.to_owned() } else { format!("{words} With it go {}.", lost.join(" and ")) };
    question(model, Purpose::SignOut, "Sign out", words, "Sign out");
}

/// Carries out what a question asked.
pub(super) fn yes(model: &mut Model, purpose: Purpose, fx: &mut Effects) {
    match purpose {
        Purpose::Leave(room_id) | Purpose::Decline(room_id) => {
            let awaiting = Awaiting::Action { failure: "could not leave the room".to_owned(), done: None, open: false };
            let ticket = ticket(model, awaiting);
            if model.open.as_ref() == Some(&room_id) {
                super::rooms::close(model, fx);
            }
            ask(fx, Command::Leave { ticket, room_id });
        }
        Purpose::Redact(room_id, item, reason) => ask(fx, Command::Redact { room_id, item, reason }),
        Purpose::SignOut => {
            info(model, "signing out…");
            fx.push(Effect::Setup(Setup::SignOut));
        }
        _ => {}
    }
}

pub(super) fn direct(model: &mut Model, user_id: OwnedUserId, fx: &mut Effects) -> Ticket {
    let awaiting = Awaiting::Action { failure: format!("could not start a chat with {user_id}"), done: None, open: true };
    let ticket = ticket(model, awaiting);
    ask(fx, Command::StartDirect { ticket, user_id });
    ticket
}

/// Carries out what a form asks for, or says what is wrong with it.
pub(super) fn submit(model: &mut Model, layer: &mut FormLayer, fx: &mut Effects) {
    layer.form.error = None;
    let outcome = match layer.purpose.clone() {
        Purpose::CreateRoom => submit_room(model, &layer.form, fx),
        Purpose::StartDirect => UserId::parse(layer.form.text("user"))
            .map(|user_id| direct(model, user_id, fx))
            .map_err(|_| ("user", "That is no user ID; it looks like @name:server.".to_owned())),
        Purpose::Join => submit_join(model, &layer.form, fx),
        Purpose::Knock => {
            let (room, reason) = (layer.form.text("room").to_owned(), layer.form.given("reason"));
            ask_in(model, &room, reason, fx).map_err(|why| ("room", why))
        }
        Purpose::Invite(room_id) => submit_invite(model, room_id, &layer.form, fx),
        Purpose::SetName(room_id) => {
            let name = layer.form.text("name").to_owned();
            let ticket = simple(model, "could not set the name");
            ask(fx, Command::SetName { ticket, room_id, name });
            Ok(ticket)
        }
        Purpose::SetTopic(room_id) => {
            let new = layer.form.text("topic").to_owned();
            if new.is_empty() && topic(model, &room_id).is_some_and(|topic| !fits_a_line(&topic)) {
                Err(("topic", "Nothing is written: the topic stays as it is.".to_owned()))
            } else {
                let ticket = simple(model, "could not set the topic");
                ask(fx, Command::SetTopic { ticket, room_id, topic: new });
                Ok(ticket)
            }
        }
        Purpose::DisplayName => {
            let name = layer.form.text("name").to_owned();
            let ticket = simple(model, "could not change your name");
            ask(fx, Command::SetDisplayName { ticket, name });
            Ok(ticket)
        }
        Purpose::SignInAgain { new_device } => return again::submit(layer, new_device, fx),
        Purpose::Leave(_) | Purpose::Decline(_) | Purpose::Redact(..) | Purpose::SignOut => return,
    };
    match outcome {
        Ok(ticket) => {
            layer.ticket = Some(ticket);
            layer.form.busy = Some("working on it…".to_owned());
        }
        Err((field, why)) => layer.form.refuse(field, why),
    }
}

fn simple(model: &mut Model, failure: &str) -> Ticket {
    ticket(model, Awaiting::Action { failure: failure.to_owned(), done: None, open: false })
}

type Outcome = Result<Ticket, (&'static str, String)>;

fn submit_room(model: &mut Model, form: &Form, fx: &mut Effects) -> Outcome {
    let invite = user_ids(form.text("invite")).map_err(|why| ("invite", why))?;
    let public = form.is_on("public");
    let alias = form.given("alias").map(|alias| alias.trim_start_matches('#').split(':').next().unwrap_or_default().to_owned());
    if alias.is_some() && !public {
        return Err(("alias", "Only a public room has an address; switch Public on or leave this empty.".to_owned()));
    }
    let room = NewRoom {
        name: form.given("name"),
        topic: form.given("topic"),
        alias: alias.filter(|alias| !alias.is_empty()),
        public,
        encrypted: form.is_on("encrypted"),
        space: false,
        invite,
    };
    let ticket = ticket(model, Awaiting::Action { failure: "could not create the room".to_owned(), done: None, open: true });
    ask(fx, Command::CreateRoom { ticket, room });
    Ok(ticket)
}

fn submit_join(model: &mut Model, form: &Form, fx: &mut Effects) -> Outcome {
    let room = RoomOrAliasId::parse(form.text("room"))
        .map_err(|_| ("room", "That is neither an alias (#room:server) nor a room ID (!id:server).".to_owned()))?;
    let ticket = ticket(model, Awaiting::Action { failure: format!("could not join {room}"), done: None, open: true });
    ask(fx, Command::Join { ticket, room });
    Ok(ticket)
}

/// Asks to be let into a room.
pub(super) fn ask_in(model: &mut Model, room: &str, reason: Option<String>, fx: &mut Effects) -> Result<Ticket, String> {
    let room = RoomOrAliasId::parse(room).map_err(|_| format!("{room:?} is neither an alias (#room:server) nor a room ID (!id:server)"))?;
    let done = Some(format!("you have asked to join {room}; it opens once somebody lets you in"));
    let ticket = ticket(model, Awaiting::Action { failure: format!("could not ask to join {room}"), done, open: false });
    ask(fx, Command::Knock { ticket, room, reason });
    Ok(ticket)
}

fn submit_invite(model: &mut Model, room_id: OwnedRoomId, form: &Form, fx: &mut Effects) -> Outcome {
    let users = user_ids(form.text("users")).map_err(|why| ("users", why))?;
    let mut last = None;
    for user_id in users {
        let awaiting =
            Awaiting::Action { failure: format!("could not invite {user_id}"), done: Some(format!("{user_id} is invited")), open: false };
        let ticket = ticket(model, awaiting);
        ask(fx, Command::Invite { ticket, room_id: room_id.clone(), user_id });
        last = Some(ticket);
    }
    last.ok_or_else(|| ("users", "Name at least one person.".to_owned()))
}

fn open_picker(model: &mut Model, kind: PickerKind, title: &str, entries: Vec<Entry>) {
    model.layers.push(Layer::Picker(Box::new(Picker::new(kind, title, entries))));
}

pub(super) fn switcher(model: &mut Model) {
    let mut entries: Vec<Entry> = model
        .rooms
        .rows
        .iter()
        .filter(|row| Some(&row.id) != model.open.as_ref())
        .map(|row| Entry {
            label: text::one_line(&row.name),
            detail: match (row.membership, row.kind) {
                (Membership::Invited, _) => "invitation".to_owned(),
                (_, RoomKind::Direct) => "direct chat".to_owned(),
                (_, RoomKind::Space) => "space".to_owned(),
                _ => row.alias.as_ref().map(ToString::to_string).unwrap_or_default(),
            },
            note: room_list::counts(row).map(|(count, _)| count).unwrap_or_default(),
            also: row.alias.as_ref().map(ToString::to_string).unwrap_or_default(),
            choice: Choice::Room(row.id.clone()),
        })
        .collect();
    // People of the open room, whom one may want to talk to alone.
    let me = model.session.user_id.clone();
    for member in model.details.iter().flat_map(|details| details.members.iter()).take(2_000) {
        let has_chat = model.rooms.rows.iter().any(|row| row.kind == RoomKind::Direct && row.name == member.name);
        if Some(&member.id) != me.as_ref() && !has_chat {
            entries.push(Entry {
                label: text::one_line(&member.name),
                detail: format!("start a direct chat with {}", member.id),
                note: String::new(),
                also: member.id.localpart().to_owned(),
                choice: Choice::Person(member.id.clone()),
            });
        }
    }
    open_picker(model, PickerKind::Rooms, "Go to", entries);
}

pub(super) fn palette(model: &mut Model) {
    let all: Vec<_> = CONTEXTS.iter().map(|(context, ..)| *context).collect();
    let actions = ACTIONS.iter().map(|info| Entry {
        label: info.name.to_owned(),
        detail: info.description.to_owned(),
        note: model.keymap.keys_of(info.action, &all).unwrap_or_default(),
        also: info.description.to_owned(),
        choice: Choice::Run(info.action),
    });
    let commands = COMMANDS.iter().map(|info| Entry {
        label: format!("/{} {}", info.name, info.arguments).trim().to_owned(),
        detail: info.description.to_owned(),
        note: String::new(),
        also: info.description.to_owned(),
        choice: Choice::Slash(info.name),
    });
    let entries = actions.chain(commands).collect();
    open_picker(model, PickerKind::Palette, "Actions and commands", entries);
}

pub(super) fn react(model: &mut Model, room_id: OwnedRoomId, item: ItemId) {
    let entries = EMOJI
        .iter()
        .map(|(code, emoji)| Entry {
            label: format!("{emoji} {code}"),
            detail: String::new(),
            note: String::new(),
            also: (*code).to_owned(),
            choice: Choice::React((*emoji).to_owned()),
        })
        .collect();
    open_picker(model, PickerKind::Reaction(room_id, item), "React", entries);
}

pub(super) fn members(model: &mut Model) {
    let Some(details) = model.details.clone().filter(|details| Some(&details.id) == model.open.as_ref()) else {
        return error(model, "the members are not known yet");
    };
    let entries = details
        .members
        .iter()
        .map(|member| Entry {
            label: text::one_line(&member.name),
            detail: member.id.to_string(),
            note: match (member.membership, member.role) {
                (Membership::Invited, _) => "invited",
                (Membership::Knocked, _) => "asks to join",
                (_, MemberRole::Admin) => "admin",
                (_, MemberRole::Moderator) => "moderator",
                (_, MemberRole::User) => "",
            }
            .to_owned(),
            also: member.id.to_string(),
            choice: Choice::Person(member.id.clone()),
        })
        .collect();
    open_picker(model, PickerKind::Members, &format!("{} members", details.joined_count), entries);
}

pub(super) fn room_info(model: &mut Model) {
    let Some(details) = model.details.clone().filter(|details| Some(&details.id) == model.open.as_ref()) else {
        return error(model, "open a room first");
    };
    let rows = vec![
        ("Name".to_owned(), details.name.clone()),
        ("Topic".to_owned(), details.topic.clone().unwrap_or_else(|| "none".to_owned())),
        ("Address".to_owned(), details.alias.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)),
        ("Room ID".to_owned(), details.id.to_string()),
        ("Encrypted".to_owned(), if details.encrypted { "yes" } else { "no" }.to_owned()),
        ("Members".to_owned(), details.joined_count.to_string()),
        ("Version".to_owned(), details.version.clone()),
        ("Pinned".to_owned(), details.pinned.len().to_string()),
    ];
    model.layers.push(Layer::Page(Page { title: "About this room".to_owned(), rows, scroll: 0 }));
}
