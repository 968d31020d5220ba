//! A small table of emoji by shortcode, for completion and the reaction picker.

#[rustfmt::skip]
/// Shortcode and emoji, the most used first.
pub const EMOJI: &[(&str, &str)] = &[
    ("+1", "👍"), ("heart", "❤️"), ("joy", "😂"), ("tada", "🎉"), ("eyes", "👀"), ("rocket", "🚀"), ("pray", "🙏"), ("-1", "👎"),
    ("smile", "😄"), ("slight_smile", "🙂"), ("wink", "😉"), ("grin", "😁"), ("laughing", "😆"), ("sweat_smile", "😅"), ("rofl", "🤣"),
    ("blush", "😊"), ("innocent", "😇"), ("upside_down", "🙃"), ("heart_eyes", "😍"), ("kiss", "😘"), ("yum", "😋"), ("cool", "😎"),
    ("nerd", "🤓"), ("thinking", "🤔"), ("neutral", "😐"), ("expressionless", "😑"), ("smirk", "😏"), ("unamused", "😒"),
    ("eye_roll", "🙄"), ("grimace", "😬"), ("relieved", "😌"), ("pensive", "😔"), ("sleepy", "😪"), ("sleeping", "😴"), ("mask", "😷"),
    ("sick", "🤒"), ("dizzy", "😵"), ("mind_blown", "🤯"), ("party", "🥳"), ("confused", "😕"), ("worried", "😟"), ("frown", "🙁"),
    ("open_mouth", "😮"), ("astonished", "😲"), ("flushed", "😳"), ("pleading", "🥺"), ("cry", "😢"), ("sob", "😭"), ("scream", "😱"),
    ("tired", "😫"), ("yawn", "🥱"), ("angry", "😠"), ("rage", "😡"), ("skull", "💀"), ("poop", "💩"), ("clown", "🤡"), ("ghost", "👻"),
    ("alien", "👽"), ("robot", "🤖"), ("cat", "🐱"), ("dog", "🐶"), ("wave", "👋"), ("ok_hand", "👌"), ("v", "✌️"), ("fingers_crossed", "🤞"),
    ("point_up", "☝️"), ("point_down", "👇"), ("point_left", "👈"), ("point_right", "👉"), ("fist", "✊"), ("clap", "👏"),
    ("raised_hands", "🙌"), ("handshake", "🤝"), ("muscle", "💪"), ("facepalm", "🤦"), ("shrug", "🤷"), ("brain", "🧠"),
    ("broken_heart", "💔"), ("orange_heart", "🧡"), ("yellow_heart", "💛"), ("green_heart", "💚"), ("blue_heart", "💙"), ("purple_heart", "💜"),
    ("sparkles", "✨"), ("star", "⭐"), ("fire", "🔥"), ("boom", "💥"), ("100", "💯"), ("zap", "⚡"), ("sun", "☀️"), ("rainbow", "🌈"),
    ("snowflake", "❄️"), ("coffee", "☕"), ("tea", "🍵"), ("beer", "🍺"), ("wine", "🍷"), ("cake", "🍰"), ("pizza", "🍕"), ("apple", "🍎"),
    ("gift", "🎁"), ("balloon", "🎈"), ("trophy", "🏆"), ("music", "🎵"), ("camera", "📷"), ("phone", "📱"), ("computer", "💻"),
    ("bulb", "💡"), ("book", "📖"), ("memo", "📝"), ("pin", "📌"), ("paperclip", "📎"), ("lock", "🔒"), ("key", "🔑"), ("bell", "🔔"),
    ("hammer", "🔨"), ("wrench", "🔧"), ("gear", "⚙️"), ("bug", "🐛"), ("package", "📦"), ("calendar", "📅"), ("chart", "📈"), ("clock", "🕐"),
    ("hourglass", "⏳"), ("check", "✅"), ("x", "❌"), ("warning", "⚠️"), ("question", "❓"), ("exclamation", "❗"), ("no_entry", "⛔"),
    ("recycle", "♻️"), ("ship", "🚢"), ("bike", "🚲"), ("car", "🚗"), ("train", "🚆"), ("plane", "✈️"), ("house", "🏠"), ("earth", "🌍"),
];

/// Emoji whose shortcode starts with these letters, then those that hold them.
pub fn matching(letters: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let letters = letters.to_lowercase();
    let other = letters.clone();
    let starts = EMOJI.iter().filter(move |(code, _)| code.starts_with(&letters));
    let holds = EMOJI.iter().filter(move |(code, _)| !code.starts_with(&other) && code.contains(&other));
    starts.chain(holds).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortcodes_are_unique_and_the_nearest_comes_first() {
        let codes: std::collections::HashSet<_> = EMOJI.iter().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), EMOJI.len());
        assert_eq!(matching("hea").next(), Some(("heart", "❤️")));
        assert!(matching("heart").any(|(code, _)| code == "blue_heart"));
    }
}
