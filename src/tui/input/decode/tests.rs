//! Tests of the decoder.
#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]
use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Vec<Input> {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    decoder.feed(bytes, &mut |input| out.push(input));
    decoder.give_up(&mut |input| out.push(input));
    out
}

fn keys(bytes: &str) -> String {
    let shown: Vec<String> = read(bytes.as_bytes())
        .into_iter()
        .map(|input| match input {
            Input::Key(key) => key.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    shown.join(" ")
}

#[test]
fn keys_of_every_kind_of_terminal_are_understood() {
    let cases = [
        ("aÄ你", "a Ä 你"),
        ("\r\t\x7f\x08\n\x01", "enter tab backspace ctrl+h ctrl+j ctrl+a"),
        ("\x1b", "esc"),
        ("\x1b\x1b", "esc esc"),
        ("\x1br\x1b\r\x1bÄ", "alt+r alt+enter alt+Ä"),
        ("\x1b[A\x1bOB\x1b[1;5C\x1b[1;3D", "up down ctrl+right alt+left"),
        ("\x1b[H\x1b[4~\x1b[5~\x1b[3;5~", "home end pageup ctrl+delete"),
        ("\x1bOP\x1b[[E\x1b[15~\x1b[24~\x1b[1;2Q", "f1 f5 f5 f12 shift+f2"),
        ("\x1b[Z\x1b[9;2u", "shift+tab shift+tab"),
        ("\x1b[27u\x1b[13;2u\x1b[107;5u\x1b[27;5;13~", "esc shift+enter ctrl+k ctrl+enter"),
        ("\x1b[97:65;2u\x1b[57414u", "A enter"),
        ("\x1b[", "alt+["),
        ("\x1bO", "alt+O"),
        // A key let go and one held with the logo key type nothing.
        ("\x1b[97;1:3u\x1b[99;9u", ""),
        ("\x1b[I\x1b[O", "Focus(true) Focus(false)"),
        ("\x1b[?69;2$yx\x1b[?69;0$y", "Margins(true) x Margins(false)"),
        ("\x1b[?62;22cx", "x"),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(keys(bytes), wanted, "{bytes:?}");
    }
}

#[test]
fn the_mouse_is_understood_in_both_forms() {
    let down = MouseEvent { kind: MouseEventKind::Down(MouseButton::Left), column: 9, row: 4, modifiers: KeyModifiers::empty() };
    assert_eq!(read(b"\x1b[<0;10;5M"), [Input::Mouse(down)]);
    assert_eq!(read(b"\x1b[M \x2a\x25"), [Input::Mouse(down)]);
    let wheel = MouseEvent { kind: MouseEventKind::ScrollUp, modifiers: KeyModifiers::SHIFT, ..down };
    assert_eq!(read(b"\x1b[<68;10;5M"), [Input::Mouse(wheel)]);
    assert_eq!(read(b"\x1b[<35;10;5M\x1b[<0;0;0M").len(), 1, "movement says nothing");
}

#[test]
fn a_paste_is_text_whatever_is_in_it() {
    assert_eq!(read(b"\x1b[200~a\x1b[Ab\r\x1b[201~c"), [Input::Paste("a\u{1b}[Ab\r".to_owned()), Input::Key("c".parse().unwrap())]);
    assert_eq!(read(b"\x1b[200~cut off"), [Input::Paste("cut off".to_owned())]);
}

#[test]
fn a_broken_sequence_does_not_take_the_next_key_along() {
    assert_eq!(keys("\x1b[1;\x1b[A"), "up");
    assert_eq!(keys("\x1b[999999999999999999~x"), "x");
    assert_eq!(keys("\x1b[0;0Rx"), "f3 x");
    assert_eq!(read(b"\xffx\xc3(").len(), 2);
}

#[test]
fn what_comes_late_of_a_paste_is_text_and_sends_nothing() {
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    let mut on = |input| out.push(input);
    decoder.feed(b"\x1b[200~one\r", &mut on);
    assert_eq!(decoder.held(), Some(Held::Paste));
    decoder.give_up(&mut on);
    assert_eq!(decoder.held(), None, "nobody has to be woken for it");
    decoder.feed(b"two\rthree\r\x1b[201~\r", &mut on);
    let enter = Input::Key("enter".parse().unwrap());
    assert_eq!(out, [Input::Paste("one\r".into()), Input::Paste("two\rthree\r".into()), enter.clone()]);
    // The end is lost: after a pause, keys are keys again.
    out.clear();
    let mut on = |input| out.push(input);
    decoder.feed(b"\x1b[200~one", &mut on);
    decoder.give_up(&mut on);
    decoder.feed(b"rm\r", &mut on);
    assert_eq!(decoder.held(), Some(Held::Rest));
    decoder.give_up(&mut on);
    decoder.feed(b"\r", &mut on);
    assert_eq!(out, [Input::Paste("one".into()), Input::Paste("rm\r".into()), enter]);
}

#[test]
fn a_paste_larger_than_a_piece_comes_in_pieces_and_no_line_of_it_is_a_key() {
    let mut decoder = Decoder { piece_bytes: 8, ..Decoder::default() };
    let mut out = Vec::new();
    decoder.feed("\x1b[200~1234567\r\n89äöüäöü\r\x1b[201~x".as_bytes(), &mut |input| out.push(input));
    let pasted: String = out.iter().map(|input| if let Input::Paste(text) = input { text.as_str() } else { "|" }).collect();
    assert_eq!(pasted, "1234567\r\n89äöüäöü\r|");
    assert_eq!(out.first(), Some(&Input::Paste("1234567".into())), "a line's end is not cut");
    assert!(out.iter().all(|input| !matches!(input, Input::Paste(text) if text.len() > 8)), "{out:?}");
}

proptest! {
    #[test]
    fn any_bytes_cut_anywhere_read_the_same(bytes in prop::collection::vec(prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(b"\x1b".to_vec()), Just(b"\x1b[".to_vec()), Just(b"\x1b[200~".to_vec()), Just(b"\x1b[201~".to_vec()),
        Just(b"\x1b[<0;1;1M".to_vec()), Just(b"\x1b[1;5A".to_vec()), Just("ä".as_bytes().to_vec()),
    ], 0..40), cut in 1_usize..7) {
        let bytes: Vec<u8> = bytes.concat();
        for piece_bytes in [5, PASTE_BYTES] {
            let in_parts = |size: usize| {
                let mut decoder = Decoder { piece_bytes, ..Decoder::default() };
                let mut out = Vec::new();
                for part in bytes.chunks(size) {
                    decoder.feed(part, &mut |input| out.push(input));
                }
                decoder.give_up(&mut |input| out.push(input));
                out
            };
            prop_assert_eq!(in_parts(cut), in_parts(bytes.len().max(1)));
        }
    }
}
