//! What happened to an appliance, one event at a time: each has a number, and who asks knows the next one.

use core::fmt::{self, Display, Write as _};

use heapless::{String, Vec};
use policy::Severity;
use serde::{Deserialize, Serialize};

/// Most parts of an event.
pub const MAX_PARTS: usize = 8;

/// The answer to [`crate::Request::Event`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// A number that the appliance has drawn at its start: with another one, it counts events anew.
    pub boot: u32,
    /// Number of the event that comes next.
    pub next: u32,
    /// The event that was asked for, or the oldest after it that is still known.
    pub event: Option<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number since the start.
    pub number: u32,
    /// Milliseconds since it happened.
    pub age: u64,
    /// How bad it is.
    pub severity: Severity,
    /// Its name, that of RFC 8347 if it has one.
    pub name: String<32>,
    /// Its parts, in the names of RFC 8347 if it has some.
    pub parts: Vec<Part, MAX_PARTS>,
    /// In words.
    pub words: String<200>,
}

/// A part of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String<32>,
    /// Its value.
    pub value: String<64>,
}

/// As much of a text as there is room for.
#[must_use]
pub fn clipped<const N: usize>(words: impl Display) -> String<N> {
    struct Clipped<const N: usize>(String<N>);

    impl<const N: usize> fmt::Write for Clipped<N> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let mut all = text.chars();
            all.try_for_each(|character| self.0.push(character).map_err(|_| fmt::Error))
        }
    }

    let mut clipped = Clipped(String::new());
    let _ = write!(clipped, "{words}"); // as far as it goes
    clipped.0
}
