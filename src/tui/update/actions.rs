//! What every action does.

use super::{Effects, again, ask, composer, dialogs, error, info, quit, rooms, search, timeline};
use crate::{
    client::{command::Command, view::Membership},
    tui::{
        action::Action,
        composer::Mode,
        effect::Effect,
        layers::{Help, Layer, Page},
        model::{Focus, Level, Model, Motion, Screen},
    },
};

/// Runs an action.
pub fn run(model: &mut Model, action: Action, fx: &mut Effects) {
    if let Some(index) = action.room_index() {
        return rooms::open_nth(model, index, fx);
    }
    if model.focus == Focus::Composer && composer::act(model, action, fx) {
        return;
    }
    if search::run(model, action, fx)
        || program(model, action, fx)
        || dialog(model, action, fx)
        || pane(model, action, fx)
        || scrolling(model, action, fx)
    {
        return;
    }
    timeline::run(model, action, fx);
}

fn program(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    match action {
        Action::Quit => quit(model, fx),
        Action::Suspend => fx.push(Effect::Suspend),
        Action::Redraw => fx.push(Effect::Redraw),
        Action::Help => model.layers.push(Layer::Help(Help::default())),
        Action::Dismiss => {
            put_away(model);
        }
        Action::Reconnect => {
            info(model, "trying the connection now");
            ask(fx, Command::Reconnect);
        }
        Action::CommandLine => {
            model.focus = Focus::Composer;
            if model.composer().is_empty() && !model.invitation_open() {
                composer::typed(model, '/', fx);
            }
        }
        _ => return false,
    }
    true
}

fn dialog(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    match action {
        Action::Palette => dialogs::palette(model),
        Action::SwitchRoom => dialogs::switcher(model),
        Action::CreateRoom => dialogs::create_room(model, ""),
        Action::StartDirect => dialogs::start_direct(model, ""),
        Action::JoinRoom => dialogs::join(model, ""),
        Action::Invite => dialogs::invite(model),
        Action::SetName => dialogs::set_name(model),
        Action::SetTopic => dialogs::set_topic(model),
        Action::DisplayName => dialogs::display_name(model),
        Action::Members => dialogs::members(model),
        Action::RoomInfo => dialogs::room_info(model),
        Action::LeaveRoom => dialogs::leave(model),
        Action::SignInAgain => again::open(model),
        Action::SignOut => dialogs::sign_out(model),
        Action::AcceptInvite => rooms::accept(model, fx),
        Action::DeclineInvite => rooms::decline(model),
        _ => return false,
    }
    true
}

fn pane(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    match action {
        Action::NextUnread => rooms::next_unread(model, fx),
        Action::LastRoom => match model.last.clone() {
            Some(last) => rooms::open(model, last, fx),
            None => info(model, "no other room was open yet"),
        },
        Action::NextRoom => rooms::open_neighbour(model, 1, fx),
        Action::PreviousRoom => rooms::open_neighbour(model, -1, fx),
        Action::CloseRoom => rooms::close(model, fx),
        Action::ToggleRooms => {
            model.pane.hidden = !model.pane.hidden;
            if model.pane.hidden && model.focus == Focus::Rooms {
                focus(model, Focus::Composer);
            }
        }
        Action::TogglePreviews => model.pane.previews = !model.pane.previews,
        Action::FocusRooms => focus(model, Focus::Rooms),
        Action::FocusTimeline => focus(model, Focus::Timeline),
        Action::FocusComposer => focus(model, Focus::Composer),
        Action::FocusNext | Action::Complete => step_focus(model, true),
        Action::FocusPrevious | Action::CompleteBack => step_focus(model, false),
        Action::FilterRooms => {
            focus(model, Focus::Rooms);
            model.pane.filtering = true;
        }
        Action::Cancel => cancel(model, fx),
        _ => return false,
    }
    true
}

/// Gives the keys to a pane; a timeline selects its newest message then.
pub(super) fn focus(model: &mut Model, to: Focus) {
    model.focus = to;
    match to {
        Focus::Rooms => {
            model.pane.hidden = false;
            let listed = model.listed();
            let known = model.pane.selected.as_ref().is_some_and(|selected| listed.iter().any(|row| row.id == *selected));
            if !known {
                let first = listed.first().map(|row| row.id.clone());
                model.pane.selected = model.open.clone().or(first);
            }
        }
        Focus::Timeline => {
            if model.open.is_none() {
                return focus(model, Focus::Rooms);
            }
            timeline::select_visible(model);
        }
        Focus::Composer => {
            model.search = None;
            model.view.selected = None;
            model.thread_view.selected = None;
            // An invitation has nothing to write to yet.
            if model.invitation_open() {
                model.focus = Focus::Timeline;
            }
        }
    }
}

fn step_focus(model: &mut Model, forward: bool) {
    let order = [Focus::Rooms, Focus::Timeline, Focus::Composer];
    let at = order.iter().position(|focus| *focus == model.focus).unwrap_or(0);
    let to = (at + if forward { 1 } else { 2 }) % 3;
    let to = order.get(to).copied().unwrap_or(Focus::Rooms);
    // With no room open there is no timeline to select in.
    let to = if to == Focus::Timeline && model.open.is_none() { if forward { Focus::Composer } else { Focus::Rooms } } else { to };
    focus(model, to);
}

/// Puts the newest notice away. One that had no room at the bottom is shown whole then: it can be read nowhere else. False when
/// there is none.
fn put_away(model: &mut Model) -> bool {
    let Some(notice) = model.notices.pop() else { return false };
    if model.cut_notice.take().is_some_and(|cut| cut == notice.text) {
        let rows = vec![(String::new(), notice.text)];
        model.layers.push(Layer::Page(Page { title: "Notice".to_owned(), rows, scroll: 0 }));
    }
    true
}

/// One step back, whatever there is to go back from; typed text stays.
fn cancel(model: &mut Model, fx: &mut Effects) {
    if model.focus == Focus::Composer {
        if model.composer_mut().completion.take().is_some() {
            return;
        }
        if model.composer().mode != Mode::New {
            model.composer_mut().leave_mode();
            return composer::changed(model, fx);
        }
    }
    // What is wrong wants to be put away, one after the other; the rest goes by the way.
    model.notices.retain(|notice| notice.level == Level::Error);
    if put_away(model) {
        return;
    }
    if model.invitation_open() && model.focus != Focus::Rooms {
        focus(model, Focus::Rooms);
    } else if model.focus == Focus::Composer {
        focus(model, Focus::Timeline);
    } else if model.thread_root.is_some() {
        timeline::close_thread(model, fx);
    } else if !model.keymap.is_modal() {
        focus(model, Focus::Composer);
    } else if model.focus == Focus::Timeline {
        model.active_view_mut().selected = None;
    } else {
        focus(model, Focus::Timeline);
    }
}

fn scrolling(model: &mut Model, action: Action, fx: &mut Effects) -> bool {
    if model.focus == Focus::Rooms && rooms::move_selection(model, action, fx) {
        return true;
    }
    let motion = match action {
        Action::LineUp => Motion::Lines(-1),
        Action::LineDown => Motion::Lines(1),
        Action::PageUp => Motion::Pages(-1),
        Action::PageDown => Motion::Pages(1),
        Action::Bottom => Motion::Bottom,
        Action::Top => {
            timeline::go_to_start(model);
            return true;
        }
        Action::FirstUnread => {
            timeline::first_unread(model);
            return true;
        }
        Action::LoadOlder => {
            timeline::load_older(model, fx);
            return true;
        }
        Action::MarkRead => {
            match &model.open {
                Some(open) if !model.invitation_open() => ask(fx, Command::MarkRead { room_id: open.clone() }),
                _ => error(model, "no room is open"),
            }
            return true;
        }
        _ => return false,
    };
    let select = model.focus == Focus::Timeline;
    if motion == Motion::Bottom && model.thread_root.is_none() && model.view.held.is_some() {
        let now = model.open_timeline().cloned();
        model.view.release(now.as_ref());
    }
    let view = model.active_view_mut();
    view.to_start = false;
    // Looking for a message is over; finding back to what was read goes on, unless that is what is left.
    view.seek = view.seek.take().filter(|seek| seek.place.is_some() && motion != Motion::Bottom);
    view.motions.push(motion);
    // The selection goes along, so that it is never off the screen for long.
    if select && motion == Motion::Bottom {
        timeline::select_newest(model);
    }
    true
}

/// True where the open room is one that we are in.
pub(super) fn in_room(model: &Model) -> bool {
    model.screen == Screen::Main && model.open.is_some() && model.open_row().is_none_or(|row| row.membership == Membership::Joined)
}
