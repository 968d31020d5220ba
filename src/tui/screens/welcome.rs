//! The welcome screen: three ways to begin, each usable with the keyboard alone.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::tui::{
    action::Action,
    form::Form,
    model::{Hit, Hits, Model, Welcome, WelcomePage},
    text::{self, Paragraph},
    theme::Scope,
    widgets::{self, put},
};

/// The ways: title and what it means.
pub const WAYS: [(&str, &str); 3] = [
    (
        "Create my own home",
        "Run your own Matrix server inside homeroom. Nothing to sign up for; you can use it at once, alone or with others.",
    ),
    ("Sign in", "Use an account that you have on a Matrix server, for instance matrix.org."),
    ("Look around", "Open a demonstration with invented people and rooms. Nothing is kept when you leave."),
];

const HOME: &str = "Your own server runs inside homeroom and keeps your conversations on this computer.";
const SERVER_NAME: &str = "Others reach you under this name, and it can never be changed. Leave it empty unless you own a domain: \
                           then your home is for this computer only and never listens on the network.";

/// A welcome screen with empty forms.
#[must_use]
pub fn fresh() -> Welcome {
    let create = Form::new("Create my own home", HOME, "Create")
        .line("user", "User name", "ann", "Small letters, digits and . _ = - / only, for instance ann.", "")
        .password("password", "Password", "At least 8 characters. Other devices need it to sign in.")
        .password("again", "Password again", "The same once more, to catch typing errors.")
        .line("server", "Server name", "none: this computer only", SERVER_NAME, "");
    let sign_in = Form::new("Sign in", "", "Sign in")
        .line("user", "User ID", "@ann:example.org", "Your full user ID, or only the user name if you name the server below.", "")
        .line("server", "Server", "taken from the user ID", "A server name such as example.org, or a URL; may stay empty.", "")
        .password("password", "Password", "Sent to your server only, never stored.");
    Welcome { page: WelcomePage::Menu, choice: 0, create, sign_in, busy: None, error: None, pending: None }
}

/// Draws it.
pub fn draw(model: &mut Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let mut hits = std::mem::take(&mut model.hits);
    let cursor = page(model, area, buf, &mut hits);
    model.hits = hits;
    cursor
}

fn page(model: &Model, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    let theme = &model.theme;
    let narrow = area.width < 60;
    let width = area.width.saturating_sub(if narrow { 2 } else { 8 }).min(72);
    let x = area.x + (area.width - width) / 2;
    let top = if area.height >= 20 { area.y + 2 } else { area.y };
    put(buf, x, top, width, "homeroom", theme.style(Scope::Title));
    put(buf, x + 10, top, width.saturating_sub(10), "Matrix in your terminal", theme.style(Scope::Dim));
    let back = model.key(Action::Cancel);
    let hint = match model.welcome.page {
        WelcomePage::Menu if narrow => format!("enter chooses, {} leaves", model.key(Action::Quit)),
        WelcomePage::SignIn if model.welcome.pending == Some(WelcomePage::SignIn) => format!("{back} cancels"),
        WelcomePage::Menu => format!("up, down and enter choose; {} leaves", model.key(Action::Quit)),
        _ if narrow => format!("tab next, {back} back, text stays"),
        _ => format!("tab next field, {back} back (what you typed stays)"),
    };
    if area.height > 2 {
        put(buf, x, area.bottom() - 1, width, &hint, theme.style(Scope::Dim));
    }
    let gap = u16::from(area.height >= 14);
    let body = Rect {
        x,
        y: (top + 1 + gap).min(area.bottom()),
        width,
        height: area.bottom().saturating_sub(top + 2 + gap + u16::from(area.height >= 12)),
    };
    match model.welcome.page {
        WelcomePage::Menu => menu(model, body, buf, hits),
        WelcomePage::Create => form(model, &model.welcome.create, body, buf, hits),
        WelcomePage::SignIn => form(model, &model.welcome.sign_in, body, buf, hits),
    }
}

fn form(model: &Model, form: &Form, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    if area.height == 0 {
        return None;
    }
    put(buf, area.x, area.y, area.width, &form.title, model.theme.style(Scope::Heading));
    let gap = u16::from(area.height >= 14);
    let body = Rect { y: area.y + 1 + gap.min(area.height - 1), height: area.height.saturating_sub(1 + gap), ..area };
    widgets::form::draw(form, &model.theme, body, buf, hits)
}

fn menu(model: &Model, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    let theme = &model.theme;
    let mut y = area.y;
    let roomy = area.height >= 13;
    let mut cursor = None;
    for (index, (title, meaning)) in WAYS.iter().enumerate() {
        if y >= area.bottom() {
            break;
        }
        let selected = index == model.welcome.choice;
        let style = if selected { theme.style(Scope::Selected) } else { theme.style(Scope::Text) };
        let pointer = if selected { "▌" } else { " " };
        put(buf, area.x, y, area.width, &format!("{pointer} {}. {title} ", index + 1), style);
        if selected {
            cursor = Some((area.x + 2, y));
        }
        let top = y;
        y += 1;
        if roomy || selected {
            let lines = text::wrap(&Paragraph::plain(*meaning, theme.style(Scope::Dim)), usize::from(area.width.saturating_sub(5)));
            for line in lines {
                if y < area.bottom() {
                    buf.set_line(area.x + 5, y, &line, area.width.saturating_sub(5));
                    y += 1;
                }
            }
        }
        hits.push((Rect { y: top, height: y - top, ..area }, Hit::Way(index)));
        y += u16::from(roomy);
    }
    let message = match (&model.welcome.error, &model.welcome.busy) {
        (Some(error), _) => Some((format!("✗ {}", text::one_line(error)), Scope::Error)),
        (None, Some(busy)) => Some((format!("… {}", text::one_line(busy)), Scope::Accent)),
        (None, None) => None,
    };
    if let Some((words, scope)) = message {
        for line in text::wrap(&Paragraph::plain(words, theme.style(scope)), usize::from(area.width)) {
            if y < area.bottom() {
                buf.set_line(area.x, y, &line, area.width);
                y += 1;
            }
        }
    }
    cursor
}
