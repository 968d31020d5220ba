//! The `Authorization` header of a signed request (Server-Server API, "Request Authentication").
//!
//! Read here and not by ruma, whose parser wants quotes around a colon that the specification allows without.

use ruma::OwnedServerName;

use super::names;

/// Longest header that is read, in bytes.
const MAX_BYTES: usize = 2048;
/// The name of the scheme.
const SCHEME: &str = "X-Matrix";

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMatrix {
    /// Who signed.
    pub origin: OwnedServerName,
    /// For whom. Older servers leave it out.
    pub destination: Option<String>,
    /// With which of its keys, `ed25519:…`.
    pub key: String,
    /// The signature, 64 bytes of an Ed25519 key.
    pub signature: Vec<u8>,
}

/// Why a header says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// It is of another scheme.
    #[error("not an X-Matrix header")]
    OtherScheme,
    /// It is against the grammar, too long, or lacks something.
    #[error("a malformed X-Matrix header")]
    Malformed,
}

impl XMatrix {
    /// Reads a header's value.
    ///
    /// # Errors
    ///
    /// [`InvalidHeader`].
    pub fn parse(value: &[u8]) -> Result<Self, InvalidHeader> {
        let text = std::str::from_utf8(value).map_err(|_| InvalidHeader::OtherScheme)?;
        let (scheme, rest) = text.split_once(' ').ok_or(InvalidHeader::OtherScheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(InvalidHeader::OtherScheme);
        }
        if text.len() > MAX_BYTES {
            return Err(InvalidHeader::Malformed);
        }
        let [mut origin, mut destination, mut key, mut sig] = [None, None, None, None];
        for (name, value) in parameters(rest).ok_or(InvalidHeader::Malformed)? {
            let field = match name.to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut sig,
                _ => continue,
            };
            // Two of one kind are two opinions about what was signed.
            if field.replace(value).is_some() {
                return Err(InvalidHeader::Malformed);
            }
        }
        let (Some(origin), Some(key), Some(sig)) = (origin, key, sig) else { return Err(InvalidHeader::Malformed) };
        let signature = super::key_ring::base64(&sig).filter(|bytes| bytes.len() == 64).ok_or(InvalidHeader::Malformed)?;
        let origin = names::parse(&origin).map_err(|_| InvalidHeader::Malformed)?;
        Ok(Self { origin, destination, key, signature })
    }
}

/// Names and values of `name=value, name="value"`.
fn parameters(mut rest: &str) -> Option<Vec<(&str, String)>> {
    let mut out = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(out);
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                // Base64 may be padded, and its signs are no token's.
                if value.is_empty() || !value.bytes().all(|byte| is_token(byte) || b":/=[]".contains(&byte)) {
                    return None;
                }
                (value.to_owned(), after)
            }
        };
        out.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The text up to the closing quote, without its backslashes, and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, quoted.get(at + 1..)?)),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    const SIG: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA+/Aw";

    fn read(header: &str) -> Result<XMatrix, InvalidHeader> {
        XMatrix::parse(header.replace("SIG", SIG).as_bytes())
    }

    #[test]
    fn the_header_may_be_written_in_many_ways() {
        let plain = read(r#"X-Matrix origin="a.example:80",destination="b.example",key="ed25519:k_1",sig="SIG""#).unwrap();
        assert_eq!((plain.origin.as_str(), plain.destination.as_deref()), ("a.example:80", Some("b.example")));
        assert_eq!((plain.key.as_str(), plain.signature.len()), ("ed25519:k_1", 64));
        for other in [
            "X-Matrix origin=a.example:80,destination=b.example,key=ed25519:k_1,sig=SIG",
            "x-matrix   Sig=SIG ,\tKEY = \"ed25519:k_1\" ,destination=b.example,new=1, origin=a.example:80",
            "X-Matrix origin=a.example:80,destination=b.example,key=ed25519:k_1,sig=SIG==",
            "X-Matrix origin=\"a.exa\\mple:80\",destination=b.example,key=ed25519:k_1,sig=SIG,",
        ] {
            assert_eq!(read(other).unwrap(), plain, "{other}");
        }
        assert_eq!(read("X-Matrix origin=[::1]:80,key=ed25519:1,sig=SIG").unwrap().origin.as_str(), "[::1]:80");
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for other in ["", "X-Matrix", "Bearer x", "X-MatrixX origin=a"] {
            assert_eq!(read(other), Err(InvalidHeader::OtherScheme), "{other}");
        }
        for wrong in [
            "X-Matrix ",
            "X-Matrix origin",
            "X-Matrix origin=",
            "X-Matrix =a",
            "X-Matrix origin=\"a",
            "X-Matrix origin=\"a\\",
            "X-Matrix origin=a.example,key=ed25519:1",
            "X-Matrix origin=a.example,key=ed25519:1,sig=AAAA",
            "X-Matrix origin=a.example,key=ed25519:1,sig=%%",
            "X-Matrix origin=a.example,origin=b.example,key=ed25519:1,sig=SIG",
            "X-Matrix origin=a.example key=ed25519:1,sig=SIG",
            "X-Matrix origin=\"a.example\"b,key=ed25519:1,sig=SIG",
            "X-Matrix origin=\"a b\",key=ed25519:1,sig=SIG",
            "X-Matrix origin=127.1,key=ed25519:1,sig=SIG",
        ] {
            assert_eq!(read(wrong), Err(InvalidHeader::Malformed), "{wrong}");
        }
        assert_eq!(read(&format!("X-Matrix origin=a.example,key=ed25519:1,sig=SIG,x={}", "x".repeat(3000))), Err(InvalidHeader::Malformed));
    }
}
