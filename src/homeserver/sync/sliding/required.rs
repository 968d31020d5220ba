//! Which state a client wants of a room.

use std::collections::BTreeSet;

use ruma::{UserId, events::StateEventType};

/// A set of (type, state key) pairs with wildcards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Required {
    pairs: BTreeSet<(String, String)>,
    /// Members as far as the timeline needs them.
    pub lazy: bool,
}

const MEMBER: &str = "m.room.member";

impl Required {
    /// As the request has it: `*` stands for any type or key, `$ME` for the user, `$LAZY` for the senders of the timeline.
    pub fn new(pairs: &[(StateEventType, String)], me: &UserId) -> Self {
        let mut this = Self::default();
        for (kind, key) in pairs {
            let kind = kind.to_string();
            match key.as_str() {
                "$LAZY" => this.lazy |= kind == MEMBER,
                "$ME" => drop(this.pairs.insert((kind, me.to_string()))),
                _ => drop(this.pairs.insert((kind, key.clone()))),
            }
        }
        this
    }

    /// Nothing but the user's own membership.
    pub fn own_membership(me: &UserId) -> Self {
        Self { pairs: BTreeSet::from([(MEMBER.to_owned(), me.to_string())]), lazy: false }
    }

    /// Adds what another part of the request wants.
    pub fn add(&mut self, other: &Self) {
        self.pairs.extend(other.pairs.iter().cloned());
        self.lazy |= other.lazy;
    }

    fn has(&self, kind: &str, key: &str) -> bool {
        self.pairs.contains(&(kind.to_owned(), key.to_owned()))
    }

    /// True for state that is wanted whatever the timeline holds.
    pub fn matches(&self, kind: &str, key: &str) -> bool {
        // With lazy members, "everything" means everything else.
        let any = self.has("*", "*") && !(self.lazy && kind == MEMBER);
        any || self.has(kind, key) || self.has(kind, "*") || self.has("*", key)
    }

    /// True when membership events may be wanted beyond single ones.
    pub fn wants_members(&self) -> bool {
        self.has(MEMBER, "*") || self.pairs.iter().any(|(kind, key)| kind == "*" && (key != "*" || !self.lazy))
    }

    /// Users whose membership is wanted by name.
    pub fn named_members(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(|(kind, key)| kind == MEMBER && key != "*").map(|(_, key)| key.as_str())
    }

    /// True when `other` has everything that this has.
    pub fn is_within(&self, other: &Self) -> bool {
        (!self.lazy || other.lazy) && self.pairs.is_subset(&other.pairs)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn required(pairs: &[(&str, &str)]) -> Required {
        let pairs: Vec<_> = pairs.iter().map(|(kind, key)| (StateEventType::from(*kind), (*key).to_owned())).collect();
        Required::new(&pairs, user_id!("@ann:home.test"))
    }

    #[test]
    fn wildcards_stand_for_any_type_and_any_key() {
        let all = required(&[("*", "*")]);
        assert!(all.matches("m.room.name", "") && all.matches("m.room.member", "@bob:home.test"));
        let children = required(&[("m.space.child", "*")]);
        assert!(children.matches("m.space.child", "!room") && !children.matches("m.space.parent", "!room"));
    }

    #[test]
    fn me_is_the_user_and_lazy_is_no_key() {
        let lazy = required(&[("m.room.member", "$LAZY"), ("m.room.member", "$ME")]);
        assert!(lazy.lazy && lazy.matches("m.room.member", "@ann:home.test"));
        assert!(!lazy.matches("m.room.member", "$LAZY") && !lazy.matches("m.room.member", "@bob:home.test"));
        assert!(!lazy.wants_members());
    }

    #[test]
    fn everything_with_lazy_members_leaves_members_to_the_timeline() {
        let both = required(&[("*", "*"), ("m.room.member", "$LAZY")]);
        assert!(both.matches("m.room.name", "") && !both.matches("m.room.member", "@bob:home.test"));
        assert!(!both.wants_members());
    }
}
