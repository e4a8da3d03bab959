//! Running appliances, over the network: how they are, and orders to them.

#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mgmt::{Client, Digest, Heard, MAX_DATAGRAM, PART, Refusal, Request, Response, State, Status};
use policy::MAX_ROUTERS;
use sha2::{Digest as _, Sha256};

mod events;
mod yang;

pub use events::{Cursor, Told};
pub use yang::{hex, ietf_vrrp, notification};

/// An appliance that answers.
#[derive(Debug)]
pub struct Device {
    socket: UdpSocket,
    client: Client,
    address: SocketAddr,
}

/// Why nothing is known, or nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// None of its addresses answers.
    #[error("no answer from {}", addresses(.0))]
    Silent(Vec<SocketAddr>),
    /// It answers, but to nobody with this key.
    #[error(
        "{0} answers, but does not take the site's operator key: it runs a configuration of another build"
    )]
    Key(SocketAddr),
    /// It does not do that.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// It cannot run this configuration.
    #[error("it cannot run this configuration: {0}")]
    Objection(String),
    /// What is sent does not arrive.
    #[error("the configuration does not arrive: it has {have} of {total} bytes, and takes no more")]
    Stuck {
        /// What is there.
        have: usize,
        /// What should be.
        total: usize,
    },
    /// It was told to hand over, and has not within the time.
    #[error("it is still Active after {} s", .0.as_secs())]
    Late(Duration),
    /// The machine's network refused something.
    #[error("the network of this machine: {0}")]
    Socket(#[from] io::Error),
}

/// What a configuration is known by.
#[must_use]
pub fn digest(blob: &[u8]) -> Digest {
    Sha256::digest(blob).into()
}

fn addresses(all: &[SocketAddr]) -> String {
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

impl Device {
    /// Finds an appliance at the first of its addresses that answers to this key.
    ///
    /// # Errors
    /// If none does, or this machine has no network.
    pub fn find(addresses: &[SocketAddr], key: &[u8; 32]) -> Result<(Self, Status), ManageError> {
        let mut answers = None;
        for address in addresses {
            let mut device = match Self::at(*address, key) {
                Ok(device) => device,
                // No route to this network from here; perhaps to the next one.
                Err(error) if error.kind() == io::ErrorKind::NetworkUnreachable => continue,
                Err(error) => return Err(error.into()),
            };
            match device.status() {
                Ok(status) => return Ok((device, status)),
                Err(ManageError::Silent(_)) => {}
                Err(ManageError::Key(address)) => answers = Some(address),
                Err(error) => return Err(error),
            }
        }
        Err(answers.map_or_else(|| ManageError::Silent(addresses.to_vec()), ManageError::Key))
    }

    fn at(address: SocketAddr, key: &[u8; 32]) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            client: Client::new(key),
            address,
        })
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks, and asks again until it is answered or has been asked for two seconds.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ManageError> {
        let mut datagram = [0; MAX_DATAGRAM];
        let (mut challenged, mut answer) = (false, [0; MAX_DATAGRAM]);
        let mut sent = self
            .client
            .make(request, rand::random(), &mut datagram)
            .to_vec();
        for _ in 0..ATTEMPTS {
            let lost = match self.socket.send(&sent) {
                Err(error) if is_unheard(&error) => true,
                result => result.map(|_| false)?,
            };
            let until = Instant::now() + PATIENCE;
            while !lost && Instant::now() < until {
                let len = match self.socket.recv(&mut answer) {
                    Ok(len) => len,
                    Err(error) if is_unheard(&error) => break,
                    Err(error) => return Err(error.into()),
                };
                match self
                    .client
                    .receive(answer.get_mut(..len).unwrap_or_default())
                {
                    Heard::Answer(response) => return Ok(response),
                    Heard::Challenge => {
                        challenged = true;
                        sent = self
                            .client
                            .make(request, rand::random(), &mut datagram)
                            .to_vec();
                        self.socket.send(&sent)?;
                    }
                    Heard::Nothing => {}
                }
            }
        }
        Err(match challenged {
            true => ManageError::Key(self.address),
            false => ManageError::Silent(vec![self.address]),
        })
    }

    /// How it is.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn status(&mut self) -> Result<Status, ManageError> {
        match self.ask(&Request::Status)? {
            Response::Status(status) => Ok(status),
            Response::Refused(refusal) => Err(ManageError::Refused(refusal)),
            Response::Objection(objection) => Err(ManageError::Objection(objection.to_string())),
            Response::Done | Response::Member(_) | Response::Staged(_) | Response::News(_) => {
                Err(ManageError::Refused(Refusal::Unknown))
            }
        }
    }

    /// All about its virtual routers.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn members(&mut self) -> Result<Vec<mgmt::MemberStatus>, ManageError> {
        let mut members = Vec::new();
        for index in 0..MAX_ROUTERS as u8 {
            match self.ask(&Request::Member(index))? {
                Response::Member(member) => members.push(member),
                _ => break,
            }
        }
        Ok(members)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// If it is refused, or not answered.
    pub fn order(&mut self, request: &Request) -> Result<(), ManageError> {
        match self.ask(request)? {
            Response::Refused(refusal) => Err(ManageError::Refused(refusal)),
            Response::Objection(objection) => Err(ManageError::Objection(objection.to_string())),
            Response::Done
            | Response::Status(_)
            | Response::Member(_)
            | Response::Staged(_)
            | Response::News(_) => Ok(()),
        }
    }

    /// Sends it a configuration, of which nothing counts yet. What it has already is not sent again.
    ///
    /// # Errors
    /// If it has no room, or does not answer any more.
    pub fn send(&mut self, blob: &[u8]) -> Result<Digest, ManageError> {
        let digest = digest(blob);
        let total = u32::try_from(blob.len()).unwrap_or(u32::MAX);
        let mut have = self.staged(&Request::Stage { total, digest })?;
        while have < blob.len() {
            let part = &blob[have..blob.len().min(have + PART)];
            let request = Request::Part {
                offset: have as u32, // below `total`
                bytes: part.iter().copied().collect(),
            };
            let now = self.staged(&request)?;
            if now <= have || now > blob.len() {
                let total = blob.len();
                return Err(ManageError::Stuck { have: now, total });
            }
            have = now;
        }
        Ok(digest)
    }

    fn staged(&mut self, request: &Request) -> Result<usize, ManageError> {
        match self.ask(request)? {
            Response::Staged(have) => Ok(have as usize),
            Response::Refused(refusal) => Err(ManageError::Refused(refusal)),
            Response::Objection(objection) => Err(ManageError::Objection(objection.to_string())),
            Response::Done | Response::Status(_) | Response::Member(_) | Response::News(_) => {
                Err(ManageError::Refused(Refusal::Unknown))
            }
        }
    }

    /// Orders it to hand over, and waits until it has: how it is then.
    ///
    /// # Errors
    /// If it cannot, or its peer does not take over; then it is still Active.
    pub fn hand_over(&mut self) -> Result<Status, ManageError> {
        self.order(&Request::HandOver)?;
        let until = Instant::now() + HAND_OVER;
        loop {
            let status = self.status()?;
            match (status.state, status.hand_over) {
                (_, Some(refusal)) => return Err(ManageError::Refused(refusal)),
                (State::Active, None) if Instant::now() < until => std::thread::sleep(PAUSE),
                (State::Active, None) => return Err(ManageError::Late(HAND_OVER)),
                (State::Backup | State::Initialize | State::Fault, None) => return Ok(status),
            }
        }
    }
}

/// Nothing came, or nobody listens there: what is sent may be lost, so that both mean the same.
fn is_unheard(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted
    )
}

/// How long each datagram is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
const ATTEMPTS: u32 = 6;
/// How long a hand-over may take: the appliance gives up after three seconds itself.
const HAND_OVER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
