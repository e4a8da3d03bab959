//! One concrete packet, as examples show it and as `ravelin trace` takes it.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMP6: u8 = 58;
}

/// ICMP types of pings.
pub mod icmp {
    /// Echo reply of ICMP.
    pub const REPLY: u8 = 0;
    /// Echo reply of ICMPv6.
    pub const REPLY6: u8 = 129;
    /// Echo request of ICMP.
    pub const ECHO: u8 = 8;
    /// Echo request of ICMPv6.
    pub const ECHO6: u8 = 128;
}

/// TCP flags that decide what a segment is, as in the header's byte.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// Flags and their names.
    pub const NAMES: [(u8, &str); 4] = [(FIN, "fin"), (SYN, "syn"), (RST, "rst"), (ACK, "ack")];
}

/// IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Version {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    #[must_use]
    pub const fn width(self) -> u16 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A packet's headers, as far as policies look at them. Both addresses are of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; of ICMP the identifier; else 0.
    pub source_port: u16,
    /// Destination port; of ICMP the type in the high byte and the code in the low one; else 0.
    pub destination_port: u16,
    /// TCP flags (see [`flags`]); 0 for other protocols.
    pub flags: u8,
    /// Time to live or hop limit.
    pub hops: u8,
}

impl Packet {
    /// Its IP version.
    #[must_use]
    pub const fn version(&self) -> Version {
        Version::of(self.source)
    }

    /// ICMP type, for ICMP and ICMPv6.
    #[must_use]
    pub const fn icmp_type(&self) -> u8 {
        (self.destination_port >> 8) as u8
    }

    /// Whether it can open a flow: a SYN, a datagram, an echo request, or another protocol's packet.
    #[must_use]
    pub const fn opens(&self) -> bool {
        match self.protocol {
            protocol::TCP => self.flags == flags::SYN,
            protocol::ICMP => self.icmp_type() == icmp::ECHO,
            protocol::ICMP6 => self.icmp_type() == icmp::ECHO6,
            _ => true,
        }
    }

    /// Type and code of an echo request of its IP version, as a destination port.
    #[must_use]
    pub const fn echo_request(&self) -> u16 {
        match self.version() {
            Version::V4 => (icmp::ECHO as u16) << 8,
            Version::V6 => (icmp::ECHO6 as u16) << 8,
        }
    }

    /// The same from its receiver to its sender.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        let (source_port, destination_port) = match self.protocol {
            // These name the flow and the kind of message.
            protocol::ICMP | protocol::ICMP6 => (self.source_port, self.destination_port),
            _ => (self.destination_port, self.source_port),
        };
        Self {
            source: self.destination,
            destination: self.source,
            source_port,
            destination_port,
            ..*self
        }
    }

    /// What its receiver answers; `None` if it does not.
    #[must_use]
    pub const fn answer(&self) -> Option<Self> {
        let mut answer = self.reversed();
        answer.hops = 64;
        match self.protocol {
            protocol::TCP if self.flags & flags::RST != 0 => return None,
            protocol::TCP if self.flags & flags::ACK == 0 && self.flags & flags::SYN != 0 => {
                answer.flags = flags::SYN | flags::ACK;
            }
            protocol::TCP => answer.flags = flags::ACK,
            protocol::ICMP if self.destination_port == self.echo_request() => {
                answer.destination_port = (icmp::REPLY as u16) << 8;
            }
            protocol::ICMP6 if self.destination_port == self.echo_request() => {
                answer.destination_port = (icmp::REPLY6 as u16) << 8;
            }
            protocol::ICMP | protocol::ICMP6 => return None,
            _ => {}
        }
        Some(answer)
    }

    /// Whether packets like it come from who opened their flow.
    #[must_use]
    pub const fn may_ask(&self) -> bool {
        match self.protocol {
            protocol::ICMP | protocol::ICMP6 => self.opens(),
            _ => true,
        }
    }

    /// Whether packets like it come from who was asked.
    #[must_use]
    pub const fn may_answer(&self) -> bool {
        match self.protocol {
            protocol::ICMP => self.icmp_type() == icmp::REPLY,
            protocol::ICMP6 => self.icmp_type() == icmp::REPLY6,
            _ => true,
        }
    }

    /// Whether another packet goes back between the same ends.
    #[must_use]
    pub fn is_answered_by(&self, other: &Self) -> bool {
        let back = self.reversed();
        let ports = match self.protocol {
            protocol::ICMP | protocol::ICMP6 => back.source_port == other.source_port,
            _ => {
                (back.source_port, back.destination_port)
                    == (other.source_port, other.destination_port)
            }
        };
        (back.source, back.destination, back.protocol)
            == (other.source, other.destination, other.protocol)
            && ports
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |address: IpAddr, port: u16| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let (source, destination) = (self.source, self.destination);
        match self.protocol {
            protocol::TCP | protocol::UDP => {
                let name = if self.protocol == protocol::TCP {
                    "tcp"
                } else {
                    "udp"
                };
                let (source, destination) = (
                    end(source, self.source_port),
                    end(destination, self.destination_port),
                );
                write!(f, "{name} {source} -> {destination}")?;
                if self.protocol == protocol::TCP && self.flags != flags::SYN {
                    write!(f, " flags {}", flag_names(self.flags))?;
                }
                Ok(())
            }
            protocol::ICMP | protocol::ICMP6 if self.opens() => {
                write!(f, "ping {source} -> {destination}")
            }
            protocol::ICMP | protocol::ICMP6 => {
                let name = if self.protocol == protocol::ICMP {
                    "icmp"
                } else {
                    "icmp6"
                };
                write!(
                    f,
                    "{name} {source} -> {destination} type {}",
                    self.icmp_type()
                )?;
                match self.destination_port as u8 {
                    0 => Ok(()),
                    code => write!(f, " code {code}"),
                }
            }
            number => write!(f, "protocol {number} {source} -> {destination}"),
        }
    }
}

fn flag_names(bits: u8) -> String {
    let names: Vec<&str> = (flags::NAMES.iter())
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
}
