//! Tests of update: what messages do.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it fails")]

use std::sync::Arc;

use super::*;
use crate::{
    client::{
        command::{Setup, Ticket},
        update::Update,
        view::{ItemId, ItemKind, Membership, Pagination, RoomKind, SendState},
    },
    tui::{
        composer::Mode,
        layers::Layer,
        model::{Anchor, Focus, Screen, WelcomePage},
        render, sample,
        tests::{garden, keymap, press, screen, theme, type_text},
    },
};

fn commands(effects: Effects) -> Vec<Command> {
    effects.into_iter().filter_map(|effect| if let Effect::Command(command) = effect { Some(command) } else { None }).collect()
}

fn sent(effects: Effects) -> crate::client::command::Draft {
    let draft =
        commands(effects).into_iter().find_map(|command| if let Command::Send { draft, .. } = command { Some(draft) } else { None });
    draft.expect("something was sent")
}

fn text(model: &Model) -> String {
    model.composer().text()
}

fn notice(model: &Model) -> String {
    model.notices.last().map(|notice| notice.text.clone()).unwrap_or_default()
}

fn draw(model: &mut Model) -> Vec<Command> {
    render(model, 80, 24);
    commands(update(model, Msg::Drawn))
}

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

#[test]
fn next_unread_takes_mentions_then_direct_chats_then_rooms() {
    let mut model = garden();
    press(&mut model, "alt+a");
    assert_eq!(model.open, Some(sample::room("ops")));
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    rows[2].mentions = 0;
    rows[2].unread = 0;
    update(&mut model, Msg::Rooms(sample::list(rows)));
    press(&mut model, "alt+a");
    assert_eq!(model.open, Some(sample::room("bob")));
}

#[test]
fn the_end_on_screen_marks_the_room_read_once() {
    let mut model = garden();
    let first = draw(&mut model);
    assert!(first.iter().any(|c| matches!(c, Command::MarkRead { .. })), "{first:?}");
    assert!(draw(&mut model).is_empty());
    press(&mut model, "pageup");
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    items.extend((50..80).map(|n| sample::text(n, "Bob", 1, "more")));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::AtStart))));
    assert!(!draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })), "what is below the screen is not read");
    press(&mut model, "ctrl+end");
    assert!(draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
}

#[test]
fn a_window_without_focus_reads_nothing() {
    let mut model = garden();
    update(&mut model, Msg::Focus(false));
    assert!(!draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
    update(&mut model, Msg::Focus(true));
    assert!(draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
}

#[test]
fn older_history_is_asked_for_once_until_it_came() {
    let mut model = garden();
    let asked = |commands: &[Command]| commands.iter().filter(|c| matches!(c, Command::LoadOlder { .. })).count();
    assert_eq!(asked(&draw(&mut model)), 1, "the first messages are near: more is fetched before it is needed");
    assert_eq!(asked(&draw(&mut model)), 0);
    let loading = crate::client::view::Timeline { back: Pagination::Loading, ..sample::garden() };
    update(&mut model, Msg::Timeline(Some(loading)));
    assert_eq!(asked(&draw(&mut model)), 0);
    let failed = crate::client::view::Timeline { back: Pagination::Failed { reason: "slow".into() }, ..sample::garden() };
    update(&mut model, Msg::Timeline(Some(failed)));
    assert_eq!(asked(&draw(&mut model)), 0, "a failure is not repeated by itself");
    press(&mut model, "alt+s");
    assert_eq!(asked(&commands(press(&mut model, "L"))), 1);
}

#[test]
fn the_top_is_the_beginning_however_much_is_to_load() {
    let mut model = garden();
    let part = |from: u64| {
        sample::timeline("garden", (from..3_000).map(|n| sample::text(n, "Bob", 3_000 - n, "line")).collect(), Pagination::Idle)
    };
    update(&mut model, Msg::Timeline(Some(part(2_900))));
    draw(&mut model);
    press(&mut model, "ctrl+home");
    let mut loaded = 2_900_u64;
    for _ in 0..10 {
        let commands = draw(&mut model);
        let Some(count) = commands.iter().find_map(|c| if let Command::LoadOlder { count } = c { Some(*count) } else { None }) else {
            continue;
        };
        assert!(count >= 500, "going to the beginning loads much at once");
        loaded = loaded.saturating_sub(u64::from(count));
        update(&mut model, Msg::Timeline(Some(part(loaded))));
        if loaded == 0 {
            let all = crate::client::view::Timeline { back: Pagination::AtStart, ..part(0) };
            update(&mut model, Msg::Timeline(Some(all)));
        }
    }
    draw(&mut model);
    assert!(matches!(model.view.anchor, Anchor::Top { unique: 0, .. }), "{:?}", model.view.anchor);
    assert!(!model.view.to_start);
}

#[test]
fn a_reply_leads_to_its_message_and_back() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s");
    for _ in 0..4 {
        press(&mut model, "up");
    }
    assert_eq!(model.selected_item().map(|item| item.unique), Some(7));
    press(&mut model, "enter");
    assert_eq!(model.selected_item().map(|item| item.unique), Some(5));
    press(&mut model, "b");
    assert_eq!(model.view.anchor, Anchor::Bottom);
}

#[test]
fn a_reply_to_an_unloaded_message_loads_until_it_is_there() {
    let mut model = garden();
    let reply = |n| {
        sample::with(sample::text(500, "Eve", 1, "yes"), |m| {
            m.reply = Some(crate::client::view::ReplyPreview { event_id: sample::event(n), sender: None, text: None });
        })
    };
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", vec![reply(100)], Pagination::Idle))));
    draw(&mut model);
    press(&mut model, "alt+s enter");
    assert!(draw(&mut model).iter().any(|c| matches!(c, Command::LoadOlder { .. })));
    let items = vec![sample::text(100, "Bob", 900, "the question"), reply(100)];
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::Idle))));
    assert_eq!(model.selected_item().map(|item| item.unique), Some(100));
    assert_eq!(model.view.seek, None);
}

#[test]
fn item_keys_do_what_they_say() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s up");
    assert!(matches!(&press(&mut model, "y")[..], [Effect::Copy(text)] if text.starts_with("Tomatoes")));
    press(&mut model, "+");
    type_text(&mut model, "rocket");
    let react = commands(press(&mut model, "enter"));
    assert!(
        matches!(&react[..], [Command::ToggleReaction { item: ItemId::Event(id), key, .. }] if *id == sample::event(10) && key == "🚀")
    );
    press(&mut model, "d");
    assert!(matches!(model.layers.last(), Some(Layer::Question(_))));
    assert!(commands(press(&mut model, "enter")).is_empty(), "the careless answer is no");
    press(&mut model, "d");
    assert!(matches!(&commands(press(&mut model, "y"))[..], [Command::Redact { .. }]));
}

#[test]
fn any_text_can_be_a_reaction() {
    let mut model = garden();
    press(&mut model, "alt+s up +");
    type_text(&mut model, "¡sí!");
    let react = commands(press(&mut model, "enter"));
    assert!(matches!(&react[..], [Command::ToggleReaction { key, .. }] if key == "¡sí!"), "{react:?}");
}

#[test]
fn failed_messages_are_retried_or_discarded_without_losing_their_text() {
    let mut model = garden();
    let failed = SendState::Failed { reason: "full".into(), will_retry: false };
    let item = crate::client::view::Item {
        id: Some(ItemId::Transaction("t9".into())),
        send_state: failed,
        ..sample::text(90, "Ann", 0, "lost words")
    };
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", vec![item], Pagination::AtStart))));
    draw(&mut model);
    press(&mut model, "alt+s");
    assert!(matches!(&commands(press(&mut model, "s"))[..], [Command::Retry { .. }]));
    let discard = commands(press(&mut model, "x"));
    assert!(matches!(&discard[..], [Command::Redact { item: ItemId::Transaction(_), .. }]), "{discard:?}");
    assert_eq!(text(&model), "lost words");
}

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
fn an_invitation_shows_what_it_is_and_opens_when_accepted() {
    let mut model = garden();
    let opened = commands(press(&mut model, "alt+1"));
    assert!(opened.iter().all(|c| !matches!(c, Command::OpenRoom(Some(_)))), "an invitation has no timeline: {opened:?}");
    let accepted = commands(press(&mut model, "a"));
    let Some(Command::AcceptInvite { ticket, room_id }) = accepted.first() else { panic!("{accepted:?}") };
    let (ticket, room_id) = (*ticket, room_id.clone());
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    rows[0].membership = Membership::Joined;
    rows[0].invite = None;
    let joined = commands(update(&mut model, Msg::Rooms(sample::list(rows))));
    assert!(joined.iter().any(|c| matches!(c, Command::OpenRoom(Some(id)) if *id == room_id)));
    update(&mut model, Msg::Update(Update::RoomReady(ticket, room_id.clone())));
    assert_eq!((model.open.as_ref(), model.focus), (Some(&room_id), Focus::Composer));
}

#[test]
fn an_invitation_can_be_read_on_a_narrow_terminal() {
    let mut model = garden();
    press(&mut model, "alt+1");
    let (buffer, _) = render(&mut model, 40, 12);
    let cells: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(cells.contains("Dana") && cells.contains("[ Accept ] a   [ Decline ] d"), "{cells}");
    press(&mut model, "esc");
    assert_eq!(model.focus, Focus::Rooms);
}

#[test]
fn a_room_that_becomes_ready_late_does_not_interrupt_writing() {
    let mut model = garden();
    type_text(&mut model, "/join #far:away.example");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::Join { ticket, .. }) = asked.first() else { panic!("{asked:?}") };
    type_text(&mut model, "meanwhile");
    update(&mut model, Msg::Update(Update::RoomReady(*ticket, sample::room("far"))));
    assert_eq!((model.open.clone(), text(&model).as_str()), (Some(sample::room("garden")), "meanwhile"));
}

#[test]
fn an_invitation_is_declined_only_when_confirmed() {
    let mut model = garden();
    press(&mut model, "alt+1 d");
    assert!(commands(press(&mut model, "esc")).is_empty());
    press(&mut model, "d");
    assert!(commands(press(&mut model, "y")).iter().any(|c| matches!(c, Command::Leave { .. })));
}

#[test]
fn leaving_closes_the_room() {
    let mut model = garden();
    press(&mut model, "alt+q");
    let left = commands(press(&mut model, "y"));
    assert!(left.iter().any(|c| matches!(c, Command::Leave { .. })) && left.iter().any(|c| matches!(c, Command::OpenRoom(None))));
    assert_eq!(model.open, None);
}

#[test]
fn notifications_ring_and_mentions_are_said() {
    let mut model = garden();
    let notify = |highlight| Update::Notify { room_id: sample::room("ops"), room_name: "Ops".into(), text: "Eve: Ann?".into(), highlight };
    assert!(matches!(&update(&mut model, Msg::Update(notify(false)))[..], [Effect::Bell]));
    assert!(model.notices.is_empty());
    update(&mut model, Msg::Update(notify(true)));
    assert_eq!(notice(&model), "Ops: Eve: Ann?");
    assert!(model.deadline_ms().is_some(), "it goes away by itself");
    model.bell = false;
    assert!(update(&mut model, Msg::Update(notify(false))).is_empty());
}

#[test]
fn the_filter_narrows_and_esc_clears_it() {
    let mut model = garden();
    press(&mut model, "alt+r /");
    type_text(&mut model, "oper");
    assert_eq!(model.listed().len(), 1);
    press(&mut model, "enter");
    press(&mut model, "enter");
    assert_eq!(model.open, Some(sample::room("ops")));
    press(&mut model, "alt+r / esc");
    assert_eq!(model.listed().len(), 8);
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
fn a_thread_opens_beside_and_takes_the_messages() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s up");
    let opened = commands(press(&mut model, "t"));
    assert!(matches!(&opened[..], [Command::OpenThread(Some(root))] if *root == sample::event(10)));
    type_text(&mut model, "in the thread");
    assert_eq!(sent(press(&mut model, "enter")).thread_root, Some(sample::event(10)));
    press(&mut model, "alt+s");
    assert!(matches!(&commands(press(&mut model, "T"))[..], [Command::OpenThread(None)]));
}

fn first_run() -> Model {
    let mut model = Model::new(keymap(), theme(), time::UtcOffset::UTC);
    model.screen = Screen::Welcome;
    model
}

#[test]
fn a_home_is_created_from_the_form() {
    let mut model = first_run();
    press(&mut model, "enter");
    type_text(&mut model, "Ann");
    press(&mut model, "enter");
    type_text(&mut model, "correct horse");
    press(&mut model, "enter");
    type_text(&mut model, "correct horse");
    press(&mut model, "enter");
    let effects = press(&mut model, "enter");
    let [Effect::Setup(Setup::CreateHome { username, password, server_name })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((username.as_str(), password.expose(), server_name), ("ann", "correct horse", &None));
    assert!(press(&mut model, "enter").is_empty(), "asked once");
    update(&mut model, Msg::Update(Update::SetupProgress { text: "making keys".into() }));
    assert_eq!(model.welcome.create.busy.as_deref(), Some("making keys"));
    update(&mut model, Msg::Update(Update::SetupFailed { reason: "disk full".into() }));
    assert_eq!((model.welcome.create.text("user"), model.welcome.create.error.as_deref()), ("Ann", Some("disk full")));
    update(&mut model, Msg::Update(Update::SignedIn));
    assert_eq!(model.screen, Screen::Main);
    assert_eq!(model.welcome.create.text("user"), "", "passwords do not stay in memory");
}

#[test]
fn a_home_is_refused_with_the_field_that_is_wrong() {
    for (user, password, again, server, field) in [
        ("", "12345678", "12345678", "", 0),
        ("ann", "short", "short", "", 1),
        ("ann", "12345678", "12345679", "", 2),
        ("ann", "12345678", "12345678", "no name", 3),
    ] {
        let mut model = first_run();
        press(&mut model, "1");
        for value in [user, password, again, server] {
            type_text(&mut model, value);
            press(&mut model, "tab");
        }
        assert!(press(&mut model, "enter").is_empty());
        assert_eq!(model.welcome.create.focus, field, "{:?}", model.welcome.create.error);
        assert!(model.welcome.create.error.is_some());
    }
}

#[test]
fn esc_on_the_welcome_screen_keeps_every_field() {
    let mut model = first_run();
    press(&mut model, "2");
    type_text(&mut model, "@ann:example.org");
    press(&mut model, "esc");
    assert_eq!(model.welcome.page, WelcomePage::Menu);
    press(&mut model, "2");
    assert_eq!(model.welcome.sign_in.text("user"), "@ann:example.org");
}

#[test]
fn signing_in_needs_a_server_from_somewhere() {
    let mut model = first_run();
    press(&mut model, "2");
    type_text(&mut model, "ann");
    press(&mut model, "tab tab");
    type_text(&mut model, "pw");
    assert!(press(&mut model, "enter").is_empty());
    assert!(model.welcome.sign_in.error.as_deref().unwrap_or_default().contains("full user ID"));
    press(&mut model, "tab");
    type_text(&mut model, "example.org");
    press(&mut model, "tab");
    let effects = press(&mut model, "enter");
    let [Effect::Setup(Setup::SignIn { user, server, .. })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((user.as_str(), server.as_deref()), ("ann", Some("example.org")));
}

#[test]
fn looking_around_and_leaving_work_from_the_menu() {
    let mut model = first_run();
    assert!(matches!(&press(&mut model, "3")[..], [Effect::Setup(Setup::LookAround)]));
    update(&mut model, Msg::Update(Update::SetupFailed { reason: "no room in /tmp".into() }));
    assert_eq!(model.welcome.error.as_deref(), Some("no room in /tmp"));
    assert!(matches!(press(&mut model, "ctrl+q").last(), Some(Effect::Quit)));
}

#[test]
fn signing_out_leaves_nothing_on_the_screen() {
    let mut model = garden();
    type_text(&mut model, "private");
    update(&mut model, Msg::Update(Update::SignedOut));
    let (buffer, _) = render(&mut model, 80, 24);
    let cells: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(cells.contains("Sign in") && !cells.contains("Garden") && !cells.contains("private"));
    assert!(model.composers.is_empty());
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

#[test]
fn a_room_that_was_asked_for_opens_when_the_list_has_it() {
    let mut model = Model::new(keymap(), theme(), time::UtcOffset::UTC);
    model.wanted = Some(sample::room("ops"));
    update(&mut model, Msg::Rooms(sample::list(vec![sample::row("bob", "Bob", RoomKind::Direct, 1)])));
    assert_eq!(model.open, None);
    update(&mut model, Msg::Rooms(sample::rooms()));
    assert_eq!(model.open, Some(sample::room("ops")));
}

#[test]
fn first_unread_goes_to_the_marker() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+u");
    draw(&mut model);
    let marker = sample::garden().items.iter().find(|item| item.kind == ItemKind::ReadMarker).unwrap().unique;
    assert!(matches!(model.view.anchor, Anchor::Top { unique, .. } if unique == marker) || model.view.at_bottom);
}

fn change(unique: u64, what: &str) -> crate::client::view::Item {
    let kind = ItemKind::State(crate::client::view::StateChange { text: format!("Bob {what}"), is_membership: false });
    crate::client::view::Item { kind, ..sample::text(unique, "Bob", 90, "") }
}

#[test]
fn changes_are_one_line_until_they_are_opened() {
    let mut model = garden();
    let items = vec![
        change(1, "created the room"),
        change(2, "turned on end-to-end encryption"),
        change(3, "invited Ann"),
        sample::text(4, "Bob", 5, "hi"),
    ];
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::AtStart))));
    let folded = screen(&mut model, 120, 24);
    assert!(
        folded.contains("▸ Bob created the room, turned on end-to-end encryption and invited Ann (3") && folded.contains("changes)"),
        "{folded}"
    );
    press(&mut model, "alt+s up");
    let hint = screen(&mut model, 120, 24);
    assert!(hint.contains("v shows or hides the changes"), "{hint}");
    press(&mut model, "r");
    assert_eq!(model.composer().mode, Mode::New, "nobody answers a change");
    press(&mut model, "v");
    let open = screen(&mut model, 120, 24);
    assert!(open.contains("· Bob created the room\n") && open.contains("· Bob invited Ann"), "{open}");
    press(&mut model, "enter");
    assert!(!screen(&mut model, 120, 24).contains("· Bob"));
}

#[test]
fn with_vim_keys_a_room_opens_in_the_timeline_and_i_writes() {
    let mut model = garden();
    update(&mut model, Msg::Keymap(Ok(Box::new(crate::tui::keymap::Keymap::load("vim", None).unwrap()))));
    press(&mut model, "alt+2");
    press(&mut model, "alt+3");
    assert_eq!(model.focus, Focus::Timeline);
    press(&mut model, "j esc esc j");
    assert_eq!(model.focus, Focus::Timeline, "escape stays in the timeline");
    assert!(model.composer().is_empty(), "letters are commands");
    press(&mut model, "i h i");
    assert_eq!((model.focus, model.composer().text().as_str()), (Focus::Composer, "hi"));
    press(&mut model, "esc");
    assert_eq!((model.focus, model.composer().text().as_str()), (Focus::Timeline, "hi"));
    press(&mut model, "h esc");
    assert_eq!(model.focus, Focus::Timeline);
}

/// Clicks on the first place where this text stands.
fn click_on(model: &mut Model, text: &str) -> Effects {
    let shown = screen(model, 80, 24);
    let (row, line) = shown.lines().enumerate().find(|(_, line)| line.contains(text)).unwrap_or_else(|| panic!("{text} in\n{shown}"));
    let column = crate::tui::text::width(line.split(text).next().unwrap_or_default());
    let kind = crossterm::event::MouseEventKind::Down(crossterm::event::MouseButton::Left);
    let (column, row) = (u16::try_from(column).unwrap() + 1, u16::try_from(row).unwrap());
    update(model, Msg::Mouse(crossterm::event::MouseEvent { kind, column, row, modifiers: crossterm::event::KeyModifiers::empty() }))
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
fn the_welcome_can_be_used_with_the_mouse() {
    let mut model = garden();
    update(&mut model, Msg::Update(crate::client::update::Update::SignedOut));
    click_on(&mut model, "2. Sign in");
    assert_eq!(model.welcome.page, crate::tui::model::WelcomePage::SignIn);
    click_on(&mut model, "Password");
    assert_eq!(model.welcome.sign_in.focus, 2);
    click_on(&mut model, "[ Sign in ]");
    assert!(model.welcome.sign_in.error.is_some());
}

#[test]
fn a_timeline_that_begins_anew_does_not_take_the_reader_away() {
    let mut model = garden();
    let items = |range: std::ops::Range<u64>, shift: u64| -> Vec<_> {
        range
            .map(|n| crate::client::view::Item { unique: n + shift, ..sample::text(n, "Bob", 3_000 - n, &format!("line number {n:04}")) })
            .collect()
    };
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items(0..200, 0), Pagination::Idle))));
    draw(&mut model);
    press(&mut model, "pageup pageup pageup");
    draw(&mut model);
    let before = screen(&mut model, 80, 24);
    assert!(before.contains("line number 0140"), "{before}");
    // A gap: only the newest are there, and they are counted anew.
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items(230..240, 1_000), Pagination::Idle))));
    let timeline = |text: &str| text.lines().skip(2).take(18).map(|l| l.chars().skip(27).collect::<String>()).collect::<Vec<_>>();
    assert_eq!(timeline(&screen(&mut model, 80, 24)), timeline(&before), "what was read stays");
    let asked = commands(update(&mut model, Msg::Drawn));
    assert!(asked.iter().any(|command| matches!(command, Command::LoadOlder { .. })), "{asked:?}");
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items(100..240, 1_000), Pagination::Idle))));
    assert_eq!(timeline(&screen(&mut model, 80, 24)), timeline(&before), "and is found again");
    assert!(model.view.held.is_none() && model.view.seek.is_none());
    press(&mut model, "ctrl+end");
    assert!(screen(&mut model, 80, 24).contains("line number 0239"));
    // Whoever wants the end does not wait for anything.
    press(&mut model, "pageup pageup");
    draw(&mut model);
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items(300..310, 2_000), Pagination::Idle))));
    press(&mut model, "ctrl+end");
    assert!(screen(&mut model, 80, 24).contains("line number 0309"));
}

#[test]
fn a_room_that_was_asked_for_can_be_looked_at_and_given_up() {
    let mut model = garden();
    let mut rooms = sample::rooms();
    let asked = crate::client::view::RoomRow { membership: Membership::Knocked, ..sample::row("club", "Club", RoomKind::Room, 1) };
    rooms.rows = std::iter::once(Arc::new(asked)).chain(rooms.rows.iter().cloned()).collect();
    update(&mut model, Msg::Rooms(rooms.clone()));
    let opened = commands(press(&mut model, "alt+1"));
    assert!(opened.iter().any(|command| matches!(command, Command::OpenRoom(None))), "there is no timeline to be had: {opened:?}");
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("? Club") && shown.contains("you asked to join") && shown.contains("[ Take back ] d"), "{shown}");
    type_text(&mut model, "x");
    assert!(model.composer().is_empty(), "nothing can be written there");
    press(&mut model, "d tab");
    let effects = commands(press(&mut model, "enter"));
    assert!(effects.iter().any(|command| matches!(command, Command::Leave { .. })), "{effects:?}");
    // Let in meanwhile: the room opens by itself.
    update(&mut model, Msg::Rooms(rooms.clone()));
    press(&mut model, "alt+1");
    let let_in = sample::row("club", "Club", RoomKind::Room, 1);
    rooms.rows = std::iter::once(Arc::new(let_in)).chain(rooms.rows.iter().skip(1).cloned()).collect();
    let effects = commands(update(&mut model, Msg::Rooms(rooms)));
    assert!(effects.iter().any(|command| matches!(command, Command::OpenRoom(Some(_)))), "{effects:?}");
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
fn a_search_goes_up_as_one_types_and_escape_takes_it_back() {
    let mut model = garden();
    let items = (0..200)
        .map(|n| sample::text(n, "Bob", 3_000 - n, &format!("line {n:04} {}", ["Apple", "pear", "plum"][usize::try_from(n % 3).unwrap()])));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items.collect(), Pagination::Idle))));
    type_text(&mut model, "half a thought");
    let before = screen(&mut model, 80, 24);
    press(&mut model, "ctrl+f");
    type_text(&mut model, "apple");
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("line 0198 Apple") && shown.contains("67 of 67"), "{shown}");
    assert_eq!(model.view.selected, Some(198));
    type_text(&mut model, "x");
    assert!(screen(&mut model, 80, 24).contains("nothing in what is loaded"));
    press(&mut model, "backspace up up");
    assert_eq!(model.view.selected, Some(192));
    press(&mut model, "enter n");
    assert_eq!((model.view.selected, model.focus), (Some(189), Focus::Timeline));
    press(&mut model, "N");
    assert_eq!(model.view.selected, Some(192));
    press(&mut model, "i");
    assert!(model.search.is_none());
    // Taken back: the same place, the same pane.
    screen(&mut model, 80, 24);
    press(&mut model, "ctrl+end");
    press(&mut model, "ctrl+f");
    type_text(&mut model, "line 0003");
    assert!(screen(&mut model, 80, 24).contains("line 0003 Apple"));
    press(&mut model, "esc");
    assert_eq!((screen(&mut model, 80, 24), model.focus, model.composer().text().as_str()), (before, Focus::Composer, "half a thought"));
}

#[test]
fn the_line_above_what_is_new_stays_while_the_room_is_open() {
    let mut model = garden();
    let items = |to: u64| (1..=to).map(|n| sample::text(n, "Bob", 300 - n, &format!("line {n}"))).collect::<Vec<_>>();
    let rooms = |unread| {
        let mut rooms = sample::rooms();
        let row = crate::client::view::RoomRow { unread, ..sample::row("ops", "Operations", RoomKind::Room, 9) };
        rooms.rows = rooms.rows.iter().map(|old| if old.id == row.id { Arc::new(row.clone()) } else { Arc::clone(old) }).collect();
        rooms
    };
    update(&mut model, Msg::Rooms(rooms(2)));
    press(&mut model, "alt+3");
    let ops = |to| Msg::Timeline(Some(sample::timeline("ops", items(to), Pagination::AtStart)));
    update(&mut model, ops(5));
    let read = draw(&mut model);
    assert!(read.iter().any(|command| matches!(command, Command::MarkRead { .. })));
    let shown = screen(&mut model, 80, 24);
    let place =
        |shown: &str, text: &str| shown.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text} in\n{shown}"));
    assert!(place(&shown, "line 3") < place(&shown, " new ") && place(&shown, " new ") < place(&shown, "line 4"), "{shown}");
    // The server knows now; and what comes while one watches is not new.
    update(&mut model, Msg::Rooms(rooms(1)));
    update(&mut model, ops(6));
    draw(&mut model);
    let shown = screen(&mut model, 80, 24);
    assert!(place(&shown, " new ") < place(&shown, "line 4"), "{shown}");
    // The server's marker comes with every message and goes with every receipt: it is not shown meanwhile.
    let mut marked = items(6);
    marked.insert(5, sample::other(50, 5, ItemKind::ReadMarker));
    update(&mut model, Msg::Timeline(Some(sample::timeline("ops", marked, Pagination::AtStart))));
    assert_eq!(screen(&mut model, 80, 24), shown);
    update(&mut model, ops(6));
    // What came while the window was not looked at is.
    update(&mut model, Msg::Focus(false));
    update(&mut model, ops(7));
    draw(&mut model);
    update(&mut model, Msg::Focus(true));
    draw(&mut model);
    let shown = screen(&mut model, 80, 24);
    assert!(place(&shown, "line 6") < place(&shown, " new ") && place(&shown, " new ") < place(&shown, "line 7"), "{shown}");
    press(&mut model, "alt+u");
    type_text(&mut model, "read it");
    press(&mut model, "enter");
    assert!(!screen(&mut model, 80, 24).contains(" new "), "whoever answers has read");
}
