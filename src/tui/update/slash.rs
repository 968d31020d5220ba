//! Running / commands.

use ruma::{OwnedUserId, RoomOrAliasId, UserId};

use super::{Effects, actions, ask, composer, dialogs, error, info, quit, rooms, ticket, timeline};
use crate::{
    client::{
        command::Command,
        view::{Item, ItemId},
    },
    tui::{
        action::Action,
        effect::Effect,
        model::{Awaiting, Model},
        slash::Slash,
    },
};

/// Runs a command. What is typed stays when the command is wrong.
pub(super) fn run(model: &mut Model, command: Slash, argument: &str, fx: &mut Effects) {
    let ok = match command {
        Slash::Me | Slash::Plain | Slash::Shrug => return say(model, command, argument, fx),
        Slash::Topic | Slash::Name | Slash::Invite | Slash::Leave | Slash::Members if !actions::in_room(model) => {
            Err("open a room first".to_owned())
        }
        Slash::Topic | Slash::Name => describe(model, command, argument, fx),
        Slash::Invite => invite(model, argument, fx),
        Slash::Join => join(model, argument, fx),
        Slash::Knock => knock(model, argument, fx),
        Slash::Dm => direct(model, argument, fx),
        Slash::Nick => nick(model, argument, fx),
        Slash::React | Slash::Reply | Slash::Redact | Slash::Download => on_message(model, command, argument, fx),
        Slash::Upload => upload(model, argument, fx),
        Slash::Go => go(model, argument, fx),
        Slash::Create => {
            dialogs::create_room(model, argument);
            Ok(())
        }
        Slash::Leave => {
            dialogs::leave(model);
            Ok(())
        }
        Slash::Members => {
            dialogs::members(model);
            Ok(())
        }
        Slash::SignOut => {
            dialogs::sign_out(model);
            Ok(())
        }
        Slash::Help => {
            actions::run(model, Action::Help, fx);
            Ok(())
        }
        Slash::Retry => {
            timeline::retry_all(model, fx);
            Ok(())
        }
        Slash::Theme if !argument.is_empty() => {
            fx.push(Effect::LoadTheme(argument.to_owned()));
            Ok(())
        }
        Slash::Keymap if !argument.is_empty() => {
            fx.push(Effect::LoadKeymap(argument.to_owned()));
            Ok(())
        }
        Slash::Theme => Err("name a theme: /theme dark".to_owned()),
        Slash::Keymap => Err("name a keymap: /keymap vim".to_owned()),
        Slash::Edit => {
            // The command itself must not become the stashed text.
            composer::clear(model, fx);
            return timeline::edit_last(model, fx);
        }
        Slash::Quit => {
            composer::clear(model, fx);
            return quit(model, fx);
        }
    };
    match ok {
        Ok(()) if matches!(command, Slash::Reply | Slash::Redact) => {}
        Ok(()) => composer::clear(model, fx),
        Err(why) => error(model, why),
    }
}

fn say(model: &mut Model, command: Slash, argument: &str, fx: &mut Effects) {
    match command {
        Slash::Shrug => composer::send_text(model, format!(r"{argument} ¯\_(ツ)_/¯").trim_start(), false, true, fx),
        _ if argument.is_empty() => error(model, "write what to say behind the command"),
        _ => composer::send_text(model, argument, command == Slash::Me, command == Slash::Plain, fx),
    }
}

fn describe(model: &mut Model, command: Slash, argument: &str, fx: &mut Effects) -> Result<(), String> {
    let room_id = model.open.clone().ok_or("open a room first")?;
    let topic = command == Slash::Topic;
    if argument.is_empty() {
        if topic {
            dialogs::set_topic(model)
        } else {
            dialogs::set_name(model)
        };
        return Ok(());
    }
    let what = if topic { "topic" } else { "name" };
    let ticket = ticket(
        model,
        Awaiting::Action { failure: format!("could not set the {what}"), done: Some(format!("the {what} is set")), open: false },
    );
    let value = argument.to_owned();
    ask(fx, if topic { Command::SetTopic { ticket, room_id, topic: value } } else { Command::SetName { ticket, room_id, name: value } });
    Ok(())
}

/// User IDs in a list of words.
pub(super) fn user_ids(text: &str) -> Result<Vec<OwnedUserId>, String> {
    text.split([' ', ',', '\n'])
        .filter(|word| !word.is_empty())
        .map(|word| UserId::parse(word).map_err(|_| format!("{word:?} is no user ID; it looks like @name:server")))
        .collect()
}

fn invite(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if argument.is_empty() {
        dialogs::invite(model);
        return Ok(());
    }
    let room_id = model.open.clone().ok_or("open a room first")?;
    for user_id in user_ids(argument)? {
        let ticket = ticket(
            model,
            Awaiting::Action { failure: format!("could not invite {user_id}"), done: Some(format!("{user_id} is invited")), open: false },
        );
        ask(fx, Command::Invite { ticket, room_id: room_id.clone(), user_id });
    }
    Ok(())
}

fn join(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if argument.is_empty() {
        dialogs::join(model, "");
        return Ok(());
    }
    let room = RoomOrAliasId::parse(argument)
        .map_err(|_| format!("{argument:?} is neither an alias (#room:server) nor a room ID (!id:server)"))?;
    info(model, format!("joining {room}…"));
    let ticket = ticket(model, Awaiting::Action { failure: format!("could not join {room}"), done: None, open: true });
    ask(fx, Command::Join { ticket, room });
    Ok(())
}

fn knock(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if argument.is_empty() {
        dialogs::knock(model, "", "");
        return Ok(());
    }
    let (room, reason) = argument.split_once(char::is_whitespace).unwrap_or((argument, ""));
    let reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    dialogs::ask_in(model, room, reason, fx).map(drop)
}

fn direct(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if argument.is_empty() {
        dialogs::start_direct(model, "");
        return Ok(());
    }
    let user_id = UserId::parse(argument).map_err(|_| format!("{argument:?} is no user ID; it looks like @name:server"))?;
    dialogs::direct(model, user_id, fx);
    Ok(())
}

fn nick(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if argument.is_empty() {
        dialogs::display_name(model);
        return Ok(());
    }
    let awaiting =
        Awaiting::Action { failure: "could not change your name".into(), done: Some(format!("you are {argument} now")), open: false };
    let ticket = ticket(model, awaiting);
    ask(fx, Command::SetDisplayName { ticket, name: argument.to_owned() });
    Ok(())
}

fn on_message(model: &mut Model, command: Slash, argument: &str, fx: &mut Effects) -> Result<(), String> {
    let room_id = model.open.clone().filter(|_| actions::in_room(model)).ok_or("open a room first")?;
    let item = match command {
        Slash::Redact => timeline::meant_to_go(model).ok_or("there is no message of yours here; select the one that is to go")?,
        _ => timeline::meant(model).ok_or("there is no message here")?,
    };
    let id = item.id.clone().ok_or("that message cannot be meant")?;
    match command {
        Slash::React if argument.is_empty() => dialogs::react(model, room_id, id),
        Slash::React => {
            let key =
                crate::tui::emoji::EMOJI.iter().find(|(code, _)| *code == argument.trim_matches(':')).map_or(argument, |(_, emoji)| emoji);
            ask(fx, Command::ToggleReaction { room_id, item: id, key: key.to_owned() });
        }
        Slash::Reply => reply(model, &item, argument, fx)?,
        Slash::Redact => {
            // The command itself must not be in the way of the text of a message that was not sent.
            composer::clear(model, fx);
            let reason = Some(argument).filter(|reason| !reason.is_empty()).map(ToOwned::to_owned);
            timeline::redact(model, room_id, &item, reason, fx);
        }
        _ => {
            let to = Some(argument).filter(|to| !to.is_empty()).map(path);
            timeline::download(model, room_id, &item, to, fx);
        }
    }
    Ok(())
}

/// Answers a message; where that is not possible, what was typed stays.
fn reply(model: &mut Model, item: &Item, argument: &str, fx: &mut Effects) -> Result<(), String> {
    if !matches!(item.id, Some(ItemId::Event(_))) {
        return Err("one can answer a message once the server has it".to_owned());
    }
    if !argument.is_empty() {
        composer::may_write(model)?;
    }
    composer::clear(model, fx);
    if argument.is_empty() {
        timeline::reply(model, item, fx);
        return Ok(());
    }
    // What was put aside for an edit, and stands in the composer again, is none of the answer's business.
    let (aside, mentions) = (model.composer().text(), std::mem::take(&mut model.composer_mut().mentions));
    timeline::reply(model, item, fx);
    composer::send_text(model, argument, false, false, fx);
    if !aside.is_empty() {
        model.composer_mut().set_text(&aside);
        model.composer_mut().mentions = mentions;
        composer::changed(model, fx);
    }
    Ok(())
}

/// A path as typed: `~/` is the home directory.
fn path(typed: &str) -> std::path::PathBuf {
    match (typed.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => typed.into(),
    }
}

fn upload(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    let room_id = model.open.clone().filter(|_| actions::in_room(model)).ok_or("open a room first")?;
    let (file, caption) =
        argument.split_once('|').map_or((argument, None), |(file, caption)| (file.trim(), Some(caption.trim().to_owned())));
    if file.is_empty() {
        return Err("name a file: /upload ~/picture.png".to_owned());
    }
    info(model, format!("sending {file}…"));
    // It is queued then, no more; the timeline shows how it fares.
    let awaiting = Awaiting::Action { failure: format!("could not send {file}"), done: Some(format!("{file} is on its way")), open: false };
    let ticket = ticket(model, awaiting);
    ask(fx, Command::SendFile { ticket, room_id, path: path(file), caption });
    Ok(())
}

fn go(model: &mut Model, argument: &str, fx: &mut Effects) -> Result<(), String> {
    let wanted = argument.to_lowercase();
    let exact =
        model.rooms.rows.iter().find(|row| row.name.to_lowercase() == wanted || row.alias.as_ref().is_some_and(|a| a.as_str() == argument));
    let found = exact.or_else(|| model.rooms.rows.iter().find(|row| row.name.to_lowercase().contains(&wanted)));
    let room_id = found.map(|row| row.id.clone()).filter(|_| !wanted.is_empty()).ok_or_else(|| format!("no room is named {argument:?}"))?;
    // The composer that is cleared afterwards must be the one the command was typed in.
    composer::clear(model, fx);
    rooms::open(model, room_id, fx);
    Ok(())
}
