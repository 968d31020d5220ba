//! Servers that are no homeservers: silent, talking nonsense, or gone.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

/// How a server misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Takes connections and requests, and never answers.
    Silent,
    /// Answers every request with a page for browsers.
    WebPage,
    /// Answers with bytes that are no HTTP.
    Noise,
    /// Answers with JSON that has nothing to do with Matrix.
    OtherJson,
    /// Answers a part and hangs up.
    HangsUp,
    /// Announces a body without end and sends it.
    Endless,
    /// Always answers 502, as a proxy before a dead server does.
    BadGateway,
}

impl Misbehaviour {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Silent, Self::WebPage, Self::Noise, Self::OtherJson, Self::HangsUp, Self::Endless, Self::BadGateway];
}

/// Starts one; it lives until the process ends.
pub fn server(misbehaviour: Misbehaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            if misbehaviour == Misbehaviour::Silent {
                kept.push(stream);
            } else {
                std::thread::spawn(move || misbehave(stream, misbehaviour));
            }
        }
    });
    address
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn misbehave(mut stream: TcpStream, misbehaviour: Misbehaviour) {
    let mut request = [0; 8192];
    while let Ok(1..) = stream.read(&mut request) {
        let page = "<!doctype html><title>Welcome to nginx!</title><h1>It works</h1>";
        let sent = match misbehaviour {
            Misbehaviour::Silent => return,
            Misbehaviour::WebPage => answer(&mut stream, "200 OK", "text/html", page),
            Misbehaviour::Noise => stream.write_all(&[0xff; 512]).and(Err(std::io::ErrorKind::Other.into())),
            Misbehaviour::OtherJson => answer(&mut stream, "200 OK", "application/json", r#"{"versions":"none","flows":7}"#),
            Misbehaviour::HangsUp => stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"versions\":[")
                .and(Err(std::io::ErrorKind::Other.into())),
            Misbehaviour::Endless => endless(&mut stream),
            Misbehaviour::BadGateway => answer(&mut stream, "502 Bad Gateway", "text/html", page),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(stream: &mut TcpStream, status: &str, content_type: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    loop {
        stream.write_all(chunk.as_bytes())?;
    }
}
