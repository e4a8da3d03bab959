//! Between the node, which must not wait, and the worker, which takes its time: bytes both ways, and how the connection
//! stands. Of fixed size; each side holds it for a copy at most.

use core::cell::RefCell;
use core::fmt;

use critical_section::Mutex;
use health::{Ask, Reason};
use heapless::{String, Vec};
use policy::Anchor;

/// One connection's mail. A board has one, as a static.
pub struct Mailbox(Mutex<RefCell<Mail>>);

pub(crate) struct Mail {
    pub stage: Stage,
    /// The worker has something in hand that is not done.
    pub busy: bool,
    pub job: Job,
    /// What the server sent and the worker has not taken.
    pub incoming: Vec<u8, INCOMING>,
    /// All that we send, from the first byte on: it is small, and may have to be sent again.
    pub outgoing: Vec<u8, OUTGOING>,
    /// What the server said and the node has not heard.
    pub plain: Vec<u8, PLAIN>,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is none.
    Idle,
    /// The node wants one; the worker has not seen it.
    Asked,
    /// The worker has it.
    Open,
    /// It failed; the node has to close it.
    Failed(Reason),
    /// The node wants no more of it; the worker has not seen that.
    Closing,
}

/// What a connection is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    pub host: String<63>,
    pub anchor: Option<Anchor>,
    pub since: u64,
    pub request: Vec<u8, { health::MAX_PAYLOAD }>,
}

/// Twice what a server may send before it hears from us.
const INCOMING: usize = 2 * health::WINDOW as usize;
/// Handshake and request take less than half of it.
pub(crate) const OUTGOING: usize = 2048;
/// As much of an answer as a check reads to find its verdict. What comes behind it is of no interest.
const PLAIN: usize = 8192;

impl Mailbox {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Mail {
            stage: Stage::Idle,
            busy: false,
            job: Job {
                host: String::new(),
                anchor: None,
                since: 0,
                request: Vec::new(),
            },
            incoming: Vec::new(),
            outgoing: Vec::new(),
            plain: Vec::new(),
        })))
    }

    /// Whether the worker has something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.with(|mail| match mail.stage {
            Stage::Idle | Stage::Failed(_) => false,
            Stage::Asked | Stage::Closing => true,
            Stage::Open => mail.busy || !mail.incoming.is_empty(),
        })
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Mail) -> T) -> T {
        critical_section::with(|section| act(&mut self.0.borrow_ref_mut(section)))
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.with(|mail| mail.stage);
        f.debug_struct("Mailbox")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}

impl Job {
    pub fn new(ask: &Ask<'_>) -> Option<Self> {
        Some(Self {
            host: String::try_from(ask.host).ok()?,
            anchor: ask.anchor.cloned(),
            since: ask.since,
            request: Vec::from_slice(ask.request).ok()?,
        })
    }
}
