//! Times as people read them, in local time.

use time::{Date, OffsetDateTime};

use crate::base::Zone;

/// The moment in local time; `None` for one that no calendar holds.
#[must_use]
pub fn local(timestamp_ms: u64, zone: Zone) -> Option<OffsetDateTime> {
    let seconds = i64::try_from(timestamp_ms / 1000).ok()?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.checked_to_offset(zone.offset_at(timestamp_ms))
}

/// `14:02`.
#[must_use]
pub fn hour_minute(timestamp_ms: u64, zone: Zone) -> String {
    local(timestamp_ms, zone).map_or_else(|| "--:--".to_owned(), |t| format!("{:02}:{:02}", t.hour(), t.minute()))
}

/// `Friday, 21 November 2026`.
#[must_use]
pub fn day(timestamp_ms: u64, zone: Zone) -> String {
    local(timestamp_ms, zone).map_or_else(String::new, |t| {
        let date: Date = t.date();
        format!("{}, {} {} {}", date.weekday(), date.day(), date.month(), date.year())
    })
}

/// At most six columns: the time today, the weekday within six days, else the date.
#[must_use]
pub fn short(timestamp_ms: u64, now_ms: u64, zone: Zone) -> String {
    let (Some(then), Some(now)) = (local(timestamp_ms, zone), local(now_ms, zone)) else { return String::new() };
    let days = now.date().to_julian_day() - then.date().to_julian_day();
    match days {
        0 => hour_minute(timestamp_ms, zone),
        1..=6 => then.weekday().to_string().chars().take(3).collect(),
        _ if then.year() == now.year() => format!("{} {}", then.day(), then.month().to_string().chars().take(3).collect::<String>()),
        _ => then.year().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_262_400_000; // 2026-11-21 12:00 UTC

    #[test]
    fn local_time_follows_the_offset() -> Result<(), time::error::ComponentRange> {
        let zone = Zone::Fixed(time::UtcOffset::from_hms(2, 30, 0)?);
        assert_eq!(hour_minute(NOON, zone), "14:30");
        assert_eq!(day(NOON, Zone::UTC), "Saturday, 21 November 2026");
        Ok(())
    }

    #[test]
    fn short_times_say_as_much_as_is_needed() {
        let day = 86_400_000;
        let short = |ms| short(ms, NOON, Zone::UTC);
        assert_eq!([short(NOON), short(NOON - day), short(NOON - 10 * day), short(0)], ["12:00", "Fri", "11 Nov", "1970"]);
        assert_eq!(hour_minute(u64::MAX, Zone::UTC), "--:--");
    }
}
