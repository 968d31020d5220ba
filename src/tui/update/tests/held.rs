//! Tests of what is selected, and read, while something else than the newest is shown.

use super::*;

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

fn numbered(range: std::ops::Range<u64>, shift: u64) -> Msg {
    let items =
        range.map(|n| crate::client::view::Item { unique: n + shift, ..sample::text(n, "Ann", 3_000 - n, &format!("line number {n:04}")) });
    Msg::Timeline(Some(sample::timeline("garden", items.collect(), Pagination::Idle)))
}

/// Somebody reads further up, in what is held while the client half has begun anew.
fn holding() -> Model {
    let mut model = garden();
    update(&mut model, numbered(0..200, 0));
    draw(&mut model);
    press(&mut model, "alt+s pageup pageup pageup");
    draw(&mut model);
    update(&mut model, numbered(230..240, 1_000));
    draw(&mut model);
    assert!(model.view.held.is_some());
    model
}

#[test]
fn what_is_selected_in_held_history_is_what_is_meant() {
    let mut model = holding();
    let selected = model.view.selected.unwrap();
    assert!(selected < 200 && screen(&mut model, 80, 24).contains(&format!("line number {selected:04}")), "{selected} is on screen");
    let removed = commands(press(&mut model, "d y"));
    let meant = ItemId::Event(sample::event(selected));
    assert!(matches!(&removed[..], [Command::Redact { item, .. }] if *item == meant), "{removed:?}, not {meant:?}");
    // Found again and counted anew, the selection is the same message.
    update(&mut model, numbered(100..240, 1_000));
    assert!(model.view.held.is_none());
    assert_eq!(model.selected_item().and_then(|item| item.id.clone()), Some(meant));
}

#[test]
fn a_selected_message_that_a_new_beginning_does_not_have_is_no_other_message() {
    let mut model = garden();
    update(&mut model, numbered(0..20, 0));
    draw(&mut model);
    press(&mut model, "alt+s up up");
    draw(&mut model);
    update(&mut model, numbered(100..105, 1_000));
    draw(&mut model);
    assert!(commands(press(&mut model, "d y")).is_empty());
    press(&mut model, "down");
    draw(&mut model);
    let removed = commands(press(&mut model, "d y"));
    assert!(matches!(&removed[..], [Command::Redact { item, .. }] if *item == ItemId::Event(sample::event(104))), "{removed:?}");
}

#[test]
fn a_selected_message_that_is_gone_is_no_other_message() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s up");
    model.view.selected = Some(4_711);
    assert!(commands(press(&mut model, "d y")).is_empty());
    assert!(model.layers.is_empty());
    assert_eq!(notice(&model), "select a message first");
}

#[test]
fn messages_that_nobody_sees_behind_held_history_are_not_read() {
    let mut model = garden();
    update(&mut model, numbered(0..200, 0));
    draw(&mut model);
    press(&mut model, "pageup");
    draw(&mut model);
    update(&mut model, numbered(230..240, 1_000));
    // The end of what is held comes on screen, not that of the room.
    press(&mut model, "pagedown pagedown");
    assert!(!draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
    assert!(model.view.held.is_some() && model.view.at_bottom);
}

#[test]
fn a_room_behind_a_thread_that_covers_it_is_not_read() {
    let mut model = garden();
    draw(&mut model);
    press(&mut model, "alt+s up t");
    draw(&mut model);
    let mut items: Vec<_> = sample::garden().items.iter().map(|item| (**item).clone()).collect();
    items.push(sample::text(50, "Bob", 1, "unseen"));
    update(&mut model, Msg::Timeline(Some(sample::timeline("garden", items, Pagination::AtStart))));
    assert!(!draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
    press(&mut model, "alt+s T");
    assert!(draw(&mut model).iter().any(|c| matches!(c, Command::MarkRead { .. })));
}
