extern crate std;

use std::string::{String, ToString as _};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const HEADER: Header<'_> = Header {
    facility: 3,
    severity: 5,
    time: None,
    host: "gw1",
    program: "ravelin",
    kind: "state",
};

fn written(header: &Header<'_>, build: impl FnOnce(&mut Message<'_>), words: &str) -> String {
    let mut buffer = [0; SAFE_LEN];
    let mut message = Message::new(&mut buffer, header);
    build(&mut message);
    String::from_utf8(message.finish(words).to_vec()).unwrap()
}

#[test]
fn a_message_is_as_the_rfc_says() {
    let all = written(
        &Header {
            time: Some(1_065_910_455_003_000), // RFC 5424's second example of a time
            ..HEADER
        },
        |message| {
            message.element("ravelin@32473");
            message.parameter("from", "Backup");
            message.parameter("quoted", "a \"b\" [c] \\");
            message.element("meta");
            message.parameter("sequenceId", 7);
        },
        "Backup -> Active",
    );
    assert_eq!(
        all,
        "<29>1 2003-10-11T22:14:15.003000Z gw1 ravelin - state \
         [ravelin@32473 from=\"Backup\" quoted=\"a \\\"b\\\" [c\\] \\\\\"][meta sequenceId=\"7\"] Backup -> Active"
    );
    let bare = written(&HEADER, |_| {}, "");
    assert_eq!(bare, "<29>1 - gw1 ravelin - state -");
}

#[test]
fn text_beyond_ascii_is_marked() {
    assert_eq!(
        written(&HEADER, |_| {}, "größer\n"),
        "<29>1 - gw1 ravelin - state - \u{feff}größer?"
    );
}

#[test]
fn days_are_those_of_the_calendar() {
    let table = [
        (0, (1970, 1, 1)),
        (58, (1970, 2, 28)),
        (59, (1970, 3, 1)),
        (11_016, (2000, 2, 29)),
        (11_017, (2000, 3, 1)),
        (19_782, (2024, 2, 29)),
        (20_785, (2026, 11, 28)),
        (47_540, (2100, 2, 28)),
        (47_541, (2100, 3, 1)),
    ];
    for (days, day) in table {
        assert_eq!(date(days), day, "{days}");
    }
}

/// Reads a message by the grammar of RFC 5424 §6: the elements with their parameters, and the text.
#[allow(clippy::type_complexity, reason = "a tree of texts")]
fn read(message: &str) -> Option<(Vec<(String, Vec<(String, String)>)>, String)> {
    let rest = message.strip_prefix('<')?;
    let (priority, rest) = rest.split_once('>')?;
    assert!(priority.parse::<u8>().unwrap() <= 191);
    let mut rest = rest.strip_prefix("1 ")?;
    for _ in 0..5 {
        let (field, behind) = rest.split_once(' ')?;
        assert!(!field.is_empty() && field.bytes().all(|byte| byte.is_ascii_graphic()));
        rest = behind;
    }
    let mut elements = Vec::new();
    if let Some(behind) = rest.strip_prefix('-') {
        rest = behind;
    }
    while let Some(behind) = rest.strip_prefix('[') {
        let end = behind.find([' ', ']'])?;
        let (id, mut behind) = behind.split_at(end);
        let mut parameters = Vec::new();
        while let Some(parameter) = behind.strip_prefix(' ') {
            let (name, value) = parameter.split_once("=\"")?;
            let mut read = String::new();
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next()? {
                    (_, '\\') => read.push(characters.next()?.1),
                    (at, '"') => break at,
                    (_, ']') => return None,
                    (_, other) => read.push(other),
                }
            };
            parameters.push((name.to_string(), read));
            behind = &value[end + 1..];
        }
        rest = behind.strip_prefix(']')?;
        elements.push((id.to_string(), parameters));
    }
    let text = match rest {
        "" => "",
        rest => rest.strip_prefix(' ')?,
    };
    Some((elements, text.to_string()))
}

proptest! {
    #[test]
    fn whatever_is_said_comes_out_as_a_message(
        host in any::<String>(),
        kind in any::<String>(),
        time in any::<Option<u64>>(),
        elements in prop::collection::vec((any::<String>(), prop::collection::vec((any::<String>(), any::<String>()), 0..4)), 0..4),
        words in any::<String>(),
        room in 0_usize..600,
    ) {
        let mut buffer = std::vec![0; room];
        let header = Header { host: &host, kind: &kind, time, ..HEADER };
        let mut message = Message::new(&mut buffer, &header);
        for (id, parameters) in &elements {
            message.element(id);
            for (name, value) in parameters {
                message.parameter(name, value);
            }
        }
        let written = message.finish(&words);
        prop_assert!(written.len() <= room);
        let text = core::str::from_utf8(written).unwrap();
        if text.is_empty() {
            return Ok(());
        }
        let (read, said) = read(text).unwrap();
        // What is there is what was said, in its order.
        let mut expected = elements.iter();
        for (_, parameters) in &read {
            let is_part_of = |(_, all): &(String, Vec<(String, String)>)| {
                let mut all = all.iter();
                parameters.iter().all(|(_, value)| all.any(|(_, other)| {
                    let other: String = other.chars().map(printable).collect();
                    *value == other
                }))
            };
            prop_assert!(expected.any(is_part_of));
        }
        let words: String = words.chars().map(printable).collect();
        let said = said.strip_prefix('\u{feff}').unwrap_or(&said);
        prop_assert!(words.starts_with(said));
        let marked = text.contains('\u{feff}');
        prop_assert!(said.is_ascii() || marked);
    }
}
