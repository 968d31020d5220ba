//! Files in the repository that are made from the source must be what the source makes of them.

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn the_manual_pages_are_current() {
    let stale = stale("man", &homeroom::cli::manual::pages().expect("the pages can be made"));
    assert!(stale.is_empty(), "run `cargo run -- manual --out man`: {}", stale.join(", "));
}

#[test]
fn the_completions_are_current() {
    let stale = stale("assets/completions", &homeroom::cli::completions::scripts());
    assert!(stale.is_empty(), "run `cargo run -- completions --out assets/completions`: {}", stale.join(", "));
}

/// Files of a directory that are not what they should be.
fn stale(dir: &str, wanted: &BTreeMap<String, String>) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    let mut stale = Vec::new();
    for (name, content) in wanted {
        if fs::read_to_string(dir.join(name)).ok().as_deref() != Some(content) {
            stale.push(name.clone());
        }
    }
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !wanted.contains_key(&name) {
            stale.push(format!("{name} (made by nothing)"));
        }
    }
    stale
}

#[test]
fn the_picture_of_the_screen_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/screen.svg");
    let picture = homeroom::cli::manual::picture().expect("the picture can be drawn");
    assert!(fs::read_to_string(path).ok().as_deref() == Some(&picture), "run `cargo run -- manual --picture assets/screen.svg`");
}
