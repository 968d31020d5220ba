//! File names for completing `/upload`. Runs in a task of the loop, never in `update`.

use super::composer::Candidate;

/// Directory entries that are looked at, at most.
const ENTRIES: usize = 5_000;
/// Candidates that are offered, at most.
const MOST: usize = 50;

/// Files whose path starts with what is typed.
#[must_use]
pub fn list(typed: &str) -> Vec<Candidate> {
    let (shown, prefix) = typed.rsplit_once('/').map_or(("", typed), |(dir, name)| (typed.get(..=dir.len()).unwrap_or(dir), name));
    let dir = match (shown.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ if shown.is_empty() => ".".into(),
        _ => shown.into(),
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<Candidate> = entries
        .take(ENTRIES)
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let hidden = name.starts_with('.') && !prefix.starts_with('.');
            let slash = if entry.file_type().ok()?.is_dir() { "/" } else { "" };
            (name.starts_with(prefix) && !hidden).then(|| Candidate {
                insert: format!("{shown}{name}{slash}"),
                label: format!("{name}{slash}"),
                detail: String::new(),
                mention: None,
            })
        })
        .collect();
    found.sort_by(|a, b| a.label.cmp(&b.label));
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_begins_as_typed_and_marks_directories() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("apple.png"), "")?;
        std::fs::write(dir.path().join(".apple"), "")?;
        std::fs::create_dir(dir.path().join("apples"))?;
        let typed = format!("{}/ap", dir.path().display());
        let labels: Vec<String> = list(&typed).into_iter().map(|c| c.label).collect();
        assert_eq!(labels, ["apple.png", "apples/"]);
        assert!(list("/no/such/directory/x").is_empty());
        Ok(())
    }
}
