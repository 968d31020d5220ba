//! Randomness as a parameter, so that tests can repeat a run.

use std::fmt::Debug;

use rand::{RngCore, SeedableRng, TryRngCore};

/// Gives random bytes, good enough for keys and tokens unless the implementation says otherwise.
pub trait Randomness: Debug + Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);

    /// `len` characters from `[A-Za-z0-9]`, without bias (5.95 bits each).
    fn alphanumeric(&self, len: usize) -> String {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut out = String::with_capacity(len);
        let mut buffer = [0_u8; 64];
        while out.len() < len {
            self.fill(&mut buffer);
            // 248 is the largest multiple of 62 below 256: bytes above it would favour the first letters.
            for byte in buffer.iter().filter(|byte| **byte < 248) {
                if let Some(c) = ALPHABET.get(usize::from(byte % 62)) {
                    out.push(char::from(*c));
                }
                if out.len() == len {
                    break;
                }
            }
        }
        out
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        rand::rngs::OsRng.try_fill_bytes(buffer).expect("the operating system's random generator works once the machine has booted");
    }
}

/// A repeatable sequence, for tests and simulations only.
#[derive(Debug)]
pub struct SeededRandomness(std::sync::Mutex<rand::rngs::StdRng>);

impl SeededRandomness {
    /// The sequence that belongs to this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(std::sync::Mutex::new(rand::rngs::StdRng::seed_from_u64(seed)))
    }
}

impl Randomness for SeededRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill_bytes(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphanumeric_has_the_length_asked_for_and_only_letters_and_digits() {
        let text = SeededRandomness::new(1).alphanumeric(1000);
        assert_eq!(text.len(), 1000);
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
