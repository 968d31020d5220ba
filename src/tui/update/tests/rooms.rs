//! Tests of rooms: opening, joining, invitations, leaving.

use super::*;

#[test]
fn next_unread_takes_mentions_then_direct_chats_then_rooms() {
    let mut model = garden();
    press(&mut model, "alt+a");
    assert_eq!(model.open, Some(sample::room("ops")));
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    rows[2].mentions = 0;
    rows[2].unread = 0;
    update(&mut model, Msg::Rooms(sample::list(rows)));
    press(&mut model, "alt+a");
    assert_eq!(model.open, Some(sample::room("bob")));
}

#[test]
fn an_invitation_shows_what_it_is_and_opens_when_accepted() {
    let mut model = garden();
    let opened = commands(press(&mut model, "alt+1"));
    assert!(opened.iter().all(|c| !matches!(c, Command::OpenRoom(Some(_)))), "an invitation has no timeline: {opened:?}");
    let accepted = commands(press(&mut model, "a"));
    let Some(Command::AcceptInvite { ticket, room_id }) = accepted.first() else { panic!("{accepted:?}") };
    let (ticket, room_id) = (*ticket, room_id.clone());
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    rows[0].membership = Membership::Joined;
    rows[0].invite = None;
    let joined = commands(update(&mut model, Msg::Rooms(sample::list(rows))));
    assert!(joined.iter().any(|c| matches!(c, Command::OpenRoom(Some(id)) if *id == room_id)));
    update(&mut model, Msg::Update(Update::RoomReady(ticket, room_id.clone())));
    assert_eq!((model.open.as_ref(), model.focus), (Some(&room_id), Focus::Composer));
}

#[test]
fn an_invitation_can_be_read_on_a_narrow_terminal() {
    let mut model = garden();
    press(&mut model, "alt+1");
    let (buffer, _) = render(&mut model, 40, 12);
    let cells: String = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    assert!(cells.contains("Dana") && cells.contains("[ Accept ] a   [ Decline ] d"), "{cells}");
    press(&mut model, "esc");
    assert_eq!(model.focus, Focus::Rooms);
}

#[test]
fn a_room_that_becomes_ready_late_does_not_interrupt_writing() {
    let mut model = garden();
    type_text(&mut model, "/join #far:away.example");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::Join { ticket, .. }) = asked.first() else { panic!("{asked:?}") };
    type_text(&mut model, "meanwhile");
    update(&mut model, Msg::Update(Update::RoomReady(*ticket, sample::room("far"))));
    assert_eq!((model.open.clone(), text(&model).as_str()), (Some(sample::room("garden")), "meanwhile"));
}

#[test]
fn an_invitation_is_declined_only_when_confirmed() {
    let mut model = garden();
    press(&mut model, "alt+1 d");
    assert!(commands(press(&mut model, "esc")).is_empty());
    press(&mut model, "d");
    assert!(commands(press(&mut model, "y")).iter().any(|c| matches!(c, Command::Leave { .. })));
}

#[test]
fn leaving_closes_the_room() {
    let mut model = garden();
    press(&mut model, "alt+q");
    let left = commands(press(&mut model, "y"));
    assert!(left.iter().any(|c| matches!(c, Command::Leave { .. })) && left.iter().any(|c| matches!(c, Command::OpenRoom(None))));
    assert_eq!(model.open, None);
}

#[test]
fn the_filter_narrows_and_esc_clears_it() {
    let mut model = garden();
    press(&mut model, "alt+r /");
    type_text(&mut model, "oper");
    assert_eq!(model.listed().len(), 1);
    press(&mut model, "enter");
    press(&mut model, "enter");
    assert_eq!(model.open, Some(sample::room("ops")));
    press(&mut model, "alt+r / esc");
    assert_eq!(model.listed().len(), 8);
}

#[test]
fn a_room_that_was_asked_for_opens_when_the_list_has_it() {
    let mut model = Model::new(keymap(), theme(), crate::base::Zone::UTC);
    model.wanted = Some(sample::room("ops"));
    update(&mut model, Msg::Rooms(sample::list(vec![sample::row("bob", "Bob", RoomKind::Direct, 1)])));
    assert_eq!(model.open, None);
    update(&mut model, Msg::Rooms(sample::rooms()));
    assert_eq!(model.open, Some(sample::room("ops")));
}

#[test]
fn with_vim_keys_a_room_opens_in_the_timeline_and_i_writes() {
    let mut model = garden();
    update(&mut model, Msg::Keymap(Ok(Box::new(crate::tui::keymap::Keymap::load("vim", None).unwrap()))));
    press(&mut model, "alt+2");
    press(&mut model, "alt+3");
    assert_eq!(model.focus, Focus::Timeline);
    press(&mut model, "j esc esc j");
    assert_eq!(model.focus, Focus::Timeline, "escape stays in the timeline");
    assert!(model.composer().is_empty(), "letters are commands");
    press(&mut model, "i h i");
    assert_eq!((model.focus, model.composer().text().as_str()), (Focus::Composer, "hi"));
    press(&mut model, "esc");
    assert_eq!((model.focus, model.composer().text().as_str()), (Focus::Timeline, "hi"));
    press(&mut model, "h esc");
    assert_eq!(model.focus, Focus::Timeline);
}

#[test]
fn a_room_that_was_asked_for_can_be_looked_at_and_given_up() {
    let mut model = garden();
    let mut rooms = sample::rooms();
    let asked = crate::client::view::RoomRow { membership: Membership::Knocked, ..sample::row("club", "Club", RoomKind::Room, 1) };
    rooms.rows = std::iter::once(Arc::new(asked)).chain(rooms.rows.iter().cloned()).collect();
    update(&mut model, Msg::Rooms(rooms.clone()));
    let opened = commands(press(&mut model, "alt+1"));
    assert!(opened.iter().any(|command| matches!(command, Command::OpenRoom(None))), "there is no timeline to be had: {opened:?}");
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("? Club") && shown.contains("you asked to join") && shown.contains("[ Take back ] d"), "{shown}");
    type_text(&mut model, "x");
    assert!(model.composer().is_empty(), "nothing can be written there");
    press(&mut model, "d tab");
    let effects = commands(press(&mut model, "enter"));
    assert!(effects.iter().any(|command| matches!(command, Command::Leave { .. })), "{effects:?}");
    // Let in meanwhile: the room opens by itself.
    update(&mut model, Msg::Rooms(rooms.clone()));
    press(&mut model, "alt+1");
    let let_in = sample::row("club", "Club", RoomKind::Room, 1);
    rooms.rows = std::iter::once(Arc::new(let_in)).chain(rooms.rows.iter().skip(1).cloned()).collect();
    let effects = commands(update(&mut model, Msg::Rooms(rooms)));
    assert!(effects.iter().any(|command| matches!(command, Command::OpenRoom(Some(_)))), "{effects:?}");
}

#[test]
fn a_room_that_is_joined_on_request_offers_to_ask() {
    let mut model = garden();
    let room: ruma::OwnedRoomOrAliasId = "#club:away.example".try_into().unwrap();
    type_text(&mut model, "/join #club:away.example");
    let asked = commands(press(&mut model, "enter"));
    let Some(Command::Join { ticket, .. }) = asked.first() else { panic!("{asked:?}") };
    let ticket = *ticket;
    update(&mut model, Msg::Update(Update::MayKnock(ticket, room.clone())));
    type_text(&mut model, "let me in");
    let knocked = commands(press(&mut model, "enter"));
    let Some(Command::Knock { ticket, room: wanted, reason }) = knocked.first() else { panic!("{knocked:?}") };
    assert_eq!((wanted, reason.as_deref()), (&room, Some("let me in")));
    update(&mut model, Msg::Update(Update::Done(*ticket)));
    assert!(model.layers.is_empty() && notice(&model).contains("you have asked to join"), "{}", notice(&model));
    // Whoever is writing is not interrupted.
    type_text(&mut model, "dear all");
    let ticket = ticket_of(&mut model);
    update(&mut model, Msg::Update(Update::MayKnock(ticket, room)));
    assert!(model.layers.is_empty() && notice(&model).contains("/knock #club:away.example"), "{}", notice(&model));
}

fn ticket_of(model: &mut Model) -> Ticket {
    ticket(model, Awaiting::Action { failure: "could not join".into(), done: None, open: true })
}

#[test]
fn knock_takes_a_room_and_a_reason() {
    let mut model = garden();
    type_text(&mut model, "/knock #club:away.example we met on Friday");
    let knocked = commands(press(&mut model, "enter"));
    assert!(matches!(&knocked[..], [Command::Knock { reason: Some(reason), .. }, ..] if reason == "we met on Friday"), "{knocked:?}");
    type_text(&mut model, "/knock nowhere");
    press(&mut model, "enter");
    assert!(notice(&model).contains("neither an alias") && text(&model) == "/knock nowhere");
}

#[test]
fn an_invitation_steers_no_terminal() {
    let mut model = garden();
    let mut rows: Vec<_> = sample::rooms().rows.iter().map(|row| (**row).clone()).collect();
    rows[0].alias = Some(ruma::RoomAliasId::parse("#choir\u{202e}\nx:home.example").unwrap());
    update(&mut model, Msg::Rooms(sample::list(rows)));
    press(&mut model, "alt+1");
    let shown = screen(&mut model, 80, 24);
    assert!(!shown.contains('\u{202e}') && shown.contains("Address: #choir x:home.example"), "{shown}");
}

#[test]
fn a_message_that_was_not_sent_is_marked_in_the_list_and_found() {
    let mut model = garden();
    let last =
        crate::client::view::LastMessage { sender: "Ann".into(), text: "lost words".into(), timestamp_ms: 1, pending: false, failed: true };
    let failed = crate::client::view::RoomRow { last: Some(last), ..sample::row("ops", "Operations", RoomKind::Room, 9) };
    update(&mut model, Msg::Rooms(sample::list(vec![sample::row("garden", "Garden", RoomKind::Room, 1), failed])));
    let shown = screen(&mut model, 80, 24);
    assert!(shown.contains("✗ Ann: lost words"), "{shown}");
    press(&mut model, "alt+a");
    assert_eq!(model.open, Some(sample::room("ops")));
}
