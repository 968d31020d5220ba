//! `formatted_body` to paragraphs of styled text. Tolerant: whatever it does not know, it shows as text.

use ratatui::{
    style::{Modifier, Style},
    text::Span,
};
use ruma::html::{Html, NodeRef};

use super::{
    text::{self, Paragraph},
    theme::{Scope, Theme},
};

/// Tags nested deeper than this make the plain body the better choice; it also bounds the stack that the tree needs.
const DEPTH: usize = 100;
/// Columns of a table's cell beyond which it is not padded.
const CELL: usize = 30;

/// The paragraphs of some HTML. `None` when it is too deep or has no text: show the plain body.
#[must_use]
pub fn paragraphs(html: &str, base: Style, theme: &Theme, revealed: bool) -> Option<Vec<Paragraph>> {
    if nesting(html) > DEPTH {
        return None;
    }
    let document = Html::parse(html);
    let mut writer = Writer { theme, revealed, done: Vec::new(), current: Paragraph::default(), rest: Vec::new(), first: None, opened: 0 };
    for node in document.children() {
        writer.node(&node, base, Mode::default(), 0);
    }
    writer.end();
    while writer.done.last().is_some_and(|p| p.is_blank() && p.first.is_empty()) {
        writer.done.pop();
    }
    writer.done.iter().any(|p| !p.is_blank()).then_some(writer.done)
}

/// How deep tags nest, at most: elements that close themselves are counted as if they did not.
fn nesting(html: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = html;
    while let Some((_, tag)) = rest.split_once('<') {
        if tag.starts_with('/') {
            depth = depth.saturating_sub(1);
        } else if !["br", "hr", "img"].iter().any(|void| tag.get(..void.len()).is_some_and(|t| t.eq_ignore_ascii_case(void))) {
            depth += 1;
            deepest = deepest.max(depth);
        }
        rest = tag;
    }
    deepest
}

/// Plain text as spans, its links marked.
#[must_use]
pub fn linkify(text: &str, base: Style, theme: &Theme) -> Vec<(String, Style)> {
    let mut spans: Vec<(String, Style)> = Vec::new();
    let mut rest = text;
    while let Some(at) = ["https://", "http://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
        let (before, link) = rest.split_at(at);
        let end = link.find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"')).unwrap_or(link.len());
        let (link, after) = link.split_at(end);
        let trimmed = link.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'']);
        let tail = link.get(trimmed.len()..).unwrap_or_default();
        for (text, style) in [(before, base), (trimmed, base.patch(theme.style(Scope::Link))), (tail, base)] {
            if !text.is_empty() {
                spans.push((text.to_owned(), style));
            }
        }
        rest = after;
    }
    if !rest.is_empty() || spans.is_empty() {
        spans.push((rest.to_owned(), base));
    }
    spans
}

#[derive(Debug, Clone, Copy, Default)]
struct Mode {
    verbatim: bool,
    hidden: bool,
}

struct Writer<'a> {
    theme: &'a Theme,
    revealed: bool,
    done: Vec<Paragraph>,
    current: Paragraph,
    /// Put before every line of the blocks around: quote bars, the indent of a list item.
    rest: Vec<Span<'static>>,
    /// Put before the first line of the next paragraph instead: a bullet.
    first: Option<Vec<Span<'static>>>,
    /// How much was done when the innermost block was opened: a block does not begin with a gap.
    opened: usize,
}

impl Writer<'_> {
    fn end(&mut self) {
        let mut paragraph = std::mem::take(&mut self.current);
        if let Some((last, _)) = paragraph.spans.last_mut()
            && !paragraph.verbatim
        {
            last.truncate(last.trim_end().len());
        }
        paragraph.spans.retain(|(text, _)| !text.is_empty());
        if paragraph.spans.is_empty() && self.first.is_none() {
            return;
        }
        if paragraph.spans.is_empty() {
            return;
        }
        paragraph.first = self.first.take().unwrap_or_else(|| self.rest.clone());
        paragraph.rest = self.rest.clone();
        self.done.push(paragraph);
    }

    fn gap(&mut self) {
        self.end();
        if self.first.is_none() && self.done.len() > self.opened && self.done.last().is_some_and(|p| !p.is_blank()) {
            self.done.push(Paragraph { first: self.rest.clone(), ..Paragraph::default() });
        }
    }

    fn drop_gap(&mut self) {
        while self.done.last().is_some_and(Paragraph::is_blank) {
            self.done.pop();
        }
    }

    fn text(&mut self, text: &str, style: Style, mode: Mode) {
        let clean = text::clean(text);
        if mode.hidden && !self.revealed {
            let dots = "▒".repeat(text::width(clean.trim()).clamp(3, 24));
            self.current.spans.push((dots, style));
            return;
        }
        if mode.verbatim {
            self.current.spans.push((clean.into_owned(), style));
            return;
        }
        let mut out = String::with_capacity(clean.len());
        let mut blank = self.current.spans.last().is_none_or(|(last, _)| last.ends_with([' ', '\n']));
        for c in clean.chars() {
            if c.is_whitespace() && c != '\u{a0}' {
                if !blank {
                    out.push(' ');
                }
                blank = true;
            } else {
                out.push(c);
                blank = false;
            }
        }
        if !out.is_empty() {
            self.current.spans.push((out, style));
        }
    }

    fn children(&mut self, node: &NodeRef, style: Style, mode: Mode, depth: usize) {
        for child in node.children() {
            self.node(&child, style, mode, depth + 1);
        }
    }

    fn node(&mut self, node: &NodeRef, style: Style, mode: Mode, depth: usize) {
        if depth > DEPTH {
            return;
        }
        if let Some(text) = node.as_text() {
            let text = text.borrow().to_string();
            self.text(&text, style, mode);
            return;
        }
        let Some(element) = node.as_element() else { return };
        let name: &str = element.name.local.as_ref();
        let attribute = |wanted: &str| element.attrs.borrow().iter().find(|a| &*a.name.local == wanted).map(|a| a.value.to_string());
        match name {
            "b" | "strong" | "th" => self.children(node, style.add_modifier(Modifier::BOLD), mode, depth),
            "i" | "em" => self.children(node, style.add_modifier(Modifier::ITALIC), mode, depth),
            "u" => self.children(node, style.add_modifier(Modifier::UNDERLINED), mode, depth),
            "s" | "del" | "strike" => self.children(node, style.add_modifier(Modifier::CROSSED_OUT), mode, depth),
            "code" if !mode.verbatim => self.children(node, style.patch(self.theme.style(Scope::Code)), mode, depth),
            "a" => self.link(node, attribute("href").as_deref(), style, mode, depth),
            "br" => self.current.spans.push(("\n".to_owned(), style)),
            "img" => {
                let label = attribute("alt").or_else(|| attribute("title")).unwrap_or_else(|| "[image]".to_owned());
                self.text(&label, style, mode);
            }
            "span" if attribute("data-mx-spoiler").is_some() => {
                let reason = attribute("data-mx-spoiler").filter(|reason| !reason.is_empty());
                let label = reason.map_or_else(|| "[spoiler] ".to_owned(), |reason| format!("[spoiler: {reason}] "));
                self.text(&label, style.patch(self.theme.style(Scope::Dim)), Mode { hidden: false, ..mode });
                let inner = if self.revealed { style } else { style.patch(self.theme.style(Scope::Spoiler)) };
                self.children(node, inner, Mode { hidden: true, ..mode }, depth);
            }
            "p" => {
                self.gap();
                self.children(node, style, mode, depth);
                self.gap();
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.gap();
                self.children(node, style.patch(self.theme.style(Scope::Heading)), mode, depth);
                self.end();
            }
            "pre" => self.pre(node, style, mode, depth),
            "blockquote" => {
                self.end();
                let quote = self.theme.style(Scope::Quote);
                self.nested(vec![Span::styled("┃ ", quote)], None, |writer| writer.children(node, style.patch(quote), mode, depth));
            }
            "ul" | "ol" => self.list(node, name == "ol", attribute("start").as_deref(), style, mode, depth),
            "hr" => {
                self.end();
                self.current.spans.push(("────────".to_owned(), self.theme.style(Scope::Border)));
                self.end();
            }
            "table" => self.table(node, style, depth),
            "mx-reply" | "script" | "style" | "head" | "title" => {}
            "div" | "li" | "summary" | "details" | "caption" | "tr" | "body" | "html" | "dl" | "dt" | "dd" => {
                self.end();
                self.children(node, style, mode, depth);
                self.end();
            }
            _ => self.children(node, style, mode, depth),
        }
    }

    /// Writes a block whose lines all begin with `prefix`, the first one with `first` where given.
    fn nested(&mut self, prefix: Vec<Span<'static>>, first: Option<Span<'static>>, write: impl FnOnce(&mut Self)) {
        let outer = self.rest.len();
        if let Some(first) = first {
            let mut spans = self.first.take().unwrap_or_else(|| self.rest.clone());
            spans.push(first);
            self.first = Some(spans);
        } else if let Some(spans) = &mut self.first {
            spans.extend(prefix.iter().cloned());
        }
        self.rest.extend(prefix);
        let around = std::mem::replace(&mut self.opened, self.done.len());
        write(self);
        self.end();
        self.drop_gap();
        self.opened = around;
        self.rest.truncate(outer);
        self.first = None;
    }

    fn list(&mut self, node: &NodeRef, ordered: bool, start: Option<&str>, style: Style, mode: Mode, depth: usize) {
        self.end();
        self.drop_gap();
        let mut number: i64 = start.and_then(|start| start.parse().ok()).unwrap_or(1);
        for child in node.children() {
            if child.as_element().is_none_or(|element| &*element.name.local != "li") {
                continue;
            }
            let bullet = if ordered { format!("{number}. ") } else { "• ".to_owned() };
            number = number.saturating_add(1);
            let indent = " ".repeat(text::width(&bullet));
            self.nested(vec![Span::raw(indent)], Some(Span::styled(bullet, self.theme.style(Scope::Dim))), |writer| {
                writer.children(&child, style, mode, depth + 1);
            });
        }
    }

    fn pre(&mut self, node: &NodeRef, style: Style, mode: Mode, depth: usize) {
        self.end();
        self.drop_gap();
        let code = style.patch(self.theme.style(Scope::Code));
        self.current.verbatim = true;
        self.children(node, code, Mode { verbatim: true, ..mode }, depth);
        // Each line is its own piece, and the line break that ends the block is not an empty line.
        if let Some((last, _)) = self.current.spans.last_mut() {
            last.truncate(last.trim_end_matches('\n').len());
        }
        let bar = Span::styled("│ ", self.theme.style(Scope::Border));
        self.nested(vec![bar], None, |_| {});
    }

    fn link(&mut self, node: &NodeRef, href: Option<&str>, style: Style, mode: Mode, depth: usize) {
        let before = self.current.spans.len();
        self.children(node, style.patch(self.theme.style(Scope::Link)), mode, depth);
        let shown: String = self.current.spans.iter().skip(before).map(|(text, _)| text.as_str()).collect();
        let Some(href) = href else { return };
        // Where a link leads is never hidden behind its text; people and rooms are named by it.
        let same = text::one_line(href);
        let named = href.starts_with("https://matrix.to/#/") || href.starts_with("matrix:");
        if !named && !mode.hidden && same.trim_end_matches('/') != shown.trim().trim_end_matches('/') && !same.ends_with(shown.trim()) {
            self.text(&format!(" ({same})"), style.patch(self.theme.style(Scope::Dim)), mode);
        }
    }

    fn table(&mut self, node: &NodeRef, style: Style, depth: usize) {
        self.end();
        let mut rows: Vec<(bool, Vec<String>)> = Vec::new();
        collect_rows(node, &mut rows, depth);
        let columns = rows.iter().map(|(_, row)| row.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| rows.iter().filter_map(|(_, row)| row.get(c)).map(|cell| text::width(cell)).max().unwrap_or(0).min(CELL))
            .collect();
        for (head, row) in rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(text::width(cell)))))
                .collect();
            let style = if head { style.add_modifier(Modifier::BOLD) } else { style };
            self.current.spans.push((cells.join(" │ ").trim_end().to_owned(), style));
            self.end();
        }
    }
}

fn collect_rows(node: &NodeRef, rows: &mut Vec<(bool, Vec<String>)>, depth: usize) {
    if depth > DEPTH {
        return;
    }
    for child in node.children() {
        let Some(element) = child.as_element() else { continue };
        if &*element.name.local == "tr" {
            let cells: Vec<(bool, String)> = child
                .children()
                .filter_map(|cell| {
                    let name = cell.as_element().map(|e| e.name.local.to_string())?;
                    matches!(name.as_str(), "td" | "th").then(|| (name == "th", text::one_line(&inner_text(&cell, depth))))
                })
                .collect();
            rows.push((cells.iter().all(|(head, _)| *head), cells.into_iter().map(|(_, text)| text).collect()));
        } else {
            collect_rows(&child, rows, depth + 1);
        }
    }
}

fn inner_text(node: &NodeRef, depth: usize) -> String {
    if depth > DEPTH {
        return String::new();
    }
    match node.as_text() {
        Some(text) => text.borrow().to_string(),
        None => node.children().map(|child| inner_text(&child, depth + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(html: &str) -> String {
        render(html, false)
    }

    fn render(html: &str, revealed: bool) -> String {
        let theme = Theme::load("dark", None).unwrap_or_else(|error| panic!("{error}"));
        let Some(paragraphs) = paragraphs(html, Style::default(), &theme, revealed) else { return "(plain)".to_owned() };
        paragraphs.iter().flat_map(|p| text::wrap(p, 40)).map(|line| line.to_string() + "\n").collect()
    }

    #[test]
    fn inline_markup_becomes_styles() {
        let theme = Theme::load("dark", None).unwrap_or_else(|error| panic!("{error}"));
        let all = paragraphs("a <b>bold <i>both</i></b> <del>gone</del>", Style::default(), &theme, false).unwrap_or_default();
        let spans: Vec<(&str, Modifier)> = all.iter().flat_map(|p| &p.spans).map(|(t, s)| (t.as_str(), s.add_modifier)).collect();
        assert_eq!(
            spans,
            [
                ("a ", Modifier::empty()),
                ("bold ", Modifier::BOLD),
                ("both", Modifier::BOLD | Modifier::ITALIC),
                (" ", Modifier::empty()),
                ("gone", Modifier::CROSSED_OUT)
            ]
        );
    }

    #[test]
    fn lists_quotes_and_code_keep_their_shape() {
        insta::assert_snapshot!(shown("<p>Look:</p><ul><li>one</li><li>two<ol start=\"3\"><li>deep</li></ol></li></ul><blockquote><p>said</p><p>twice</p></blockquote><pre><code class=\"language-rust\">fn main() {\n    go();\n}\n</code></pre><p>end</p>"), @r"
        Look:
        • one
        • two
          3. deep
        ┃ said
        ┃ 
        ┃ twice
        │ fn main() {
        │     go();
        │ }

        end
        ");
    }

    #[test]
    fn tables_line_up() {
        insta::assert_snapshot!(shown("<table><thead><tr><th>Name</th><th>Age</th></tr></thead><tbody><tr><td>Ann</td><td>7</td></tr></tbody></table>"), @r"
        Name │ Age
        Ann  │ 7
        ");
    }

    #[test]
    fn where_a_link_leads_is_shown_unless_its_text_says_so() {
        assert_eq!(shown("<a href=\"https://evil.example/\">my bank</a>"), "my bank (https://evil.example/)\n");
        assert_eq!(shown("<a href=\"https://a.example/\">https://a.example</a>"), "https://a.example\n");
        assert_eq!(shown("<a href=\"https://matrix.to/#/@bob:home\">Bob</a> hi"), "Bob hi\n");
    }

    #[test]
    fn spoilers_hide_until_revealed() {
        let html = "<span data-mx-spoiler=\"film\">he dies</span>";
        assert_eq!(shown(html), "[spoiler: film] ▒▒▒▒▒▒▒\n");
        assert_eq!(render(html, true), "[spoiler: film] he dies\n");
    }

    #[test]
    fn reply_fallback_and_scripts_are_left_out() {
        assert_eq!(shown("<mx-reply><blockquote>old</blockquote></mx-reply>new<script>x</script>"), "new\n");
    }

    #[test]
    fn escapes_in_markup_do_not_reach_the_terminal() {
        assert!(!shown("a&#27;[31mb<b>\u{202e}c</b>").contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn absurd_nesting_falls_back_to_the_plain_body() {
        assert_eq!(shown(&"<b>".repeat(20_000)), "(plain)");
    }

    #[test]
    fn links_in_plain_text_are_found_without_their_punctuation() {
        let theme = Theme::load("dark", None).unwrap_or_else(|error| panic!("{error}"));
        let texts: Vec<String> = linkify("see https://a.example/x, then", Style::default(), &theme).into_iter().map(|(t, _)| t).collect();
        assert_eq!(texts, ["see ", "https://a.example/x", ",", " then"]);
    }

    proptest! {
        #[test]
        fn any_markup_is_shown_without_panic(html in "(<(/?)(b|p|ul|ol|li|table|tr|td|pre|code|blockquote|span|a|br|div)>|[a-z &;\n]){0,40}") {
            let _ = shown(&html);
        }
    }
}
