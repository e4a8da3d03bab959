//! The node's side: checks put bytes into the mailbox and take out what has become of them. No heap, no waiting.

use health::{Ask, Reason, Tunnel};

use crate::mailbox::{Job, Mailbox, Stage};

/// TLS for the checks, one connection at a time; a [`Worker`](crate::Worker) at the other side of the mailbox does what costs time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client {
    mailbox: Option<&'static Mailbox>,
}

impl Client {
    /// A client whose worker looks into this mailbox. The default has none, and its checks fail.
    #[must_use]
    pub const fn new(mailbox: &'static Mailbox) -> Self {
        Self {
            mailbox: Some(mailbox),
        }
    }
}

impl Tunnel for Client {
    fn open(&mut self, ask: &Ask<'_>) -> Result<(), Reason> {
        let mailbox = self.mailbox.ok_or(Reason::NoTls)?;
        let job = Job::new(ask).ok_or(Reason::Tls)?;
        mailbox.with(|mail| {
            if mail.stage == Stage::Idle {
                mail.stage = Stage::Asked;
                mail.job = job;
                mail.incoming.clear();
                mail.outgoing.clear();
                mail.plain.clear();
            }
        });
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.mailbox
            .is_some_and(|mailbox| mailbox.with(|mail| mail.stage != Stage::Idle))
    }

    fn is_working(&self) -> bool {
        self.mailbox.is_some_and(Mailbox::has_work)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.mailbox.is_some_and(|mailbox| {
            mailbox.with(|mail| mail.incoming.len() + bytes <= mail.incoming.capacity())
        })
    }

    fn receive(&mut self, bytes: &[u8]) {
        if let Some(mailbox) = self.mailbox {
            // There is room: whoever calls has asked.
            mailbox.with(|mail| mail.incoming.extend_from_slice(bytes).ok());
        }
    }

    fn heard(&mut self, plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        let mailbox = self.mailbox.ok_or(Reason::NoTls)?;
        mailbox.with(|mail| {
            plain(&mail.plain);
            mail.plain.clear();
            match mail.stage {
                Stage::Failed(reason) => Err(reason),
                Stage::Idle | Stage::Asked | Stage::Open | Stage::Closing => Ok(()),
            }
        })
    }

    fn total(&self) -> u16 {
        self.mailbox
            .map_or(0, |mailbox| mailbox.with(|mail| mail.outgoing.len() as u16))
    }

    fn copy(&self, offset: u16, buffer: &mut [u8]) {
        let range = usize::from(offset)..usize::from(offset) + buffer.len();
        if let Some(mailbox) = self.mailbox {
            mailbox.with(|mail| {
                if let Some(bytes) = mail.outgoing.get(range) {
                    buffer.copy_from_slice(bytes);
                }
            });
        }
    }

    fn close(&mut self) {
        if let Some(mailbox) = self.mailbox {
            mailbox.with(|mail| {
                mail.stage = match mail.stage {
                    Stage::Idle | Stage::Asked | Stage::Failed(_) => Stage::Idle,
                    Stage::Open | Stage::Closing => Stage::Closing,
                };
            });
        }
    }
}
