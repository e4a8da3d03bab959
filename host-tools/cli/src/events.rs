//! `ravelin events`: what happened to running appliances.

use std::{
    path::Path,
    process::ExitCode,
    thread::sleep,
    time::{Duration, SystemTime},
};

use ::manage::{Cursor, Device, ManageError, Told, notification};
use chrono::{DateTime, SecondsFormat, Utc};
use mgmt::events::Event;
use serde_json::json;

use crate::{args, failure::Failure, manage::Desk};

/// Time between two questions of a follower.
const PAUSE: Duration = Duration::from_millis(500);

/// Prints events, the oldest first. The answer is no if an appliance is silent.
pub fn events(site: Option<&Path>, options: &args::Events) -> Result<ExitCode, Failure> {
    let desk = Desk::open(site)?;
    let mut readers = Vec::new();
    for name in desk.names(&options.appliances)? {
        readers.push(Reader {
            name,
            device: None,
            cursor: Cursor::default(),
            silent: false,
        });
    }
    loop {
        let mut lines = Vec::new();
        for reader in &mut readers {
            reader.read(&desk, options, &mut lines);
        }
        lines.sort_by_key(|(at, _)| *at);
        for (_, line) in lines {
            println!("{line}");
        }
        if !options.follow {
            let silent = readers.iter().any(|reader| reader.silent);
            return Ok(if silent {
                ExitCode::from(1)
            } else {
                ExitCode::SUCCESS
            });
        }
        sleep(PAUSE);
    }
}

/// One appliance.
struct Reader<'a> {
    name: &'a str,
    device: Option<Device>,
    cursor: Cursor,
    /// Whether it did not answer the last time.
    silent: bool,
}

impl Reader<'_> {
    /// Adds what is new, each line with its time.
    fn read(&mut self, desk: &Desk, options: &args::Events, lines: &mut Vec<(SystemTime, String)>) {
        let all = match self.ask(desk, options) {
            Ok(all) => all,
            Err(error) => {
                if !self.silent {
                    eprintln!("{}: {error}", self.name);
                }
                (self.silent, self.device) = (true, None);
                return;
            }
        };
        self.silent = false;
        for told in all {
            let (at, line) = match (&told, options.json) {
                (Told::Event(at, event), false) => (*at, readable(self.name, *at, event)),
                (Told::Event(at, event), true) => {
                    (*at, notification(self.name, &time(*at), event).to_string())
                }
                (Told::Missed(count), false) => {
                    let line = format!("{} {count} earlier events are no longer known", self.name);
                    (SystemTime::UNIX_EPOCH, line)
                }
                (Told::Missed(count), true) => {
                    let missed =
                        json!({ "ravelin:events-missed": { "name": self.name, "count": count } });
                    (SystemTime::UNIX_EPOCH, missed.to_string())
                }
                (Told::Restarted, false) => (
                    SystemTime::UNIX_EPOCH,
                    format!("{} has started anew", self.name),
                ),
                (Told::Restarted, true) => {
                    let restarted = json!({ "ravelin:restarted": { "name": self.name } });
                    (SystemTime::UNIX_EPOCH, restarted.to_string())
                }
            };
            lines.push((at, line));
        }
    }

    fn ask(&mut self, desk: &Desk, options: &args::Events) -> Result<Vec<Told>, ManageError> {
        let device = match &mut self.device {
            Some(device) => device,
            none => {
                let (device, _) = desk.find(self.name, options.address)?;
                none.insert(device)
            }
        };
        device.events(&mut self.cursor)
    }
}

fn time(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn readable(name: &str, at: SystemTime, event: &Event) -> String {
    let (at, severity) = (time(at), event.severity);
    format!("{at} {name} {severity:<7} {}: {}", event.name, event.words)
}
