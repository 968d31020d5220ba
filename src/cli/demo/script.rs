//! Reads the written part of the demonstration: who is there, which rooms there are, what has been said.
//!
//! Knows the form of `script.txt` and `exchanges.txt`, nothing of nodes and clients. Both files are part of the program, so
//! a fault in them is ours; the tests read them.

use std::collections::BTreeMap;

/// The account of whoever looks around.
pub const GUEST: &str = "robin";

/// A fault in the script.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the script: {why}")]
pub struct ScriptError {
    line: usize,
    why: &'static str,
}

/// A simulated person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// Localpart.
    pub key: &'static str,
    /// Display name.
    pub name: &'static str,
}

/// How people come into a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Anybody joins.
    Public,
    /// By invitation; the guest has accepted.
    Private,
    /// By invitation; the guest has not answered yet.
    Invited,
    /// A conversation of two.
    Direct,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What the script calls it.
    pub key: &'static str,
    /// Name; none for a conversation of two.
    pub name: Option<&'static str>,
    /// Topic.
    pub topic: Option<&'static str>,
    /// Local part of its alias.
    pub alias: Option<&'static str>,
    /// How people come in.
    pub entry: Entry,
    /// End-to-end encrypted.
    pub encrypted: bool,
    /// Children, for a space.
    pub children: Option<Vec<&'static str>>,
    /// Members besides the guest; the first created it.
    pub members: Vec<&'static str>,
    /// What has happened in it.
    pub lines: Vec<Line>,
}

/// When something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// Days ago.
    pub days_ago: u32,
    /// Minute of that day.
    pub minute: u32,
}

/// Something that somebody did in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Set on the first line after a `day`.
    pub when: Option<When>,
    /// Who.
    pub who: &'static str,
    /// What others call it by.
    pub label: Option<&'static str>,
    /// What.
    pub act: Act,
}

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Said something (markdown).
    Say(String),
    /// `/me`.
    Emote(String),
    /// Answered a line.
    Reply(&'static str, String),
    /// Said something in the thread of a line.
    Thread(&'static str, String),
    /// Changed a line.
    Edit(&'static str, String),
    /// Reacted to a line.
    React(&'static str, &'static str),
    /// Took a line back.
    Redact(&'static str, &'static str),
    /// Showed a picture.
    Picture(&'static str, &'static str),
    /// Has read up to here.
    Read,
}

impl Act {
    /// The label that it refers to.
    fn target(&self) -> Option<&'static str> {
        match self {
            Self::Reply(label, _) | Self::Thread(label, _) | Self::Edit(label, _) | Self::React(label, _) | Self::Redact(label, _) => {
                Some(label)
            }
            Self::Say(_) | Self::Emote(_) | Self::Picture(..) | Self::Read => None,
        }
    }
}

/// The whole script.
#[derive(Debug, Default)]
pub struct Script {
    /// Everybody but the guest.
    pub people: Vec<Person>,
    /// The rooms, each before the space that holds it is finished.
    pub rooms: Vec<Room>,
}

impl Script {
    /// The script that is part of the program.
    ///
    /// # Errors
    /// When it has a fault, which the tests would have found.
    pub fn embedded() -> Result<Self, ScriptError> {
        Self::parse(include_str!("script.txt"))
    }

    fn parse(text: &'static str) -> Result<Self, ScriptError> {
        let mut script = Self::default();
        let mut when = None;
        for (index, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                script.line(line, &mut when).map_err(|why| ScriptError { line: index + 1, why })?;
            }
        }
        Ok(script)
    }

    fn line(&mut self, line: &'static str, when: &mut Option<When>) -> Result<(), &'static str> {
        if line == "read" {
            let line = Line { when: when.take(), who: GUEST, label: None, act: Act::Read };
            self.last()?.lines.push(line);
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').ok_or("one word alone")?;
        match word {
            "person" => {
                let (key, name) = rest.split_once(" | ").ok_or("a person without a name")?;
                self.people.push(Person { key, name });
            }
            "room" | "space" => {
                *when = None;
                self.rooms.push(room(rest, word == "space")?);
            }
            "topic" => self.last()?.topic = Some(rest),
            "members" => self.last()?.members = rest.split(' ').collect(),
            "children" => self.last()?.children = Some(rest.split(' ').collect()),
            "day" => *when = Some(day(rest)?),
            _ => {
                let line = said(line, when.take())?;
                let known = self.people.iter().any(|person| person.key == line.who) || line.who == GUEST;
                let room = self.last()?;
                let target = line.act.target();
                if !known {
                    return Err("nobody has that name");
                }
                if target.is_some_and(|target| !room.lines.iter().any(|earlier| earlier.label == Some(target))) {
                    return Err("no line has that label");
                }
                room.lines.push(line);
            }
        }
        Ok(())
    }

    fn last(&mut self) -> Result<&mut Room, &'static str> {
        self.rooms.last_mut().ok_or("no room has begun")
    }
}

fn room(rest: &'static str, space: bool) -> Result<Room, &'static str> {
    let (options, name) = rest.split_once(" | ").ok_or("a room without a name")?;
    let mut options = options.split(' ');
    let key = options.next().ok_or("a room without a key")?;
    let name = Some(name).filter(|name| *name != "-");
    let children = space.then(Vec::new);
    let mut room = Room {
        key,
        name,
        topic: None,
        alias: None,
        entry: Entry::Private,
        encrypted: false,
        children,
        members: Vec::new(),
        lines: Vec::new(),
    };
    for option in options {
        match option.split_once('=') {
            Some(("alias", alias)) => room.alias = Some(alias),
            Some(("direct", who)) => {
                room.entry = Entry::Direct;
                room.members = vec![who];
            }
            None if option == "public" => room.entry = Entry::Public,
            None if option == "private" => room.entry = Entry::Private,
            None if option == "invite" => room.entry = Entry::Invited,
            None if option == "encrypted" => room.encrypted = true,
            _ => return Err("an unknown option"),
        }
    }
    Ok(room)
}

fn day(rest: &str) -> Result<When, &'static str> {
    let (day, time) = rest.split_once(' ').ok_or("a day without a time")?;
    let (hour, minute) = time.split_once(':').ok_or("a time without a colon")?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| "not a number");
    Ok(When { days_ago: number(day.trim_start_matches('-'))?, minute: number(hour)? * 60 + number(minute)? })
}

fn said(line: &'static str, when: Option<When>) -> Result<Line, &'static str> {
    // A colon right after the first words ends the head; a reaction and a redaction have none.
    let (who, rest) = line.split_once([' ', ':']).ok_or("neither a colon nor a sign")?;
    let unescape = |text: &str| text.trim_start().replace("\\n", "\n");
    if line.as_bytes().get(who.len()) == Some(&b':') {
        return Ok(Line { when, who, label: None, act: Act::Say(unescape(rest)) });
    }
    let mut characters = rest.chars();
    let sign = characters.next().ok_or("a name alone")?;
    let rest = characters.as_str();
    let texted = || rest.split_once(':').map(|(label, text)| (label.trim(), unescape(text))).ok_or("a label without a text");
    let (label, act) = match sign {
        '#' => texted().map(|(label, text)| (Some(label), Act::Say(text)))?,
        '>' => texted().map(|(label, text)| (None, Act::Reply(label, text)))?,
        '~' => texted().map(|(label, text)| (None, Act::Thread(label, text)))?,
        '=' => texted().map(|(label, text)| (None, Act::Edit(label, text)))?,
        '*' => texted().map(|(_, text)| (None, Act::Emote(text)))?,
        '!' => {
            let (picture, caption) = rest.split_once(": ").ok_or("a picture without a caption")?;
            (None, Act::Picture(picture, caption))
        }
        '+' | '-' => {
            let (label, text) = rest.split_once(' ').ok_or("a label without a reaction or a reason")?;
            (None, if sign == '+' { Act::React(label, text) } else { Act::Redact(label, text) })
        }
        _ => return Err("an unknown sign"),
    };
    Ok(Line { when, who, label, act })
}

/// Small talk: words and exchanges to put together.
#[derive(Debug, Default)]
pub struct Exchanges {
    /// Word lists by name.
    pub words: BTreeMap<&'static str, Vec<&'static str>>,
    /// Exchanges: speaker (0, 1, 2) and text with `{word}`s.
    pub exchanges: Vec<Vec<(usize, &'static str)>>,
}

impl Exchanges {
    /// The ones that are part of the program.
    ///
    /// # Errors
    /// When they have a fault, which the tests would have found.
    pub fn embedded() -> Result<Self, ScriptError> {
        Self::parse(include_str!("exchanges.txt"))
    }

    fn parse(text: &'static str) -> Result<Self, ScriptError> {
        let mut found = Self::default();
        let mut open = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let failed = |why| ScriptError { line: index + 1, why };
            if line.is_empty() {
                found.exchanges.extend((!open.is_empty()).then(|| std::mem::take(&mut open)));
            } else if let Some((name, words)) = line.split_once(" = ") {
                found.words.insert(name, words.split(" | ").collect());
            } else if !line.starts_with('#') {
                let (who, text) = line.split_once(": ").ok_or_else(|| failed("neither words nor a line"))?;
                let speaker = ["A", "B", "C"].iter().position(|name| *name == who).ok_or_else(|| failed("neither A, B nor C"))?;
                open.push((speaker, text));
            }
        }
        found.exchanges.extend((!open.is_empty()).then_some(open));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops where its set-up fails")]
    use super::*;

    #[test]
    fn the_script_holds_together() {
        let script = Script::embedded().unwrap();
        assert!(script.people.len() >= 8);
        assert!(script.rooms.len() >= 10);
        for room in &script.rooms {
            assert!(!room.members.is_empty(), "{} has no members", room.key);
            for line in &room.lines {
                assert!(line.who == GUEST || room.members.contains(&line.who), "{} is not in {}", line.who, room.key);
            }
            for child in room.children.iter().flatten() {
                assert!(*child == super::super::plan::LONG_ROOM || script.rooms.iter().any(|room| room.key == *child), "{child}");
            }
        }
        let encrypted = script.rooms.iter().filter(|room| room.encrypted);
        assert!(encrypted.clone().count() >= 2);
        // Encrypted messages come from a client, now: nobody can have said them days ago.
        assert!(encrypted.flat_map(|room| &room.lines).all(|line| line.when.is_none()));
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let text = "person ann | Ann Lee\nroom x alias=y public | The X\nday -2 09:30\nann #a: one: two\\nthree\nann >a: r\nann ~a: t\nann =a: e\nann +a 👍\nann -a why not\nann *: waves\nann !sky: look\nread";
        let script = Script::parse(text).unwrap();
        let room = &script.rooms[0];
        assert_eq!((room.alias, room.name, room.entry), (Some("y"), Some("The X"), Entry::Public));
        let acts: Vec<_> = room.lines.iter().map(|line| line.act.clone()).collect();
        assert_eq!(room.lines[0].when, Some(When { days_ago: 2, minute: 570 }));
        let texts = |text: &str| text.to_owned();
        assert_eq!(
            acts,
            [
                Act::Say(texts("one: two\nthree")),
                Act::Reply("a", texts("r")),
                Act::Thread("a", texts("t")),
                Act::Edit("a", texts("e")),
                Act::React("a", "👍"),
                Act::Redact("a", "why not"),
                Act::Emote(texts("waves")),
                Act::Picture("sky", "look"),
                Act::Read,
            ]
        );
    }

    #[test]
    fn a_label_or_a_name_that_nobody_has_is_a_fault() {
        for (text, why) in [
            ("person a | A\nroom x | X\na >b: no", "no line has that label"),
            ("room x | X\nzoe: hello", "nobody has that name"),
            ("person a | A\na: hello", "no room has begun"),
        ] {
            assert_eq!(Script::parse(text).unwrap_err().why, why);
        }
    }

    #[test]
    fn exchanges_use_only_words_that_there_are() {
        let found = Exchanges::embedded().unwrap();
        assert!(found.exchanges.len() >= 30);
        for (_, text) in found.exchanges.iter().flatten() {
            let mut rest = *text;
            while let Some((_, after)) = rest.split_once('{') {
                let (word, after) = after.split_once('}').unwrap();
                assert!(found.words.contains_key(word), "{word}");
                rest = after;
            }
        }
    }
}
