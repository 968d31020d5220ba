//! The kinds of setting that are homeroom's own.

use super::value::{Setting, Value};
pub use crate::homeserver::config::Network;

/// An enumeration whose variants are words in the configuration and on the command line.
macro_rules! choices {
    ($( $(#[doc = $doc:literal])* $name:ident { $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal, )* } )*) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $( $(#[doc = $variant_doc])* $variant, )* }

        impl $name {
            /// The words, in the order of the documentation.
            pub const WORDS: &[&str] = &[$($word),*];

            /// The word for this choice.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }
        }

        impl Setting for $name {
            fn expects() -> String {
                format!("one of {}", Self::WORDS.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
            }
            fn read(value: &Value) -> Result<Self, Option<String>> {
                match value {
                    $( Value::Text(text) if text == $word => Ok(Self::$variant), )*
                    _ => Err(None),
                }
            }
            fn show(&self) -> Value {
                Value::Text(self.word().to_owned())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                Self::read(&Value::Text(word.to_owned())).map_err(|_| Self::expects())
            }
        }
    )* };
}

choices! {
    /// How many colours the screen may use.
    Colour {
        /// What the terminal says it can do; none with `NO_COLOR`.
        Auto = "auto",
        /// 24-bit colour.
        TrueColour = "truecolour",
        /// The 256-colour palette.
        Ansi256 = "256",
        /// The sixteen colours of the terminal's own palette.
        Ansi16 = "16",
        /// None.
        None = "none",
    }
    /// What to do about messages that mention somebody, and those in direct chats.
    Notifications {
        /// Nothing.
        Off = "off",
        /// Ring the terminal's bell.
        Bell = "bell",
        /// Have the terminal show a notification.
        Osc = "osc",
    }
    /// How it is proven to a certificate authority that a name is the node's.
    Challenge {
        /// By a certificate of its own on port 443.
        TlsAlpn01 = "tls-alpn-01",
        /// By a page on port 80.
        Http01 = "http-01",
    }
    /// Who may create an account on the node.
    Registration {
        /// Nobody, except through `homeroom account create`.
        Closed = "closed",
        /// Who shows a registration token.
        Token = "token",
        /// Everybody who reaches the node.
        Open = "open",
    }
}

/// A number of bytes, written as "50 MiB".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Setting for Size {
    fn expects() -> String {
        "a size such as \"50 MiB\" (B, KiB, MiB or GiB)".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        let (unit, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or(None)?;
        let number: u64 = text.strip_suffix(unit).ok_or(None)?.trim_end().parse().map_err(|_| None)?;
        number.checked_mul(*factor).map(Self).ok_or_else(|| Some("it is too large".to_owned()))
    }
    fn show(&self) -> Value {
        let (unit, factor) = UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)).unwrap_or(&("B", 1));
        Value::Text(format!("{} {unit}", self.0 / factor))
    }
}

/// A number of days, written as "90 days".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Days(pub u32);

impl Days {
    /// The same in milliseconds.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        u64::from(self.0) * 24 * 60 * 60 * 1000
    }
}

impl Setting for Days {
    fn expects() -> String {
        "a number of days such as \"90 days\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        let number = text.strip_suffix("days").or_else(|| text.strip_suffix("day")).ok_or(None)?;
        let days: u32 = number.trim_end().parse().map_err(|_| None)?;
        if days == 0 { Err(Some("it is at least one day".to_owned())) } else { Ok(Self(days)) }
    }
    fn show(&self) -> Value {
        Value::Text(format!("{} days", self.0))
    }
}

impl Setting for Network {
    fn expects() -> String {
        "an address or a network such as \"192.168.1.0/24\" or \"::1\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        text.parse().map_err(|_| None)
    }
    fn show(&self) -> Value {
        Value::Text(self.to_string())
    }
}

/// Which log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    fn expects() -> String {
        "a level (error, warn, info, debug, trace) or levels by part (\"warn,homeroom::client=debug\")".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        crate::base::logging::check_filter(text).map_err(Some)?;
        Ok(Self(text.clone()))
    }
    fn show(&self) -> Value {
        Value::Text(self.0.clone())
    }
}

/// The address at which others reach the node, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(pub String);

impl Setting for BaseUrl {
    fn expects() -> String {
        "an address such as \"https://matrix.example.org\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        let url = url::Url::parse(text).map_err(|_| None)?;
        let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        match url.scheme() {
            "https" => {}
            "http" if here => {}
            // Passwords and tokens go there.
            _ => return Err(Some("it has to be https (http is for this computer alone)".to_owned())),
        }
        if url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() || url.password().is_some() {
            return Err(None);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Some("it has a query or a fragment".to_owned()));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
    fn show(&self) -> Value {
        Value::Text(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<Size, Option<String>> {
        Size::read(&Value::Text(text.to_owned()))
    }

    #[test]
    fn days_are_called_days() {
        let days = |text: &str| Days::read(&Value::Text(text.to_owned()));
        assert_eq!((days("90 days"), days("1 day")), (Ok(Days(90)), Ok(Days(1))));
        assert!(days("0 days").is_err() && days("90").is_err() && days("-1 days").is_err());
        assert_eq!(Days(2).as_ms(), 172_800_000);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("50 MiB"), Ok(Size(50 << 20)));
        assert_eq!(size("7B"), Ok(Size(7)));
        assert_eq!(size("50"), Err(None));
        assert_eq!(size("-1 MiB"), Err(None));
        assert!(size("99999999999999 GiB").is_err());
        assert_eq!(Size(50 << 20).show(), Value::Text("50 MiB".to_owned()));
        assert_eq!(Size(1500).show(), Value::Text("1500 B".to_owned()));
    }
}
