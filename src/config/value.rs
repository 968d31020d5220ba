//! Values as they stand in a file, on the command line or in the environment, and how a setting is read from one.

use std::{fmt, net::SocketAddr, path::PathBuf};

use ruma::OwnedServerName;
use toml::de::DeValue;

/// A value before it is known which setting it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Text.
    Text(String),
    /// Several values.
    List(Vec<Value>),
    /// Nothing is set, which only a default can say.
    Unset,
    /// Something that no setting takes (a date, a fraction, a table); the text says what.
    Other(&'static str),
}

impl Value {
    /// What stands in a TOML document.
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Integer(digits) => i64::from_str_radix(&digits.as_str().replace('_', ""), digits.radix())
                .map_or(Self::Other("a number out of range"), Self::Integer),
            DeValue::Float(_) => Self::Other("a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect()),
        }
    }

    /// What the value is, for an error message.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {text:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Unset => "nothing".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

impl fmt::Display for Value {
    /// As it would stand in a configuration file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
            Self::Unset => f.write_str("(not set)"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A type that a setting can have.
pub trait Setting: Sized {
    /// What a person may write, in a few words ("`true` or `false`").
    fn expects() -> String;
    /// Takes the value, or says in words what is wrong with it beyond being something else than expected.
    ///
    /// # Errors
    /// `None` when the value is of another kind, else what is wrong with it.
    fn read(value: &Value) -> Result<Self, Option<String>>;
    /// The value as it would be written.
    fn show(&self) -> Value;
}

impl Setting for bool {
    fn expects() -> String {
        "`true` or `false`".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Bool(value) => Ok(*value),
            _ => Err(None),
        }
    }
    fn show(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Setting for String {
    fn expects() -> String {
        "text".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(None),
        }
    }
    fn show(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl Setting for SocketAddr {
    fn expects() -> String {
        "an address and a port such as \"127.0.0.1:8008\" or \"[::1]:8008\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        text.parse().map_err(|_| None)
    }
    fn show(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Setting for OwnedServerName {
    fn expects() -> String {
        "a server name such as \"example.org\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        // ruma checks lengths only without a feature that the SDK switches on.
        if text.len() > 230 {
            return Err(Some("it is longer than 230 characters".to_owned()));
        }
        ruma::ServerName::parse(text.as_str()).map_err(|error| Some(error.to_string()))
    }
    fn show(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Setting for ruma::OwnedRoomId {
    fn expects() -> String {
        "the ID of a room such as \"!abc:example.org\"".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        ruma::RoomId::parse(text.as_str()).map_err(|error| Some(error.to_string()))
    }
    fn show(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Setting for PathBuf {
    fn expects() -> String {
        "a path that starts with `/` or `~/`".to_owned()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        let Value::Text(text) = value else { return Err(None) };
        if let Some(rest) = text.strip_prefix("~/") {
            let home = directories::BaseDirs::new().ok_or_else(|| Some("there is no home directory for `~`".to_owned()))?;
            return Ok(home.home_dir().join(rest));
        }
        // A relative path would mean something else in every working directory.
        if text.starts_with('/') { Ok(Self::from(text)) } else { Err(None) }
    }
    fn show(&self) -> Value {
        Value::Text(self.display().to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn expects() -> String {
        T::expects()
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        T::read(value).map(Some)
    }
    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Unset, T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expects() -> String {
        format!("a list in brackets, each {}", T::expects())
    }
    fn read(value: &Value) -> Result<Self, Option<String>> {
        match value {
            Value::List(items) => items
                .iter()
                .map(|item| T::read(item).map_err(|why| Some(format!("{} in the list: {}", item.what(), why.unwrap_or_else(T::expects)))))
                .collect(),
            _ => Err(None),
        }
    }
    fn show(&self) -> Value {
        Value::List(self.iter().map(T::show).collect())
    }
}
