//! The side that takes time and memory: runs rustls over what is in the mailbox.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use health::Reason;
use pki_types::{ServerName, UnixTime};
use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use crate::cipher::provider;
use crate::failure::reason;
use crate::mailbox::{Job, Mail, Mailbox, OUTGOING, Stage};
use crate::trust::verifier;

/// Does the work of one mailbox, where nobody waits for it.
pub struct Worker {
    mailbox: &'static Mailbox,
    session: Option<Session>,
}

struct Session {
    connection: UnbufferedClientConnection,
    /// What the server sent and is not yet understood. Its room is taken once: it never grows.
    incoming: Vec<u8>,
    /// What is to be sent since the last step.
    outgoing: Vec<u8>,
    /// What is asked once the handshake is over.
    request: Vec<u8>,
}

/// A record of the greatest size (RFC 8446 §5.2), and the beginning of the next.
const MAX_INCOMING: usize = 16_384 + 256 + 5 + 4096;

impl Worker {
    /// A worker without a connection.
    #[must_use]
    pub const fn new(mailbox: &'static Mailbox) -> Self {
        Self {
            mailbox,
            session: None,
        }
    }

    /// Says that the worker which had the connection at hand is gone, for this reason. Another one may begin, with a new heap.
    pub fn abandon(mailbox: &Mailbox, reason: Reason) {
        mailbox.with(|mail| finish(mail, Err(reason)));
    }

    /// Does what there is to do; `false` if there is nothing. A step may take tens of milliseconds.
    pub fn step(&mut self) -> bool {
        let result = match self.mailbox.with(|mail| self.session.take_work(mail)) {
            Work::Nothing => return false,
            Work::Begin => {
                let job = self.mailbox.with(|mail| core::mem::take(&mut mail.job));
                Session::new(&job).map(|session| self.session.insert(session))
            }
            Work::Close => {
                self.session = None; // before another connection may need its memory
                self.mailbox
                    .with(|mail| (mail.stage, mail.busy) = (Stage::Idle, false));
                return true;
            }
            Work::TooLong => Err(Reason::TooLong),
            Work::Understand => self.session.as_mut().ok_or(Reason::Tls),
        };
        let mailbox = self.mailbox;
        let result = result.and_then(|session| {
            let mut plain = |bytes: &[u8]| {
                mailbox.with(|mail| {
                    let room = mail.plain.capacity() - mail.plain.len();
                    let bytes = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                    mail.plain.extend_from_slice(bytes).ok()
                });
            };
            session.advance(&mut plain)?;
            mailbox.with(|mail| {
                let sent = mail.outgoing.extend_from_slice(&session.outgoing);
                sent.map_err(|_| Reason::Tls)
            })?;
            session.outgoing.clear();
            Ok(())
        });
        if result.is_err() {
            self.session = None;
        }
        mailbox.with(|mail| finish(mail, result));
        true
    }
}

enum Work {
    Nothing,
    Begin,
    /// There are new bytes.
    Understand,
    /// There are more bytes than make sense.
    TooLong,
    Close,
}

trait TakeWork {
    fn take_work(&mut self, mail: &mut Mail) -> Work;
}

impl TakeWork for Option<Session> {
    /// Takes what is in the mailbox.
    fn take_work(&mut self, mail: &mut Mail) -> Work {
        let work = match (mail.stage, self) {
            (Stage::Closing, _) => return Work::Close,
            (Stage::Asked, _) => {
                mail.stage = Stage::Open;
                Work::Begin
            }
            (Stage::Open, Some(session)) if !mail.incoming.is_empty() => {
                let fits = session.incoming.len() + mail.incoming.len() <= MAX_INCOMING;
                if fits {
                    session.incoming.extend_from_slice(&mail.incoming);
                }
                mail.incoming.clear();
                if fits {
                    Work::Understand
                } else {
                    Work::TooLong
                }
            }
            (Stage::Open | Stage::Idle | Stage::Failed(_), _) => return Work::Nothing,
        };
        mail.busy = true;
        work
    }
}

/// Notes what became of the work.
fn finish(mail: &mut Mail, result: Result<(), Reason>) {
    mail.busy = false;
    mail.stage = match (mail.stage, result) {
        (Stage::Open, Err(reason)) => Stage::Failed(reason),
        // Otherwise it is closed in the next step.
        (Stage::Closing, Err(_)) => Stage::Idle,
        (stage, _) => stage,
    };
}

impl Session {
    fn new(job: &Job) -> Result<Self, Reason> {
        let name = ServerName::try_from(job.host.as_str()).map_err(|_| Reason::Tls)?;
        let mut incoming = Vec::new();
        incoming
            .try_reserve_exact(MAX_INCOMING)
            .map_err(|_| Reason::NoMemory)?;
        let builder = ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(NoClock));
        let mut config = builder
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| Reason::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier(job.anchor.as_ref(), job.since))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let connection = UnbufferedClientConnection::new(Arc::new(config), name.to_owned());
        Ok(Self {
            connection: connection.map_err(|error| reason(&error))?,
            incoming,
            outgoing: Vec::with_capacity(OUTGOING),
            request: job.request.to_vec(),
        })
    }

    /// Works through what has come; plaintext goes to `plain`, what is to be sent to `outgoing`.
    fn advance(&mut self, plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut waits = false;
            match state.map_err(|error| reason(&error))? {
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = self.outgoing.len();
                    self.outgoing.resize(OUTGOING, 0);
                    let written = data.encode(&mut self.outgoing[start..]);
                    self.outgoing
                        .truncate(start + written.map_err(|_| Reason::Tls)?);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        plain(record.map_err(|error| reason(&error))?.payload);
                    }
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    if self.request.is_empty() {
                        waits = true;
                    } else {
                        let start = self.outgoing.len();
                        self.outgoing.resize(OUTGOING, 0);
                        let written = traffic.encrypt(&self.request, &mut self.outgoing[start..]);
                        self.outgoing
                            .truncate(start + written.map_err(|_| Reason::Tls)?);
                        self.request.clear();
                    }
                }
                // Blocked until more comes, or closed for good; rustls may add states.
                _ => waits = true,
            }
            self.incoming.drain(..discard);
            if waits {
                return Ok(());
            }
        }
    }
}

/// Rustls asks for the time, but the verifier has its own.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}
