//! Completion of people, rooms, emoji and commands in the composer.

use super::{Effects, composer};
use crate::tui::{
    action::ACTIONS,
    composer::{Candidate, Completion},
    effect::Effect,
    emoji,
    model::Model,
    slash::COMMANDS,
    theme::EMBEDDED,
};

/// Candidates that are offered at most.
const MOST: usize = 50;
const UPLOAD: &str = "/upload ";

/// Shows commands while one is being typed; everything else waits for the key.
pub(super) fn refresh(model: &mut Model) {
    let (before, _) = model.composer().around_cursor();
    let command = model.composer().on_first_line() && before.starts_with('/') && !before.starts_with("//") && !before.contains(' ');
    model.composer_mut().completion = if command { offer(model) } else { None };
}

/// The next candidate, or the one before. False when there is nothing to complete.
pub(super) fn step(model: &mut Model, forward: bool, fx: &mut Effects) -> bool {
    if model.composer().completion.is_none() {
        if let Some(typed) = upload(model) {
            fx.push(Effect::ListFiles(typed));
            return true;
        }
        let offered = offer(model);
        if offered.is_none() {
            return false;
        }
        model.composer_mut().completion = offered;
    }
    let Some(mut completion) = model.composer_mut().completion.take() else { return false };
    let count = completion.candidates.len();
    let next = match completion.chosen {
        None if forward => 0,
        None => count - 1,
        Some(chosen) => (chosen + if forward { 1 } else { count - 1 }) % count,
    };
    let Some(candidate) = completion.candidates.get(next).cloned() else { return false };
    let composer = model.composer_mut();
    composer.replace_word(completion.start, &candidate.insert);
    if let Some(user_id) = &candidate.mention {
        composer.mentions.push((candidate.insert.trim().trim_end_matches(':').to_owned(), user_id.clone()));
    }
    completion.chosen = Some(next);
    let single = count == 1;
    composer::changed(model, fx);
    model.composer_mut().completion = (!single).then_some(completion);
    true
}

/// The path typed behind `/upload`.
fn upload(model: &Model) -> Option<String> {
    let (before, _) = model.composer().around_cursor();
    before.strip_prefix(UPLOAD).filter(|_| model.composer().on_first_line()).map(str::to_owned)
}

/// Files for the path that was typed have been found; they count only while it still stands there.
pub(super) fn files(model: &mut Model, typed: &str, candidates: Vec<Candidate>, fx: &mut Effects) {
    if upload(model).as_deref() != Some(typed) || candidates.is_empty() {
        return;
    }
    let completion = Completion { start: UPLOAD.len(), candidates, chosen: None, typed: typed.to_owned() };
    model.composer_mut().completion = Some(completion);
    step(model, true, fx);
}

fn offer(model: &Model) -> Option<Completion> {
    let (before, _) = model.composer().around_cursor();
    let at =
        before.rfind(char::is_whitespace).map_or(0, |at| at + before.get(at..).and_then(|s| s.chars().next()).map_or(1, char::len_utf8));
    let word = before.get(at..)?;
    let start = before.get(..at)?.chars().count();
    let first = model.composer().on_first_line() && at == 0;
    let command = model.composer().on_first_line().then(|| before.strip_prefix('/')).flatten().filter(|rest| !rest.starts_with('/'));
    let mut candidates = match command {
        Some(name) if at == 0 => commands(name),
        Some(line) if line.starts_with("theme ") => names(word, EMBEDDED.iter().map(|(name, _)| *name)),
        Some(line) if line.starts_with("keymap ") => names(word, crate::tui::keymap::PRESETS.iter().map(|(name, _)| *name)),
        // Files come from a task: see `files`.
        Some(line) if line.starts_with("upload ") => return None,
        Some(line) if line.starts_with("go ") => rooms(model, word, false),
        Some(line) if ["invite ", "dm "].iter().any(|c| line.starts_with(c)) => people(model, word, first, true),
        _ => match word.chars().next() {
            None => return None,
            Some('#') => rooms(model, word, true),
            Some(':') if word.len() > 1 => emoji(word),
            _ => people(model, word, first, false),
        },
    };
    candidates.truncate(MOST);
    (!candidates.is_empty()).then(|| Completion { start, candidates, chosen: None, typed: word.to_owned() })
}

fn candidate(insert: String, label: impl Into<String>, detail: impl Into<String>) -> Candidate {
    Candidate { insert, label: label.into(), detail: detail.into(), mention: None }
}

fn commands(name: &str) -> Vec<Candidate> {
    let lower = name.to_lowercase();
    let commands = COMMANDS.iter().filter(|info| info.name.starts_with(&lower)).map(|info| {
        let gap = if info.arguments.is_empty() { "" } else { " " };
        candidate(format!("/{}{gap}", info.name), format!("/{}{gap}{}", info.name, info.arguments), info.description)
    });
    // Actions are many: they are offered once something of their name is typed.
    let actions = ACTIONS
        .iter()
        .filter(|info| lower.len() > 1 && info.name.starts_with(&lower) && !COMMANDS.iter().any(|command| command.name == info.name))
        .map(|info| candidate(format!("/{}", info.name), format!("/{}", info.name), info.description));
    commands.chain(actions).collect()
}

fn names<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Vec<Candidate> {
    known.filter(|name| name.starts_with(word)).map(|name| candidate(name.to_owned(), name, "")).collect()
}

fn rooms(model: &Model, word: &str, by_alias: bool) -> Vec<Candidate> {
    let lower = word.trim_start_matches('#').to_lowercase();
    model
        .rooms
        .rows
        .iter()
        .filter_map(|row| {
            let alias = row.alias.as_ref().map(|alias| alias.as_str());
            let fits = row.name.to_lowercase().contains(&lower) || alias.is_some_and(|alias| alias.to_lowercase().contains(&lower));
            let insert = if by_alias { alias?.to_owned() } else { row.name.clone() };
            fits.then(|| candidate(insert, row.name.clone(), alias.unwrap_or_default()))
        })
        .collect()
}

fn emoji(word: &str) -> Vec<Candidate> {
    emoji::matching(word.trim_matches(':')).map(|(code, emoji)| candidate(emoji.to_owned(), format!("{emoji} :{code}:"), "")).collect()
}

fn people(model: &Model, word: &str, first: bool, ids: bool) -> Vec<Candidate> {
    let lower = word.trim_start_matches('@').to_lowercase();
    if lower.is_empty() && !word.starts_with('@') {
        return Vec::new();
    }
    let members = model.details.iter().flat_map(|details| details.members.iter());
    let mut found: Vec<(bool, Candidate)> = members
        .filter(|member| Some(&member.id) != model.session.user_id.as_ref())
        .filter(|member| {
            member.name.to_lowercase().starts_with(&lower)
                || member.name.to_lowercase().split(' ').any(|part| part.starts_with(&lower))
                || member.id.localpart().to_lowercase().starts_with(&lower)
        })
        .map(|member| {
            let tail = if first && !ids { ": " } else { " " };
            let insert = if ids { format!("{} ", member.id) } else { format!("{}{tail}", crate::tui::text::one_line(&member.name)) };
            let whole = member.name.to_lowercase().starts_with(&lower);
            let mention = (!ids).then(|| member.id.clone());
            (!whole, Candidate { mention, ..candidate(insert, member.name.clone(), member.id.to_string()) })
        })
        .collect();
    found.sort_by_key(|(partly, _)| *partly);
    found.into_iter().map(|(_, candidate)| candidate).collect()
}
