//! What a configuration asks of keepalived: its statements with their types, defaults filled in.

use std::{fmt, net::IpAddr};

use serde::Serialize;

use crate::conf::{Place, Statement};

mod balance;
mod instance;
mod known;

pub use balance::{Check, CheckKind, RealServer, Timing, VirtualServer};
pub use instance::{Address, Authentication, Garp, Instance, Peer, Route};

/// A value and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> At<T> {
    pub(crate) fn new(value: T, statement: &Statement) -> Self {
        let place = statement.place.clone();
        Self { value, place }
    }
}

/// Something that the operator has to know about a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// What becomes of it.
    pub kind: Kind,
    /// Its words, or the first of them.
    pub what: String,
    /// Why, in words.
    pub why: String,
}

impl Note {
    pub(crate) fn new(kind: Kind, statement: &Statement, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            place: statement.place.clone(),
            kind,
            what: short(statement),
            why,
        }
    }
}

/// The words of a statement, as far as one wants to read them again.
fn short(statement: &Statement) -> String {
    let words = statement.words.join(" ");
    match words.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It has no counterpart, and something will be missing.
    Lost,
    /// It is done in another way.
    Changed,
    /// Nothing has to be done for it.
    Needless,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "no counterpart",
            Self::Changed => "done differently",
            Self::Needless => "not needed",
        })
    }
}

/// One keepalived.
#[derive(Clone, Debug, Default)]
pub struct Keepalived {
    /// `router_id`.
    pub router_id: Option<String>,
    /// `vrrp_startup_delay` in milliseconds.
    pub start_delay: Option<At<u32>>,
    /// Every `vrrp_instance`.
    pub instances: Vec<Instance>,
    /// Names of the instances in each `vrrp_sync_group`.
    pub groups: Vec<At<Vec<String>>>,
    /// What instances and groups track.
    pub tracks: Vec<Track>,
    /// Every `vrrp_script`.
    pub scripts: Vec<Script>,
    /// Names and default weights of `track_file`s.
    pub files: Vec<(String, i16)>,
    /// Every `virtual_server`; a group of addresses makes several.
    pub balanced: Vec<VirtualServer>,
    /// Lines that are not in any of these, and why.
    pub notes: Vec<Note>,
}

/// One line of `track_interface`, `track_script` or `track_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What is tracked.
    pub what: Tracked,
    /// Its name.
    pub name: At<String>,
    /// `None` where the default of the script or file holds.
    pub weight: Option<i16>,
    /// Whether good and bad change places.
    pub reverse: bool,
}

/// What can be tracked and has a counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// The link of an interface.
    Interface,
    /// The exit code of a script.
    Script,
    /// The number in a file.
    File,
}

/// One `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// What is run, with its arguments.
    pub command: Option<At<String>>,
    /// Its default weight.
    pub weight: i16,
    /// Whether success and failure change places.
    pub reverse: bool,
}

/// `global_defs` as far as they are the defaults of instances.
#[derive(Clone, Debug, Default)]
struct Globals {
    router_id: Option<String>,
    start_delay: Option<At<u32>>,
    version: Option<u8>,
    strict: bool,
    no_accept: bool,
    v3_checksum_as_v2: bool,
    garp: Garp,
}

impl Keepalived {
    /// Gives the statements of a configuration their types. Values that keepalived would refuse are noted, and it goes on
    /// with their defaults as keepalived does.
    #[must_use]
    pub fn of(statements: &[Statement]) -> Self {
        let mut keepalived = Self::default();
        let mut globals = Globals::default();
        for statement in statements {
            if statement.keyword() == "global_defs" {
                keepalived.globals(statement, &mut globals);
            }
        }
        let groups: Vec<&Statement> = (statements.iter())
            .filter(|statement| statement.keyword() == "virtual_server_group")
            .collect();
        for statement in statements {
            match statement.keyword() {
                "global_defs" | "virtual_server_group" => {}
                "vrrp_instance" => {
                    let instance = instance::read(statement, &globals, &mut keepalived);
                    keepalived.instances.push(instance);
                }
                "vrrp_sync_group" => keepalived.group(statement),
                "vrrp_script" => keepalived.script(statement),
                "track_file" | "vrrp_track_file" => keepalived.track_file(statement),
                "virtual_server" => {
                    let servers = balance::read(statement, &groups, &mut keepalived.notes);
                    keepalived.balanced.extend(servers);
                }
                _ => keepalived.unknown(statement),
            }
        }
        keepalived.router_id = globals.router_id;
        keepalived.start_delay = globals.start_delay;
        keepalived
    }

    fn globals(&mut self, block: &Statement, globals: &mut Globals) {
        for line in block.lines() {
            let notes = &mut self.notes;
            match line.keyword() {
                "router_id" => globals.router_id = line.arguments().first().cloned(),
                "vrrp_startup_delay" => {
                    globals.start_delay = seconds(line, 1000, notes).map(|ms| At::new(ms, line));
                }
                "vrrp_version" => globals.version = number(line, 2, 3, notes),
                "vrrp_strict" => globals.strict = is_on(line),
                "v3_checksum_as_v2" => globals.v3_checksum_as_v2 = is_on(line),
                "vrrp_garp_interval" | "vrrp_gna_interval" => {
                    globals.garp.gap = seconds(line, 65, notes).map(|ms| At::new(ms, line));
                }
                keyword => {
                    let plain = keyword.strip_prefix("vrrp_").unwrap_or(keyword);
                    if !globals.garp.read(plain, line, notes) {
                        self.unknown(line);
                    }
                }
            }
        }
    }

    fn group(&mut self, block: &Statement) {
        for line in block.lines() {
            match line.keyword() {
                "group" => {
                    let members = line.lines().iter().flat_map(|line| line.words.clone());
                    self.groups.push(At::new(members.collect(), line));
                }
                _ => self.tracked(line),
            }
        }
    }

    /// A line that may be about tracking, in an instance or a group.
    fn tracked(&mut self, block: &Statement) {
        let what = match block.keyword() {
            "track_interface" => Tracked::Interface,
            "track_script" => Tracked::Script,
            "track_file" => Tracked::File,
            _ => return self.unknown(block),
        };
        for line in block.lines() {
            let name = At::new(line.keyword().to_owned(), line);
            let words: Vec<&str> = line.arguments().iter().map(String::as_str).collect();
            let weight = match words.iter().position(|word| *word == "weight") {
                Some(at) => match words.get(at + 1).and_then(|word| word.parse().ok()) {
                    Some(weight @ -254..=254) => Some(weight),
                    _ => {
                        let why = "not a weight from -253 to 253";
                        self.notes.push(Note::new(Kind::Lost, line, why));
                        continue;
                    }
                },
                None => None,
            };
            let track = Track {
                what,
                name,
                weight,
                reverse: words.contains(&"reverse"),
            };
            // In a group and in an instance of it is the same to us.
            let twin = |other: &Track| other.what == what && other.name.value == track.name.value;
            if !self.tracks.iter().any(twin) {
                self.tracks.push(track);
            }
        }
    }

    fn script(&mut self, block: &Statement) {
        let mut script = Script {
            name: block.arguments().first().cloned().unwrap_or_default(),
            command: None,
            weight: 0,
            reverse: false,
        };
        for line in block.lines() {
            match line.keyword() {
                "script" => script.command = Some(At::new(line.arguments().join(" "), line)),
                "weight" => {
                    let weight = line.arguments().first().and_then(|word| word.parse().ok());
                    script.weight = weight.unwrap_or(0);
                    script.reverse = line.arguments().iter().any(|word| word == "reverse");
                }
                // Said with the script itself.
                "interval" | "timeout" | "rise" | "fall" | "user" | "init_fail" => {}
                _ => self.unknown(line),
            }
        }
        self.scripts.push(script);
    }

    fn track_file(&mut self, block: &Statement) {
        let mut weight = 1;
        for line in block.lines() {
            if line.keyword() == "weight" {
                let word = line.arguments().first();
                weight = word.and_then(|word| word.parse().ok()).unwrap_or(1);
            }
        }
        let name = block.arguments().first().cloned().unwrap_or_default();
        self.files.push((name, weight));
    }

    fn unknown(&mut self, line: &Statement) {
        self.notes.push(known::note(line));
    }
}

/// The number behind a keyword.
fn number<T: TryFrom<i64>>(
    line: &Statement,
    first: i64,
    last: i64,
    notes: &mut Vec<Note>,
) -> Option<T> {
    let word = line.arguments().first().map_or("", String::as_str);
    let number = word.parse().ok().filter(|n| (first..=last).contains(n));
    let number = number.and_then(|number| T::try_from(number).ok());
    if number.is_none() {
        let why = format!("not a number from {first} to {last}: keepalived keeps its default too");
        notes.push(Note::new(Kind::Lost, line, why));
    }
    number
}

/// The seconds behind a keyword, which may have a fraction, in milliseconds.
fn seconds(line: &Statement, most: u32, notes: &mut Vec<Note>) -> Option<u32> {
    let word = line.arguments().first().map_or("", String::as_str);
    let ms = milliseconds(word).filter(|ms| *ms <= most.saturating_mul(1000));
    if ms.is_none() {
        let why = format!("not seconds from 0 to {most}: keepalived keeps its default too");
        notes.push(Note::new(Kind::Lost, line, why));
    }
    ms
}

/// `"0.25"` is 250. Smaller parts are rounded up, so that what is not zero stays so.
fn milliseconds(word: &str) -> Option<u32> {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    if !word.starts_with(|c: char| c.is_ascii_digit())
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let finer = fraction.bytes().skip(3).any(|byte| byte != b'0');
    let whole: u32 = whole.parse().ok()?;
    whole
        .checked_mul(1000)?
        .checked_add(digits.parse().ok()?)?
        .checked_add(u32::from(finer))
}

/// A switch that is on if nothing else is said.
fn is_on(line: &Statement) -> bool {
    let word = line.arguments().first().map(String::as_str);
    !matches!(word, Some("off" | "false" | "no"))
}

/// The address that a keyword is about.
fn address(line: &Statement, notes: &mut Vec<Note>) -> Option<At<IpAddr>> {
    let word = line.arguments().first().map_or("", String::as_str);
    match word.parse() {
        Ok(address) => Some(At::new(address, line)),
        Err(_) => {
            notes.push(Note::new(Kind::Lost, line, "not an address"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_with_fractions() {
        let table = [
            ("1", Some(1000)),
            ("0.25", Some(250)),
            ("2.71828", Some(2719)),
            ("0.0001", Some(1)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("1s", None),
            ("1.x", None),
            ("99999999999", None),
        ];
        for (word, expected) in table {
            assert_eq!(milliseconds(word), expected, "{word}");
        }
    }
}
