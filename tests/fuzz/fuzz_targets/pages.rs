//! Web pages that are previewed.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
#[path = "common.rs"]
mod common;

use homeroom::homeserver::media::preview::describe;

#[cfg(not(fuzzing))]
const EXAMPLES: &[&[u8]] = &[
    b"<!doctype html><html><head><title>A &amp; B</title><meta property=\"og:title\" content='x &#x1F600; &lt;'><meta name=description content=y></head>",
    b"<HTML><META PROPERTY=og:image CONTENT=\"https://a.example/x.png\"/><script>var a = '<title>no</title>';</script><style>b{}</style>",
    b"<!-- <meta property=\"og:title\" content=\"no\"> --><meta content=\"z\" property=\"og:description\"><body><title>late",
];

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let fields = describe(&text);
    let longest = fields.values().map(String::len).max().unwrap_or_default();
    // An entity is never longer than what it stands for.
    assert!(longest <= text.len() * 4, "{longest} bytes of a page of {}", text.len());
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(fuzzing))]
fn main() {
    common::main(EXAMPLES, run);
}
