//! The validity of a certificate: the two dates of X.509 (RFC 5280, section 4.1.2.5), and nothing else of it.

use rustls::pki_types::CertificateDer;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when to when a certificate is valid; `None` for what is no certificate.
#[must_use]
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (tag, certificate, _) = element(certificate.as_ref())?;
    let (inner, signed, _) = element(certificate)?;
    if tag != SEQUENCE || inner != SEQUENCE {
        return None;
    }
    let mut rest = signed;
    // The version is optional; then serial number, algorithm and issuer.
    if element(rest)?.0 == VERSION {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (tag, dates, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    let (from_tag, from, rest) = element(dates)?;
    let (until_tag, until, _) = element(rest)?;
    Some((date(from_tag, from)?, date(until_tag, until)?))
}

/// Tag and content of the first element, and what follows it (X.690, section 8.1).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, after) = rest.split_at_checked(count)?;
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

fn date(tag: u8, digits: &[u8]) -> Option<OffsetDateTime> {
    let text = std::str::from_utf8(digits).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        // Two digits: 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year >= 50 { 1900 + year } else { 2000 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut numbers = [0_u8; 5];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = rest.get(2 * at..2 * at + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = numbers;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    Some(PrimitiveDateTime::new(date, Time::from_hms(hour, minute, second).ok()?).assume_utc())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_read() {
        for (from, until) in [(1975, 2048), (2020, 2051), (2051, 3000)] {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from, 3, 4);
            params.not_after = rcgen::date_time_ymd(until, 12, 31);
            let own = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let (found_from, found_until) = validity(own.der()).unwrap();
            assert_eq!((found_from.year(), found_from.month(), found_from.day()), (from, Month::March, 4));
            assert_eq!((found_until.year(), found_until.month(), found_until.day()), (until, Month::December, 31));
        }
    }

    #[test]
    fn what_is_cut_off_or_no_certificate_has_no_dates() {
        let own = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let bytes = own.cert.der().as_ref();
        for end in 0..bytes.len() {
            // The outer length says that there is more.
            assert!(validity(&CertificateDer::from(bytes.get(..end).unwrap().to_vec())).is_none(), "{end}");
        }
        assert!(validity(&CertificateDer::from(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff])).is_none());
        assert!(validity(&CertificateDer::from(vec![0x30, 0x80])).is_none());
    }
}
