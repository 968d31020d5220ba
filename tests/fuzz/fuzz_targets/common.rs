//! Without a fuzzer: what a target does with files, and with texts that are near its examples.

/// Texts that are tried, unless `FUZZ_ROUNDS` says how many.
const ROUNDS: u64 = 20_000;
/// Longest text.
const LONGEST: usize = 4096;

/// Repeatable numbers (xorshift64*): a failure is found again by the same run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        if end == 0 { 0 } else { usize::try_from(number).unwrap_or_default() % end }
    }
}

/// Runs a target on the files that are named, or on changed examples.
pub fn main(examples: &[&[u8]], run: fn(&[u8])) {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if !files.is_empty() {
        for file in files {
            run(&std::fs::read(&file).expect("the file can be read"));
        }
        return;
    }
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let mut numbers = Numbers(20);
    for example in examples {
        run(example);
    }
    for _ in 0..rounds {
        let mut text = examples[numbers.below(examples.len())].to_vec();
        for _ in 0..=numbers.below(6) {
            change(&mut text, examples, &mut numbers);
        }
        run(&text);
    }
    println!("{rounds} texts near {} examples", examples.len());
}

/// Bytes that mean something to most parsers.
const TELLING: &[u8] = b"\"{}[]:,;=<>/\\%&@#!$.*-0179aZ \n\r\0\xff\xc3";

fn change(text: &mut Vec<u8>, examples: &[&[u8]], numbers: &mut Numbers) {
    let at = numbers.below(text.len() + 1);
    let byte = TELLING[numbers.below(TELLING.len())];
    match numbers.below(6) {
        0 => text.insert(at, byte),
        1 if at < text.len() => text[at] = byte,
        2 if at < text.len() => text[at] ^= 1 << numbers.below(8),
        3 => {
            let end = (at + 1 + numbers.below(16)).min(text.len());
            text.drain(at..end);
        }
        4 => {
            let other = examples[numbers.below(examples.len())];
            let from = numbers.below(other.len());
            let to = from + numbers.below(other.len() - from + 1);
            text.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            let piece = text[at..(at + numbers.below(32)).min(text.len())].to_vec();
            for _ in 0..numbers.below(8) {
                text.splice(at..at, piece.iter().copied());
            }
        }
    }
    text.truncate(LONGEST);
}
