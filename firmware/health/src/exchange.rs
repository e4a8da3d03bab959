//! What a check says to a server, and what it makes of the answer: small parsers that take bytes as they come.

use policy::CheckKind;

use crate::agent::{Agent, Report};
use crate::http::Http;
use crate::mysql::Mysql;
use crate::reason::Reason;

/// What the bytes of an answer prove so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet.
    Continue,
    /// The server is well.
    Good,
    /// It is not. Later bytes change nothing.
    Bad(Reason),
    /// An agent said what its server can take.
    Report(Report),
}

/// The application's side of a check over a connection. Each parser looks at every byte once, keeps a few
/// dozen bytes at most and ends after a bounded number of them.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// A request and the status line of its answer.
    Http(Http),
    /// A database server's greeting.
    Mysql(Mysql),
    /// An agent's line.
    Agent(Agent),
}

impl Exchange {
    /// The exchange of a check; `None` for checks that need no connection.
    #[must_use]
    pub fn new(kind: &CheckKind) -> Option<Self> {
        match *kind {
            CheckKind::Http {
                lowest, highest, ..
            }
            | CheckKind::Https {
                lowest, highest, ..
            } => Some(Self::Http(Http::new(lowest..=highest))),
            CheckKind::Mysql => Some(Self::Mysql(Mysql::new())),
            CheckKind::Ping | CheckKind::Tcp | CheckKind::Dns { .. } => None,
        }
    }

    /// Takes the next bytes of the answer.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Http(http) => http.receive(bytes),
            Self::Mysql(mysql) => mysql.receive(bytes),
            Self::Agent(agent) => agent.receive(bytes),
        }
    }

    /// Whether the rest of the answer is waited for once the verdict is clear, so that the server's log shows a
    /// request that was served and not one that was broken off.
    #[must_use]
    pub fn lingers(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Mysql(_) | Self::Agent(_) => false,
        }
    }
}
