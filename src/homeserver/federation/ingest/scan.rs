//! Reads the answer to a join as it comes over the wire. The answer of a large room is hundreds of megabytes of JSON: its events
//! are given on in pieces, and nothing holds the whole.
//!
//! Knows how the answer is laid out, and of JSON only where a value ends. What an event is, others check.

use crate::homeserver::rooms::wire::MAX_RAW_BYTES;

/// Events of one piece at most.
const PIECE: usize = 1000;
/// Bytes of JSON in one piece, about.
const PIECE_BYTES: usize = 1 << 20;
/// Longest name of a field.
const MAX_KEY_BYTES: usize = 1024;

/// Which of the two lists of the answer an event stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// The state before the join.
    State,
    /// What authorises the state and the join.
    AuthChain,
}

/// Some events of one list, in the order of the answer. What is too large to be an event, or no text, is empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The list.
    pub list: List,
    /// JSON that nobody has checked.
    pub events: Vec<Box<str>>,
}

/// Why this is no answer to a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer makes no sense: {0}")]
pub struct BadAnswer(&'static str);

/// What the value that is being read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Key,
    /// One event of a list.
    Element,
    /// The join with the other server's signature.
    Event,
    /// Whether members are missing.
    MembersOmitted,
    /// Nothing that matters here.
    Nothing,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Key { first: bool },
    Colon,
    Value,
    InValue(Goal),
    Element { first: bool },
    AfterElement,
    AfterValue,
    End,
}

/// Finds the end of a JSON value.
#[derive(Debug, Default)]
struct Lexer {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Lexer {
    /// How many of these bytes belong to the value, and whether it ends with them. The first byte of a value is no space, comma
    /// or closing bracket.
    fn run(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return (at + 1, true);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return (at, true),
                _ => {}
            }
        }
        (bytes.len(), false)
    }
}

/// The reader. Takes the body in whatever pieces it comes.
#[derive(Debug)]
pub struct Scanner {
    place: Place,
    /// The list that is being read.
    list: Option<List>,
    /// What the field's name says about its value.
    goal: Goal,
    lexer: Lexer,
    value: Vec<u8>,
    too_long: bool,
    coming: Piece,
    coming_bytes: usize,
    ready: std::collections::VecDeque<Piece>,
    event: Option<String>,
    members_omitted: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            place: Place::Start,
            list: None,
            goal: Goal::Nothing,
            lexer: Lexer::default(),
            value: Vec::new(),
            too_long: false,
            coming: Piece { list: List::State, events: Vec::new() },
            coming_bytes: 0,
            ready: std::collections::VecDeque::new(),
            event: None,
            members_omitted: false,
        }
    }
}

impl Scanner {
    /// Takes more of the body.
    ///
    /// # Errors
    ///
    /// [`BadAnswer`]: nothing more can be made of it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadAnswer> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            if let Place::InValue(goal) = self.place {
                let (length, ends) = self.lexer.run(rest);
                let (taken, left) = rest.split_at_checked(length).ok_or(BadAnswer("a value ends nowhere"))?;
                self.capture(goal, taken);
                if ends {
                    self.take_value(goal)?;
                }
                rest = left;
                continue;
            }
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                rest = after;
                continue;
            }
            match self.between(*byte)? {
                Some(goal) => self.begin(goal),
                None => rest = after,
            }
        }
        Ok(())
    }

    /// What a byte between values means: it begins a value for this, or is punctuation.
    fn between(&mut self, byte: u8) -> Result<Option<Goal>, BadAnswer> {
        let closes = matches!(byte, b',' | b':' | b']' | b'}');
        self.place = match (self.place, byte) {
            (Place::Start, b'{') => Place::Key { first: true },
            (Place::Key { .. }, b'"') => return Ok(Some(Goal::Key)),
            (Place::Key { first: true } | Place::AfterValue, b'}') => Place::End,
            (Place::Colon, b':') => Place::Value,
            (Place::Value, b'[') if self.list.is_some() => Place::Element { first: true },
            (Place::Value, _) if self.list.is_some() => return Err(BadAnswer("a list of events is none")),
            (Place::Value, _) if !closes => return Ok(Some(self.goal)),
            (Place::Element { first: true } | Place::AfterElement, b']') => Place::AfterValue,
            (Place::Element { .. }, _) if !closes => return Ok(Some(Goal::Element)),
            (Place::AfterElement, b',') => Place::Element { first: false },
            (Place::AfterValue, b',') => Place::Key { first: false },
            (Place::End, _) => return Err(BadAnswer("there is more after the end")),
            _ => return Err(BadAnswer("it is no JSON")),
        };
        Ok(None)
    }

    fn begin(&mut self, goal: Goal) {
        self.lexer = Lexer::default();
        self.value.clear();
        self.too_long = false;
        self.place = Place::InValue(goal);
    }

    fn capture(&mut self, goal: Goal, bytes: &[u8]) {
        let most = match goal {
            Goal::Key => MAX_KEY_BYTES,
            Goal::Element | Goal::Event => MAX_RAW_BYTES,
            Goal::MembersOmitted => 16,
            Goal::Nothing => return,
        };
        if self.too_long || self.value.len() + bytes.len() > most {
            self.too_long = true;
            self.value.clear();
        } else {
            self.value.extend_from_slice(bytes);
        }
    }

    fn take_value(&mut self, goal: Goal) -> Result<(), BadAnswer> {
        let value = std::mem::take(&mut self.value);
        let text = if self.too_long { None } else { String::from_utf8(value).ok() };
        self.place = Place::AfterValue;
        match goal {
            Goal::Key => {
                let key: String = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
                (self.list, self.goal) = match key.as_str() {
                    "state" => (Some(List::State), Goal::Nothing),
                    "auth_chain" => (Some(List::AuthChain), Goal::Nothing),
                    "event" => (None, Goal::Event),
                    "members_omitted" => (None, Goal::MembersOmitted),
                    _ => (None, Goal::Nothing),
                };
                self.place = Place::Colon;
            }
            Goal::Element => {
                self.place = Place::AfterElement;
                self.add(text.unwrap_or_default());
            }
            Goal::Event => self.event = Some(text.ok_or(BadAnswer("the join in it is too large"))?),
            Goal::MembersOmitted => self.members_omitted = text.as_deref() == Some("true"),
            Goal::Nothing => {}
        }
        Ok(())
    }

    fn add(&mut self, event: String) {
        let Some(list) = self.list else { return };
        if self.coming.list != list || self.coming.events.len() >= PIECE || self.coming_bytes >= PIECE_BYTES {
            self.close_piece(list);
        }
        self.coming_bytes += event.len();
        self.coming.events.push(event.into_boxed_str());
    }

    fn close_piece(&mut self, next: List) {
        let done = std::mem::replace(&mut self.coming, Piece { list: next, events: Vec::new() });
        self.coming_bytes = 0;
        if !done.events.is_empty() {
            self.ready.push_back(done);
        }
    }

    /// The next piece that is complete.
    pub fn piece(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// The body has ended: what is left becomes a piece.
    ///
    /// # Errors
    ///
    /// [`BadAnswer`] when it ended in the middle.
    pub fn finish(&mut self) -> Result<(), BadAnswer> {
        if self.place != Place::End {
            return Err(BadAnswer("it breaks off"));
        }
        self.close_piece(List::State);
        Ok(())
    }

    /// The join as the other server returns it.
    pub fn event(&self) -> Option<&str> {
        self.event.as_deref()
    }

    /// True when the server says that it has left members out.
    pub fn members_omitted(&self) -> bool {
        self.members_omitted
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "answers of the tests' own making")]

    use proptest::prelude::*;

    use super::*;

    fn scan(body: &[u8], size: usize) -> Result<(Scanner, Vec<Piece>), BadAnswer> {
        let mut scanner = Scanner::default();
        let mut pieces = Vec::new();
        for bytes in body.chunks(size.max(1)) {
            scanner.push(bytes)?;
            pieces.extend(std::iter::from_fn(|| scanner.piece()));
        }
        scanner.finish()?;
        pieces.extend(std::iter::from_fn(|| scanner.piece()));
        Ok((scanner, pieces))
    }

    fn of(pieces: &[Piece], list: List) -> Vec<&str> {
        pieces.iter().filter(|piece| piece.list == list).flat_map(|piece| piece.events.iter().map(|event| &**event)).collect()
    }

    const BODY: &str = " {\"origin\": \"a.test\", \"st\\u0061te\" : [ {\"a\":[1,\"]\\\"}\"]} ,{}, 5 ], \"x\":{\"state\":[[1]]},\n\
        \"event\":{\"b\":\"\\\\\"},\"auth_chain\":[{\"c\":null}], \"members_omitted\":true , \"n\":-1.5e3}\r\n";

    #[test]
    fn an_answer_is_read_alike_however_it_is_cut() {
        for size in 1..=BODY.len() {
            let (scanner, pieces) = scan(BODY.as_bytes(), size).unwrap();
            assert_eq!(of(&pieces, List::State), [r#"{"a":[1,"]\"}"]}"#, "{}", "5"], "{size}");
            assert_eq!(of(&pieces, List::AuthChain), [r#"{"c":null}"#]);
            assert_eq!(scanner.event(), Some(r#"{"b":"\\"}"#));
            assert!(scanner.members_omitted());
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let wrong = [
            "",
            "[]",
            "{",
            "null",
            "{}}",
            "{}{",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"state\":{}}",
            "{\"state\":null}",
            "{\"state\":[,]}",
            "{\"state\":[{}",
            "{\"state\":[{},]}",
            "{\"state\":[{}}",
            "{\"state\":[1}",
            "{\"a\":\"",
            "{1:2}",
            "{\"a\":1 2}",
        ];
        for body in wrong {
            assert!(scan(body.as_bytes(), 3).is_err(), "{body}");
        }
        for cut in 0..BODY.trim_end().len() {
            assert!(scan(BODY.get(..cut).unwrap().as_bytes(), 7).is_err(), "{cut}");
        }
        assert!(scan(b"{}", 1).unwrap().1.is_empty());
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_counts_as_one_event() {
        let body = format!(r#"{{"state":["{}",1],"skipped":"{}"}}"#, "x".repeat(MAX_RAW_BYTES), "y".repeat(3 * MAX_RAW_BYTES));
        let (scanner, pieces) = scan(body.as_bytes(), 4096).unwrap();
        assert_eq!(of(&pieces, List::State), ["", "1"]);
        assert!(scanner.value.capacity() <= 2 * MAX_RAW_BYTES);
        let join = format!(r#"{{"event":"{}"}}"#, "x".repeat(MAX_RAW_BYTES));
        assert!(scan(join.as_bytes(), 4096).is_err());
    }

    #[test]
    fn pieces_are_small() {
        let body = format!(r#"{{"state":[{}1],"auth_chain":[2]}}"#, "1,".repeat(2500));
        let (_, pieces) = scan(body.as_bytes(), 100).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.events.len()).collect::<Vec<_>>(), [1000, 1000, 501, 1]);
        let long = format!(r#"{{"state":[{}1]}}"#, format!("\"{}\",", "z".repeat(100_000)).repeat(30));
        let (_, pieces) = scan(long.as_bytes(), 10_000).unwrap();
        assert!(pieces.len() >= 3, "{}", pieces.len());
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_panics(body in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1statuh_cin".to_vec()), 0..200), size in 1_usize..50) {
            drop(scan(&body, size));
        }

        #[test]
        fn every_event_arrives(events in prop::collection::vec("[a-z\\\\\"\\[\\]{},: \u{e9}]{0,30}", 0..40), size in 1_usize..50) {
            let events: Vec<String> = events.iter().map(|text| serde_json::json!({ "k": text }).to_string()).collect();
            let body = format!(r#"{{"auth_chain":[{}],"state":[]}}"#, events.join(" , "));
            let (_, pieces) = scan(body.as_bytes(), size).unwrap();
            prop_assert_eq!(of(&pieces, List::AuthChain), events);
        }
    }
}
