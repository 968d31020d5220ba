//! Server access control lists (Client-Server API, "Server Access Control Lists (ACLs) for rooms").
//!
//! Whoever may change a room's state writes these patterns, so matching costs at most the product of the two lengths.

use ruma::ServerName;
use serde_json::Value;

/// Who may take part in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    allow: Vec<String>,
    deny: Vec<String>,
    allow_ip_literals: bool,
}

impl Default for Acl {
    /// Everybody.
    fn default() -> Self {
        Self::of_owner(&[], &[])
    }
}

impl Acl {
    /// From the content of an `m.room.server_acl` event. Lists that are missing or malformed are empty; an empty `allow` lets
    /// nobody in, as the specification says.
    #[must_use]
    pub fn new(content: &str) -> Self {
        let content: Value = serde_json::from_str(content).unwrap_or(Value::Null);
        let list = |field: &str| -> Vec<String> {
            let items = content.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
        };
        let allow_ip_literals = content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true);
        Self { allow: list("allow"), deny: list("deny"), allow_ip_literals }
    }

    /// The owner's own lists. Without anything allowed by name everybody is, except those who are denied.
    #[must_use]
    pub fn of_owner(allow: &[String], deny: &[String]) -> Self {
        let lower = |list: &[String]| list.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        let allow = if allow.is_empty() { vec!["*".to_owned()] } else { lower(allow) };
        Self { allow, deny: lower(deny), allow_ip_literals: true }
    }

    /// May this server take part?
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let name = server.as_str().to_ascii_lowercase();
        let host = host_of(&name);
        if !self.allow_ip_literals && is_ip_literal(host) {
            return false;
        }
        !self.deny.iter().any(|pattern| matches(pattern, host)) && self.allow.iter().any(|pattern| matches(pattern, host))
    }
}

/// A server name without its port.
fn host_of(name: &str) -> &str {
    if name.starts_with('[') {
        return name.split_inclusive(']').next().unwrap_or(name);
    }
    name.split_once(':').map_or(name, |(host, _)| host)
}

fn is_ip_literal(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Does the text match the pattern? Both are compared as they are, case included.
///
/// `*` stands for any run of characters, `?` for one. Goes back to the last star only, so it never takes exponential time.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(byte) if text.get(t) == Some(byte) => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(content: &str, server: &str) -> bool {
        Acl::new(content).allows(<&ServerName>::try_from(server).expect("a server name"))
    }

    #[test]
    fn deny_goes_before_allow_and_what_neither_names_stays_out() {
        let acl = r#"{"allow":["*"],"deny":["*.evil.example","evil.example"]}"#;
        for (server, expected) in
            [("good.example", true), ("evil.example", false), ("a.evil.example", false), ("notevil.example", true), ("EVIL.example", false)]
        {
            assert_eq!(allows(acl, server), expected, "{server}");
        }
        assert!(!allows(r#"{"allow":["good.example"]}"#, "other.example"));
        assert!(!allows("{}", "other.example"), "no allow list lets nobody in");
        assert!(!allows(r#"{"allow":"*"}"#, "other.example"), "a malformed list is an empty one");
    }

    #[test]
    fn an_owners_lists_let_everybody_in_who_is_not_denied_unless_some_are_named() {
        let list = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
        let acl = |allow: &[&str], deny: &[&str]| Acl::of_owner(&list(allow), &list(deny));
        let allows = |acl: &Acl, server: &str| acl.allows(<&ServerName>::try_from(server).expect("a server name"));
        assert!(allows(&acl(&[], &[]), "a.example:8448") && allows(&acl(&[], &[]), "1.2.3.4"));
        let denying = acl(&[], &["*.Evil.example"]);
        assert!(allows(&denying, "evil.example") && !allows(&denying, "A.evil.example:1"));
        let closed = acl(&["*.family.example"], &["uncle.family.example"]);
        assert!(allows(&closed, "aunt.family.example") && !allows(&closed, "uncle.family.example") && !allows(&closed, "b.example"));
    }

    #[test]
    fn ports_do_not_count_and_case_does_not_either() {
        let acl = r#"{"allow":["*"],"deny":["Evil.Example"]}"#;
        assert!(!allows(acl, "evil.example:8448"));
        assert!(!allows(acl, "EVIL.EXAMPLE:1"));
        assert!(allows(r#"{"allow":["h?me.test"]}"#, "home.test:8448"));
        assert!(!allows(r#"{"allow":["h?me.test"]}"#, "hme.test"));
    }

    #[test]
    fn ip_literals_can_be_kept_out() {
        let acl = r#"{"allow":["*"],"allow_ip_literals":false}"#;
        for (server, expected) in
            [("1.2.3.4", false), ("1.2.3.4:8448", false), ("[2001:db8::1]", false), ("[2001:db8::1]:8448", false), ("1.2.3.example", true)]
        {
            assert_eq!(allows(acl, server), expected, "{server}");
        }
        assert!(allows(r#"{"allow":["*"]}"#, "[2001:db8::1]:8448"));
        assert!(!allows(r#"{"allow":["*"],"deny":["[2001:db8::1]"]}"#, "[2001:db8::1]:8448"));
    }

    /// The list of an attacker: as many stars as fit into an event.
    #[test]
    fn a_pattern_full_of_stars_is_decided_at_once() {
        let pattern = format!("{}b", "a*".repeat(30_000));
        let started = std::time::Instant::now();
        assert!(!matches(&pattern, &"a".repeat(230)));
        assert!(started.elapsed().as_secs() < 2);
    }
}
