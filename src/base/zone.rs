//! Local time: how far the clocks here are ahead of UTC. That depends on the moment: a summer's messages are read in winter.

use chrono::{DateTime, Local, Offset as _, TimeZone as _};
use time::UtcOffset;

/// What local time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// As the machine says (`TZ`, `/etc/localtime`), at each moment.
    Local,
    /// Always the same, for tests and pictures.
    Fixed(UtcOffset),
}

impl Zone {
    /// No difference.
    pub const UTC: Self = Self::Fixed(UtcOffset::UTC);

    /// The difference to UTC at a moment, in milliseconds since the Unix epoch. None for a moment that no calendar holds.
    #[must_use]
    pub fn offset_at(self, timestamp_ms: u64) -> UtcOffset {
        match self {
            Self::Fixed(offset) => offset,
            Self::Local => local(timestamp_ms).unwrap_or(UtcOffset::UTC),
        }
    }
}

fn local(timestamp_ms: u64) -> Option<UtcOffset> {
    let moment = DateTime::from_timestamp_millis(i64::try_from(timestamp_ms).ok()?)?;
    let offset = Local.offset_from_utc_datetime(&moment.naive_utc()).fix();
    UtcOffset::from_whole_seconds(offset.local_minus_utc()).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use super::*;

    const SUMMER: u64 = 1_782_475_200_000; // 2026-06-26 12:00 UTC
    const WINTER: u64 = 1_795_262_400_000; // 2026-11-21 12:00 UTC
    /// Central Europe, as POSIX writes it, so that no table of zones is needed.
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// The zone belongs to the process: this asks in one of its own.
    #[test]
    fn summer_is_summer_also_in_winter() {
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        let name = format!("{}::in_berlin", module_path!().split_once("::").unwrap().1);
        let asked = itself.env("TZ", BERLIN).args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        assert!(asked.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the test above, in a process with a zone of its own"]
    fn in_berlin() {
        assert_eq!(std::env::var("TZ").as_deref(), Ok(BERLIN), "this is no test by itself");
        let hours = |moment| Zone::Local.offset_at(moment).whole_hours();
        assert_eq!((hours(SUMMER), hours(WINTER)), (2, 1));
        assert_eq!(Zone::Local.offset_at(u64::MAX), UtcOffset::UTC);
    }
}
