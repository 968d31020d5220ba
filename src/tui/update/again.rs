//! Signing in again after the server has ended the session.

use super::{Effects, ask, dialogs, error, info};
use crate::{
    client::{
        command::{Command, Secret, Setup},
        view::Connection,
    },
    tui::{
        action::Action,
        effect::Effect,
        form::Form,
        layers::{FormLayer, Layer, Purpose},
        model::{Model, Screen},
        text,
    },
};

/// What a dialog says while the sign-in that it asked for is given up.
pub(super) const CANCELLING: &str = "cancelling…";

/// The session view has changed: offers to sign in again when the session has just ended, unless somebody is in the middle of
/// something whose keys would go into the password.
pub(super) fn offer(model: &mut Model, before: &Connection) {
    let Connection::Expired { .. } = model.session.connection else { return };
    if matches!(before, Connection::Expired { .. }) || model.screen != Screen::Main || form(model).is_some() {
        return;
    }
    if model.layers.is_empty() && model.composer().is_empty() {
        return open(model);
    }
    let name = Action::SignInAgain.name();
    error(model, format!("the server has ended this session; choose {name} with {} to go on", model.key(Action::Palette)));
}

/// Opens the dialog.
pub(super) fn open(model: &mut Model) {
    let (Some(user), Connection::Expired { reason }) = (&model.session.user_id, &model.session.connection) else {
        return info(model, "you are signed in");
    };
    let intro = format!(
        "{} was signed out: {}. With your password you go on where you were: rooms, messages, keys, drafts and what waits to be sent \
         stay on this device.",
        user,
        text::one_line(reason)
    );
    let form = Form::new("Sign in again", intro, "Sign in").password("password", "Password", "Of your account.");
    model.layers.push(Layer::Form(Box::new(FormLayer { purpose: Purpose::SignInAgain { new_device: false }, form, ticket: None })));
}

fn form(model: &mut Model) -> Option<&mut FormLayer> {
    model.layers.iter_mut().find_map(|layer| match layer {
        Layer::Form(form) if matches!(form.purpose, Purpose::SignInAgain { .. }) => Some(form.as_mut()),
        _ => None,
    })
}

/// The dialog is submitted.
pub(super) fn submit(layer: &mut FormLayer, new_device: bool, fx: &mut Effects) {
    if layer.form.busy.is_some() {
        return;
    }
    let password = layer.form.secret("password");
    if password.expose().is_empty() {
        return layer.form.refuse("password", "The password is needed.".to_owned());
    }
    layer.form.busy = Some("signing in…".to_owned());
    let recovery_key = layer.form.given("recovery").map(Secret::new);
    fx.push(Effect::Setup(Setup::SignInAgain { password, new_device, recovery_key }));
}

/// A step has come so far; false when it is none of ours.
pub(super) fn progress(model: &mut Model, words: &str) -> bool {
    let Some(layer) = form(model).filter(|layer| layer.form.busy.is_some()) else { return false };
    layer.form.busy = Some(words.to_owned());
    true
}

/// It failed; false when it is none of ours.
pub(super) fn failed(model: &mut Model, reason: &str) -> bool {
    let Some(layer) = form(model).filter(|layer| layer.form.busy.is_some()) else { return false };
    layer.form.busy = None;
    layer.form.refuse("password", reason.to_owned());
    true
}

/// The server has deleted the device: going on where we were is not possible, beginning anew is.
pub(super) fn device_gone(model: &mut Model, words: String, recovery_key_kept: bool) {
    let Some(layer) = form(model) else { return error(model, words) };
    layer.purpose = Purpose::SignInAgain { new_device: true };
    layer.form.busy = None;
    layer.form.error = None;
    layer.form.title = "Sign in as a new device".to_owned();
    layer.form.intro = words;
    layer.form.submit = "Sign in as a new device";
    layer.form.focus = 1;
    if !recovery_key_kept && layer.form.fields.len() == 1 {
        let help = "Brings encrypted history back; may stay empty.";
        layer.form = layer.form.clone().password("recovery", "Recovery key", help);
    }
}

/// It was given up, as was asked for; false when it is none of ours.
pub(super) fn given_up(model: &mut Model) -> bool {
    let Some(layer) = form(model).filter(|layer| layer.form.busy.is_some()) else { return false };
    layer.form.busy = None;
    layer.form.error = None;
    true
}

/// The client half has begun anew: what is on screen is asked for again.
pub(super) fn open_anew(model: &mut Model, fx: &mut Effects) {
    if model.open.is_some() && !model.invitation_open() {
        ask(fx, Command::OpenRoom(model.open.clone()));
        if model.thread_root.is_some() {
            ask(fx, Command::OpenThread(model.thread_root.clone()));
        }
    }
}

/// Signed in: what is on screen is asked for again.
pub(super) fn signed_in(model: &mut Model, fx: &mut Effects) {
    let again = form(model).is_some();
    model.layers.retain(|layer| !matches!(layer, Layer::Form(form) if matches!(form.purpose, Purpose::SignInAgain { .. })));
    open_anew(model, fx);
    if again {
        info(model, "signed in again");
    }
}

/// Escape: gives up what is under way, or closes the dialog for now. The password goes with it. Gives the dialog where it stays.
pub(super) fn cancelled(model: &mut Model, mut layer: Box<FormLayer>, fx: &mut Effects) -> Option<Box<FormLayer>> {
    if !matches!(layer.purpose, Purpose::SignInAgain { .. }) {
        layer.form.busy = None;
        dialogs::keep(model, *layer);
        return None;
    }
    if layer.form.busy.as_deref().is_some_and(|busy| busy != CANCELLING) {
        layer.form.busy = Some(CANCELLING.to_owned());
        fx.push(Effect::CancelSetup);
        return Some(layer);
    }
    info(model, format!("{} is in the palette ({})", Action::SignInAgain.name(), model.key(Action::Palette)));
    None
}

#[cfg(test)]
mod tests {
    use crate::{
        client::{command::Setup, update::Update, view::Connection},
        tui::{
            effect::Effect,
            layers::Layer,
            model::Model,
            msg::Msg,
            tests::{garden, press, type_text},
            update::{Effects, update},
        },
    };

    fn expire(model: &mut Model) {
        let connection = Connection::Expired { reason: "the server asks you to sign in again".into() };
        update(model, Msg::Session(crate::client::view::SessionView { connection, ..model.session.clone() }));
    }

    fn dialog(model: &Model) -> Option<&crate::tui::form::Form> {
        match model.layers.last() {
            Some(Layer::Form(layer)) => Some(&layer.form),
            _ => None,
        }
    }

    fn asked(effects: Effects) -> Option<(String, bool, Option<String>)> {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Setup(Setup::SignInAgain { password, new_device, recovery_key }) => {
                Some((password.expose().to_owned(), new_device, recovery_key.map(|key| key.expose().to_owned())))
            }
            _ => None,
        })
    }

    #[test]
    fn an_ended_session_asks_for_the_password_and_goes_on() {
        let mut model = garden();
        expire(&mut model);
        assert!(dialog(&model).is_some_and(|form| form.title == "Sign in again"), "{:?}", model.layers);
        assert_eq!(asked(press(&mut model, "enter")), None, "without a password there is nothing to ask");
        type_text(&mut model, "sesame");
        assert_eq!(asked(press(&mut model, "enter")), Some(("sesame".to_owned(), false, None)));
        assert_eq!(asked(press(&mut model, "enter")), None, "asked once");
        update(&mut model, Msg::Update(Update::SetupFailed { reason: "wrong user name or password".into() }));
        assert!(dialog(&model).is_some_and(|form| form.error.as_deref() == Some("wrong user name or password")));
        update(&mut model, Msg::Update(Update::SignedIn));
        assert!(model.layers.is_empty());
    }

    #[test]
    fn a_deleted_device_is_told_and_replaced_by_a_new_one_when_wanted() {
        let mut model = garden();
        expire(&mut model);
        type_text(&mut model, "sesame");
        press(&mut model, "enter");
        update(
            &mut model,
            Msg::Update(Update::DeviceGone { text: "The server has deleted this device.".into(), recovery_key_kept: false }),
        );
        type_text(&mut model, "EsT key");
        assert_eq!(asked(press(&mut model, "enter")), Some(("sesame".to_owned(), true, Some("EsT key".to_owned()))));
    }

    #[test]
    fn escape_gives_up_what_is_under_way_and_then_closes() {
        let mut model = garden();
        expire(&mut model);
        let shown = |model: &mut Model| crate::tui::tests::screen(model, 80, 24);
        assert!(shown(&mut model).contains("the password is not kept"));
        type_text(&mut model, "sesame");
        press(&mut model, "enter");
        assert!(shown(&mut model).contains("esc cancels"));
        assert!(matches!(&press(&mut model, "esc")[..], [Effect::CancelSetup]));
        assert!(dialog(&model).is_some_and(|form| form.busy.is_some()), "it has not been given up yet");
        update(&mut model, Msg::Update(Update::SetupCancelled));
        assert!(dialog(&model).is_some_and(|form| form.busy.is_none() && form.error.is_none()));
        press(&mut model, "esc");
        assert!(model.layers.is_empty() && model.kept.is_empty());
    }

    #[test]
    fn whoever_is_typing_is_not_interrupted_and_the_password_does_not_stay() {
        let mut model = garden();
        type_text(&mut model, "dear Bob");
        expire(&mut model);
        assert!(model.layers.is_empty());
        assert!(model.notices.last().is_some_and(|notice| notice.text.contains("sign-in-again")));
        super::open(&mut model);
        type_text(&mut model, "sesame");
        press(&mut model, "esc");
        assert!(model.layers.is_empty() && model.kept.is_empty());
    }
}
