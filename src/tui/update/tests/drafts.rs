//! Tests of drafts, and of texts that come back.

use super::*;

#[test]
fn a_full_channel_gives_the_text_back() {
    let mut model = garden();
    type_text(&mut model, "precious");
    let command = commands(press(&mut model, "enter")).into_iter().find(|c| matches!(c, Command::Send { .. })).unwrap();
    type_text(&mut model, "newer");
    let effects = update(&mut model, Msg::Refused(command));
    assert!(effects.is_empty());
    assert_eq!(text(&model), "precious\nnewer");
    assert!(notice(&model).contains("busy"));
}

#[test]
fn every_refused_command_is_told_and_asks_for_nothing() {
    let mut model = garden();
    let room_id = sample::room("garden");
    let item = ItemId::Event(sample::event(3));
    let ticket = Ticket(1);
    for command in [
        Command::OpenThread(None),
        Command::ToggleReaction { room_id: room_id.clone(), item: item.clone(), key: "x".into() },
        Command::Redact { room_id: room_id.clone(), item: item.clone(), reason: None },
        Command::Retry { room_id: room_id.clone(), item },
        Command::Leave { ticket, room_id: room_id.clone() },
        Command::OpenRoom(Some(room_id)),
    ] {
        model.notices.clear();
        assert!(update(&mut model, Msg::Refused(command.clone())).is_empty());
        assert!(!model.notices.is_empty(), "{command:?} is refused without a word");
    }
}

#[test]
fn drafts_are_saved_after_a_pause_once() {
    let mut model = garden();
    type_text(&mut model, "half");
    let due = model.deadline_ms().unwrap();
    assert!(due > model.now_ms);
    assert!(commands(update(&mut model, Msg::Tick)).is_empty(), "not yet");
    model.now_ms += 1_000;
    let saved = commands(update(&mut model, Msg::Tick));
    assert!(matches!(&saved[..], [Command::SaveDraft { text, .. }] if text == "half"), "{saved:?}");
    model.now_ms += 60_000;
    let later = commands(update(&mut model, Msg::Tick));
    assert!(later.iter().all(|c| !matches!(c, Command::SaveDraft { .. })), "{later:?}");
}

#[test]
fn nothing_is_due_when_nothing_happens() {
    let mut model = garden();
    draw(&mut model);
    model.now_ms += 60_000;
    update(&mut model, Msg::Tick);
    assert_eq!(model.deadline_ms(), None, "an idle screen sleeps without a timer");
}

#[test]
fn drafts_survive_switching_and_quitting() {
    let mut model = garden();
    type_text(&mut model, "for the garden");
    let effects = press(&mut model, "alt+3");
    assert_eq!(model.open, Some(sample::room("ops")));
    let saved = commands(effects);
    assert!(saved.iter().any(|c| matches!(c, Command::SaveDraft { text, .. } if text == "for the garden")), "{saved:?}");
    assert_eq!(text(&model), "");
    type_text(&mut model, "for ops");
    press(&mut model, "alt+/");
    assert_eq!(text(&model), "for the garden");
    type_text(&mut model, "!");
    let last = press(&mut model, "ctrl+q");
    assert!(commands(last.clone()).iter().any(|c| matches!(c, Command::SaveDraft { text, .. } if text == "for the garden!")));
    assert!(matches!(last.last(), Some(Effect::Quit)));
}

#[test]
fn sending_forgets_the_draft() {
    let mut model = garden();
    type_text(&mut model, "x");
    model.now_ms += 2_000;
    update(&mut model, Msg::Tick);
    let commands = commands(press(&mut model, "enter"));
    assert!(commands.iter().any(|c| matches!(c, Command::SaveDraft { text, .. } if text.is_empty())), "{commands:?}");
}

#[test]
fn stored_drafts_come_back_without_replacing_newer_text() {
    let mut model = garden();
    type_text(&mut model, "newer");
    let drafts = [(sample::room("garden"), "older".to_owned()), (sample::room("ops"), "stored".to_owned())];
    update(&mut model, Msg::Drafts(Arc::new(drafts.into_iter().collect())));
    assert_eq!(text(&model), "newer");
    press(&mut model, "alt+3");
    assert_eq!(text(&model), "stored");
}

#[test]
fn a_long_paste_that_cannot_be_sent_comes_back() {
    let mut model = garden();
    type_text(&mut model, "see this:");
    let long = "line\n".repeat(20_000);
    update(&mut model, Msg::Paste(long.clone()));
    let effects = press(&mut model, "enter");
    let Some((ticket, caption)) =
        effects.iter().find_map(|e| if let Effect::SendText { ticket, caption, .. } = e { Some((*ticket, caption.clone())) } else { None })
    else {
        panic!("{effects:?}")
    };
    assert_eq!(caption.as_deref(), Some("see this:"));
    assert!(model.composer().is_empty());
    let after = update(&mut model, Msg::Update(Update::Failed(ticket, "too large".into())));
    assert!(after.iter().any(|e| matches!(e, Effect::DropFile(_))));
    assert_eq!(model.composer().draft(), format!("see this:\n{long}"));
    assert!(notice(&model).contains("too large"));
}

fn not_sent(text: &str) -> Update {
    let draft = crate::client::command::Draft {
        text: text.into(),
        emote: false,
        literal: false,
        reply_to: None,
        thread_root: None,
        mentions: Vec::new(),
    };
    Update::NotSent { room_id: sample::room("garden"), draft, edited: None, reason: "the disk is full".into() }
}

fn saved(effects: Effects) -> Vec<String> {
    commands(effects).into_iter().filter_map(|c| if let Command::SaveDraft { text, .. } = c { Some(text) } else { None }).collect()
}

#[test]
fn a_message_that_was_not_sent_comes_back_as_what_it_was_and_is_saved() {
    let mut model = garden();
    let Update::NotSent { room_id, draft, reason, .. } = not_sent("waves") else { panic!("it is one") };
    let draft = crate::client::command::Draft { emote: true, reply_to: Some(sample::event(10)), ..draft };
    type_text(&mut model, "newer");
    update(&mut model, Msg::Update(Update::NotSent { room_id, draft, edited: None, reason }));
    assert_eq!(text(&model), "/me waves\nnewer");
    assert!(matches!(&model.composer().mode, Mode::Reply { event_id, .. } if *event_id == sample::event(10)));
    assert!(notice(&model).contains("back in the composer: the disk is full"), "{}", notice(&model));
    model.now_ms += 1_000;
    assert_eq!(saved(update(&mut model, Msg::Tick)), ["/me waves\nnewer"]);
}

#[test]
fn the_words_of_an_edit_outlive_the_end() {
    let mut model = garden();
    press(&mut model, "up");
    let before = text(&model);
    assert!(!before.is_empty(), "it is an edit");
    type_text(&mut model, " and more");
    assert_eq!(saved(press(&mut model, "ctrl+q")), [format!("{before} and more")]);
}

#[test]
fn a_message_of_a_thread_comes_back_with_its_thread() {
    let mut model = garden();
    let Update::NotSent { room_id, draft, reason, .. } = not_sent("in there") else { panic!("it is one") };
    let draft = crate::client::command::Draft { thread_root: Some(sample::event(10)), ..draft };
    let asked = commands(update(&mut model, Msg::Update(Update::NotSent { room_id, draft, edited: None, reason })));
    assert!(asked.iter().any(|c| matches!(c, Command::OpenThread(Some(root)) if *root == sample::event(10))), "{asked:?}");
    assert_eq!(sent(press(&mut model, "enter")).thread_root, Some(sample::event(10)));
}

#[test]
fn an_edit_that_was_not_sent_comes_back_as_an_edit() {
    let mut model = garden();
    type_text(&mut model, "half a thought");
    let Update::NotSent { room_id, draft, reason, .. } = not_sent("Wonderful! At one.") else { panic!("it is one") };
    let edited = Some(ItemId::Event(sample::event(11)));
    update(&mut model, Msg::Update(Update::NotSent { room_id, draft, edited, reason }));
    assert_eq!((text(&model).as_str(), model.composer().draft().as_str()), ("Wonderful! At one.", "half a thought\nWonderful! At one."));
    let edit = commands(press(&mut model, "enter"))
        .into_iter()
        .find_map(|c| if let Command::Edit { item, draft, .. } = c { Some((item, draft.text)) } else { None });
    assert_eq!(edit, Some((ItemId::Event(sample::event(11)), "Wonderful! At one.".into())));
    assert_eq!(text(&model), "half a thought");
}

#[test]
fn what_was_not_sent_is_not_mixed_into_an_edit() {
    let mut model = garden();
    press(&mut model, "up");
    let edited = text(&model);
    update(&mut model, Msg::Update(not_sent("precious")));
    assert_eq!((text(&model), model.composer().draft().as_str()), (edited, "precious"));
    model.now_ms += 1_000;
    assert_eq!(saved(update(&mut model, Msg::Tick)), ["precious"], "it is on disk while the edit goes on");
    press(&mut model, "esc");
    assert_eq!(text(&model), "precious");
}

#[test]
fn a_long_paste_on_its_way_is_among_the_drafts_when_one_quits() {
    let mut model = garden();
    type_text(&mut model, "see this:");
    let long = "line\n".repeat(20_000);
    update(&mut model, Msg::Paste(long.clone()));
    press(&mut model, "enter");
    assert!(model.composer().is_empty());
    let last = saved(press(&mut model, "ctrl+q"));
    assert_eq!(last, [format!("see this:\n{long}")]);
}

#[test]
fn a_text_that_was_sent_does_not_come_back_when_the_client_begins_anew() {
    let mut model = garden();
    type_text(&mut model, "sent long ago");
    model.now_ms += 2_000;
    update(&mut model, Msg::Tick);
    press(&mut model, "enter");
    // The client starts again and has not been told yet.
    let stale = || Msg::Drafts(Arc::new([(sample::room("garden"), "sent long ago".to_owned())].into_iter().collect()));
    update(&mut model, stale());
    assert_eq!(text(&model), "");
    press(&mut model, "alt+3");
    update(&mut model, stale());
    press(&mut model, "alt+/");
    assert_eq!(text(&model), "");
}

#[test]
fn an_emptied_draft_that_found_no_room_is_forgotten_later() {
    let mut model = garden();
    let refused = Command::SaveDraft { room_id: sample::room("garden"), text: String::new() };
    update(&mut model, Msg::Refused(refused));
    model.now_ms += 2_000;
    assert_eq!(saved(update(&mut model, Msg::Tick)), [""]);
}

#[test]
fn a_client_that_begins_anew_answers_no_earlier_tickets_and_shows_the_room_again() {
    let mut model = garden();
    type_text(&mut model, "/join #far:away.example");
    press(&mut model, "enter");
    let long = "line\n".repeat(20_000);
    update(&mut model, Msg::Paste(long.clone()));
    press(&mut model, "enter");
    let session = model.session.clone();
    update(&mut model, Msg::Session(crate::client::view::SessionView::default()));
    assert_eq!(model.awaiting.len(), 2);
    // Signing out has failed, say: nothing tells of a sign-in.
    let asked = commands(update(&mut model, Msg::Session(session)));
    assert!(asked.iter().any(|c| matches!(c, Command::OpenRoom(Some(room)) if *room == sample::room("garden"))), "{asked:?}");
    assert!(model.awaiting.is_empty());
    assert_eq!(model.composer().draft(), long);
    let mut model = garden();
    type_text(&mut model, "/join #far:away.example");
    press(&mut model, "enter");
    update(&mut model, Msg::Update(Update::SignedIn));
    assert!(
        model.awaiting.is_empty() && model.notices.iter().any(|n| n.text.contains("could not join #far:away.example")),
        "{:?}",
        model.notices
    );
}

#[test]
fn a_long_paste_is_among_the_drafts_until_the_queue_has_it() {
    let mut model = garden();
    type_text(&mut model, "see this:");
    let long = "line\n".repeat(20_000);
    update(&mut model, Msg::Paste(long.clone()));
    let all = format!("see this:\n{long}");
    model.now_ms += 1_000;
    assert_eq!(saved(update(&mut model, Msg::Tick)), std::slice::from_ref(&all));
    let effects = press(&mut model, "enter");
    let ticket = effects.iter().find_map(|e| if let Effect::SendText { ticket, .. } = e { Some(*ticket) } else { None }).unwrap();
    assert!(model.composer().is_empty());
    assert_eq!(saved(effects), Vec::<String>::new(), "its copy on disk stays");
    type_text(&mut model, "next");
    model.now_ms += 1_000;
    assert_eq!(saved(update(&mut model, Msg::Tick)), [format!("{all}\nnext")]);
    assert_eq!(saved(update(&mut model, Msg::Update(Update::Done(ticket)))), ["next"]);
    assert_eq!(text(&model), "next");
}
