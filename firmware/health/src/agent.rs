//! The answer of an HAProxy agent: one line of words about what its server can take.

use core::fmt;

use heapless::Vec;

use crate::exchange::Progress;
use crate::reason::Reason;

/// What an agent's line says. What it does not mention stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Report {
    /// "up", or one of the words for the opposite.
    pub state: Option<State>,
    /// "ready", "drain" or "maint".
    pub admin: Option<Admin>,
    /// "NN%": percent of the configured weight.
    pub percent: Option<u16>,
    /// "maxconn:N": most flows at a time.
    pub max_flows: Option<u32>,
}

/// The operating state that an agent sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Fit, if the check says so too.
    #[default]
    Up,
    /// "down".
    Down,
    /// "fail".
    Fail,
    /// "stopped".
    Stopped,
}

/// What the server's administrator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Admin {
    /// Normal service.
    #[default]
    Ready,
    /// Keep the flows there are, take no new ones.
    Drain,
    /// Out of service.
    Maint,
}

/// All that an agent said up to now, put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The operating state.
    pub state: State,
    /// The administrator's wish.
    pub admin: Admin,
    /// Percent of the configured weight.
    pub percent: u16,
    /// Most flows at a time, if it ever said.
    pub max_flows: Option<u32>,
}

impl Default for Said {
    /// As long as nothing was heard: what the check says counts.
    fn default() -> Self {
        Self {
            state: State::Up,
            admin: Admin::Ready,
            percent: 100,
            max_flows: None,
        }
    }
}

impl Said {
    /// This and a new report.
    #[must_use]
    pub fn and(self, report: &Report) -> Self {
        Self {
            state: report.state.unwrap_or(self.state),
            admin: report.admin.unwrap_or(self.admin),
            percent: report.percent.unwrap_or(self.percent),
            max_flows: report.max_flows.or(self.max_flows),
        }
    }
}

impl State {
    /// The agent's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Fail => "fail",
            Self::Stopped => "stopped",
        }
    }
}

impl Admin {
    /// The agent's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// In the words of the protocol.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, admin) = (self.state.word(), self.admin.word());
        write!(f, "{state} {admin} {}%", self.percent)?;
        match self.max_flows {
            Some(flows) => write!(f, " maxconn:{flows}"),
            None => Ok(()),
        }
    }
}

/// The words of `Display`, put together on the host.
#[cfg(feature = "defmt")]
impl defmt::Format for Said {
    fn format(&self, f: defmt::Formatter<'_>) {
        let (state, admin) = (self.state.word(), self.admin.word());
        defmt::write!(f, "{=str} {=str} {=u16}%", state, admin, self.percent);
        if let Some(flows) = self.max_flows {
            defmt::write!(f, " maxconn:{=u32}", flows);
        }
    }
}

/// Reads an agent's line.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    word: Vec<u8, MAX_WORD>,
    /// The word is longer than any that is known.
    overlong: bool,
    /// Behind a '#' comes text for people.
    remark: bool,
    report: Report,
    understood: bool,
    read: u16,
    done: Option<Progress>,
}

/// "maxconn:" and ten digits.
const MAX_WORD: usize = 18;
/// Bytes within which the line has to end.
const MAX_READ: u16 = 1024;

impl Agent {
    /// A reader at the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the line. A line counts once its end has come: half a word proves nothing.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> Progress {
        for &byte in bytes {
            if let Some(progress) = self.done {
                return progress;
            }
            self.read += 1;
            self.done = match byte {
                b'\r' | b'\n' => Some(self.end()),
                _ if self.read >= MAX_READ => Some(Progress::Bad(Reason::TooLong)),
                _ => {
                    self.within(byte);
                    None
                }
            };
        }
        self.done.unwrap_or(Progress::Continue)
    }

    fn within(&mut self, byte: u8) {
        match byte {
            _ if self.remark => {}
            b'#' => {
                self.take_word();
                self.remark = true;
            }
            b' ' | b'\t' | b',' => self.take_word(),
            _ => self.overlong |= self.word.push(byte.to_ascii_lowercase()).is_err(),
        }
    }

    fn end(&mut self) -> Progress {
        self.take_word();
        match self.understood {
            true => Progress::Report(self.report),
            false => Progress::Bad(Reason::Garbage),
        }
    }

    /// Adds a word to the report. As in HAProxy, unknown words are passed over and the last of several counts.
    fn take_word(&mut self) {
        let overlong = core::mem::take(&mut self.overlong);
        let word = core::mem::take(&mut self.word);
        let report = &mut self.report;
        match word.as_slice() {
            _ if overlong => return,
            b"up" => report.state = Some(State::Up),
            b"down" => report.state = Some(State::Down),
            b"fail" => report.state = Some(State::Fail),
            b"stopped" => report.state = Some(State::Stopped),
            b"ready" => report.admin = Some(Admin::Ready),
            b"drain" => report.admin = Some(Admin::Drain),
            b"maint" => report.admin = Some(Admin::Maint),
            word => {
                let percent = word.strip_suffix(b"%").and_then(number);
                let flows = word.strip_prefix(b"maxconn:").and_then(number);
                match (percent.and_then(|n| u16::try_from(n).ok()), flows) {
                    (Some(percent), _) => report.percent = Some(percent),
                    (None, Some(flows)) => report.max_flows = Some(flows),
                    (None, None) => return,
                }
            }
        }
        self.understood = true;
    }
}

/// Decimal digits and nothing else.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exchange::Progress::{Bad, Continue};

    const NOTHING: Report = Report {
        state: None,
        admin: None,
        percent: None,
        max_flows: None,
    };

    #[test]
    fn lines() {
        let state = |state| {
            Progress::Report(Report {
                state: Some(state),
                ..NOTHING
            })
        };
        let admin = |admin| {
            Progress::Report(Report {
                admin: Some(admin),
                ..NOTHING
            })
        };
        let percent = |n| {
            Progress::Report(Report {
                percent: Some(n),
                ..NOTHING
            })
        };
        let flows = |n| {
            Progress::Report(Report {
                max_flows: Some(n),
                ..NOTHING
            })
        };
        let all = Progress::Report(Report {
            state: Some(State::Up),
            admin: Some(Admin::Ready),
            percent: Some(75),
            max_flows: Some(30),
        });
        let table: [(&[u8], Progress); 31] = [
            (b"up\n", state(State::Up)),
            (b"up\r\n", state(State::Up)),
            (b"UP\n", state(State::Up)),
            (b"down\n", state(State::Down)),
            (b"down#disk full\n", state(State::Down)),
            (b"fail # drain, maint\n", state(State::Fail)),
            (b"stopped\n", state(State::Stopped)),
            (b"ready\n", admin(Admin::Ready)),
            (b"drain\n", admin(Admin::Drain)),
            (b"maint\n", admin(Admin::Maint)),
            (b"75%\n", percent(75)),
            (b"0%\n", percent(0)),
            (b"200%\n", percent(200)),
            (b"maxconn:30\n", flows(30)),
            (b"maxconn:4294967295\n", flows(u32::MAX)),
            (b"up ready 75% maxconn:30\n", all),
            (b"75%,maxconn:30,ready,up\r\n", all),
            (b" \tup,,ready ,75%\tmaxconn:30 \n", all),
            (
                b"up down 10% 75% maxconn:1 maxconn:30 drain ready up\n",
                all,
            ),
            (b"up hello\n", state(State::Up)),
            (b"up maxconn:99999999999999999\n", state(State::Up)),
            (b"up 70000%\n", state(State::Up)),
            (b"up -5% %\n", state(State::Up)),
            (b"up\nmaint\n", state(State::Up)),
            (b"hello\n", Bad(Reason::Garbage)),
            (b"\n", Bad(Reason::Garbage)),
            (b"# up\n", Bad(Reason::Garbage)),
            (b"upupupupupupupupupupup\n", Bad(Reason::Garbage)),
            (b"up", Continue),
            (b"", Continue),
            (&[b'u'; 2000], Bad(Reason::TooLong)),
        ];
        for (line, expected) in table {
            let name = line.escape_ascii();
            assert_eq!(Agent::new().receive(line), expected, "{name}");
            let mut agent = Agent::new();
            let mut progress = Continue;
            for byte in line {
                progress = agent.receive(&[*byte]);
            }
            assert_eq!(progress, expected, "{name}, byte by byte");
        }
    }

    proptest! {
        /// What is written in the protocol's words is read back, in any order and with any noise between.
        #[test]
        fn reports_come_back(percent: Option<u16>, flows: Option<u32>, noise in "[ ,\t]{1,5}", drain: bool) {
            let mut line = std::string::String::from(if drain { "drain" } else { "up" });
            if let Some(percent) = percent {
                line = std::format!("{percent}%{noise}{line}");
            }
            if let Some(flows) = flows {
                line = std::format!("{line}{noise}maxconn:{flows}");
            }
            let progress = Agent::new().receive(std::format!("{line}\n").as_bytes());
            prop_assert_eq!(progress, Progress::Report(Report {
                state: (!drain).then_some(State::Up),
                admin: drain.then_some(Admin::Drain),
                percent,
                max_flows: flows,
            }));
        }

        /// No bytes panic, and every line ends the exchange.
        #[test]
        fn anything(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            bytes.push(b'\n');
            prop_assert_ne!(Agent::new().receive(&bytes), Continue);
        }
    }
}
