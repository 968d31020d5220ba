//! From the script to what is done when: rooms with timed steps.
//!
//! Deterministic: the same seed, sizes and start give the same plan. Knows nothing of nodes and clients.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::script::{Act, Entry, Exchanges, GUEST, Person, Room, Script, ScriptError, When};

/// The room with the long history.
pub const LONG_ROOM: &str = "longtable";

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
/// What was said "today" in the script was said before this minute of the day.
const LAST_SCRIPTED_MINUTE: u64 = 9 * 60;
const UNREAD_AT_LONG_TABLE: usize = 12;
/// How far the long room goes back.
const LONG_DAYS: u64 = 30;

/// How large the demonstration is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rooms in all, at least those of the script.
    pub rooms: usize,
    /// Messages in the long room.
    pub messages: usize,
}

/// Something that is done in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Who does it.
    pub who: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// By what later steps call it.
    pub label: Option<String>,
    /// What.
    pub act: Deed,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A message.
    Say {
        /// Markdown.
        text: String,
        /// `/me`.
        emote: bool,
        /// Label of the line that it answers.
        reply_to: Option<String>,
        /// Label of the line whose thread it is in.
        thread: Option<String>,
    },
    /// Another text for a line.
    Edit {
        /// Label of the line.
        of: String,
        /// Markdown.
        text: String,
    },
    /// A reaction.
    React {
        /// Label of the line.
        to: String,
        /// Emoji.
        key: String,
    },
    /// A line is taken back.
    Redact {
        /// Label of the line.
        of: String,
        /// Why.
        reason: String,
    },
    /// A picture.
    Picture {
        /// Which one.
        name: String,
        /// Caption.
        caption: String,
    },
    /// The guest has read up to here.
    Read,
}

/// A room to be made.
#[derive(Debug, Clone)]
pub struct PlannedRoom {
    /// What it is.
    pub key: String,
    /// Name; none for a conversation of two.
    pub name: Option<String>,
    /// Topic.
    pub topic: Option<String>,
    /// Local part of its alias.
    pub alias: Option<String>,
    /// How people come in.
    pub entry: Entry,
    /// End-to-end encrypted.
    pub encrypted: bool,
    /// Keys of its children, for a space.
    pub children: Option<Vec<String>>,
    /// Everybody in it besides the guest; the first creates it.
    pub members: Vec<String>,
    /// When it was made.
    pub created_ms: u64,
    /// What happens in it, in order.
    pub steps: Vec<Step>,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Everybody besides the guest.
    pub people: Vec<Person>,
    /// The rooms, the smaller ones first, so that there is something to see early.
    pub rooms: Vec<PlannedRoom>,
}

/// Makes the plan. `now_ms` is the present, `offset_ms` what local time is ahead of UTC.
///
/// # Errors
/// When the script has a fault, which the tests would have found.
pub fn plan(seed: u64, size: Size, now_ms: u64, offset_ms: i64) -> Result<Plan, ScriptError> {
    let script = Script::embedded()?;
    let exchanges = Exchanges::embedded()?;
    let mut random = StdRng::seed_from_u64(seed);
    let today = Today::of(now_ms, offset_ms);
    let mut rooms: Vec<PlannedRoom> = script.rooms.iter().map(|room| planned(room, today, &mut random)).collect();
    let everybody: Vec<&str> = script.people.iter().map(|person| person.key).collect();
    rooms.push(long_room(&everybody, &exchanges, size.messages, now_ms, today, &mut random));
    for number in rooms.len()..size.rooms {
        rooms.push(spare_room(number, &everybody, &exchanges, now_ms, &mut random));
    }
    // A space is made once its children are there.
    rooms.sort_by_key(|room| (room.children.is_some(), room.steps.len() > 500));
    Ok(Plan { people: script.people, rooms })
}

/// The day that the script calls 0.
#[derive(Debug, Clone, Copy)]
struct Today {
    midnight_ms: u64,
}

impl Today {
    /// Today, or yesterday while it is too early for what the script says of today.
    fn of(now_ms: u64, offset_ms: i64) -> Self {
        let local = now_ms.saturating_add_signed(offset_ms);
        let into_day = local % DAY_MS;
        let midnight_ms = now_ms - into_day.min(now_ms);
        let early = into_day < LAST_SCRIPTED_MINUTE * MINUTE_MS;
        Self { midnight_ms: if early { midnight_ms.saturating_sub(DAY_MS) } else { midnight_ms } }
    }

    fn at(self, when: When) -> u64 {
        (self.midnight_ms + u64::from(when.minute) * MINUTE_MS).saturating_sub(u64::from(when.days_ago) * DAY_MS)
    }
}

fn planned(room: &Room, today: Today, random: &mut StdRng) -> PlannedRoom {
    let mut at_ms = today.at(When { days_ago: 7, minute: 9 * 60 });
    let created_ms = at_ms;
    let mut steps = Vec::new();
    for line in &room.lines {
        at_ms = match line.when {
            Some(when) => today.at(when),
            None => at_ms + random.random_range(20_000..3 * MINUTE_MS),
        };
        let owned = |text: &&str| (*text).to_owned();
        let say = |text: &String, reply: Option<&&str>, thread: Option<&&str>| Deed::Say {
            text: text.clone(),
            emote: false,
            reply_to: reply.map(owned),
            thread: thread.map(owned),
        };
        let act = match &line.act {
            Act::Say(text) => say(text, None, None),
            Act::Emote(text) => Deed::Say { text: text.clone(), emote: true, reply_to: None, thread: None },
            Act::Reply(label, text) => say(text, Some(label), None),
            Act::Thread(label, text) => say(text, None, Some(label)),
            Act::Edit(label, text) => Deed::Edit { of: owned(label), text: text.clone() },
            Act::React(label, key) => Deed::React { to: owned(label), key: owned(key) },
            Act::Redact(label, reason) => Deed::Redact { of: owned(label), reason: owned(reason) },
            Act::Read => Deed::Read,
            Act::Picture(name, caption) => Deed::Picture { name: owned(name), caption: owned(caption) },
        };
        steps.push(Step { who: line.who.to_owned(), at_ms, label: line.label.map(str::to_owned), act });
    }
    PlannedRoom {
        key: room.key.to_owned(),
        name: room.name.map(str::to_owned),
        topic: room.topic.map(str::to_owned),
        alias: room.alias.map(str::to_owned),
        entry: room.entry,
        encrypted: room.encrypted,
        children: room.children.as_ref().map(|children| children.iter().map(|child| (*child).to_owned()).collect()),
        members: room.members.iter().map(|member| (*member).to_owned()).collect(),
        created_ms,
        steps,
    }
}

/// Small talk of many days: clusters of exchanges in daylight.
fn long_room(people: &[&str], exchanges: &Exchanges, messages: usize, now_ms: u64, today: Today, random: &mut StdRng) -> PlannedRoom {
    let texts = small_talk(people, exchanges, messages, random);
    let start_ms = today.midnight_ms.saturating_sub(LONG_DAYS * DAY_MS);
    let end_ms = now_ms.saturating_sub(2 * MINUTE_MS);
    let days = usize::try_from(LONG_DAYS + 1).unwrap_or(1);
    let per_day = texts.len().div_ceil(days).max(1);
    let mut steps = Vec::with_capacity(texts.len());
    for (day, texts) in (0_u64..).zip(texts.chunks(per_day)) {
        let morning = start_ms + day * DAY_MS + 8 * 60 * MINUTE_MS;
        let evening = (morning + 14 * 60 * MINUTE_MS).min(end_ms);
        let mut at_ms = morning.min(end_ms);
        for (left, said) in (1..=texts.len() as u64).rev().zip(texts) {
            let mean = evening.saturating_sub(at_ms) / left;
            at_ms += random.random_range(0..=mean.max(1).saturating_mul(2)).min(evening.saturating_sub(at_ms));
            let text = said.1.clone();
            steps.push(Step {
                who: said.0.clone(),
                at_ms,
                label: None,
                act: Deed::Say { text, emote: false, reply_to: None, thread: None },
            });
        }
    }
    decorate(&mut steps, people, random);
    let unread = steps.len().saturating_sub(UNREAD_AT_LONG_TABLE);
    if let Some(at_ms) = steps.get(unread).map(|step| step.at_ms) {
        steps.insert(unread, Step { who: GUEST.to_owned(), at_ms, label: None, act: Deed::Read });
    }
    PlannedRoom {
        key: LONG_ROOM.to_owned(),
        name: Some("Long table".to_owned()),
        topic: Some("Everything else. Scroll up: there is a lot of it.".to_owned()),
        alias: Some("long-table".to_owned()),
        entry: Entry::Public,
        encrypted: false,
        children: None,
        members: people.iter().map(|key| (*key).to_owned()).collect(),
        created_ms: start_ms,
        steps,
    }
}

/// Gives some lines a label and a reaction or two.
fn decorate(steps: &mut Vec<Step>, people: &[&str], random: &mut StdRng) {
    const KEYS: [&str; 6] = ["👍", "❤️", "😄", "🙏", "🎉", "☕"];
    let mut decorated = Vec::with_capacity(steps.len());
    for (number, mut step) in steps.drain(..).enumerate() {
        let at_ms = step.at_ms;
        let liked = random.random_bool(0.04);
        if liked {
            step.label = Some(format!("l{number}"));
        }
        decorated.push(step);
        if liked && let (Some(who), Some(key)) = (people.choose(random), KEYS.choose(random)) {
            let act = Deed::React { to: format!("l{number}"), key: (*key).to_owned() };
            decorated.push(Step { who: (*who).to_owned(), at_ms: at_ms + 1, label: None, act });
        }
    }
    *steps = decorated;
}

/// A room that is only there to be many.
fn spare_room(number: usize, people: &[&str], exchanges: &Exchanges, now_ms: u64, random: &mut StdRng) -> PlannedRoom {
    const NAMES: [&str; 12] =
        ["Attic", "Cellar", "Courtyard", "Darkroom", "Foundry", "Gallery", "Hayloft", "Orchard", "Pantry", "Quay", "Studio", "Terrace"];
    let name = NAMES.choose(random).copied().unwrap_or("Room");
    let members: Vec<String> = people.choose_multiple(random, 2).map(|key| (*key).to_owned()).collect();
    let keys: Vec<&str> = members.iter().map(String::as_str).collect();
    let start_ms = now_ms.saturating_sub(random.random_range(1..20 * DAY_MS) + 60 * MINUTE_MS);
    let steps = small_talk(&keys, exchanges, 3, random).into_iter().zip(1_u64..).map(|((who, text), index)| Step {
        who,
        at_ms: start_ms + index * MINUTE_MS,
        label: None,
        act: Deed::Say { text, emote: false, reply_to: None, thread: None },
    });
    PlannedRoom {
        key: format!("spare{number}"),
        name: Some(format!("{name} {number}")),
        topic: None,
        alias: None,
        entry: Entry::Public,
        encrypted: false,
        children: None,
        steps: steps.collect(),
        members,
        created_ms: start_ms,
    }
}

/// This many lines of small talk: who says what.
fn small_talk(people: &[&str], exchanges: &Exchanges, count: usize, random: &mut StdRng) -> Vec<(String, String)> {
    let mut lines = Vec::with_capacity(count);
    while lines.len() < count {
        let said = exchange(people, exchanges, random);
        if said.is_empty() {
            break;
        }
        lines.extend(said);
    }
    lines.truncate(count);
    lines
}

/// One exchange: who says what. Empty when there is nobody to say it.
pub fn exchange(people: &[&str], exchanges: &Exchanges, random: &mut StdRng) -> Vec<(String, String)> {
    let Some(exchange) = exchanges.exchanges.choose(random) else { return Vec::new() };
    let speakers: Vec<&&str> = people.choose_multiple(random, 3).collect();
    let mut chosen = std::collections::BTreeMap::new();
    let mut lines = Vec::with_capacity(exchange.len());
    for (speaker, text) in exchange {
        let Some(who) = speaker.checked_rem(speakers.len()).and_then(|index| speakers.get(index)) else { break };
        lines.push(((**who).to_owned(), filled(text, exchanges, &mut chosen, random)));
    }
    lines
}

/// The text with its `{word}`s chosen, each once per exchange, and a capital letter in front.
fn filled<'a>(
    text: &'a str,
    exchanges: &Exchanges,
    chosen: &mut std::collections::BTreeMap<&'a str, &'static str>,
    random: &mut StdRng,
) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((word, after)) = after.split_once('}') else { break };
        out.push_str(before);
        let value =
            *chosen.entry(word).or_insert_with(|| exchanges.words.get(word).and_then(|words| words.choose(random)).copied().unwrap_or(""));
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    let mut characters = out.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    const NOW: u64 = 1_795_262_400_000; // 2026-11-21 12:00 UTC
    const SIZE: Size = Size { rooms: 0, messages: 3200 };

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let [first, second, other] = [1, 1, 2].map(|seed| plan(seed, SIZE, NOW, 0).unwrap());
        let steps = |plan: &Plan| plan.rooms.iter().flat_map(|room| room.steps.clone()).collect::<Vec<_>>();
        assert_eq!(steps(&first), steps(&second));
        assert_ne!(steps(&first), steps(&other));
    }

    #[test]
    fn time_only_goes_forward_and_ends_before_now() {
        for (now, offset) in [(NOW, 0), (NOW - 9 * 60 * MINUTE_MS, 0), (NOW, 5 * 3_600_000), (NOW, -11 * 3_600_000)] {
            for room in plan(1, SIZE, now, offset).unwrap().rooms {
                let times: Vec<u64> = std::iter::once(room.created_ms).chain(room.steps.iter().map(|step| step.at_ms)).collect();
                assert!(times.is_sorted(), "{}", room.key);
                assert!(times.iter().all(|time| *time < now), "{}", room.key);
            }
        }
    }

    #[test]
    fn the_sizes_are_kept() {
        let made = plan(1, Size { rooms: 60, messages: 500 }, NOW, 0).unwrap();
        assert_eq!(made.rooms.len(), 60);
        let long = made.rooms.iter().find(|room| room.key == LONG_ROOM).unwrap();
        assert_eq!(long.steps.iter().filter(|step| matches!(step.act, Deed::Say { .. })).count(), 500);
        assert!(
            made.rooms.iter().flat_map(|room| &room.steps).all(|step| !matches!(&step.act, Deed::Say { text, .. } if text.contains('{')))
        );
    }

    #[test]
    fn a_space_comes_after_its_children() {
        let rooms = plan(1, SIZE, NOW, 0).unwrap().rooms;
        let place = |key: &str| rooms.iter().position(|room| room.key == key).unwrap();
        let space = rooms.iter().find(|room| room.children.is_some()).unwrap();
        for child in space.children.iter().flatten() {
            assert!(place(child) < place(&space.key));
        }
    }
}
