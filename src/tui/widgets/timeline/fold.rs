//! Changes of a room that follow one another, as one line: a new room would otherwise begin with a screenful of them.

use std::sync::Arc;

use crate::{
    client::view::{Item, ItemKind},
    tui::text,
};

/// What every new room says of itself, and nobody needs to read.
const ROUTINE: [&str; 8] = [
    "joined",
    "changed the permissions",
    "decided: only invited people may join",
    "decided: anybody may join",
    "made the history visible to all members",
    "let guests join",
    "keeps guests out",
    "changed the space this room belongs to",
];
/// How the sentence of a room's first event ends.
const CREATED: &str = "created the room";
/// Names in front of what several people did alike; the others are counted.
const NAMES: usize = 4;

/// A run of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Index of the first.
    pub start: usize,
    /// How many, at least two.
    pub count: usize,
}

fn is_change(item: &Item) -> bool {
    matches!(item.kind, ItemKind::State(_))
}

fn is_creation(item: &Item) -> bool {
    matches!(&item.kind, ItemKind::State(change) if change.text.ends_with(CREATED))
}

/// The runs of a timeline, in order. What a room's creator did to begin with is a run of its own: who came then is news.
#[must_use]
pub fn folds(items: &[Arc<Item>]) -> Vec<Fold> {
    let mut folds = Vec::new();
    let mut start = 0;
    for run in items.chunk_by(|a, b| is_change(a) && is_change(b)) {
        let creator = run.first().filter(|first| is_creation(first)).map(|first| &first.sender);
        let own = creator.map_or(0, |creator| run.iter().take_while(|item| item.sender == *creator).count());
        for (start, count) in [(start, own), (start + own, run.len() - own)] {
            if count > 1 {
                folds.push(Fold { start, count });
            }
        }
        start += run.len();
    }
    folds
}

/// The run that an item is in.
#[must_use]
pub fn at(folds: &[Fold], index: usize) -> Option<Fold> {
    let next = folds.partition_point(|fold| fold.start <= index);
    folds.get(next.checked_sub(1)?).copied().filter(|fold| index < fold.start + fold.count)
}

/// True for the first of a run, which stands for all of it.
#[must_use]
pub fn is_head(folds: &[Fold], index: usize) -> bool {
    at(folds, index).is_some_and(|fold| fold.start == index)
}

/// Who did what.
struct Group {
    who: Vec<String>,
    what: Vec<String>,
}

/// A run as one sentence: `Ann created the room and invited Bob; Carol and Dan joined`.
#[must_use]
pub fn sentence(run: &[Arc<Item>]) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for item in run {
        let ItemKind::State(change) = &item.kind else { continue };
        let whole = text::one_line(&change.text);
        let name = text::one_line(&item.sender_name);
        let (who, what) = match whole.strip_prefix(&name).and_then(|rest| rest.strip_prefix(' ')) {
            Some(what) if !name.is_empty() => (name, what.to_owned()),
            _ => (String::new(), whole),
        };
        match groups.iter_mut().find(|group| !who.is_empty() && group.who == [who.as_str()]) {
            Some(group) => add(&mut group.what, what),
            None => groups.push(Group { who: vec![who], what: vec![what] }),
        }
    }
    let sentences: Vec<String> = together(groups).into_iter().map(said).collect();
    sentences.join("; ")
}

/// People who did the same stand together.
fn together(groups: Vec<Group>) -> Vec<Group> {
    let mut together: Vec<Group> = Vec::with_capacity(groups.len());
    for group in groups {
        match together.iter_mut().find(|other| other.what == group.what && other.who != [""]) {
            Some(other) if group.who != [""] => other.who.extend(group.who),
            _ => together.push(group),
        }
    }
    together
}

/// `invited Bob`, then `invited Carol`: `invited Bob, Carol`.
fn add(what: &mut Vec<String>, next: String) {
    if let Some(last) = what.last_mut()
        && last.starts_with("invited ")
        && let Some(name) = next.strip_prefix("invited ")
    {
        last.push_str(", ");
        last.push_str(name);
    } else if !what.contains(&next) {
        what.push(next);
    }
}

fn said(group: Group) -> String {
    let Group { who, mut what } = group;
    if what.iter().any(|what| what == CREATED) {
        what.retain(|what| !ROUTINE.contains(&what.as_str()));
    }
    let what = and(&what);
    let who = if who.len() > NAMES {
        let (first, others) = who.split_at(NAMES - 1);
        format!("{} and {} others", first.join(", "), others.len())
    } else {
        and(&who)
    };
    format!("{who} {what}").trim().to_owned()
}

fn and(words: &[String]) -> String {
    match words.split_last() {
        Some((last, earlier)) if !earlier.is_empty() => format!("{} and {last}", earlier.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::view::StateChange, tui::sample};

    fn change(unique: u64, who: &str, what: &str) -> Arc<Item> {
        let text = if what.starts_with('*') { what.trim_start_matches('*').to_owned() } else { format!("{who} {what}") };
        let kind = ItemKind::State(StateChange { text, is_membership: false });
        Arc::new(Item { kind, ..sample::text(unique, who, 5, "") })
    }

    #[test]
    fn a_new_room_is_one_sentence_without_what_every_room_has() {
        let run: Vec<_> = [
            "created the room",
            "joined",
            "changed the permissions",
            "decided: only invited people may join",
            "turned on end-to-end encryption",
            "named the room \"Den\"",
            "invited Bob",
            "invited Carol",
        ]
        .into_iter()
        .zip(1..)
        .map(|(what, unique)| change(unique, "Ann", what))
        .collect();
        assert_eq!(sentence(&run), "Ann created the room, turned on end-to-end encryption, named the room \"Den\" and invited Bob, Carol");
    }

    #[test]
    fn people_who_did_the_same_are_named_together() {
        let names = ["Ann", "Bob", "Carol", "Dan", "Eve", "Bob"];
        let run: Vec<_> = names.into_iter().zip(1..).map(|(who, unique)| change(unique, who, "joined")).collect();
        assert_eq!(sentence(run.get(..2).unwrap_or_default()), "Ann and Bob joined");
        assert_eq!(sentence(&run), "Ann, Bob, Carol and 2 others joined");
        let mixed = [change(1, "Ann", "joined"), change(2, "Ann", "*Bob removed Carol"), change(3, "Bob", "left")];
        assert_eq!(sentence(&mixed), "Ann joined; Bob removed Carol; Bob left");
    }

    #[test]
    fn whoever_comes_after_the_creation_is_not_hidden_in_it() {
        let items = [
            change(1, "Ann", "created the room"),
            change(2, "Ann", "invited Bob"),
            change(3, "Bob", "joined"),
            change(4, "Carol", "joined"),
        ];
        assert_eq!(folds(&items), [Fold { start: 0, count: 2 }, Fold { start: 2, count: 2 }]);
        assert_eq!(folds(items.get(..3).unwrap_or_default()), [Fold { start: 0, count: 2 }], "one who came has a line of their own");
    }

    #[test]
    fn a_room_of_several_people_says_who_came() {
        let run = [
            change(1, "Ann", "created the room"),
            change(2, "Ann", "invited Bob"),
            change(3, "Bob", "joined"),
            change(4, "Ann", "invited Carol"),
            change(5, "Carol", "joined"),
        ];
        assert_eq!(sentence(&run), "Ann created the room and invited Bob, Carol; Bob and Carol joined");
    }

    #[test]
    fn only_changes_without_anything_between_them_are_a_run() {
        let items = [
            change(1, "Ann", "joined"),
            Arc::new(sample::text(2, "Bob", 4, "hello")),
            change(3, "Ann", "left"),
            change(4, "Ann", "joined"),
            change(5, "Bob", "left"),
        ];
        let folds = folds(&items);
        assert_eq!(folds, [Fold { start: 2, count: 3 }]);
        assert_eq!((0..6).map(|index| at(&folds, index).is_some()).collect::<Vec<_>>(), [false, false, true, true, true, false]);
        assert_eq!((0..6).map(|index| is_head(&folds, index)).collect::<Vec<_>>(), [false, false, true, false, false, false]);
    }
}
