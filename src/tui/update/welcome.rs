//! The welcome screen: choosing a way, filling its form, what comes of it.

use ruma::UserId;

use super::{Effects, again::CANCELLING, error, info, snapshots};
use crate::{
    client::command::Setup,
    tui::{
        action::Action,
        composer::Composer,
        effect::Effect,
        form::{Form, FormKey},
        keys::Key,
        model::{Focus, Hit, Model, Screen, TimelineView, WelcomePage},
        screens::welcome::{WAYS, fresh},
    },
};

/// Passwords shorter than this are refused for a new home.
const PASSWORD_CHARS: usize = 8;

pub(super) fn key(model: &mut Model, key: Key, action: Option<Action>, fx: &mut Effects) {
    match model.welcome.page {
        WelcomePage::Menu => menu(model, key, action, fx),
        WelcomePage::Create | WelcomePage::SignIn => form(model, key, action, fx),
    }
}

pub(super) fn paste(model: &mut Model, text: &str) {
    if let Some(form) = page(model) {
        form.paste(text);
    }
}

fn page(model: &mut Model) -> Option<&mut Form> {
    match model.welcome.page {
        WelcomePage::Menu => None,
        WelcomePage::Create => Some(&mut model.welcome.create),
        WelcomePage::SignIn => Some(&mut model.welcome.sign_in),
    }
}

fn menu(model: &mut Model, key: Key, action: Option<Action>, fx: &mut Effects) {
    let last = WAYS.len() - 1;
    let number = key.typed().and_then(|c| c.to_digit(10)).and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=WAYS.len()).contains(n));
    if let Some(number) = number {
        model.welcome.choice = number - 1;
        return choose(model, fx);
    }
    match action {
        Some(Action::Down | Action::NextField) => model.welcome.choice = (model.welcome.choice + 1).min(last),
        Some(Action::Up | Action::PreviousField) => model.welcome.choice = model.welcome.choice.saturating_sub(1),
        Some(Action::Accept | Action::Right | Action::Toggle) => choose(model, fx),
        _ => match key.typed() {
            Some('j') => model.welcome.choice = (model.welcome.choice + 1).min(last),
            Some('k') => model.welcome.choice = model.welcome.choice.saturating_sub(1),
            Some('q') => super::quit(model, fx),
            _ => {}
        },
    }
}

fn choose(model: &mut Model, fx: &mut Effects) {
    match model.welcome.choice {
        0 => model.welcome.page = WelcomePage::Create,
        1 => model.welcome.page = WelcomePage::SignIn,
        _ if model.welcome.pending.is_some() => {}
        _ => {
            model.welcome.error = None;
            model.welcome.busy = Some("preparing the demonstration".to_owned());
            model.welcome.pending = Some(WelcomePage::Menu);
            fx.push(Effect::Setup(Setup::LookAround));
        }
    }
}

/// The mouse hit something of it.
pub(super) fn click(model: &mut Model, hit: &Hit, fx: &mut Effects) {
    match hit {
        Hit::Way(way) => {
            model.welcome.choice = *way;
            choose(model, fx);
        }
        Hit::Field(index) => {
            let outcome = page(model).map(|form| form.click(*index));
            form_did(model, outcome, fx);
        }
        _ => {}
    }
}

fn form(model: &mut Model, key: Key, action: Option<Action>, fx: &mut Effects) {
    let outcome = page(model).map(|form| form.key(key, action));
    form_did(model, outcome, fx);
}

fn form_did(model: &mut Model, outcome: Option<FormKey>, fx: &mut Effects) {
    match outcome {
        Some(FormKey::Cancel) if model.welcome.pending == Some(WelcomePage::SignIn) && model.welcome.page == WelcomePage::SignIn => {
            let busy = &mut model.welcome.sign_in.busy;
            if busy.as_deref() == Some(CANCELLING) {
                // It takes its time; nobody has to watch.
                model.welcome.page = WelcomePage::Menu;
                return;
            }
            *busy = Some(CANCELLING.to_owned());
            fx.push(Effect::CancelSetup);
        }
        Some(FormKey::Cancel) => model.welcome.page = WelcomePage::Menu,
        Some(FormKey::Changed(_)) => {
            if let Some(form) = page(model) {
                form.error = None;
            }
        }
        Some(FormKey::Submit) if model.welcome.pending.is_none() => submit(model, fx),
        Some(FormKey::Submit | FormKey::Handled | FormKey::Ignored) | None => {}
    }
}

fn submit(model: &mut Model, fx: &mut Effects) {
    let at = model.welcome.page;
    let Some(form) = page(model) else { return };
    form.error = None;
    let setup = if at == WelcomePage::Create { create(form) } else { sign_in(form) };
    match setup {
        Ok(setup) => {
            form.busy = Some(if at == WelcomePage::Create { "creating your home" } else { "signing in" }.to_owned());
            model.welcome.pending = Some(at);
            fx.push(Effect::Setup(setup));
        }
        Err((field, why)) => form.refuse(field, why),
    }
}

type Checked = Result<Setup, (&'static str, String)>;

fn create(form: &Form) -> Checked {
    let typed = form.text("user").trim_start_matches('@');
    let username = typed.split(':').next().unwrap_or_default().to_lowercase();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
    if username.is_empty() || !username.chars().all(allowed) {
        return Err(("user", "A user name has small letters, digits and . _ = - / + only.".to_owned()));
    }
    let (password, again) = (form.secret("password"), form.secret("again"));
    if password.expose().chars().count() < PASSWORD_CHARS {
        return Err(("password", format!("The password needs at least {PASSWORD_CHARS} characters.")));
    }
    if password.expose() != again.expose() {
        return Err(("again", "The two passwords differ.".to_owned()));
    }
    let server_name = form.given("server");
    if let Some(name) = &server_name
        && ruma::ServerName::parse(name.as_str()).is_err()
    {
        return Err(("server", "That is no server name; it looks like example.org.".to_owned()));
    }
    Ok(Setup::CreateHome { username, password, server_name })
}

fn sign_in(form: &Form) -> Checked {
    let user = form.text("user").to_owned();
    let server = form.given("server");
    if user.is_empty() {
        return Err(("user", "Your user ID is needed; it looks like @ann:example.org.".to_owned()));
    }
    if server.is_none() && UserId::parse(user.as_str()).is_err() {
        return Err(("user", "Give the full user ID (@ann:example.org), or name the server below.".to_owned()));
    }
    let password = form.secret("password");
    if password.expose().is_empty() {
        return Err(("password", "The password is needed.".to_owned()));
    }
    Ok(Setup::SignIn { user, server, password })
}

/// A step has come so far.
pub(super) fn progress(model: &mut Model, text: String) {
    match model.welcome.pending {
        Some(WelcomePage::Create) => model.welcome.create.busy = Some(text),
        Some(WelcomePage::SignIn) => model.welcome.sign_in.busy = Some(text),
        Some(WelcomePage::Menu) => model.welcome.busy = Some(text),
        None => {
            // One step takes the place of the one before.
            if let Some(before) = model.progress.replace(text.clone()) {
                model.notices.retain(|notice| notice.text != before);
            }
            info(model, text);
        }
    }
}

/// A step failed: the form stays as it was and says why.
pub(super) fn failed(model: &mut Model, reason: String) {
    match model.welcome.pending.take() {
        Some(WelcomePage::Create) => {
            model.welcome.create.busy = None;
            model.welcome.create.error = Some(reason);
        }
        Some(WelcomePage::SignIn) => {
            model.welcome.sign_in.busy = None;
            model.welcome.sign_in.error = Some(reason);
        }
        Some(WelcomePage::Menu) => {
            model.welcome.busy = None;
            model.welcome.error = Some(reason);
        }
        None if model.screen == Screen::Welcome => model.welcome.error = Some(reason),
        None => error(model, reason),
    }
}

/// A step was given up, as was asked for: the form is as it was.
pub(super) fn given_up(model: &mut Model) {
    model.welcome.pending = None;
    for busy in [&mut model.welcome.create.busy, &mut model.welcome.sign_in.busy, &mut model.welcome.busy] {
        *busy = None;
    }
}

/// The screen is back after another one: what was typed is there, what was under way is not.
pub fn again(model: &mut Model) {
    given_up(model);
    model.welcome.page = WelcomePage::Menu;
    for error in [&mut model.welcome.create.error, &mut model.welcome.sign_in.error, &mut model.welcome.error] {
        *error = None;
    }
}

/// A profile is ready.
pub(super) fn signed_in(model: &mut Model) {
    // The forms go, and the passwords in them.
    model.welcome = fresh();
    if let Some(before) = model.progress.take() {
        model.notices.retain(|notice| notice.text != before);
    }
    if model.screen == Screen::Main {
        return;
    }
    model.screen = Screen::Main;
    model.layers.clear();
    model.focus = Focus::Rooms;
    info(model, format!("welcome; {} shows every key", model.key(Action::Help)));
}

/// There is no account now: nothing of the last one stays on screen or in memory.
pub(super) fn signed_out(model: &mut Model) {
    model.screen = Screen::Welcome;
    model.welcome = fresh();
    model.layers.clear();
    model.kept.clear();
    model.rooms = crate::client::view::RoomList::default();
    // Nothing is asked for when an account goes.
    snapshots::session(model, crate::client::view::SessionView::default(), &mut Vec::new());
    model.timeline = None;
    model.thread = None;
    model.search = None;
    model.thread_root = None;
    model.details = None;
    model.open = None;
    model.last = None;
    model.wanted = None;
    model.view = TimelineView::default();
    model.thread_view = TimelineView::default();
    model.layouts = crate::tui::widgets::timeline::Layouts::default();
    model.composers.clear();
    model.lone_composer = Composer::default();
    model.awaiting.clear();
    model.notices.clear();
    model.drafts_due.clear();
    model.drafts_gone.clear();
    model.typing = None;
    model.marked = None;
    model.pane.selected = None;
}
