//! How it stands with the certificate, for the owner: read from the data directory, whether the node runs or not.

use std::path::Path;

use time::OffsetDateTime;

use super::{Settings, covers, disk::Disk, renewal_ms, validity_ms};
use crate::homeserver::federation::doctor::{Check, Outcome};

/// What to do when names cannot be proven.
const MEND: &str = "see whether the name's address records lead here and the port that the proof needs (443 for tls-alpn-01, 80 for \
                    http-01) gets through firewall and router to this node";

/// Looks. Blocks for a moment.
#[must_use]
pub fn examine(data_dir: &Path, settings: &Settings, now_ms: u64) -> Check {
    let disk = Disk::new(data_dir);
    let state = disk.read_state();
    let failure = state.failed_with(settings).then(|| {
        let why = state.last_error.clone().unwrap_or_else(|| "the last attempt was cut off, or is still under way".to_owned());
        let file = disk.state_file();
        (
            format!("{why}; next attempt: {}", moment(state.retry_at_ms.max(now_ms))),
            format!("{MEND}; to have it tried at once, stop the node, remove {} and start it", file.display()),
        )
    });
    let check = |outcome, found: String, mend: Option<String>| Check { what: "acme", outcome, found, mend };
    let domains = settings.domains.join(", ");
    let found = match disk.read_certificate() {
        Ok(found) => found,
        Err(error) => return check(Outcome::Bad, format!("the certificate that is there cannot be used: {error}"), Some(asked())),
    };
    let dates = found.as_ref().and_then(|found| Some((validity_ms(found)?.1, renewal_ms(found)?)));
    let (Some(found), Some((until_ms, renewal_ms))) = (found, dates) else {
        let (why, mend) = failure.unwrap_or_else(|| ("none has been asked for yet".to_owned(), asked()));
        return check(Outcome::Bad, format!("there is no certificate for {domains}: {why}"), Some(mend));
    };
    let days = (i128::from(until_ms) - i128::from(now_ms)) / i128::from(24 * 60 * 60 * 1000_u64);
    let valid = format!("{} ({days} days)", moment(until_ms));
    let over = until_ms <= now_ms;
    match (over, covers(&found, &settings.domains), failure) {
        (true, _, failure) => {
            let (why, mend) = failure.unwrap_or_else(|| ("no renewal was tried".to_owned(), asked()));
            check(Outcome::Bad, format!("the certificate ran out on {valid}: {why}"), Some(mend))
        }
        (false, false, failure) => {
            let (why, mend) = failure.unwrap_or_else(|| ("one that is has not been asked for yet".to_owned(), asked()));
            check(Outcome::Bad, format!("the certificate is not for {domains}: {why}"), Some(mend))
        }
        (false, true, Some((why, mend))) => check(
            Outcome::Warning,
            format!("the certificate for {domains} is valid until {valid}, but its renewal failed: {why}"),
            Some(mend),
        ),
        (false, true, None) if renewal_ms <= now_ms => {
            check(Outcome::Warning, format!("the certificate for {domains} is valid until {valid} and due to be renewed"), Some(asked()))
        }
        (false, true, None) => {
            let found = format!("the certificate for {domains} is valid until {valid}, and is renewed from {} on", moment(renewal_ms));
            check(Outcome::Good, found, None)
        }
    }
}

fn asked() -> String {
    "the node asks for one by itself while it runs: start it, and see its log".to_owned()
}

/// A time as people write it.
fn moment(ms: u64) -> String {
    let time = i64::try_from(ms / 1000).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.map_or_else(|| "a time out of range".to_owned(), |time| format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute()))
}
