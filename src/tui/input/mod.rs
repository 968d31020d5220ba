//! The keyboard: reads the terminal itself, without a thread in between.
//!
//! crossterm's reader loses keys that come in the same moment as a change of size until the next key (it polls
//! edge-triggered and returns at the first of two tokens), and costs a change of thread per key; this needs neither.

mod decode;

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    time::{Duration, Instant},
};

use tokio::io::{Interest, unix::AsyncFd};

pub use decode::Input;
use decode::{Decoder, Held};

/// How long an escape may be the start of something longer. Over a slow line the bytes of one key still come together.
const ESCAPE: Duration = Duration::from_millis(40);
/// How long a paste may pause before it counts as ended: a lost end must not keep the keyboard for ever.
const PASTE: Duration = Duration::from_secs(10);
/// How long the rest of one that paused for longer may pause.
const REST: Duration = Duration::from_secs(1);
const CHUNK: usize = 16 * 1024;
/// Bytes that are read before what they say is taken. The terminal keeps the rest, and slows down who writes it.
const READ: usize = 64 * 1024;

/// The keys of a terminal.
#[derive(Debug)]
pub struct Keyboard {
    terminal: AsyncFd<File>,
    decoder: Decoder,
    ready: VecDeque<Input>,
    /// When bytes came last.
    read_at: Instant,
    /// Reading stopped before everything was read. The terminal will not tell of that again.
    more: bool,
    ended: bool,
}

impl Keyboard {
    /// The keys of the terminal that this process is in.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> io::Result<Self> {
        // An open file of our own: standard input's is shared with the shell, which a non-blocking one would upset.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let open = |path: &str| OpenOptions::new().read(true).custom_flags(flags).open(path);
        Self::of(open("/dev/tty").or_else(|_| open("/proc/self/fd/0"))?)
    }

    fn of(file: File) -> io::Result<Self> {
        #[expect(deprecated, reason = "its successor is unsafe; what is asked of the caller there holds: the file is ours and stays")]
        let terminal = AsyncFd::with_interest(file, Interest::READABLE)?;
        Ok(Self { terminal, decoder: Decoder::default(), ready: VecDeque::new(), read_at: Instant::now(), more: false, ended: false })
    }

    /// What was typed next, if it is there already.
    pub fn take(&mut self) -> Option<Input> {
        if self.ready.is_empty() {
            self.read();
            self.due();
        }
        self.ready.pop_front()
    }

    /// True once the terminal is gone.
    pub fn has_ended(&self) -> bool {
        self.ended && self.ready.is_empty()
    }

    /// Waits until there is something to take, or the end. Cancel-safe: it takes nothing that is lost.
    pub async fn wait(&mut self) {
        while self.ready.is_empty() && !self.ended {
            if self.more {
                // A long paste says nothing until its end; others get their turn meanwhile.
                tokio::task::yield_now().await;
                self.read();
                continue;
            }
            let due = self.decoder.held().map(|held| self.read_at + patience(held));
            let readable = async {
                match self.terminal.readable().await {
                    Ok(mut guard) => {
                        // Cleared first: what comes from here on wakes us again.
                        guard.clear_ready();
                        true
                    }
                    Err(_) => false,
                }
            };
            let alive = match due {
                None => readable.await,
                Some(due) => tokio::time::timeout_at(due.into(), readable).await.unwrap_or(true),
            };
            self.ended |= !alive;
            self.read();
            self.due();
        }
    }

    /// Reads what is there, or a good part of it.
    fn read(&mut self) {
        let mut chunk = [0; CHUNK];
        let mut left = READ;
        self.more = false;
        while !self.ended {
            if left == 0 {
                self.more = true;
                return;
            }
            match self.terminal.get_ref().read(&mut chunk) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.read_at = Instant::now();
                    let ready = &mut self.ready;
                    self.decoder.feed(chunk.get(..count).unwrap_or_default(), &mut |input| ready.push_back(input));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.ended = true,
            }
        }
    }

    /// Nothing followed in time.
    fn due(&mut self) {
        let Some(held) = self.decoder.held() else { return };
        if self.more {
            return;
        }
        if self.ended || self.read_at.elapsed() >= patience(held) {
            let ready = &mut self.ready;
            self.decoder.give_up(&mut |input| ready.push_back(input));
        }
    }
}

fn patience(held: Held) -> Duration {
    match held {
        Held::Sequence => ESCAPE,
        Held::Paste => PASTE,
        Held::Rest => REST,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
    use std::io::Write as _;

    use super::*;

    const KEYS: usize = 300_000;

    #[tokio::test]
    async fn a_flood_of_keys_waits_in_the_terminal_and_none_is_lost() {
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let mut keyboard = Keyboard::of(std::os::fd::OwnedFd::from(reader).into()).unwrap();
        let flood = std::thread::spawn(move || writer.write_all(&vec![b'x'; KEYS]).unwrap());
        let (mut taken, mut most) = (0, 0);
        while taken < KEYS {
            keyboard.wait().await;
            while keyboard.take().is_some() {
                taken += 1;
                most = most.max(keyboard.ready.len());
            }
        }
        flood.join().unwrap();
        assert_eq!(taken, KEYS);
        assert!(most < READ + CHUNK, "{most} keys were waiting");
    }
}
