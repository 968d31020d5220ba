//! `multipart/mixed` as media come in it (Server-Server API, "Content Repository"; RFC 2046, section 5.1): a part of JSON, then
//! the file, or where it is.
//!
//! Reads and writes piece by piece; no more than a part's headers is ever held. Knows nothing of connections.

use bytes::{Bytes, BytesMut};

/// Headers of one part.
const HEADER_BYTES: usize = 16 * 1024;
/// What comes before the first part, and the JSON of the first part: both mean nothing to us.
const SKIPPED_BYTES: usize = 64 * 1024;
/// Longest boundary (RFC 2046).
const BOUNDARY_CHARS: usize = 70;

/// What is no such message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the multipart message that it should be: {0}")]
pub struct Malformed(pub &'static str);

/// What the second part says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Disposition`.
    pub disposition: Option<String>,
    /// `Location`: the file is there, and not here.
    pub location: Option<String>,
}

/// The boundary in a `Content-Type`.
///
/// # Errors
///
/// [`Malformed`].
pub fn boundary(content_type: &str) -> Result<String, Malformed> {
    let mut parts = content_type.split(';');
    if !parts.next().unwrap_or_default().trim().eq_ignore_ascii_case("multipart/mixed") {
        return Err(Malformed("another type"));
    }
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("boundary") {
            let value = value.trim().trim_matches('"');
            if value.is_empty() || value.len() > BOUNDARY_CHARS || !value.is_ascii() {
                return Err(Malformed("no such boundary"));
            }
            return Ok(value.to_owned());
        }
    }
    Err(Malformed("no boundary"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a boundary, with so many parts behind.
    Skipping(usize),
    /// Right after a boundary, with so many parts behind.
    Line(usize),
    /// In the headers of a part.
    Headers(usize),
    /// In the file.
    File,
    End,
}

/// Reads such a message.
#[derive(Debug)]
pub struct Reader {
    /// Carriage return, line feed, two dashes, boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    at: At,
    skipped: usize,
    head: Option<Head>,
}

impl Reader {
    /// For a message with this boundary.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary may stand at the very beginning, with no line before it.
        Self { delimiter, buffer: BytesMut::from(&b"\r\n"[..]), at: At::Skipping(0), skipped: 0, head: None }
    }

    /// What the file's part says of itself, once that has come.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// True once the file is complete.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.at == At::End
    }

    /// Takes a piece of the message and returns a piece of the file, which may be empty.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn push(&mut self, piece: &[u8]) -> Result<Bytes, Malformed> {
        self.buffer.extend_from_slice(piece);
        let mut file = BytesMut::new();
        loop {
            let before = (self.at, self.buffer.len());
            match self.at {
                At::Skipping(parts) => self.skip(parts)?,
                At::Line(parts) => self.line(parts)?,
                At::Headers(parts) => self.headers(parts)?,
                At::File => file.extend_from_slice(&self.file()),
                At::End => self.buffer.clear(),
            }
            if before == (self.at, self.buffer.len()) {
                return Ok(file.freeze());
            }
        }
    }

    fn find(&self, what: &[u8]) -> Option<usize> {
        self.buffer.windows(what.len()).position(|window| window == what)
    }

    /// Drops everything up to a boundary.
    fn skip(&mut self, parts: usize) -> Result<(), Malformed> {
        let (drop, found) = match self.find(&self.delimiter) {
            Some(at) => (at + self.delimiter.len(), true),
            None => (self.buffer.len().saturating_sub(self.delimiter.len()), false),
        };
        self.skipped += drop;
        if self.skipped > SKIPPED_BYTES {
            return Err(Malformed("too much before the file"));
        }
        drop_front(&mut self.buffer, drop);
        if found {
            self.at = At::Line(parts);
        }
        Ok(())
    }

    /// The rest of a boundary's line.
    fn line(&mut self, parts: usize) -> Result<(), Malformed> {
        if self.buffer.starts_with(b"--") {
            return Err(Malformed("it ends before the file"));
        }
        match self.find(b"\r\n") {
            Some(at) => {
                // The line's end is also the beginning of the headers, should there be none.
                drop_front(&mut self.buffer, at);
                self.at = At::Headers(parts);
                Ok(())
            }
            None if self.buffer.len() > HEADER_BYTES => Err(Malformed("no end of a line")),
            None => Ok(()),
        }
    }

    fn headers(&mut self, parts: usize) -> Result<(), Malformed> {
        let Some(end) = self.find(b"\r\n\r\n") else {
            return if self.buffer.len() > HEADER_BYTES { Err(Malformed("no end of the headers")) } else { Ok(()) };
        };
        if end > HEADER_BYTES {
            return Err(Malformed("too many headers"));
        }
        let text = self.buffer.split_to(end);
        drop_front(&mut self.buffer, 4);
        if parts == 0 {
            // The JSON comes next, which is followed by a boundary of its own even where it is empty.
            let rest = self.buffer.split();
            self.buffer.extend_from_slice(b"\r\n");
            self.buffer.extend_from_slice(&rest);
            self.at = At::Skipping(1);
            return Ok(());
        }
        self.head = Some(head(&text));
        // An empty file: the boundary's line begins where the headers end.
        self.at = At::File;
        Ok(())
    }

    /// As much of the file as cannot be the beginning of a boundary.
    fn file(&mut self) -> Bytes {
        match self.find(&self.delimiter) {
            Some(at) => {
                let piece = self.buffer.split_to(at).freeze();
                self.buffer.clear();
                self.at = At::End;
                piece
            }
            None => {
                let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                self.buffer.split_to(sure).freeze()
            }
        }
    }
}

fn drop_front(buffer: &mut BytesMut, bytes: usize) {
    drop(buffer.split_to(bytes.min(buffer.len())));
}

fn head(text: &[u8]) -> Head {
    let mut head = Head::default();
    for line in String::from_utf8_lossy(text).split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = Some(value.trim().chars().filter(|c| !c.is_control()).collect());
        match name.trim().to_ascii_lowercase().as_str() {
            "content-type" => head.content_type = value,
            "content-disposition" => head.disposition = value,
            "location" => head.location = value,
            _ => {}
        }
    }
    head
}

/// Everything before the file, and everything after it.
#[must_use]
pub fn around(boundary: &str, content_type: &str, disposition: &str) -> (Bytes, Bytes) {
    let head = format!(
        "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Disposition: {disposition}\r\n\r\n"
    );
    (head.into(), format!("\r\n--{boundary}--\r\n").into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    /// Reads a message in pieces of this size.
    fn read(message: &[u8], size: usize) -> Result<(Vec<u8>, Option<Head>, bool), Malformed> {
        let mut reader = Reader::new("B");
        let mut file = Vec::new();
        for piece in message.chunks(size) {
            file.extend_from_slice(&reader.push(piece)?);
        }
        Ok((file, reader.head().cloned(), reader.is_complete()))
    }

    fn head_of(content_type: &str) -> Option<Head> {
        Some(Head { content_type: Some(content_type.into()), disposition: Some("inline".into()), location: None })
    }

    #[test]
    fn what_was_written_is_read_however_it_is_cut() {
        let contents: [&[u8]; 5] = [b"", b"\r\n", b"hello\r\n--Bye\r\n-", b"--B", b"a\r\n--A\r\n\r\n--"];
        for content in contents {
            let (before, after) = around("B", "text/plain", "inline");
            // `--B` at the very start of a file is no boundary: it needs a line's end before it.
            let message = [&before, content, &after].concat();
            for size in 1..message.len() {
                let (file, head, complete) = read(&message, size).unwrap();
                if content == b"hello\r\n--Bye\r\n-" {
                    assert_eq!(file, b"hello", "a boundary followed by anything is one: whoever writes has to choose another");
                } else {
                    assert_eq!(file, content, "in pieces of {size}");
                }
                assert_eq!((head, complete), (head_of("text/plain"), true));
            }
        }
    }

    #[test]
    fn other_servers_spellings_are_read() {
        let synapse = b"\r\n--B\r\nContent-Type: application/json\r\n\r\n{}\r\n--B\r\nContent-Type: image/png\r\nContent-Disposition: inline\r\n\r\nPNG\r\n--B--\r\n\r\n";
        assert_eq!(read(synapse, 7).unwrap(), (b"PNG".to_vec(), head_of("image/png"), true));
        let bare = b"preamble\r\n--B\r\n\r\n{}\r\n--B\r\ncontent-type:image/png\r\nCONTENT-DISPOSITION: inline\r\n\r\nPNG\r\n--B--";
        assert_eq!(read(bare, 3).unwrap(), (b"PNG".to_vec(), head_of("image/png"), true));
        let elsewhere = b"--B\r\nContent-Type: application/json\r\n\r\n{}\r\n--B\r\nLocation: https://cdn.test/x\r\n\r\n\r\n--B--";
        let (file, head, _) = read(elsewhere, 5).unwrap();
        assert_eq!((file, head.unwrap().location), (Vec::new(), Some("https://cdn.test/x".to_owned())));
    }

    #[test]
    fn a_message_without_an_end_without_a_file_or_without_bounds_is_noticed() {
        let (before, _) = around("B", "text/plain", "inline");
        assert!(!read(&[&before, &b"half"[..]].concat(), 9).unwrap().2);
        assert!(read(b"--B\r\n\r\n{}\r\n--B--\r\n", 4).is_err());
        assert!(read(&vec![b'x'; SKIPPED_BYTES * 2], 1000).is_err());
        let endless = [&b"--B\r\n\r\n{}\r\n--B\r\nX: "[..], &vec![b'x'; HEADER_BYTES * 2]].concat();
        assert!(read(&endless, 1000).is_err());
    }

    /// CVE-2024-52805: parts without end, and a head without end, cost what one of them may cost.
    #[test]
    fn parts_without_end_are_not_kept() {
        let mut reader = Reader::new("B");
        let mut file = reader.push(b"--B\r\n\r\n{}\r\n--B\r\n\r\nfile").unwrap().to_vec();
        for _ in 0..10_000 {
            file.extend_from_slice(&reader.push(b"\r\n--B\r\nContent-Type: x/y\r\n\r\nmore").unwrap());
            assert!(reader.buffer.len() < 100);
        }
        assert_eq!(file, b"file");
        let mut reader = Reader::new("B");
        reader.push(b"--B\r\n\r\n{}\r\n--B\r\n").unwrap();
        let refused = (0..1_000).find_map(|_| reader.push(&[b'x'; 1000]).err());
        assert!(refused.is_some() && reader.buffer.len() < HEADER_BYTES * 2);
    }

    #[test]
    fn the_boundary_is_found_in_the_type() {
        assert_eq!(boundary("multipart/mixed; boundary=abc"), Ok("abc".into()));
        assert_eq!(boundary("Multipart/Mixed; charset=x; BOUNDARY=\"a b\""), Ok("a b".into()));
        for wrong in [
            "text/plain; boundary=a",
            "multipart/mixed",
            "multipart/mixed; boundary=",
            &format!("multipart/mixed; boundary={}", "x".repeat(80)),
        ] {
            assert!(boundary(wrong).is_err(), "{wrong}");
        }
    }
}
