//! What happened to an appliance, read one after the other.

use std::time::{Duration, SystemTime};

use mgmt::events::Event;
use mgmt::{Refusal, Request, Response};

use crate::{Device, ManageError};

/// Where a reader of events is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The start of the appliance that the number belongs to.
    boot: Option<u32>,
    /// The next event.
    next: u32,
}

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// The appliance has started anew since the last time; what it did not tell before is lost.
    Restarted,
    /// So many events are no longer known.
    Missed(u32),
    /// An event, and when it happened.
    Event(SystemTime, Box<Event>),
}

impl Device {
    /// Reads all events from `cursor` on.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn events(&mut self, cursor: &mut Cursor) -> Result<Vec<Told>, ManageError> {
        let mut told = Vec::new();
        loop {
            let news = match self.ask(&Request::Event(cursor.next))? {
                Response::News(news) => news,
                Response::Refused(refusal) => return Err(ManageError::Refused(refusal)),
                Response::Objection(_)
                | Response::Done
                | Response::Status(_)
                | Response::Member(_)
                | Response::Staged(_) => {
                    return Err(ManageError::Refused(Refusal::Unknown));
                }
            };
            if cursor.boot.is_some_and(|boot| boot != news.boot) {
                told.push(Told::Restarted);
                *cursor = Cursor {
                    boot: Some(news.boot),
                    next: 0,
                };
                continue;
            }
            cursor.boot = Some(news.boot);
            let Some(event) = news.event else {
                return Ok(told);
            };
            let missed = event.number.wrapping_sub(cursor.next);
            if missed > 0 {
                told.push(Told::Missed(missed));
            }
            cursor.next = event.number.wrapping_add(1);
            let at = SystemTime::now() - Duration::from_millis(event.age);
            told.push(Told::Event(at, Box::new(event)));
        }
    }
}
