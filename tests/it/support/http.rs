//! A plain blocking HTTP client over TCP or a Unix socket, and a person who uses it.
//!
//! One connection at a time, kept alive. Written out rather than taken from a library so that tests can send what no
//! library would, and so that benches measure the node and not a client.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use super::wait::PATIENCE;

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Address {
    Tcp(SocketAddr),
    Socket(PathBuf),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A client with one connection.
pub struct Http {
    address: Address,
    connection: Option<BufReader<Box<dyn Stream>>>,
    /// Sent as bearer token.
    pub token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first header of that name, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The Matrix error code.
    pub fn errcode(&self) -> String {
        self.json()["errcode"].as_str().unwrap_or_default().to_owned()
    }

    /// The body of a success.
    ///
    /// # Panics
    /// When it is another status.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

impl Http {
    /// A client of this server.
    pub fn new(address: Address) -> Self {
        Self { address, connection: None, token: None }
    }

    /// Where the server is.
    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Another connection to the same server as the same person.
    pub fn another(&self) -> Self {
        Self { address: self.address.clone(), connection: None, token: self.token.clone() }
    }

    fn connect(&self) -> io::Result<BufReader<Box<dyn Stream>>> {
        let stream: Box<dyn Stream> = match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Address::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(BufReader::new(stream))
    }

    /// A request with any body. An idle connection that the server has closed is opened anew once.
    ///
    /// # Errors
    /// When the server cannot be reached or breaks off.
    pub fn request(&mut self, method: &str, path: &str, content_type: &str, body: &[u8]) -> io::Result<Answer> {
        self.request_with(method, path, &[("Host", "localhost")], content_type, body)
    }

    /// The same with other headers, `Host` among them.
    ///
    /// # Errors
    /// When the server cannot be reached or breaks off.
    pub fn request_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(body);
        let reused = self.connection.is_some();
        match self.exchange(&message) {
            Err(_) if reused => self.exchange(&message),
            outcome => outcome,
        }
    }

    fn exchange(&mut self, message: &[u8]) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        // A server may answer and close while we still write, as it does with bodies that are too large: read all the same.
        let written = connection.get_mut().write_all(message).and_then(|()| connection.get_mut().flush());
        let (answer, keep) = read_answer(&mut connection).map_err(|error| written.err().unwrap_or(error))?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    /// A JSON request.
    ///
    /// # Panics
    /// When the server cannot be reached.
    #[track_caller]
    pub fn call(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.request(method, path, "application/json", &body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null)
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, body)
    }

    #[track_caller]
    pub fn put(&mut self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, body)
    }
}

fn read_answer(connection: &mut impl BufRead) -> io::Result<(Answer, bool)> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    loop {
        let line = read_line(connection)?;
        let mut words = line.split(' ');
        let version = words.next().unwrap_or_default();
        let status: u16 = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| broken("no status line"))?;
        let (mut length, mut chunked, mut keep) = (None, false, version == "HTTP/1.1");
        let mut headers = Vec::new();
        loop {
            let line = read_line(connection)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            headers.push((name.clone(), value.to_owned()));
            match name.as_str() {
                "content-length" => length = value.parse::<usize>().ok(),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => keep = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if status == 100 {
            continue;
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let size = usize::from_str_radix(read_line(connection)?.split(';').next().unwrap_or_default(), 16);
                let size = size.map_err(|_| broken("a chunk without a size"))?;
                let start = body.len();
                body.resize(start + size, 0);
                connection.read_exact(&mut body[start..])?;
                read_line(connection)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = length {
            body.resize(length, 0);
            connection.read_exact(&mut body)?;
        } else if status != 204 && status != 304 {
            connection.read_to_end(&mut body)?;
            keep = false;
        }
        return Ok((Answer { status, headers, body }, keep));
    }
}

fn read_line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// One path segment, percent-encoded.
pub fn encoded(segment: &str) -> String {
    segment
        .bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            },
        )
        .collect()
}

/// Somebody with an account on a node.
pub struct Person {
    pub http: Http,
    pub user_id: String,
    pub device_id: String,
    pub password: String,
}

static TRANSACTION: AtomicU64 = AtomicU64::new(1);

impl Person {
    /// Registers at a node with open registration.
    #[track_caller]
    pub fn register(address: Address, name: &str) -> Self {
        let mut http = Http::new(address);
        let password = format!("the password of {name}");
        let mut body = json!({ "username": name, "password": password, "auth": { "type": "m.login.dummy" } });
        let mut answer = http.post("/_matrix/client/v3/register", &body);
        if answer.status == 401 {
            body["auth"]["session"] = answer.json()["session"].clone();
            answer = http.post("/_matrix/client/v3/register", &body);
        }
        Self::signed_in(http, answer.ok(), password)
    }

    /// Signs in with a password.
    #[track_caller]
    pub fn login(address: Address, name: &str, password: &str) -> Self {
        let mut http = Http::new(address);
        let body = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": password });
        let answer = http.post("/_matrix/client/v3/login", &body).ok();
        Self::signed_in(http, answer, password.to_owned())
    }

    fn signed_in(mut http: Http, answer: Value, password: String) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("no {key} in {answer}")).to_owned();
        http.token = Some(text("access_token"));
        Self { http, user_id: text("user_id"), device_id: text("device_id"), password }
    }

    /// Creates a room.
    #[track_caller]
    pub fn create_room(&mut self, body: &Value) -> String {
        self.http.post("/_matrix/client/v3/createRoom", body).ok()["room_id"].as_str().unwrap().to_owned()
    }

    /// Joins a room by ID or alias.
    #[track_caller]
    pub fn join(&mut self, room: &str) {
        self.http.post(&format!("/_matrix/client/v3/join/{}", encoded(room)), &json!({})).ok();
    }

    /// Invites somebody.
    #[track_caller]
    pub fn invite(&mut self, room: &str, user_id: &str) {
        self.http.post(&format!("/_matrix/client/v3/rooms/{}/invite", encoded(room)), &json!({ "user_id": user_id })).ok();
    }

    /// A transaction ID that nobody has used.
    pub fn transaction() -> String {
        format!("t{}", TRANSACTION.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends an event; its ID.
    #[track_caller]
    pub fn send_event(&mut self, room: &str, kind: &str, content: &Value) -> String {
        let path = format!("/_matrix/client/v3/rooms/{}/send/{kind}/{}", encoded(room), Self::transaction());
        self.http.put(&path, content).ok()["event_id"].as_str().unwrap().to_owned()
    }

    /// Sends a text; its event ID.
    #[track_caller]
    pub fn say(&mut self, room: &str, text: &str) -> String {
        self.send_event(room, "m.room.message", &json!({ "msgtype": "m.text", "body": text }))
    }

    /// Every event of a room that can be reached backwards, oldest first.
    #[track_caller]
    pub fn history(&mut self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=100{from}", encoded(room));
            let page = self.http.get(&path).ok();
            events.extend(page["chunk"].as_array().unwrap().iter().cloned());
            match page["end"].as_str() {
                Some(end) => from = format!("&from={}", encoded(end)),
                None => break,
            }
        }
        events.reverse();
        events
    }
}
