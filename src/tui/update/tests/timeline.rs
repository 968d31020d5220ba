//! Tests of reading: history, selection, what can be done with messages, threads, search.

use super::*;

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

#[test]
fn history_that_could_not_be_loaded_says_so_and_how_to_try_again() {
    let mut model = garden();
    let empty = |back| Msg::Timeline(Some(sample::timeline("garden", Vec::new(), back)));
    update(&mut model, empty(Pagination::Loading));
    assert!(screen(&mut model, 80, 24).contains("loading messages…"));
    update(&mut model, empty(Pagination::Failed { reason: "the server does not answer".into() }));
    let shown = screen(&mut model, 80, 24);
    assert!(!shown.contains("loading messages…") && shown.contains("✗ messages could not be loaded"), "{shown}");
    assert!(shown.contains("L tries again"), "{shown}");
}

#[test]
fn a_search_finds_what_comes_while_it_goes_on() {
    let mut model = garden();
    press(&mut model, "ctrl+f");
    type_text(&mut model, "pumpkin");
    assert_eq!(model.search.as_ref().and_then(|search| search.found), None);
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    items.push(sample::text(50, "Bob", 1, "PUMPKINS as well"));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::AtStart))));
    type_text(&mut model, "s");
    assert_eq!(model.search.as_ref().and_then(|search| search.found), Some((1, 1)));
}

/// Commands that drawing at this size leads to, and whether it wants to be drawn again at once.
fn frame(model: &mut Model, width: u16, height: u16) -> (Vec<Command>, bool) {
    render(model, width, height);
    let (effects, again) = crate::tui::run::drawn(model);
    (commands(effects), again)
}

#[test]
fn keys_for_a_timeline_that_is_not_drawn_draw_nothing_for_ever() {
    let still = |model: &mut Model, width, height, what: &str| {
        // What the first frame finds out may change the second.
        frame(model, width, height);
        assert!(!frame(model, width, height).1 && !frame(model, width, height).1, "{what}");
    };
    let mut model = sample::lobby(keymap(), theme());
    model.focus = Focus::Composer;
    press(&mut model, "down pagedown ctrl+up");
    assert!(model.open.is_none() && !model.view.motions.is_empty());
    still(&mut model, 80, 24, "no room is open");
    press(&mut model, "alt+1");
    assert!(model.invitation_open());
    press(&mut model, "pagedown pageup");
    still(&mut model, 80, 24, "an invitation");
    press(&mut model, "alt+3");
    assert!(model.timeline.is_none());
    press(&mut model, "alt+s pageup pageup");
    still(&mut model, 80, 24, "a room whose messages are not loaded");
    let mut model = garden();
    type_text(&mut model, "hello");
    press(&mut model, "enter");
    still(&mut model, 40, 3, "no line is left for messages");
    let mut model = garden();
    press(&mut model, "alt+r ctrl+up ctrl+up");
    still(&mut model, 40, 12, "the room list stands in its place");
    assert!(model.view.motions.is_empty(), "a step is not gone later: {:?}", model.view.motions);
}

#[test]
fn a_place_that_was_asked_for_behind_a_thread_is_gone_to_when_the_thread_closes() {
    let mut model = garden();
    let items = (0..200).map(|n| sample::text(n, "Bob", 3_000 - n, &format!("line {n:04}")));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items.collect(), Pagination::AtStart))));
    model.thread_root = Some(sample::event(150));
    let thread = crate::client::view::Timeline { thread_root: model.thread_root.clone(), ..sample::garden() };
    update(&mut model, Msg::Thread(Some(thread)));
    frame(&mut model, 40, 12);
    model.view.motions.push(crate::tui::model::Motion::At(20));
    frame(&mut model, 40, 12);
    assert!(!frame(&mut model, 40, 12).1);
    model.thread_root = None;
    assert!(screen(&mut model, 40, 12).contains("line 0020"), "{}", screen(&mut model, 40, 12));
}

/// Reactions to a message further up, say: the page adds nothing to the screen.
#[test]
fn a_page_of_history_that_shows_nothing_is_followed_by_the_next() {
    let mut model = garden();
    let asked = |commands: &[Command]| commands.iter().filter(|c| matches!(c, Command::LoadOlder { .. })).count();
    let page = |items: Vec<crate::client::view::Item>, pages| {
        let timeline = sample::timeline("garden", items, Pagination::Idle);
        Msg::Timeline(Some(crate::client::view::Timeline { pages, ..timeline }))
    };
    for pages in 0..5 {
        update(&mut model, page(vec![sample::text(1, "Bob", 5, "hi")], pages));
        assert_eq!(asked(&draw(&mut model)), 1, "page {pages}");
        assert_eq!(asked(&draw(&mut model)), 0, "once");
    }
    // Nor does an empty room stand still at "loading messages…".
    for pages in 5..8 {
        update(&mut model, page(Vec::new(), pages));
        assert_eq!(asked(&draw(&mut model)), 1, "page {pages}");
    }
}

#[test]
fn nobody_reads_a_room_whose_place_the_list_takes_in_a_narrow_terminal() {
    let mut model = garden();
    let row = crate::client::view::RoomRow { unread: 1, ..sample::row("garden", "Garden", RoomKind::Room, 1) };
    let items = |to: u64| (1..=to).map(|n| sample::text(n, "Bob", 300 - n, &format!("line {n}"))).collect::<Vec<_>>();
    let room = |to| Msg::Timeline(Some(sample::timeline("garden", items(to), Pagination::Idle)));
    let read = |commands: &[Command]| commands.iter().any(|c| matches!(c, Command::MarkRead { .. }));
    update(&mut model, room(5));
    assert!(read(&frame(&mut model, 40, 14).0));
    press(&mut model, "alt+r");
    frame(&mut model, 40, 14);
    update(&mut model, room(6));
    update(&mut model, Msg::Rooms(sample::list(vec![row])));
    let (asked, _) = frame(&mut model, 40, 14);
    assert!(!read(&asked) && !asked.iter().any(|c| matches!(c, Command::LoadOlder { .. })), "{asked:?}");
    let shown = screen(&mut model, 40, 14);
    assert!(shown.lines().any(|line| line.contains("Garden") && line.contains('1')), "{shown}");
    let said = Update::Notify {
        room_id: sample::room("garden"),
        room_name: "Garden".into(),
        text: "Bob: Ann?".into(),
        highlight: true,
        direct: false,
    };
    update(&mut model, Msg::Update(said));
    assert_eq!(notice(&model), "Garden: Bob: Ann?");
    model.notices.clear();
    press(&mut model, "alt+s");
    assert!(read(&frame(&mut model, 40, 14).0), "it is on screen now");
    let shown = screen(&mut model, 40, 14);
    let place = |text: &str| shown.lines().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text} in\n{shown}"));
    assert!(place("line 5") < place(" new ") && place(" new ") < place("line 6"), "{shown}");
}
