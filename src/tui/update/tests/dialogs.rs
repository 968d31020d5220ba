//! Tests of dialogs, notices and keys that are for all panes.

use super::*;

#[test]
fn dialogs_keep_what_was_typed_when_closed_and_when_refused() {
    let mut model = garden();
    press(&mut model, "alt+c");
    type_text(&mut model, "Chess club");
    press(&mut model, "esc");
    assert!(model.layers.is_empty());
    press(&mut model, "alt+c");
    let name =
        |model: &Model| if let Some(Layer::Form(layer)) = model.layers.last() { layer.form.text("name").to_owned() } else { String::new() };
    assert_eq!(name(&model), "Chess club");
    press(&mut model, "tab tab tab tab tab tab");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::CreateRoom { ticket, room }) = asked.first() else { panic!("{asked:?}") };
    assert_eq!((room.name.as_deref(), room.encrypted, room.public), (Some("Chess club"), true, false));
    assert!(commands(press(&mut model, "enter")).is_empty(), "asked once");
    update(&mut model, Msg::Update(Update::Failed(*ticket, "No.".into())));
    assert_eq!(name(&model), "Chess club");
    let retry = commands(press(&mut model, "enter"));
    let Some(Command::CreateRoom { ticket, .. }) = retry.first() else { panic!("{retry:?}") };
    let opened = commands(update(&mut model, Msg::Update(Update::RoomReady(*ticket, sample::room("chess")))));
    assert!(model.layers.is_empty() && model.open == Some(sample::room("chess")));
    assert!(opened.iter().any(|c| matches!(c, Command::OpenRoom(Some(_)))));
}

#[test]
fn a_public_room_is_not_encrypted_unless_asked() {
    let mut model = garden();
    press(&mut model, "alt+c tab tab tab space");
    let on = |model: &Model, id| if let Some(Layer::Form(layer)) = model.layers.last() { layer.form.is_on(id) } else { false };
    assert!(on(&model, "public") && !on(&model, "encrypted"));
    press(&mut model, "space");
    assert!(!on(&model, "public") && on(&model, "encrypted"));
}

#[test]
fn a_failure_without_a_dialog_is_a_notice_that_leaves_the_focus() {
    let mut model = garden();
    type_text(&mut model, "/topic x");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::SetTopic { ticket, .. }) = asked.first() else { panic!("{asked:?}") };
    type_text(&mut model, "typing on");
    update(&mut model, Msg::Update(Update::Failed(*ticket, "You may not.".into())));
    assert_eq!(
        (notice(&model).as_str(), model.focus, text(&model).as_str()),
        ("could not set the topic: You may not.", Focus::Composer, "typing on")
    );
    press(&mut model, "esc");
    assert!(model.notices.is_empty() && text(&model) == "typing on");
}

#[test]
fn mentions_and_direct_chats_are_told_outside_of_the_window_while_nobody_looks() {
    let mut model = garden();
    let notify = |room: &str, highlight, direct| {
        let (room_id, room_name) = (sample::room(room), "Ops".into());
        Msg::Update(Update::Notify { room_id, room_name, text: "Eve: Ann?".into(), highlight, direct })
    };
    let told = |effects: Effects| matches!(&effects[..], [Effect::Notify { title, body }] if title == "Ops" && body == "Eve: Ann?");
    assert!(update(&mut model, notify("ops", false, false)).is_empty(), "any message of any room is too much");
    assert!(told(update(&mut model, notify("ops", true, false))), "whether anybody looks is not known");
    assert_eq!(notice(&model), "Ops: Eve: Ann?");
    assert!(model.deadline_ms().is_some(), "it goes away by itself");
    model.now_ms += 5_000;
    update(&mut model, Msg::Focus(true));
    assert!(update(&mut model, notify("ops", true, false)).is_empty(), "it is on the screen that somebody looks at");
    update(&mut model, Msg::Focus(false));
    assert!(told(update(&mut model, notify("garden", false, true))), "also of the room that is open");
    assert!(update(&mut model, notify("garden", false, true)).is_empty(), "not one for each message");
    model.notifications = crate::tui::Notifications::Bell;
    assert!(matches!(&update(&mut model, notify("garden", false, true))[..], [Effect::Bell]));
    model.notifications = crate::tui::Notifications::Off;
    assert!(update(&mut model, notify("garden", false, true)).is_empty());
}

#[test]
fn a_question_mark_in_an_empty_composer_is_help_and_twice_is_itself() {
    let mut model = garden();
    press(&mut model, "?");
    assert!(matches!(model.layers.last(), Some(Layer::Help(_))));
    press(&mut model, "?");
    assert_eq!((model.layers.len(), text(&model).as_str()), (0, "?"));
    press(&mut model, "?");
    assert_eq!((model.layers.len(), text(&model).as_str()), (0, "??"));
}

#[test]
fn sequences_run_and_broken_ones_lose_no_letters() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s");
    press(&mut model, "g");
    assert!(model.deadline_ms().is_some());
    press(&mut model, "g");
    assert_eq!(model.selected_item().map(|item| item.unique), Some(3));
    press(&mut model, "g");
    model.now_ms += 2_000;
    update(&mut model, Msg::Tick);
    assert!(model.pressed.is_empty());
}

#[test]
fn a_click_chooses_what_is_under_it() {
    let mut model = garden();
    click_on(&mut model, "I take the timer");
    assert_eq!((model.focus, model.view.selected), (Focus::Timeline, Some(7)));
    click_on(&mut model, "write an encrypted message");
    assert_eq!(model.focus, Focus::Composer);
    press(&mut model, "ctrl+k");
    type_text(&mut model, "oper");
    click_on(&mut model, "▌ Oper");
    assert!(model.layers.is_empty());
    assert_eq!(model.open, Some(sample::room("ops")));
    press(&mut model, "alt+c");
    click_on(&mut model, "[x] yes");
    let Some(crate::tui::layers::Layer::Form(form)) = model.layers.last() else { panic!("the form is open") };
    assert!(!form.form.is_on("encrypted"));
    press(&mut model, "esc");
    press(&mut model, "alt+q");
    click_on(&mut model, "[ No ]");
    assert!(model.layers.is_empty());
    press(&mut model, "alt+q");
    let effects = click_on(&mut model, "[ Leave ]");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Command(Command::Leave { .. }))), "{effects:?}");
    press(&mut model, "alt+1");
    let effects = click_on(&mut model, "[ Accept ]");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Command(Command::AcceptInvite { .. }))), "{effects:?}");
}

#[test]
fn escape_does_not_stop_at_what_goes_away_by_itself() {
    let mut model = garden();
    update(&mut model, Msg::Update(Update::News { text: "History is backed up.".into() }));
    press(&mut model, "esc");
    assert_eq!((model.focus, model.notices.len()), (Focus::Timeline, 0));
    press(&mut model, "i");
    update(&mut model, Msg::Update(Update::Notice { text: "The disk is full.".into() }));
    press(&mut model, "esc");
    assert_eq!((model.focus, model.notices.len()), (Focus::Composer, 0), "what went wrong is put away first");
    update(&mut model, Msg::Update(Update::Notice { text: "The first.".into() }));
    update(&mut model, Msg::Update(Update::Notice { text: "The second.".into() }));
    press(&mut model, "esc");
    assert_eq!(notice(&model), "The first.", "what has not been read is not put away");
}
