//! Tests of the whole screen: what it looks like, that no size and no input breaks it, how many bytes it writes.
#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyModifiers};
use proptest::prelude::*;
use ratatui::{buffer::Buffer, layout::Size};

use super::{
    Model, Msg,
    canvas::{Canvas, Wants},
    keymap::Keymap,
    keys::Key,
    model::{Focus, Screen},
    render, sample, screens,
    theme::{ColourDepth, Theme},
    update,
};
use crate::client::{
    command::Ticket,
    update::Update,
    view::{Connection, ItemKind, Pagination, SendState, Timeline},
};

pub(super) fn keymap() -> Keymap {
    Keymap::load("default", None).unwrap()
}

pub(super) fn theme() -> Theme {
    Theme::load("dark", None).unwrap()
}

pub(super) fn garden() -> Model {
    sample::model(keymap(), theme())
}

fn shown(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer.cell((x, y)).unwrap().symbol();
            line.push_str(symbol);
            x += u16::try_from(super::text::width(symbol)).unwrap().max(1);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn screen(model: &mut Model, width: u16, height: u16) -> String {
    shown(&render(model, width, height).0)
}

pub(super) fn press(model: &mut Model, keys: &str) -> super::update::Effects {
    super::keys::sequence(keys).unwrap().into_iter().flat_map(|key| update(model, Msg::Key(key))).collect()
}

pub(super) fn type_text(model: &mut Model, text: &str) -> super::update::Effects {
    text.chars().flat_map(|c| update(model, Msg::Key(Key::new(KeyCode::Char(c), KeyModifiers::empty())))).collect()
}

fn welcome() -> Model {
    let mut model = Model::new(keymap(), theme(), crate::base::Zone::UTC);
    model.screen = Screen::Welcome;
    model
}

#[test]
fn main_screen_at_80x24() {
    insta::assert_snapshot!(screen(&mut garden(), 80, 24));
}

#[test]
fn main_screen_at_40x12() {
    insta::assert_snapshot!(screen(&mut garden(), 40, 12));
}

#[test]
fn main_screen_wide() {
    insta::assert_snapshot!(screen(&mut garden(), 120, 30));
}

#[test]
fn room_list_alone_on_a_narrow_terminal() {
    let mut model = garden();
    press(&mut model, "alt+r");
    insta::assert_snapshot!(screen(&mut model, 40, 12));
}

#[test]
fn start_page_without_a_room() {
    insta::assert_snapshot!(screen(&mut sample::lobby(keymap(), theme()), 80, 24));
}

#[test]
fn welcome_menu_fits_both_sizes() {
    insta::assert_snapshot!("welcome_80x24", screen(&mut welcome(), 80, 24));
    insta::assert_snapshot!("welcome_40x10", screen(&mut welcome(), 40, 10));
}

#[test]
fn create_home_form_fits_both_sizes() {
    let mut model = welcome();
    press(&mut model, "enter");
    type_text(&mut model, "ann");
    press(&mut model, "tab");
    type_text(&mut model, "secret");
    insta::assert_snapshot!("create_80x24", screen(&mut model, 80, 24));
    insta::assert_snapshot!("create_40x10", screen(&mut model, 40, 10));
    press(&mut model, "tab tab");
    insta::assert_snapshot!("create_server_name_80x24", screen(&mut model, 80, 24));
}

#[test]
fn sign_in_form_shows_why_it_failed() {
    let mut model = welcome();
    press(&mut model, "2");
    type_text(&mut model, "@ann:example.org");
    press(&mut model, "tab tab");
    type_text(&mut model, "wrong");
    press(&mut model, "enter");
    update(&mut model, Msg::Update(Update::SetupFailed { reason: "The server refused the password.".into() }));
    insta::assert_snapshot!(screen(&mut model, 80, 24));
}

#[test]
fn invitation_preview() {
    let mut model = garden();
    press(&mut model, "alt+1");
    insta::assert_snapshot!(screen(&mut model, 80, 24));
}

#[test]
fn create_room_dialog() {
    let mut model = garden();
    press(&mut model, "alt+c");
    insta::assert_snapshot!("create_room_80x24", screen(&mut model, 80, 24));
    insta::assert_snapshot!("create_room_40x12", screen(&mut model, 40, 12));
}

#[test]
fn help_lists_the_real_bindings_and_the_users() {
    let user = "global = [{ on = \"f5\", run = \"create-room\", desc = \"Make a room, my way\" }]";
    let mut model = sample::model(Keymap::load("default", Some((std::path::Path::new("keymap.toml"), user))).unwrap(), theme());
    press(&mut model, "f1");
    insta::assert_snapshot!("help_80x24", screen(&mut model, 80, 24));
    type_text(&mut model, "my way");
    let narrowed = screen(&mut model, 80, 24);
    assert!(narrowed.contains("f5*") && narrowed.contains("Make a room, my way"), "{narrowed}");
}

#[test]
fn switcher_palette_and_reactions() {
    let mut model = garden();
    press(&mut model, "ctrl+k");
    type_text(&mut model, "op");
    insta::assert_snapshot!("switcher", screen(&mut model, 80, 24));
    press(&mut model, "esc ctrl+p");
    type_text(&mut model, "topic");
    insta::assert_snapshot!("palette", screen(&mut model, 80, 24));
    press(&mut model, "esc alt+s +");
    insta::assert_snapshot!("reactions", screen(&mut model, 80, 24));
}

#[test]
fn selection_commands_and_reply() {
    let mut model = garden();
    press(&mut model, "alt+s up");
    insta::assert_snapshot!("selection", screen(&mut model, 80, 24));
    press(&mut model, "r");
    type_text(&mut model, "Great!");
    insta::assert_snapshot!("reply", screen(&mut model, 80, 24));
    press(&mut model, "esc ctrl+u");
    type_text(&mut model, "/t");
    insta::assert_snapshot!("slash", screen(&mut model, 80, 24));
}

#[test]
fn troubles_are_said_in_words() {
    let mut model = garden();
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    let failed = SendState::Failed { reason: "The server is full.".into(), will_retry: false };
    items.push(crate::client::view::Item { send_state: failed, ..sample::text(20, "Ann", 1, "lost?") });
    items.push(crate::client::view::Item { send_state: SendState::Sending, ..sample::text(21, "Ann", 1, "on its way") });
    let problem = crate::client::view::DecryptionProblem { reason: "Dana's device has not shared the key yet".into() };
    items.push(crate::client::view::Item { kind: ItemKind::Undecryptable(problem), ..sample::text(22, "Dana", 1, "") });
    let redacted = ItemKind::Redacted { by: Some("Bob".into()), reason: Some("spam".into()) };
    items.push(crate::client::view::Item { kind: redacted, ..sample::text(23, "Eve", 1, "") });
    let back = Pagination::Failed { reason: "timed out".into() };
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, back))));
    let mut session = sample::session();
    session.connection = Connection::Offline { reason: "home.example does not answer".into() };
    session.failed = 1;
    session.queued = 1;
    update(&mut model, Msg::Session(session));
    update(&mut model, Msg::Update(Update::Notice { text: "The disk is full.".into() }));
    insta::assert_snapshot!(screen(&mut model, 80, 24));
}

#[test]
fn news_is_not_marked_as_an_error() {
    let mut model = sample::model(keymap(), theme());
    update(&mut model, Msg::Update(Update::News { text: "History is backed up.".into() }));
    let screen = screen(&mut model, 80, 24);
    assert!(screen.contains("· History is backed up.") && !screen.contains("✗ History"), "{screen}");
}

#[test]
fn without_colour_no_cell_has_one() {
    let mut model = sample::model(keymap(), theme().for_depth(ColourDepth::None));
    press(&mut model, "alt+s up");
    let (buffer, _) = render(&mut model, 80, 24);
    for cell in buffer.content() {
        assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
    }
    let reversed = buffer.content().iter().any(|cell| cell.modifier.contains(ratatui::style::Modifier::REVERSED));
    assert!(reversed, "the selection is still to be seen");
}

/// A terminal of 80x24 that nobody looks at.
fn wire() -> Canvas<std::io::Sink> {
    Canvas::new(std::io::sink())
}

fn bytes(canvas: &mut Canvas<std::io::Sink>, model: &mut Model) -> u64 {
    let before = canvas.written();
    let paint = |area, buffer: &mut Buffer| {
        let cursor = screens::draw(model, area, buffer);
        Wants { cursor, scrolls: std::mem::take(&mut model.scrolls) }
    };
    canvas.draw(Size { width: 80, height: 24 }, paint).unwrap();
    canvas.written() - before
}

#[test]
fn an_unchanged_model_writes_no_bytes() {
    let mut terminal = wire();
    let mut model = garden();
    assert!(bytes(&mut terminal, &mut model) > 500);
    assert_eq!(bytes(&mut terminal, &mut model), 0);
    update(&mut model, Msg::Rooms(sample::rooms()));
    update(&mut model, Msg::Timeline(Some(sample::garden())));
    assert_eq!(bytes(&mut terminal, &mut model), 0, "equal snapshots change nothing");
}

#[test]
fn a_typed_character_writes_few_bytes() {
    let mut terminal = wire();
    let mut model = garden();
    bytes(&mut terminal, &mut model);
    type_text(&mut model, "h");
    bytes(&mut terminal, &mut model);
    for c in "ello there".chars() {
        type_text(&mut model, &c.to_string());
        let written = bytes(&mut terminal, &mut model);
        assert!(written <= 10, "{c:?} wrote {written} bytes");
    }
}

#[test]
fn an_arriving_message_does_not_write_the_whole_screen() {
    let mut terminal = wire();
    let mut model = garden();
    let whole = bytes(&mut terminal, &mut model);
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    items.push(sample::text(30, "Bob", 0, "Noon it is."));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::Idle))));
    let written = bytes(&mut terminal, &mut model);
    assert!(written > 0 && written < whole, "{written} of {whole}");
}

#[test]
fn two_megabytes_pasted_stay_fluent_and_are_not_sent() {
    let mut model = garden();
    let paste = "All work and no play makes Jack a dull boy.\r\n".repeat(47_000);
    assert!(paste.len() > 2_000_000);
    let effects = update(&mut model, Msg::Paste(paste.clone()));
    assert!(!effects.iter().any(|effect| format!("{effect:?}").contains("Send")), "{effects:?}");
    let text = screen(&mut model, 80, 24);
    assert!(text.contains("2.0 MB pasted, goes as a file"), "{text}");
    // What is kept is everything, whatever is typed next; time per key does not depend on the paste.
    type_text(&mut model, "hello");
    let started = std::time::Instant::now();
    for _ in 0..20 {
        type_text(&mut model, "x");
        render(&mut model, 80, 24);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(model.composer().draft(), format!("hello{}\n{}", "x".repeat(20), paste.replace("\r\n", "\n")));
    let effects = press(&mut model, "enter");
    assert!(effects.iter().any(|effect| matches!(effect, super::Effect::SendText { .. })), "{effects:?}");
}

/// Anything that can happen to the screen.
#[derive(Debug, Clone)]
enum Step {
    Key(Key),
    Text(String),
    Paste(String),
    Size(u16, u16),
    Items(usize, usize),
    Rooms(usize),
    Answer(u64, u8),
    Time(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let named = prop::sample::select(vec![
        "enter",
        "esc",
        "tab",
        "shift+tab",
        "up",
        "down",
        "left",
        "right",
        "home",
        "end",
        "pageup",
        "pagedown",
        "backspace",
        "delete",
        "space",
        "ctrl+k",
        "ctrl+p",
        "ctrl+b",
        "ctrl+u",
        "ctrl+w",
        "ctrl+home",
        "ctrl+end",
        "alt+a",
        "alt+1",
        "alt+2",
        "alt+3",
        "alt+c",
        "alt+d",
        "alt+i",
        "alt+j",
        "alt+m",
        "alt+q",
        "alt+r",
        "alt+s",
        "alt+t",
        "alt+u",
        "alt+w",
        "alt+enter",
        "alt+/",
        "alt+up",
        "alt+down",
        "alt+v",
        "f1",
        "?",
        "/",
        "r",
        "e",
        "+",
        "d",
        "y",
        "s",
        "x",
        "t",
        "T",
        "v",
        "g",
        "G",
        "b",
        "k",
        "j",
        "a",
        "L",
        "o",
    ]);
    prop_oneof![
        8 => named.prop_map(|key| Step::Key(key.parse().unwrap())),
        2 => "\\PC{1,8}".prop_map(Step::Text),
        2 => prop::sample::select(vec!["/topic", "/react :+1:", "/me ", "/nick", "@b", "#g", ":he", "//x", "/help", "/reply hi", "/theme "])
            .prop_map(|text| Step::Text(text.to_owned())),
        1 => "(\\PC|\n|\r|\t|\u{1b}){0,60}".prop_map(Step::Paste),
        3 => (1_u16..200, 1_u16..60).prop_map(|(w, h)| Step::Size(w, h)),
        2 => (0_usize..60, 0_usize..60).prop_map(|(from, count)| Step::Items(from, count)),
        1 => (0_usize..30).prop_map(Step::Rooms),
        1 => (0_u64..6, 0_u8..4).prop_map(|(ticket, kind)| Step::Answer(ticket, kind)),
        1 => (0_u64..20_000).prop_map(Step::Time),
    ]
}

fn history(from: usize, count: usize) -> Timeline {
    let bodies =
        ["hi", "", "a long message that has to be wrapped over several lines on a narrow terminal", "你好世界 🍅👩‍👩‍👧‍👦", "one\ntwo\n\nfour"];
    let items = (from..from + count).map(|n| {
        let unique = u64::try_from(n).unwrap();
        let body = bodies.get(n % bodies.len()).copied().unwrap_or_default();
        match n % 7 {
            0 => sample::other(unique, 60, ItemKind::DayDivider { timestamp_ms: sample::NOW_MS }),
            1 => sample::with(sample::text(unique, "Ann", 50, body), |m| m.editable = true),
            _ => sample::with(sample::text(unique, ["Bob", "Eve"].get(n % 2).copied().unwrap_or("Bob"), 40, body), |m| {
                m.body.html = (n % 5 == 0).then(|| format!("<blockquote><ul><li>{body}</li></ul></blockquote>"));
            }),
        }
    });
    sample::timeline("garden", items.collect(), if from == 0 { Pagination::AtStart } else { Pagination::Idle })
}

fn apply(model: &mut Model, step: Step, size: &mut (u16, u16)) {
    match step {
        Step::Key(key) => {
            update(model, Msg::Key(key));
        }
        Step::Text(text) => {
            type_text(model, &text);
        }
        Step::Paste(text) => {
            update(model, Msg::Paste(text));
        }
        Step::Size(width, height) => *size = (width, height),
        Step::Items(from, count) => {
            update(model, Msg::Timeline(Some(history(from, count))));
        }
        Step::Rooms(count) => {
            let rows = sample::rooms().rows.iter().cycle().take(count).map(|row| (**row).clone()).collect();
            update(model, Msg::Rooms(sample::list(rows)));
        }
        Step::Answer(ticket, kind) => {
            let ticket = Ticket(ticket);
            let answer = match kind {
                0 => Update::Done(ticket),
                1 => Update::Failed(ticket, "no".into()),
                2 => Update::RoomReady(ticket, sample::room("garden")),
                _ => Update::RoomClosed(sample::room("garden"), "gone".into()),
            };
            update(model, Msg::Update(answer));
        }
        Step::Time(ms) => {
            model.now_ms += ms;
            update(model, Msg::Tick);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_input_and_no_size_breaks_the_screen(steps in prop::collection::vec(step(), 1..40), preset in prop::sample::select(vec!["default", "vim", "emacs"])) {
        let mut model = sample::model(Keymap::load(preset, None).unwrap(), theme());
        let mut size = (80, 24);
        for step in steps {
            apply(&mut model, step, &mut size);
            let (_, cursor) = render(&mut model, size.0, size.1);
            if let Some((x, y)) = cursor {
                prop_assert!(x < size.0 && y < size.1);
            }
            update(&mut model, Msg::Drawn);
        }
    }

    #[test]
    fn no_input_breaks_the_welcome_screen(steps in prop::collection::vec(step(), 1..30)) {
        let mut model = welcome();
        let mut size = (80, 24);
        for step in steps {
            apply(&mut model, step, &mut size);
            render(&mut model, size.0, size.1);
        }
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut model = garden();
    for layer in ["", "f1", "ctrl+k", "alt+c", "alt+q", "alt+m"] {
        model.layers.clear();
        model.focus = Focus::Composer;
        if !layer.is_empty() {
            press(&mut model, layer);
        }
        for width in (1..=200).step_by(7) {
            for height in (1..=60).step_by(5) {
                render(&mut model, width, height);
            }
        }
    }
    let mut model = garden();
    for width in 1..=48 {
        for height in 1..=14 {
            render(&mut model, width, height);
        }
    }
    let mut first = welcome();
    for width in 1..=48 {
        for height in 1..=14 {
            render(&mut first, width, height);
        }
    }
}

#[test]
fn shrinking_and_growing_again_gives_the_same_screen() {
    let mut model = garden();
    let before = screen(&mut model, 80, 24);
    screen(&mut model, 40, 10);
    assert_eq!(screen(&mut model, 80, 24), before);
}

#[test]
fn hostile_text_cannot_reach_the_terminal() {
    let mut model = garden();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}evil\u{9b}31m\r";
    let item = sample::with(sample::text(40, evil, 0, evil), |m| m.body.html = None);
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    for row in &mut rows {
        row.name = format!("{evil}{}", row.name);
    }
    update(&mut model, Msg::Rooms(sample::list(rows)));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", vec![item], Pagination::AtStart))));
    let mut details = sample::details();
    details.topic = Some(evil.to_owned());
    details.name = evil.to_owned();
    update(&mut model, Msg::Details(Some(Arc::new(details))));
    update(&mut model, Msg::Update(Update::Notice { text: evil.into() }));
    let (buffer, _) = render(&mut model, 100, 30);
    for cell in buffer.content() {
        assert!(!cell.symbol().chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", cell.symbol());
    }
}
