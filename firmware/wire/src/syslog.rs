//! Syslog messages (RFC 5424) as single datagrams (RFC 5426), written into a buffer of any length.
//!
//! Whatever is given, what comes out is a message: a parameter or an element that does not fit is left out whole, the free
//! text is cut off, and characters that have no place where they stand are replaced.

use core::fmt::{self, Display, Write as _};

/// Length that every receiver takes (RFC 5424 §6.1), and every IPv4 path.
pub const SAFE_LEN: usize = 480;

/// What stands before the structured data.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Where it comes from, 0 to 23 (RFC 5424 §6.2.1).
    pub facility: u8,
    /// How bad it is: 0, an emergency, to 7.
    pub severity: u8,
    /// Microseconds since 1970, if they are known.
    pub time: Option<u64>,
    /// Who sends it.
    pub host: &'a str,
    /// Which program of it.
    pub program: &'a str,
    /// What kind of message it is.
    pub kind: &'a str,
}

/// A message that grows: header, elements with their parameters, text.
#[derive(Debug)]
pub struct Message<'b> {
    text: Text<'b>,
    /// Whether there is an element that parameters belong to.
    open: bool,
    /// Whether there is one at all.
    any: bool,
}

/// The longest name of an element or a parameter (RFC 5424 §6), and of a kind.
const NAME: usize = 32;
const HOST: usize = 255;
const PROGRAM: usize = 48;
/// UTF-8's mark, without which text may be of any encoding (RFC 5424 §6.4).
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

impl<'b> Message<'b> {
    /// Begins a message. A buffer shorter than the header stays empty.
    #[must_use]
    pub fn new(buffer: &'b mut [u8], header: &Header<'_>) -> Self {
        let mut text = Text { buffer, len: 0 };
        let whole = text.whole(NIL.len(), |text| {
            let priority = u16::from(header.facility.min(23)) * 8 + u16::from(header.severity & 7);
            write!(text, "<{priority}>1 ")?;
            match header.time {
                Some(micros) => timestamp(text, micros)?,
                None => text.write_str(NIL)?,
            }
            text.write_char(' ')?;
            text.name(header.host, HOST)?;
            text.write_char(' ')?;
            text.name(header.program, PROGRAM)?;
            write!(text, " {NIL} ")?; // a program that is the whole machine has no process identifier
            text.name(header.kind, NAME)?;
            text.write_char(' ')
        });
        if !whole {
            text.buffer = &mut [];
        }
        Self {
            text,
            open: false,
            any: false,
        }
    }

    /// Begins an element of structured data: a registered name, or `name@enterprise`.
    pub fn element(&mut self, id: &str) {
        if core::mem::take(&mut self.open) {
            let _ = self.text.write_char(']'); // there is always room for it
        }
        self.open = self.text.whole(1, |text| {
            text.write_char('[')?;
            text.label(id)
        });
        self.any |= self.open;
    }

    /// Adds a parameter to the element.
    pub fn parameter(&mut self, name: &str, value: impl Display) {
        if !self.open {
            return;
        }
        self.text.whole(1, |text| {
            text.write_char(' ')?;
            text.label(name)?;
            text.write_str("=\"")?;
            write!(Escaped(text), "{value}")?;
            text.write_char('"')
        });
    }

    /// Ends the message with text for people; what does not fit is cut off.
    #[must_use]
    pub fn finish(mut self, words: impl Display) -> &'b [u8] {
        let text = &mut self.text;
        let _ = match (self.open, self.any) {
            (true, _) => text.write_char(']'), // there is always room for it
            (false, true) => Ok(()),
            (false, false) => text.write_str(NIL),
        };
        let begin = text.len;
        if text.write_char(' ').is_ok() {
            let start = text.len;
            let _ = write!(Printable(text), "{words}"); // as far as it goes
            text.mark_unicode(start);
            if text.len == start {
                text.len = begin;
            }
        }
        let Text { buffer, len } = self.text;
        buffer.get(..len).unwrap_or_default()
    }
}

/// What stands for nothing (RFC 5424 §6).
const NIL: &str = "-";

/// A buffer that takes whole pieces.
#[derive(Debug)]
struct Text<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl Text<'_> {
    /// Writes all of something and leaves `spare` bytes, or changes nothing.
    fn whole(&mut self, spare: usize, write: impl FnOnce(&mut Self) -> fmt::Result) -> bool {
        let before = self.len;
        let done = write(self).is_ok() && self.len + spare <= self.buffer.len();
        if !done {
            self.len = before;
        }
        done
    }

    /// Printable ASCII without spaces, at most so long; if nothing is left, nothing is said.
    fn name(&mut self, name: &str, most: usize) -> fmt::Result {
        self.filtered(name, most, |_| true)
    }

    /// A name inside of structured data, which may hold less.
    fn label(&mut self, name: &str) -> fmt::Result {
        self.filtered(name, NAME, |character| !"=]\"".contains(character))
    }

    fn filtered(&mut self, name: &str, most: usize, fits: fn(char) -> bool) -> fmt::Result {
        let before = self.len;
        let graphic = |character: &char| character.is_ascii_graphic() && fits(*character);
        for character in name.chars().filter(graphic).take(most) {
            self.write_char(character)?;
        }
        match self.len == before {
            true => self.write_str(NIL),
            false => Ok(()),
        }
    }

    /// Puts UTF-8's mark before text that is not ASCII.
    fn mark_unicode(&mut self, start: usize) {
        let written = self.buffer.get(start..self.len).unwrap_or_default();
        if written.is_ascii() {
            return;
        }
        // Text without the mark would be taken for ASCII.
        let Some(room) = self.buffer.len().checked_sub(start + BOM.len()) else {
            self.len = start;
            return;
        };
        let mut keep = written.len().min(room);
        while keep > 0 && written.get(keep).is_some_and(|byte| byte & 0xc0 == 0x80) {
            keep -= 1;
        }
        self.buffer
            .copy_within(start..start + keep, start + BOM.len());
        if let Some(place) = self.buffer.get_mut(start..start + BOM.len()) {
            place.copy_from_slice(&BOM);
        }
        self.len = start + BOM.len() + keep;
    }
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let place = self.buffer.get_mut(self.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// A parameter's value (RFC 5424 §6.3.3).
struct Escaped<'t, 'b>(&'t mut Text<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| {
            if "\"\\]".contains(character) {
                self.0.write_char('\\')?;
            }
            self.0.write_char(printable(character))
        })
    }
}

/// Text, one character after the other, so that none is cut apart.
struct Printable<'t, 'b>(&'t mut Text<'b>);

impl fmt::Write for Printable<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|character| self.0.write_char(printable(character)))
    }
}

/// Control characters could be taken for the end of a line.
fn printable(character: char) -> char {
    match character.is_control() {
        true => '?',
        false => character,
    }
}

/// Date and time as RFC 3339 has them, in UTC (RFC 5424 §6.2.3).
fn timestamp(text: &mut Text<'_>, micros: u64) -> fmt::Result {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Four digits are all that there is room for.
    if year > 9999 {
        return text.write_str(NIL);
    }
    write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z"
    )
}

/// The date so many days after 1 January 1970. Years are counted from March, so that leap days come last, in eras of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 1 March of the year 0
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = match month < 10 {
        true => (month + 3, 0),
        false => (month - 9, 1),
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests;
