//! The tables of the Client-Server and the Server-Server API: every endpoint of the specification, and what this node does
//! with it.
//!
//! The refusals are served from the table itself; tests hold the rest of the router to it.

use std::{fmt::Write as _, str::FromStr};

use http::{Method, StatusCode};

/// The tables as a person keeps them: what clients ask for, and what other servers do.
const CLIENT: &str = include_str!("endpoints.txt");
const FEDERATION: &str = include_str!("federation.txt");

/// What this node does with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does what the specification says.
    Served,
    /// It is refused for good, always with the same error.
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The `errcode`.
        errcode: &'static str,
        /// Why, for people.
        why: &'static str,
    },
    /// It is not built yet, and unknown to the router.
    Later {
        /// What it waits for.
        why: &'static str,
    },
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The specification's module.
    pub section: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path with the specification's parameter names.
    pub path: &'static str,
    /// What is done with it.
    pub state: State,
}

impl Endpoint {
    /// True when the router has a route for it: served, or refused with something else than "unknown".
    #[must_use]
    pub fn routed(&self) -> bool {
        match &self.state {
            State::Served => true,
            State::Refused { status, .. } => *status != StatusCode::NOT_FOUND,
            State::Later { .. } => false,
        }
    }
}

/// The whole table of the Client-Server API.
///
/// # Panics
///
/// When a line is malformed, which a test excludes.
#[must_use]
pub fn table() -> Vec<Endpoint> {
    read(CLIENT)
}

/// The whole table of the Server-Server API.
///
/// # Panics
///
/// When a line is malformed, which a test excludes.
#[must_use]
pub fn federation() -> Vec<Endpoint> {
    read(FEDERATION)
}

fn read(table: &'static str) -> Vec<Endpoint> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        } else if !line.starts_with('#') {
            rows.push(row(section, line).expect("a test reads every line of the table"));
        }
    }
    rows
}

/// Reads a line.
fn row(section: &'static str, line: &'static str) -> Option<Endpoint> {
    let (state, rest) = line.split_once(' ')?;
    let mut words = rest.trim_start().splitn(3, ' ');
    let (method, path, rest) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    let state = match state {
        "served" if rest.is_empty() => State::Served,
        "refused" => {
            let (status, rest) = rest.split_once(' ')?;
            let (errcode, why) = rest.split_once(' ')?;
            State::Refused { status: StatusCode::from_str(status).ok()?, errcode, why }
        }
        "later" if !rest.is_empty() => State::Later { why: rest },
        _ => return None,
    };
    Some(Endpoint { section, method: Method::from_str(method).ok()?, path, state })
}

/// Method and path in the one form that rows and routes have in common: parameters without names, `r0` as `v3`.
#[must_use]
pub fn normal(method: &Method, path: &str) -> String {
    let mut out = format!("{method} ");
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str("{}");
        rest = after;
    }
    out.push_str(rest);
    out.replace("/_matrix/client/r0/", "/_matrix/client/v3/").replace("/_matrix/media/r0/", "/_matrix/media/v3/")
}

/// Sections of the tables that are not of the specification.
const BEYOND: [&str; 5] = [
    "Beyond the stable specification",
    "Forms without a state key, which is then empty",
    "Older forms of the same endpoints",
    "Signing in beyond the stable specification",
    "Older forms of endpoints between servers",
];

/// The manual page `homeroom-endpoints(7)`.
#[must_use]
pub fn page(version: &str) -> String {
    let roff = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace('.', "\\&.");
    let (client, federation) = (table(), federation());
    let specified = |rows: &[Endpoint]| {
        let rows = rows.iter().filter(|row| !BEYOND.contains(&row.section));
        rows.fold((0, 0), |(served, all), row| (served + usize::from(row.state == State::Served), all + 1))
    };
    let ((client_served, client_all), (federation_served, federation_all)) = (specified(&client), specified(&federation));
    let beyond = client.iter().chain(&federation).filter(|row| BEYOND.contains(&row.section)).count();
    let mut out = format!(
        ".TH homeroom-endpoints 7 \"\" \"homeroom {version}\" homeroom\n.SH NAME\nhomeroom\\-endpoints \\- what the node serves of the \
         Matrix APIs\n.SH DESCRIPTION\nThe endpoints of the specification (1.19), by its modules: {client_served} of {client_all} of the \
         Client\\-Server API and {federation_served} of {federation_all} of the Server\\-Server API, which a node with a server name of \
         its own has; and {beyond} older forms, proposals and tools' endpoints beside them. \
         One that is refused answers with the error that is named; one that comes later answers \\fBM_UNRECOGNIZED\\fR. Where a path has \
         a form with \\fIr0\\fR, it is served like the one with \\fIv3\\fR.\n"
    );
    let mut section = "";
    for row in client.iter().chain(&federation) {
        if row.section != section {
            section = row.section;
            let _ = writeln!(out, ".SH \"{}\"", section.to_uppercase());
        }
        let _ = writeln!(out, ".TP\n\\fB{}\\fR {}", row.method, roff(row.path));
        let _ = match &row.state {
            State::Served => writeln!(out, "served"),
            State::Refused { status, errcode, why } => writeln!(out, "refused, {} {errcode}: {}", status.as_u16(), roff(why)),
            State::Later { why } => writeln!(out, "later: {}", roff(why)),
        };
    }
    out.push_str(".SH \"SEE ALSO\"\nhomeroom\\-serve(1), homeroom.toml(5)\n");
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;

    use super::*;
    use crate::homeserver::api::{call::Routes, client, federation, testing::TestNode};

    /// Endpoints of the Client-Server API in version 1.19 of the specification, without those that share method and path.
    const SPECIFIED: usize = 164;
    /// The same for the Server-Server API: 36, of which one is in the other table.
    const SPECIFIED_FEDERATION: usize = 35;

    fn rows(table: &'static str) -> Vec<Endpoint> {
        let mut section = "";
        let mut rows = Vec::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("## ") {
                Some(title) => section = title,
                None if line.starts_with('#') => {}
                None => rows.push(row(section, line).unwrap_or_else(|| panic!("malformed: {line}"))),
            }
        }
        rows
    }

    /// A node that serves what settings decide as well: OAuth needs an address for browsers, and registration by a shared
    /// secret that secret.
    async fn everything() -> TestNode {
        TestNode::with(|config| {
            config.public_base_url = Some("https://example.org".to_owned());
            config.federation.enabled = true;
            config.registration_shared_secret = Some(crate::base::Secret::new("secret".to_owned()));
        })
        .await
    }

    #[test]
    fn every_endpoint_of_the_specification_has_one_row() {
        let federation = rows(FEDERATION);
        let stable = |row: &&Endpoint| !BEYOND.contains(&row.section);
        assert_eq!(federation.iter().filter(stable).count(), SPECIFIED_FEDERATION);
        let client = rows(CLIENT);
        let rows: Vec<Endpoint> = client.iter().chain(&federation).cloned().collect();
        let known: BTreeSet<String> = rows.iter().map(|row| normal(&row.method, row.path)).collect();
        assert_eq!(known.len(), rows.len(), "a row is there twice");
        assert_eq!(client.iter().filter(stable).count(), SPECIFIED);
        for row in &rows {
            if let State::Refused { status, errcode, why } = &row.state {
                assert!(status.is_client_error() && errcode.starts_with("M_") && why.len() > 10, "{row:?}");
                assert_eq!(*status == StatusCode::NOT_FOUND, *errcode == "M_UNRECOGNIZED", "{row:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_router_and_the_table_agree_in_both_directions() {
        let test = everything().await;
        let routes = || Routes::new(std::sync::Arc::clone(&test.node));
        for (routes, table, file) in
            [(client::add(routes()), CLIENT, "endpoints.txt"), (federation::add(routes()), FEDERATION, "federation.txt")]
        {
            let routed: BTreeSet<String> = routes.registered().iter().map(|(method, path)| normal(method, path)).collect();
            let listed: BTreeSet<String> = rows(table).iter().filter(|row| row.routed()).map(|row| normal(&row.method, row.path)).collect();
            let unlisted: Vec<_> = routed.difference(&listed).collect();
            let unrouted: Vec<_> = listed.difference(&routed).collect();
            assert!(unlisted.is_empty(), "routes without a row `served` in {file}: {unlisted:#?}");
            assert!(unrouted.is_empty(), "rows of {file} without a route: {unrouted:#?}");
        }
    }

    #[tokio::test]
    async fn a_node_that_does_not_federate_has_no_endpoint_for_other_servers() {
        let test = TestNode::new().await;
        assert!(federation::add(Routes::new(std::sync::Arc::clone(&test.node))).registered().is_empty());
    }

    #[tokio::test]
    async fn what_is_said_to_be_served_is_recognized_and_nothing_else_is() {
        let test = everything().await;
        for row in rows(CLIENT).into_iter().chain(rows(FEDERATION)) {
            let path = normal(&row.method, row.path).split_once(' ').unwrap().1.replace("{}", "x");
            let request = http::Request::builder().method(row.method.clone()).uri(&path).body(Body::empty()).unwrap();
            let response = test.send(request).await;
            let status = response.status();
            // Pages for people are not for other sites' scripts.
            let page =
                ["/_homeroom/oauth/authorize", "/_homeroom/link", "/_homeroom/account", "/_homeroom/sso", "fallback/web", "sso/redirect"];
            if !page.iter().any(|part| row.path.contains(part)) {
                assert_eq!(response.headers().get("access-control-allow-origin").unwrap(), "*", "{row:?}");
            }
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let code = body.get("errcode").and_then(serde_json::Value::as_str).unwrap_or_default();
            match &row.state {
                State::Served => assert!(code != "M_UNRECOGNIZED" && !status.is_server_error(), "{row:?}: {status} {body}"),
                State::Refused { status: told, errcode, .. } => assert_eq!((status, code), (*told, *errcode), "{row:?}"),
                State::Later { .. } => assert_eq!(code, "M_UNRECOGNIZED", "{row:?}"),
            }
        }
    }
}
