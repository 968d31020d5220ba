//! Tests of the timeline: the place is kept whatever is loaded or arrives.
#![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]

use proptest::prelude::*;
use ratatui::layout::Rect;

use super::*;
use crate::{
    client::view::Pagination,
    tui::{sample, theme::Theme},
};

struct Stage {
    view: TimelineView,
    layouts: Layouts,
    theme: Theme,
    generation: u32,
}

impl Stage {
    fn new() -> Self {
        Self { view: TimelineView::default(), layouts: Layouts::default(), theme: Theme::load("dark", None).unwrap(), generation: 0 }
    }

    fn draw(&mut self, timeline: &Timeline, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buf = Buffer::empty(area);
        let look = Look { theme: &self.theme, generation: self.generation, zone: Zone::UTC, focused: true, keys: ("s", "x") };
        draw(timeline, &mut self.view, &mut self.layouts, look, area, &mut buf, &mut Vec::new());
        (0..height).map(|y| (0..width).map(|x| buf.cell((x, y)).unwrap().symbol()).collect::<String>().trim_end().to_owned()).collect()
    }
}

/// Messages by turns, so that each has its sender's line.
fn numbered(range: std::ops::Range<u64>) -> Timeline {
    let items = range.map(|n| sample::text(n, if n % 2 == 0 { "Bob" } else { "Eve" }, 2_000_000 - n, &format!("message {n}"))).collect();
    sample::timeline("garden", items, Pagination::Idle)
}

#[test]
fn follows_the_newest_until_somebody_scrolls_up() {
    let mut stage = Stage::new();
    assert_eq!(stage.draw(&numbered(0..50), 60, 10).last().unwrap().trim(), "message 49");
    assert_eq!(stage.draw(&numbered(0..51), 60, 10).last().unwrap().trim(), "message 50");
    stage.view.motions.push(Motion::Pages(-1));
    let before = stage.draw(&numbered(0..51), 60, 10);
    assert_eq!(stage.draw(&numbered(0..55), 60, 10), before, "new messages do not move what is read");
    assert_eq!((stage.view.new_below, stage.view.at_bottom), (4, false));
    stage.view.motions.push(Motion::Bottom);
    assert_eq!(stage.draw(&numbered(0..55), 60, 10).last().unwrap().trim(), "message 54");
    assert_eq!(stage.view.new_below, 0);
}

#[test]
fn folds_are_found_once_for_a_snapshot() {
    let (first, second) = (numbered(0..50), numbered(0..51));
    let mut layouts = Layouts::default();
    let found = layouts.folds(&first.items);
    layouts.folds(&second.items);
    assert!(Arc::ptr_eq(&found, &layouts.folds(&first.items)), "the room's and the thread's are both kept");
    layouts.folds(&numbered(0..52).items);
    assert!(!Arc::ptr_eq(&found, &layouts.folds(&first.items)), "and no others");
}

#[test]
fn history_loaded_above_does_not_move_the_screen() {
    let mut stage = Stage::new();
    stage.draw(&numbered(100..150), 60, 10);
    stage.view.motions.push(Motion::Top);
    let before = stage.draw(&numbered(100..150), 60, 10);
    assert!(stage.view.near_top);
    assert_eq!(stage.draw(&numbered(20..150), 60, 10), before);
    assert!(!stage.view.near_top);
}

#[test]
fn page_up_and_down_come_back_to_the_same_place() {
    let mut stage = Stage::new();
    stage.draw(&numbered(0..80), 60, 12);
    stage.view.motions.push(Motion::Lines(-40));
    let before = stage.draw(&numbered(0..80), 60, 12);
    stage.view.motions.extend([Motion::Pages(-1), Motion::Pages(1)]);
    assert_eq!(stage.draw(&numbered(0..80), 60, 12), before);
}

#[test]
fn scrolling_past_either_end_stops_there() {
    let mut stage = Stage::new();
    stage.view.motions.push(Motion::Lines(-100_000));
    let lines = stage.draw(&numbered(0..30), 60, 10);
    assert!(lines.first().unwrap().ends_with("Bob"), "{lines:?}");
    stage.view.motions.push(Motion::Lines(100_000));
    assert_eq!(stage.draw(&numbered(0..30), 60, 10).last().unwrap().trim(), "message 29");
    assert!(stage.view.at_bottom);
}

#[test]
fn a_selected_message_is_brought_on_screen() {
    let mut stage = Stage::new();
    stage.draw(&numbered(0..50), 60, 10);
    for unique in [10, 45, 0, 49] {
        stage.view.motions.push(Motion::Show(unique));
        let lines = stage.draw(&numbered(0..50), 60, 10);
        assert!(lines.iter().any(|line| line.ends_with(&format!("message {unique}"))), "{unique}: {lines:?}");
    }
}

#[test]
fn scrolling_takes_the_selection_along() {
    let mut stage = Stage::new();
    stage.view.selected = Some(79);
    stage.draw(&numbered(0..80), 60, 12);
    stage.view.motions.push(Motion::Lines(-1));
    stage.draw(&numbered(0..80), 60, 12);
    assert_eq!(stage.view.selected, Some(79), "it stays while it is on screen");
    stage.view.motions.extend([Motion::Pages(-1), Motion::Pages(-1)]);
    let lines = stage.draw(&numbered(0..80), 60, 12);
    assert!(lines.iter().any(|line| line.starts_with('▌')), "{lines:?}");
    assert_ne!(stage.view.selected, Some(79));
}

#[test]
fn an_anchor_whose_item_is_gone_finds_its_time() {
    let mut stage = Stage::new();
    stage.draw(&numbered(0..60), 60, 10);
    stage.view.motions.push(Motion::At(30));
    stage.draw(&numbered(0..60), 60, 10);
    let without: Vec<Item> = numbered(0..60).items.iter().filter(|i| i.unique != 30).map(|i| (**i).clone()).collect();
    let lines = stage.draw(&sample::timeline("garden", without, Pagination::Idle), 60, 10);
    assert!(lines.iter().any(|line| line.ends_with("message 31")), "{lines:?}");
}

#[test]
fn an_item_is_laid_out_once_until_it_changes() {
    let mut stage = Stage::new();
    let timeline = numbered(0..5);
    stage.draw(&timeline, 60, 30);
    let kept = |stage: &Stage| -> Vec<*const Line<'static>> {
        let mut all: Vec<_> = stage.layouts.kept.iter().map(|(key, kept)| (*key, kept.lines.as_ptr())).collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, pointer)| pointer).collect()
    };
    let first = kept(&stage);
    stage.draw(&timeline, 60, 30);
    assert_eq!(kept(&stage), first, "drawn again, nothing was laid out again");
    stage.generation += 1;
    stage.draw(&timeline, 60, 30);
    assert_ne!(kept(&stage), first, "another theme makes other lines");
}

#[test]
fn layouts_are_bounded() {
    let mut stage = Stage::new();
    for part in 0..40_u64 {
        stage.view.anchor = crate::tui::model::Anchor::Bottom;
        stage.draw(&numbered(part * 1_000..part * 1_000 + 200), 60, 400);
    }
    assert!(stage.layouts.len() <= KEPT + 1_000, "{}", stage.layouts.len());
}

#[test]
fn rooms_with_the_same_counters_do_not_share_layouts() {
    let mut stage = Stage::new();
    stage.draw(&numbered(0..3), 60, 10);
    let other = sample::timeline("ops", vec![sample::text(2, "Dana", 1, "elsewhere")], Pagination::AtStart);
    stage.view = TimelineView::default();
    assert!(stage.draw(&other, 60, 10).iter().any(|line| line.ends_with("elsewhere")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is loaded above, at whatever size: the first line that was on screen is still the first.
    #[test]
    fn prepending_never_moves_the_first_line(count in 20_u64..80, up in 1_i32..200, older in 1_u64..100, width in 30_u16..100, height in 3_u16..30) {
        let mut stage = Stage::new();
        stage.draw(&numbered(1000..1000 + count), width, height);
        stage.view.motions.push(Motion::Lines(-up));
        let before = stage.draw(&numbered(1000..1000 + count), width, height);
        let after = stage.draw(&numbered(1000 - older..1000 + count), width, height);
        // The first loaded message may now stand under the name of the one before it.
        prop_assert_eq!(before.get(1..), after.get(1..));
    }
}
