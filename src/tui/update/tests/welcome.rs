//! Tests of the welcome screen, of signing in and out.

use super::*;

fn first_run() -> Model {
    let mut model = Model::new(keymap(), theme(), crate::base::Zone::UTC);
    model.screen = Screen::Welcome;
    model
}

#[test]
fn a_home_is_created_from_the_form() {
    let mut model = first_run();
    press(&mut model, "enter");
    type_text(&mut model, "Ann");
    press(&mut model, "enter");
    type_text(&mut model, "correct horse");
    press(&mut model, "enter");
    type_text(&mut model, "correct horse");
    press(&mut model, "enter");
    let effects = press(&mut model, "enter");
    let [Effect::Setup(Setup::CreateHome { username, password, server_name })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((username.as_str(), password.expose(), server_name), ("ann", "correct horse", &None));
    assert!(press(&mut model, "enter").is_empty(), "asked once");
    update(&mut model, Msg::Update(Update::SetupProgress { text: "making keys".into() }));
    assert_eq!(model.welcome.create.busy.as_deref(), Some("making keys"));
    update(&mut model, Msg::Update(Update::SetupFailed { reason: "disk full".into() }));
    assert_eq!((model.welcome.create.text("user"), model.welcome.create.error.as_deref()), ("Ann", Some("disk full")));
    update(&mut model, Msg::Update(Update::SignedIn));
    assert_eq!(model.screen, Screen::Main);
    assert_eq!(model.welcome.create.text("user"), "", "passwords do not stay in memory");
}

#[test]
fn a_home_is_refused_with_the_field_that_is_wrong() {
    for (user, password, again, server, field) in [
        ("", "12345678", "12345678", "", 0),
        ("ann", "short", "short", "", 1),
        ("ann", "12345678", "12345679", "", 2),
        ("ann", "12345678", "12345678", "no name", 3),
    ] {
        let mut model = first_run();
        press(&mut model, "1");
        for value in [user, password, again, server] {
            type_text(&mut model, value);
            press(&mut model, "tab");
        }
        assert!(press(&mut model, "enter").is_empty());
        assert_eq!(model.welcome.create.focus, field, "{:?}", model.welcome.create.error);
        assert!(model.welcome.create.error.is_some());
    }
}

#[test]
fn esc_on_the_welcome_screen_keeps_every_field() {
    let mut model = first_run();
    press(&mut model, "2");
    type_text(&mut model, "@ann:example.org");
    press(&mut model, "esc");
    assert_eq!(model.welcome.page, WelcomePage::Menu);
    press(&mut model, "2");
    assert_eq!(model.welcome.sign_in.text("user"), "@ann:example.org");
}

#[test]
fn signing_in_needs_a_server_from_somewhere() {
    let mut model = first_run();
    press(&mut model, "2");
    type_text(&mut model, "ann");
    press(&mut model, "tab tab");
    type_text(&mut model, "pw");
    assert!(press(&mut model, "enter").is_empty());
    assert!(model.welcome.sign_in.error.as_deref().unwrap_or_default().contains("full user ID"));
    press(&mut model, "tab");
    type_text(&mut model, "example.org");
    press(&mut model, "tab");
    let effects = press(&mut model, "enter");
    let [Effect::Setup(Setup::SignIn { user, server, .. })] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((user.as_str(), server.as_deref()), ("ann", Some("example.org")));
}

#[test]
fn looking_around_and_leaving_work_from_the_menu() {
    let mut model = first_run();
    assert!(matches!(&press(&mut model, "3")[..], [Effect::Setup(Setup::LookAround)]));
    update(&mut model, Msg::Update(Update::SetupFailed { reason: "no room in /tmp".into() }));
    assert_eq!(model.welcome.error.as_deref(), Some("no room in /tmp"));
    assert!(matches!(press(&mut model, "ctrl+q").last(), Some(Effect::Quit)));
}

#[test]
fn signing_out_leaves_nothing_on_the_screen() {
    let mut model = garden();
    type_text(&mut model, "private");
    update(&mut model, Msg::Update(Update::SignedOut));
    let (buffer, _) = render(&mut model, 80, 24);
    let cells: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(cells.contains("Sign in") && !cells.contains("Garden") && !cells.contains("private"));
    assert!(model.composers.is_empty());
}

#[test]
fn the_welcome_can_be_used_with_the_mouse() {
    let mut model = garden();
    update(&mut model, Msg::Update(crate::client::update::Update::SignedOut));
    click_on(&mut model, "2. Sign in");
    assert_eq!(model.welcome.page, crate::tui::model::WelcomePage::SignIn);
    click_on(&mut model, "Password");
    assert_eq!(model.welcome.sign_in.focus, 2);
    click_on(&mut model, "[ Sign in ]");
    assert!(model.welcome.sign_in.error.is_some());
}

#[test]
fn escape_gives_up_a_sign_in_that_is_under_way() {
    let mut model = first_run();
    press(&mut model, "2");
    type_text(&mut model, "@ann:example.org");
    press(&mut model, "tab tab");
    type_text(&mut model, "pw");
    press(&mut model, "enter");
    assert!(screen(&mut model, 80, 24).contains("esc cancels"));
    assert!(matches!(&press(&mut model, "esc")[..], [Effect::CancelSetup]));
    assert_eq!(model.welcome.page, WelcomePage::SignIn);
    update(&mut model, Msg::Update(Update::SetupCancelled));
    let form = &model.welcome.sign_in;
    assert_eq!((form.busy.as_deref(), form.error.as_deref(), form.text("user")), (None, None, "@ann:example.org"));
    press(&mut model, "tab");
    assert!(matches!(&press(&mut model, "enter")[..], [Effect::Setup(Setup::SignIn { .. })]), "and it can be tried again");
}
