//! One line of a log as rsyslog keeps it: RFC 5424 without the framing.

/// The parts that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which program.
    pub program: &'a str,
    /// What kind of message.
    pub kind: &'a str,
    /// The structured data, with its brackets; `-` if there is none.
    pub data: &'a str,
    /// The text.
    pub message: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart; `None` if it is not one (RFC 5424 §6).
    pub fn parse(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix('<')?;
        let (priority, rest) = rest.split_once(">1 ")?;
        priority.parse::<u8>().ok()?;
        let mut parts = rest.splitn(6, ' ');
        let (_time, _host) = (parts.next()?, parts.next()?);
        let (program, _process, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let (data, message) = data(parts.next()?)?;
        Some(Self {
            program,
            kind,
            data,
            message: message.trim_start_matches([' ', '\u{feff}']),
        })
    }

    /// The value of a parameter of the structured data, if there is one and nothing in it is escaped.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.data;
        loop {
            let (before, after) = rest.split_once("=\"")?;
            let end = (0..after.len()).find(|&at| {
                let bytes = after.as_bytes();
                bytes[at] == b'"' && (at == 0 || bytes[at - 1] != b'\\')
            })?;
            let key = before.rsplit([' ', '[', ']']).next()?;
            if key == name {
                return Some(&after[..end]);
            }
            rest = &after[end + 1..];
        }
    }
}

/// Cuts the structured data off (RFC 5424 §6.3): brackets inside quotes do not count.
fn data(rest: &str) -> Option<(&str, &str)> {
    if let Some(message) = rest.strip_prefix('-') {
        return Some(("-", message));
    }
    let (mut quoted, mut escaped) = (false, false);
    let bytes = rest.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match (byte, escaped) {
            (_, true) => escaped = false,
            (b'\\', false) => escaped = quoted,
            (b'"', false) => quoted = !quoted,
            (b']', false) if !quoted && bytes.get(at + 1) != Some(&b'[') => {
                return Some(rest.split_at(at + 1));
            }
            (_, false) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_servers_and_appliances() {
        let line = Line::parse(
            r#"<190>1 2026-11-28T10:00:00.123456+00:00 web1 nginx - - - {"status":200}"#,
        );
        let line = line.expect("a line");
        assert_eq!((line.program, line.message), ("nginx", r#"{"status":200}"#));
        assert_eq!(line.parameter("state"), None);

        let text = "<133>1 - gw1 ravelin - STATE [state@1 was=\"backup\" now=\"act\\\"]ive\"][x y=\"]\" z=\"\"] \u{feff}gw1 is Active";
        let line = Line::parse(text).expect("a line");
        assert_eq!((line.kind, line.message), ("STATE", "gw1 is Active"));
        assert_eq!(line.parameter("was"), Some("backup"));
        assert_eq!(line.parameter("y"), Some("]"));
        assert_eq!(line.parameter("z"), Some(""));
        assert_eq!(line.parameter("no"), None);
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in [
            "",
            "x",
            "<>1 a",
            "<1>1 - - - -",
            "<1>1 - - - - - [x y=\"]",
            "<999>1 - - - - - - x",
        ] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
    }
}
