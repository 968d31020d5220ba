//! Tests of writing: sending, replying, editing, commands, completion, long pastes.

use super::*;

#[test]
fn enter_sends_to_the_open_room_and_empties_the_composer() {
    let mut model = garden();
    type_text(&mut model, "hello **you**");
    let effects = press(&mut model, "enter");
    assert!(matches!(&commands(effects.clone())[0], Command::Send { room_id, .. } if *room_id == sample::room("garden")));
    let draft = sent(effects);
    assert_eq!((draft.text.as_str(), draft.emote, draft.literal, draft.reply_to), ("hello **you**", false, false, None));
    assert_eq!(text(&model), "");
}

#[test]
fn blank_text_is_not_sent() {
    let mut model = garden();
    type_text(&mut model, "   ");
    assert!(commands(press(&mut model, "enter")).iter().all(|command| !matches!(command, Command::Send { .. })));
    assert_eq!(text(&model), "   ");
}

#[test]
fn alt_enter_shift_enter_and_ctrl_j_start_a_line() {
    let mut model = garden();
    for key in ["alt+enter", "shift+enter", "ctrl+j"] {
        type_text(&mut model, "x");
        press(&mut model, key);
    }
    assert_eq!(text(&model), "x\nx\nx\n");
}

#[test]
fn a_pasted_line_break_never_sends() {
    let mut model = garden();
    let effects = update(&mut model, Msg::Paste("rm -rf /\r\nsecond\r".into()));
    assert!(commands(effects).iter().all(|command| !matches!(command, Command::Send { .. })));
    assert_eq!(text(&model), "rm -rf /\nsecond\n");
}

#[test]
fn reply_mode_survives_typing_and_esc_keeps_the_text() {
    let mut model = garden();
    press(&mut model, "alt+s up r");
    assert!(matches!(&model.composer().mode, Mode::Reply { event_id, .. } if *event_id == sample::event(10)));
    assert_eq!(model.focus, Focus::Composer);
    type_text(&mut model, "fine");
    press(&mut model, "esc");
    assert_eq!((text(&model).as_str(), &model.composer().mode), ("fine", &Mode::New));
    press(&mut model, "alt+s up r");
    let draft = sent(press(&mut model, "enter"));
    assert_eq!((draft.text.as_str(), draft.reply_to), ("fine", Some(sample::event(10))));
    assert_eq!(model.composer().mode, Mode::New);
}

#[test]
fn up_in_an_empty_composer_edits_the_last_message_and_esc_brings_the_draft_back() {
    let mut model = garden();
    press(&mut model, "up");
    assert!(matches!(&model.composer().mode, Mode::Edit { item: ItemId::Event(id), .. } if *id == sample::event(11)));
    assert_eq!(text(&model), "Wonderful. See you at noon!");
    press(&mut model, "esc");
    assert_eq!((text(&model).as_str(), &model.composer().mode), ("", &Mode::New));
}

#[test]
fn an_edit_goes_to_its_event_even_when_the_echo_became_one_meanwhile() {
    let mut model = garden();
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    let last = items.len() - 1;
    items[last].id = Some(ItemId::Transaction("t1".into()));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::Idle))));
    press(&mut model, "up");
    type_text(&mut model, "!!");
    update(&mut model, Msg::Timeline(Some(sample::garden())));
    let edit = commands(press(&mut model, "enter"))
        .into_iter()
        .find_map(|c| if let Command::Edit { item, draft, .. } = c { Some((item, draft.text)) } else { None });
    assert_eq!(edit, Some((ItemId::Event(sample::event(11)), "Wonderful. See you at noon!!!".into())));
    assert_eq!(text(&model), "");
}

#[test]
fn an_unknown_command_is_refused_and_stays() {
    let mut model = garden();
    type_text(&mut model, "/topik new");
    assert!(commands(press(&mut model, "enter")).iter().all(|c| !matches!(c, Command::Send { .. } | Command::SetTopic { .. })));
    assert_eq!(text(&model), "/topik new");
    assert!(notice(&model).contains("did you mean /topic?"), "{}", notice(&model));
}

#[test]
fn commands_send_what_they_say() {
    let mut model = garden();
    let mut run = |line: &str| {
        type_text(&mut model, line);
        press(&mut model, "enter")
    };
    let me = sent(run("/me waves"));
    assert_eq!((me.text.as_str(), me.emote), ("waves", true));
    let plain = sent(run("/plain *x*"));
    assert_eq!((plain.text.as_str(), plain.literal), ("*x*", true));
    assert_eq!(sent(run("//not a command")).text, "/not a command");
    assert!(sent(run("/shrug well")).text.starts_with("well ¯"));
    assert!(matches!(&commands(run("/topic New plan"))[0], Command::SetTopic { topic, .. } if topic == "New plan"));
    assert!(matches!(&commands(run("/invite @zed:home.example"))[0], Command::Invite { user_id, .. } if user_id.localpart() == "zed"));
    assert!(matches!(&commands(run("/join #ops:home.example"))[0], Command::Join { .. }));
    assert!(matches!(&commands(run("/nick Annie"))[0], Command::SetDisplayName { name, .. } if name == "Annie"));
    assert!(matches!(&commands(run("/react tada"))[0], Command::ToggleReaction { key, .. } if key == "🎉"));
    assert!(matches!(&run("/theme light")[0], Effect::LoadTheme(name) if name == "light"));
    assert!(run("/quit").iter().any(|effect| matches!(effect, Effect::Quit)));
}

#[test]
fn wrong_arguments_keep_the_text() {
    let mut model = garden();
    for (line, why) in
        [("/invite zed", "no user ID"), ("/join nowhere", "neither an alias"), ("/theme", "name a theme"), ("/me", "write what")]
    {
        type_text(&mut model, line);
        press(&mut model, "enter");
        assert_eq!(text(&model), line);
        assert!(notice(&model).contains(why), "{line}: {}", notice(&model));
        press(&mut model, "ctrl+u");
    }
}

#[test]
fn completion_goes_through_people_and_mentions_them() {
    let mut model = garden();
    type_text(&mut model, "@b");
    press(&mut model, "tab");
    assert_eq!(text(&model), "Bob: ");
    type_text(&mut model, "hi");
    let draft = sent(press(&mut model, "enter"));
    assert_eq!(draft.mentions, [sample::user("bob")]);
    type_text(&mut model, "no mention of bob");
    assert!(sent(press(&mut model, "enter")).mentions.is_empty());
}

#[test]
fn completion_knows_commands_emoji_and_rooms_and_cycles() {
    let mut model = garden();
    type_text(&mut model, "/to");
    assert!(model.composer().completion.is_some(), "commands are offered as one types");
    press(&mut model, "tab");
    assert_eq!(text(&model), "/topic ");
    press(&mut model, "ctrl+u");
    type_text(&mut model, "nice :tad");
    press(&mut model, "tab");
    assert_eq!(text(&model), "nice 🎉");
    press(&mut model, "ctrl+u");
    type_text(&mut model, "see #gar");
    press(&mut model, "tab");
    assert_eq!(text(&model), "see #garden:home.example");
    press(&mut model, "ctrl+u");
    type_text(&mut model, ":hea");
    press(&mut model, "tab");
    let first = text(&model);
    press(&mut model, "tab");
    assert_ne!(text(&model), first);
    press(&mut model, "shift+tab");
    assert_eq!(text(&model), first);
}

#[test]
fn tab_with_nothing_to_complete_goes_to_the_next_pane() {
    let mut model = garden();
    press(&mut model, "tab");
    assert_eq!(model.focus, Focus::Rooms);
    press(&mut model, "tab");
    assert_eq!(model.focus, Focus::Timeline);
    press(&mut model, "tab");
    assert_eq!(model.focus, Focus::Composer);
}

#[test]
fn typing_is_told_rarely_and_taken_back() {
    let mut model = garden();
    let mut told = Vec::new();
    for _ in 0..20 {
        told.extend(commands(type_text(&mut model, "a")));
        model.now_ms += 100;
    }
    assert!(matches!(&told[..], [Command::Typing { typing: true, .. }]), "{told:?}");
    model.now_ms += 6_000;
    let after = commands(update(&mut model, Msg::Tick));
    assert!(after.iter().any(|c| matches!(c, Command::Typing { typing: false, .. })), "{after:?}");
    let command = commands(type_text(&mut garden(), "/topic secret plans"));
    assert!(command.iter().all(|c| !matches!(c, Command::Typing { .. })), "a command is nobody's business: {command:?}");
}

fn with_last(change: impl FnOnce(&mut crate::client::view::Item)) -> Msg {
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    change(items.last_mut().unwrap());
    Msg::Timeline(Some(sample::timeline("garden", items, Pagination::Idle)))
}

fn own(said: &str, kind: crate::client::view::MessageKind, mentions: Vec<ruma::OwnedUserId>) -> Msg {
    with_last(|item| {
        let ItemKind::Message(message) = &mut item.kind else { panic!("a message") };
        (message.body.plain, message.body.html, message.kind, message.mentions) = (said.to_owned(), None, kind, mentions);
    })
}

fn edited(effects: Effects) -> crate::client::command::Draft {
    let edit = commands(effects).into_iter().find_map(|c| if let Command::Edit { draft, .. } = c { Some(draft) } else { None });
    edit.expect("an edit")
}

#[test]
fn an_edited_message_stays_what_it_was() {
    use crate::client::view::MessageKind;
    let mut model = garden();
    for (said, kind, typed) in [
        ("waves", MessageKind::Emote, "/me waves"),
        ("*not bold*", MessageKind::Text, "/plain *not bold*"),
        ("/etc is full", MessageKind::Text, "//etc is full"),
        ("ordinary", MessageKind::Text, "ordinary"),
    ] {
        update(&mut model, own(said, kind.clone(), Vec::new()));
        press(&mut model, "up");
        assert_eq!(text(&model), typed);
        type_text(&mut model, "!");
        let draft = edited(press(&mut model, "enter"));
        assert_eq!((draft.text, draft.emote), (format!("{said}!"), kind == MessageKind::Emote));
        assert_eq!(draft.literal, typed.starts_with("/plain"));
        assert!(text(&model).is_empty() && model.notices.is_empty(), "{}", notice(&model));
    }
}

#[test]
fn an_edited_message_mentions_whom_it_mentioned_and_still_names() {
    let mut model = garden();
    let (bob, eve) = (sample::user("bob"), sample::user("eve"));
    let kind = crate::client::view::MessageKind::Text;
    type_text(&mut model, "@b");
    press(&mut model, "tab");
    // Eve is answered, not named.
    update(&mut model, own("Bob, look", kind.clone(), vec![bob.clone(), eve.clone()]));
    press(&mut model, "alt+s");
    press(&mut model, "e");
    type_text(&mut model, "!");
    assert_eq!(edited(press(&mut model, "enter")).mentions, [bob.clone(), eve.clone()]);
    assert_eq!(text(&model), "Bob: ");
    assert_eq!(sent(press(&mut model, "enter")).mentions, std::slice::from_ref(&bob), "what was put aside mentions whom it did");
    update(&mut model, own("Bob, look", kind, vec![bob, eve.clone()]));
    press(&mut model, "up ctrl+u");
    type_text(&mut model, "look");
    assert_eq!(edited(press(&mut model, "enter")).mentions, [eve]);
    type_text(&mut model, "and now");
    assert!(sent(press(&mut model, "enter")).mentions.is_empty());
}

#[test]
fn a_command_during_an_edit_brings_back_what_was_put_aside() {
    let mut model = garden();
    for line in ["/members", "/toggle-rooms", "/topic New plan", "/reply yes"] {
        model.layers.clear();
        model.focus = Focus::Composer;
        type_text(&mut model, "half a thought");
        press(&mut model, "alt+s");
        press(&mut model, "e");
        assert!(matches!(&model.composer().mode, Mode::Edit { .. }), "{line}");
        press(&mut model, "ctrl+u");
        type_text(&mut model, line);
        press(&mut model, "enter");
        assert_eq!((text(&model).as_str(), &model.composer().mode), ("half a thought", &Mode::New), "{line}");
        assert_eq!(model.composer().draft(), "half a thought");
        model.composer_mut().clear();
    }
}

#[test]
fn an_answer_that_cannot_be_sent_stays_where_it_was_typed() {
    let mut model = garden();
    update(&mut model, with_last(|item| item.id = Some(ItemId::Transaction("t1".into()))));
    type_text(&mut model, "/reply precious");
    let asked = commands(press(&mut model, "enter"));
    assert!(!asked.iter().any(|c| matches!(c, Command::Send { .. })), "{asked:?}");
    assert_eq!(text(&model), "/reply precious");
    assert!(notice(&model).contains("once the server has it"));
    update(&mut model, Msg::Timeline(Some(sample::garden())));
    let may = model.details.clone().unwrap();
    model.details = Some(Arc::new(crate::client::view::RoomDetails { can_send: false, ..(*may).clone() }));
    press(&mut model, "enter");
    assert_eq!(text(&model), "/reply precious");
    assert!(notice(&model).contains("may not write"), "{}", notice(&model));
    model.details = Some(may);
    let draft = sent(press(&mut model, "enter"));
    assert_eq!((draft.text.as_str(), draft.reply_to), ("precious", Some(sample::event(11))));
    assert_eq!(text(&model), "");
}

#[test]
fn removing_without_a_selection_means_ones_own_message_and_always_asks() {
    let mut model = garden();
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    type_text(&mut model, "/redact typo");
    // While it is typed somebody writes.
    items.push(sample::text(50, "Bob", 0, "the news"));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::Idle))));
    let asked = commands(press(&mut model, "enter"));
    assert!(!asked.iter().any(|c| matches!(c, Command::Redact { .. })), "{asked:?}");
    let question =
        |model: &Model| if let Some(Layer::Question(question)) = model.layers.last() { question.text.clone() } else { String::new() };
    assert!(question(&model).contains("Remove your message “Wonderful. See you at noon!”"), "{}", question(&model));
    let removed = commands(press(&mut model, "y"));
    let [Command::Redact { item, reason, .. }] = &removed[..] else { panic!("{removed:?}") };
    assert_eq!((item, reason.as_deref()), (&ItemId::Event(sample::event(11)), Some("typo")));
    assert_eq!(text(&model), "");
    // Somebody else's is removed where it is selected.
    press(&mut model, "alt+s d");
    assert!(question(&model).contains("Remove the message of Bob “the news”"), "{}", question(&model));
}

#[test]
fn a_file_is_not_said_to_be_sent_before_it_is() {
    let mut model = garden();
    type_text(&mut model, "/upload big.iso");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::SendFile { ticket, .. }) = asked.first() else { panic!("{asked:?}") };
    update(&mut model, Msg::Update(Update::Done(*ticket)));
    assert_eq!(notice(&model), "big.iso is on its way");
}
