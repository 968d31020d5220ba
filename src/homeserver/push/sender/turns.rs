//! Whose pusher sends next. Knows neither the store nor the network.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::homeserver::{
    store::pushers::{Pusher, PusherId},
    types::UserNid,
};

/// Pushers of one user that send at one time.
const PER_USER: usize = 2;

/// Users take turns; within a user's turn, those pushers come first that were served longest ago.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whose pushers are to be looked at.
    asked: BTreeSet<UserNid>,
    /// Who has something to send, in order. The pushers are those of the last look.
    waiting: VecDeque<(UserNid, Vec<Pusher>)>,
    busy: HashMap<UserNid, Vec<PusherId>>,
}

impl Turns {
    /// Something has changed for this user.
    pub(super) fn ask(&mut self, user: UserNid) {
        self.asked.insert(user);
    }

    /// Whom to look at. They stay asked until [`Self::found`] tells of them.
    pub(super) fn asked(&self) -> Vec<UserNid> {
        self.asked.iter().copied().collect()
    }

    /// What their pushers have to send, which takes the place of what was known. Nobody loses a place in the order.
    pub(super) fn found(&mut self, due: Vec<(UserNid, Vec<Pusher>)>) {
        for (user, pushers) in due {
            self.asked.remove(&user);
            match self.waiting.iter_mut().find(|(waits, _)| *waits == user) {
                Some((_, known)) => *known = pushers,
                None if pushers.is_empty() => {}
                None => self.waiting.push_back((user, pushers)),
            }
        }
    }

    /// The next pushers to send, at most so many. They are busy until [`Self::done`].
    pub(super) fn take(&mut self, places: usize) -> Vec<Pusher> {
        let mut taken = Vec::new();
        // Each user is asked once: whoever is served goes to the end.
        for _ in 0..self.waiting.len() {
            if taken.len() >= places {
                break;
            }
            let Some((user, pushers)) = self.waiting.pop_front() else { break };
            let busy = self.busy.entry(user).or_default();
            let mut rest = Vec::new();
            for pusher in pushers {
                if busy.contains(&pusher.id) {
                    continue;
                }
                if busy.len() < PER_USER && taken.len() < places {
                    busy.push(pusher.id.clone());
                    taken.push(pusher);
                } else {
                    rest.push(pusher);
                }
            }
            if !rest.is_empty() {
                self.waiting.push_back((user, rest));
            }
        }
        self.busy.retain(|_, ids| !ids.is_empty());
        taken
    }

    /// A pusher has sent, or failed to. It may have more.
    pub(super) fn done(&mut self, id: &PusherId) {
        if let Some(busy) = self.busy.get_mut(&id.user) {
            busy.retain(|other| other != id);
        }
        self.busy.retain(|_, ids| !ids.is_empty());
        self.ask(id.user);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test stops where its set-up fails")]

    use super::*;
    use crate::homeserver::types::StreamPos;

    fn pushers(user: i64, count: usize) -> (UserNid, Vec<Pusher>) {
        let id = |n| PusherId { user: UserNid(user), app_id: "app".into(), pushkey: format!("{n}") };
        let one =
            |n| Pusher { id: id(n), kind: "http".into(), json: String::new(), set_ms: 0, sent_pos: StreamPos(0), badge: 0, failures: 0 };
        (UserNid(user), (0..count).map(one).collect())
    }

    fn ids(taken: &[Pusher]) -> Vec<(i64, &str)> {
        taken.iter().map(|pusher| (pusher.id.user.0, pusher.id.pushkey.as_str())).collect()
    }

    #[test]
    fn one_users_many_pushers_leave_places_for_others() {
        let mut turns = Turns::default();
        turns.found(vec![pushers(1, 64)]);
        assert_eq!(ids(&turns.take(16)), [(1, "0"), (1, "1")]);
        turns.found(vec![pushers(2, 1)]);
        assert_eq!(ids(&turns.take(14)), [(2, "0")]);
        assert_eq!(turns.take(13).len(), 0, "all that may send are sending");
        let (_, anns) = pushers(1, 1);
        turns.done(&anns[0].id);
        assert_eq!(turns.asked(), [UserNid(1)], "it may have more to send");
        assert_eq!(ids(&turns.take(16)), [(1, "2")], "the others before the same one again");
    }

    #[test]
    fn users_take_turns_when_places_are_few() {
        let mut turns = Turns::default();
        turns.found(vec![pushers(1, 3), pushers(2, 3)]);
        let first = turns.take(1);
        let second = turns.take(1);
        assert_eq!([ids(&first), ids(&second)], [[(1, "0")], [(2, "0")]]);
    }

    #[test]
    fn what_is_sending_is_not_sent_twice_and_what_has_nothing_left_is_forgotten() {
        let mut turns = Turns::default();
        turns.ask(UserNid(1));
        turns.found(vec![pushers(1, 1)]);
        assert!(turns.asked().is_empty());
        let taken = turns.take(16);
        turns.found(vec![pushers(1, 1)]);
        assert_eq!(turns.take(16).len(), 0, "busy");
        turns.done(&taken[0].id);
        turns.found(vec![pushers(1, 0)]);
        assert_eq!(turns.take(16).len(), 0);
        assert!(turns.waiting.is_empty() && turns.busy.is_empty());
    }
}
