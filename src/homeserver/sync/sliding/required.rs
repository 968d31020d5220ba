//! Which state a client wants of a room.

use std::collections::BTreeSet;

use ruma::UserId;
use serde::{Deserialize, Serialize};

const MEMBER: &str = "m.room.member";

/// A type and a state key; what is missing stands for any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Pattern {
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
}

impl Pattern {
    fn fits(&self, kind: &str, key: &str) -> bool {
        self.kind.as_deref().is_none_or(|k| k == kind) && self.state_key.as_deref().is_none_or(|k| k == key)
    }

    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.state_key.is_none()
    }

    fn may_be_member(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == MEMBER)
    }
}

/// What one list or subscription wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    #[serde(rename = "i")]
    include: BTreeSet<Pattern>,
    #[serde(rename = "x", default, skip_serializing_if = "BTreeSet::is_empty")]
    exclude: BTreeSet<Pattern>,
    /// Members as far as the timeline needs them; "everything" then means everything else.
    #[serde(rename = "l", default)]
    lazy: bool,
}

impl Rule {
    fn matches(&self, kind: &str, key: &str) -> bool {
        let wanted = |p: &Pattern| p.fits(kind, key) && !(self.lazy && kind == MEMBER && p.is_everything());
        self.include.iter().any(wanted) && !self.exclude.iter().any(|p| p.fits(kind, key))
    }

    /// True when `other` gives everything that this gives.
    fn is_within(&self, other: &Self) -> bool {
        let as_much = self.lazy || !other.lazy || !self.include.iter().any(Pattern::is_everything);
        as_much && self.include.is_subset(&other.include) && other.exclude.is_subset(&self.exclude)
    }
}

/// Everything that is wanted of a room: whatever any of the rules wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Required(Vec<Rule>);

impl Required {
    /// As the deployed form has it: `*` stands for any type or key, `$ME` for the user, `$LAZY` for the senders of the timeline.
    pub fn of_pairs(pairs: &[(String, String)], me: &UserId) -> Self {
        let mut rule = Rule::default();
        let unless_any = |text: &str| (text != "*").then(|| text.to_owned());
        for (kind, key) in pairs {
            let state_key = match key.as_str() {
                "$LAZY" => {
                    rule.lazy |= kind == MEMBER;
                    continue;
                }
                "$ME" => Some(me.to_string()),
                key => unless_any(key),
            };
            rule.include.insert(Pattern { kind: unless_any(kind), state_key });
        }
        Self(vec![rule])
    }

    /// As `v4` has it.
    pub fn of_patterns(include: BTreeSet<Pattern>, exclude: BTreeSet<Pattern>, lazy: bool) -> Self {
        Self(vec![Rule { include, exclude, lazy }])
    }

    /// Nothing but the user's own membership.
    pub fn own_membership(me: &UserId) -> Self {
        let own = Pattern { kind: Some(MEMBER.to_owned()), state_key: Some(me.to_string()) };
        Self(vec![Rule { include: BTreeSet::from([own]), ..Rule::default() }])
    }

    /// Adds what another part of the request wants.
    pub fn add(&mut self, other: &Self) {
        for rule in &other.0 {
            if self.0.iter().any(|known| rule.is_within(known) && rule.lazy <= known.lazy) {
                continue;
            }
            let like = |known: &&mut Rule| known.exclude == rule.exclude && known.lazy == rule.lazy;
            match self.0.iter_mut().find(like) {
                Some(known) => known.include.extend(rule.include.iter().cloned()),
                None => self.0.push(rule.clone()),
            }
        }
    }

    /// Members are wanted as far as the timeline needs them.
    pub fn lazy(&self) -> bool {
        self.0.iter().any(|rule| rule.lazy)
    }

    /// True for state that is wanted whatever the timeline holds.
    pub fn matches(&self, kind: &str, key: &str) -> bool {
        self.0.iter().any(|rule| rule.matches(kind, key))
    }

    /// True when membership events may be wanted beyond single ones.
    pub fn wants_members(&self) -> bool {
        let all = |rule: &Rule, p: &Pattern| p.state_key.is_none() && p.may_be_member() && !(rule.lazy && p.is_everything());
        self.0.iter().any(|rule| rule.include.iter().any(|p| all(rule, p)))
    }

    /// Users whose membership is wanted by name.
    pub fn named_members(&self) -> impl Iterator<Item = &str> {
        let named = self.0.iter().flat_map(|rule| &rule.include).filter(|p| p.may_be_member());
        named.filter_map(|p| p.state_key.as_deref()).filter(|key| self.matches(MEMBER, key))
    }

    /// True when `other` has everything that this has.
    pub fn is_within(&self, other: &Self) -> bool {
        (!self.lazy() || other.lazy()) && self.0.iter().all(|rule| other.0.iter().any(|known| rule.is_within(known)))
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn required(pairs: &[(&str, &str)]) -> Required {
        let pairs: Vec<_> = pairs.iter().map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned())).collect();
        Required::of_pairs(&pairs, user_id!("@ann:home.test"))
    }

    fn pattern(kind: Option<&str>, key: Option<&str>) -> Pattern {
        Pattern { kind: kind.map(Into::into), state_key: key.map(Into::into) }
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
        assert!(lazy.lazy() && lazy.matches("m.room.member", "@ann:home.test"));
        assert!(!lazy.matches("m.room.member", "$LAZY") && !lazy.matches("m.room.member", "@bob:home.test"));
        assert!(!lazy.wants_members());
    }

    #[test]
    fn everything_with_lazy_members_leaves_members_to_the_timeline() {
        let both = required(&[("*", "*"), ("m.room.member", "$LAZY")]);
        assert!(both.matches("m.room.name", "") && !both.matches("m.room.member", "@bob:home.test"));
        assert!(!both.wants_members());
    }

    #[test]
    fn what_one_part_excludes_another_may_want() {
        let mut some = Required::of_patterns([pattern(None, None)].into(), [pattern(Some("m.room.create"), Some(""))].into(), false);
        assert!(some.matches("m.room.name", "") && !some.matches("m.room.create", ""));
        let create = required(&[("m.room.create", "")]);
        assert!(!create.is_within(&some));
        some.add(&create);
        assert!(some.matches("m.room.create", "") && create.is_within(&some));
    }

    #[test]
    fn all_members_win_over_lazy_ones() {
        let mut lazy = required(&[("*", "*"), ("m.room.member", "$LAZY")]);
        lazy.add(&required(&[("*", "*")]));
        assert!(lazy.matches("m.room.member", "@bob:home.test") && lazy.wants_members() && lazy.lazy());
        let before = lazy.clone();
        lazy.add(&before.clone());
        assert_eq!(lazy, before, "nothing grows by being said twice");
    }
}
