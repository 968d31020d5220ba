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

#[test]
fn a_notice_without_room_for_its_end_is_shown_whole_when_it_is_put_away() {
    let mut model = garden();
    let long = "the server could not be told, so nothing was deleted: it does not answer in time, and nobody knows when it will. "
        .repeat(2)
        + "`homeroom logout --force` signs out without it";
    update(&mut model, Msg::Update(Update::Notice { text: long.clone() }));
    let shown = screen(&mut model, 40, 12);
    assert!(shown.contains("… (esc shows all)") && !shown.contains("--force"), "{shown}");
    press(&mut model, "esc");
    let page = |model: &Model| if let Some(Layer::Page(page)) = model.layers.last() { page.rows[0].1.clone() } else { String::new() };
    assert_eq!((page(&model), model.notices.len()), (long.clone(), 0));
    press(&mut model, "esc");
    assert!(model.layers.is_empty());
    // One that is there in full just goes.
    update(&mut model, Msg::Update(Update::Notice { text: "The disk is full.".into() }));
    assert!(screen(&mut model, 40, 12).contains("The disk is full. (esc closes)"));
    press(&mut model, "esc");
    assert!(model.layers.is_empty() && model.notices.is_empty());
}

#[test]
fn signing_out_says_what_goes_with_it() {
    let mut model = garden();
    let question =
        |model: &Model| if let Some(Layer::Question(question)) = model.layers.last() { question.text.clone() } else { String::new() };
    crate::tui::update::actions::run(&mut model, crate::tui::action::Action::SignOut, &mut Vec::new());
    assert!(!question(&model).contains("With it"), "{}", question(&model));
    model.layers.clear();
    (model.session.queued, model.session.failed) = (2, 1);
    type_text(&mut model, "half a thought");
    crate::tui::update::actions::run(&mut model, crate::tui::action::Action::SignOut, &mut Vec::new());
    assert!(question(&model).ends_with("With it go 3 messages that were not sent and 1 draft."), "{}", question(&model));
}

#[test]
fn a_name_that_is_given_with_the_command_is_the_name() {
    let mut model = garden();
    press(&mut model, "alt+c");
    type_text(&mut model, "Chess club");
    press(&mut model, "tab");
    type_text(&mut model, "on Mondays");
    press(&mut model, "esc");
    model.focus = Focus::Composer;
    type_text(&mut model, "/create Go club");
    press(&mut model, "enter");
    let Some(Layer::Form(layer)) = model.layers.last() else { panic!("the form is open") };
    assert_eq!((layer.form.text("name"), layer.form.text("topic")), ("Go club", "on Mondays"));
}

#[test]
fn a_topic_of_several_lines_is_not_flattened_by_the_way() {
    let mut model = garden();
    let topic = |model: &Model| {
        if let Some(Layer::Form(layer)) = model.layers.last() { layer.form.text("topic").to_owned() } else { String::new() }
    };
    press(&mut model, "alt+t");
    assert_eq!(topic(&model), "Spring plan");
    press(&mut model, "esc");
    model.kept.clear();
    let mut details = sample::details();
    details.topic = Some("Spring plan\n\n- beans\n- peas".to_owned());
    update(&mut model, Msg::Details(Some(Arc::new(details))));
    press(&mut model, "alt+t");
    assert_eq!(topic(&model), "");
    assert!(commands(press(&mut model, "enter")).is_empty(), "nothing written changes nothing");
    type_text(&mut model, "Summer");
    assert!(matches!(&commands(press(&mut model, "enter"))[..], [Command::SetTopic { topic, .. }] if topic == "Summer"));
}

#[test]
fn a_name_that_was_made_up_is_not_offered_as_one() {
    let mut model = garden();
    model.details = Some(Arc::new(crate::client::view::RoomDetails { given_name: None, ..sample::details() }));
    crate::tui::update::actions::run(&mut model, crate::tui::action::Action::SetName, &mut Vec::new());
    let Some(Layer::Form(layer)) = model.layers.last() else { panic!("the form is open") };
    assert_eq!(layer.form.text("name"), "");
}

#[test]
fn a_huge_paste_into_a_line_is_cut_with_words() {
    let mut model = garden();
    press(&mut model, "ctrl+k");
    update(&mut model, Msg::Paste("x".repeat(2_000_000)));
    let Some(Layer::Picker(picker)) = model.layers.last() else { panic!("the switcher is open") };
    assert_eq!(picker.query.text().len(), crate::tui::line_input::LINE_BYTES);
    assert!(notice(&model).contains("left out"), "{}", notice(&model));
}
