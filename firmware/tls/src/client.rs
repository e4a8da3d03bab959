//! A connection to a server that is checked.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use health::{Reason, Tunnel};
use pki_types::{ServerName, UnixTime};
use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use crate::cipher::provider;
use crate::random;
use crate::trust::Everybody;

/// TLS for the checks, one connection at a time.
pub struct Client {
    config: Option<Arc<ClientConfig>>,
    session: Option<Session>,
}

struct Session {
    connection: UnbufferedClientConnection,
    /// What the server sent and is not yet understood.
    incoming: Vec<u8>,
    /// All that we send, from the first byte on: it is small, and may have to be sent again.
    outgoing: Vec<u8>,
    /// What is asked once the handshake is over.
    request: Vec<u8>,
}

/// A record of the greatest size (RFC 8446 §5.2), and the beginning of the next.
const MAX_INCOMING: usize = 16_384 + 256 + 5 + 4096;
/// Handshake and request take less than half of it.
const MAX_OUTGOING: usize = 2048;

impl Client {
    /// A client whose keys come from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        random::seed(seed);
        let builder = ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(NoClock));
        let config = builder.with_protocol_versions(&[&rustls::version::TLS13]);
        let config = config.ok().map(|builder| {
            let trusting = builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Everybody));
            let mut config = trusting.with_no_client_auth();
            config.resumption = Resumption::disabled();
            Arc::new(config)
        });
        Self {
            config,
            session: None,
        }
    }
}

impl Tunnel for Client {
    const AVAILABLE: bool = true;

    fn open(&mut self, host: &str, request: &[u8]) -> Result<(), Reason> {
        let name = ServerName::try_from(host).map_err(|_| Reason::Tls)?;
        let config = self.config.clone().ok_or(Reason::Tls)?;
        let connection = UnbufferedClientConnection::new(config, name.to_owned());
        let mut session = Session {
            connection: connection.map_err(|_| Reason::Tls)?,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            request: request.to_vec(),
        };
        session.advance(&mut |_| {})?;
        self.session = Some(session);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.session.is_some()
    }

    fn receive(&mut self, bytes: &[u8], plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        let session = self.session.as_mut().ok_or(Reason::Tls)?;
        if session.incoming.len() + bytes.len() > MAX_INCOMING {
            return Err(Reason::TooLong);
        }
        session.incoming.extend_from_slice(bytes);
        session.advance(plain)
    }

    fn total(&self) -> u16 {
        let session = self.session.as_ref();
        session.map_or(0, |session| session.outgoing.len() as u16)
    }

    fn copy(&self, offset: u16, buffer: &mut [u8]) {
        let outgoing = self.session.as_ref().map(|session| &session.outgoing);
        let range = usize::from(offset)..usize::from(offset) + buffer.len();
        if let Some(bytes) = outgoing.and_then(|outgoing| outgoing.get(range)) {
            buffer.copy_from_slice(bytes);
        }
    }

    fn close(&mut self) {
        self.session = None;
    }
}

impl Session {
    /// Works through what has come; plaintext goes to `plain`, what is to be sent to `outgoing`.
    fn advance(&mut self, plain: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut waits = false;
            match state.map_err(|_| Reason::Tls)? {
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = self.outgoing.len();
                    self.outgoing.resize(MAX_OUTGOING, 0);
                    let written = match data.encode(&mut self.outgoing[start..]) {
                        Ok(written) => written,
                        Err(EncodeError::InsufficientSize(_) | EncodeError::AlreadyEncoded) => {
                            return Err(Reason::Tls);
                        }
                    };
                    self.outgoing.truncate(start + written);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        plain(record.map_err(|_| Reason::Tls)?.payload);
                    }
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    if self.request.is_empty() {
                        waits = true;
                    } else {
                        let start = self.outgoing.len();
                        self.outgoing.resize(MAX_OUTGOING, 0);
                        let place = &mut self.outgoing[start..];
                        let written = match traffic.encrypt(&self.request, place) {
                            Ok(written) => written,
                            Err(
                                EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted,
                            ) => return Err(Reason::Tls),
                        };
                        self.outgoing.truncate(start + written);
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

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("open", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

/// Nobody looks at a certificate's dates.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}
