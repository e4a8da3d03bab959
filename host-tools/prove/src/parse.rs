//! Packets as people type them: `tcp 198.51.100.7:40000 -> 203.0.113.10:443`, `ping lb1 -> app1`.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, SourceCode};

use crate::packet::{Packet, Version, flags, icmp, protocol};

/// What is wrong with a packet's text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PacketError {
    text: String,
    /// What is wrong.
    pub message: String,
    /// The bytes that it is about.
    pub place: Range<usize>,
    /// How to mend it.
    pub help: &'static str,
}

impl Diagnostic for PacketError {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new("trace::packet"))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = LabeledSpan::new_with_span(Some("here".to_owned()), self.place.clone());
        Some(Box::new([span].into_iter()))
    }
}

/// How packets are written, of both versions.
const KINDS: &str = "\
write it like one of these, with names of servers instead of addresses if you like:
  tcp 198.51.100.7:40000 -> 203.0.113.10:443
  tcp [2001:db8:7::7]:40000 -> [2001:db8::10]:443
  udp 198.51.100.7:40000 -> lb1:53
  ping 198.51.100.7 -> 203.0.113.10
  ping 2001:db8:7::7 -> 2001:db8::10
  icmp 198.51.100.7 -> 203.0.113.10 type 3 code 1
  icmp6 2001:db8:7::7 -> 2001:db8::10 type 1
  protocol 47 198.51.100.7 -> 203.0.113.10";
/// How the end of a tcp or udp packet is written.
const ENDS: &str = "\
write address and port like 203.0.113.10:443, of IPv6 in brackets like [2001:db8::10]:443, or a server's name like lb1:443; \
the source may do without its port";
/// How the end of any other packet is written.
const BARE_ENDS: &str =
    "write the address alone, like 203.0.113.10 or 2001:db8::10, or a server's name";
/// What may come after the destination.
const OPTIONS: &str = "\
after the destination there may be `ttl 64`; of tcp also `flags syn,ack`, of icmp and icmp6 `type 3` and `code 1`";
/// How flags are written.
const FLAGS: &str = "write the flags that are set with commas between: `flags syn`, `flags syn,ack`, or `flags none`";
/// How numbers are written.
const NUMBERS: &str = "write a decimal number";
/// What belongs together.
const VERSIONS: &str = "\
write two addresses of IPv4 (`icmp 198.51.100.7 -> 203.0.113.10`) or two of IPv6 (`icmp6 2001:db8:7::7 -> 2001:db8::10`); \
tcp, udp, ping and protocol take either";

/// Reads a packet. `addresses` gives the addresses of a machine's name.
pub fn packet(text: &str, addresses: impl Fn(&str) -> Vec<IpAddr>) -> Result<Packet, PacketError> {
    let reader = Reader {
        text,
        addresses: &addresses,
    };
    reader.packet()
}

/// A word and its place.
#[derive(Clone, Debug)]
struct Word<'t> {
    text: &'t str,
    place: Range<usize>,
}

/// An address or the addresses of a name, and a port if there is one.
struct Place {
    addresses: Vec<IpAddr>,
    port: Option<u16>,
    place: Range<usize>,
    /// Where the port stands, or would.
    port_place: Range<usize>,
}

struct Reader<'t> {
    text: &'t str,
    addresses: &'t dyn Fn(&str) -> Vec<IpAddr>,
}

impl<'t> Reader<'t> {
    fn packet(&self) -> Result<Packet, PacketError> {
        let words = self.words();
        let mut words = words.into_iter();
        let kind = self.next(&mut words, "the protocol")?;
        let number = match kind.text {
            "tcp" => protocol::TCP,
            "udp" => protocol::UDP,
            "ping" | "icmp" => protocol::ICMP,
            "icmp6" => protocol::ICMP6,
            "protocol" => {
                let word = self.next(&mut words, "the number of the protocol")?;
                self.number(&word, "a protocol is a number from 0 to 255")?
            }
            other => {
                let message = format!("there is no protocol `{other}`");
                return Err(self.error(&kind.place, message, KINDS));
            }
        };
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        let ends = if has_ports { ENDS } else { BARE_ENDS };
        let source = self.end(&self.next(&mut words, "the source")?, ends)?;
        let arrow = self.next(&mut words, "`->`")?;
        if !matches!(arrow.text, "->" | "→") {
            let message = "`->` belongs between source and destination".to_owned();
            return Err(self.error(&arrow.place, message, KINDS));
        }
        let destination = self.end(&self.next(&mut words, "the destination")?, ends)?;
        let mut packet = self.addressed(&source, &destination)?;
        packet.protocol = match (kind.text, packet.version()) {
            ("ping", Version::V6) => protocol::ICMP6,
            _ => number,
        };
        self.ports(&mut packet, &source, &destination)?;
        if kind.text == "ping" {
            let echo = if packet.protocol == protocol::ICMP {
                icmp::ECHO
            } else {
                icmp::ECHO6
            };
            packet.destination_port = u16::from(echo) << 8;
        }
        if number == protocol::ICMP
            && packet.protocol == protocol::ICMP
            && packet.version() == Version::V6
            || packet.protocol == protocol::ICMP6 && packet.version() == Version::V4
        {
            let message = format!("`{}` is not of the addresses' IP version", kind.text);
            return Err(self.error(&kind.place, message, VERSIONS));
        }
        self.options(&mut packet, words)?;
        Ok(packet)
    }

    /// The pair of addresses of one version.
    fn addressed(&self, source: &Place, destination: &Place) -> Result<Packet, PacketError> {
        let pair = source.addresses.iter().find_map(|source| {
            let other = destination
                .addresses
                .iter()
                .find(|other| Version::of(**other) == Version::of(*source))?;
            Some((*source, *other))
        });
        let Some((source, destination)) = pair else {
            let message = "source and destination are of different IP versions".to_owned();
            return Err(self.error(&destination.place, message, VERSIONS));
        };
        Ok(Packet {
            source,
            destination,
            protocol: 0,
            source_port: 0,
            destination_port: 0,
            flags: 0,
            hops: 64,
        })
    }

    fn ports(
        &self,
        packet: &mut Packet,
        source: &Place,
        destination: &Place,
    ) -> Result<(), PacketError> {
        if !matches!(packet.protocol, protocol::TCP | protocol::UDP) {
            return match [source, destination]
                .into_iter()
                .find(|place| place.port.is_some())
            {
                Some(place) => {
                    let message = "only tcp and udp have ports".to_owned();
                    Err(self.error(&place.port_place, message, BARE_ENDS))
                }
                None => Ok(()),
            };
        }
        if packet.protocol == protocol::TCP {
            packet.flags = flags::SYN;
        }
        // Whatever the system would choose.
        packet.source_port = source.port.unwrap_or(40_000);
        let Some(port) = destination.port else {
            let message = "the destination lacks a port".to_owned();
            return Err(self.error(&destination.place, message, ENDS));
        };
        packet.destination_port = port;
        Ok(())
    }

    fn options(
        &self,
        packet: &mut Packet,
        mut words: std::vec::IntoIter<Word<'t>>,
    ) -> Result<(), PacketError> {
        let is_icmp = matches!(packet.protocol, protocol::ICMP | protocol::ICMP6);
        while let Some(word) = words.next() {
            match word.text {
                "flags" if packet.protocol == protocol::TCP => {
                    let list = self.next(&mut words, "the flags")?;
                    packet.flags = self.flags(&list)?;
                }
                "ttl" | "hops" => {
                    let value = self.next(&mut words, "the TTL")?;
                    packet.hops = self.number(&value, "a TTL is a number from 1 to 255")?;
                    if packet.hops == 0 {
                        let message = "a TTL is a number from 1 to 255".to_owned();
                        return Err(self.error(&value.place, message, NUMBERS));
                    }
                }
                "type" if is_icmp => {
                    let value = self.next(&mut words, "the ICMP type")?;
                    let kind: u8 = self.number(&value, "an ICMP type is a number from 0 to 255")?;
                    packet.destination_port = u16::from(kind) << 8 | packet.destination_port & 0xff;
                }
                "code" if is_icmp => {
                    let value = self.next(&mut words, "the ICMP code")?;
                    let code: u8 = self.number(&value, "an ICMP code is a number from 0 to 255")?;
                    packet.destination_port = packet.destination_port & 0xff00 | u16::from(code);
                }
                other => {
                    let message = format!("`{other}` is not understood here");
                    return Err(self.error(&word.place, message, OPTIONS));
                }
            }
        }
        Ok(())
    }

    fn flags(&self, list: &Word<'_>) -> Result<u8, PacketError> {
        if list.text == "none" {
            return Ok(0);
        }
        let (mut bits, mut start) = (0, list.place.start);
        for name in list.text.split(',') {
            let place = start..start + name.len();
            let known = flags::NAMES.iter().find(|(_, known)| *known == name);
            let Some((bit, _)) = known else {
                let message = format!("`{name}` is none of fin, syn, rst, ack");
                return Err(self.error(&place, message, FLAGS));
            };
            bits |= bit;
            start = place.end + 1;
        }
        Ok(bits)
    }

    /// `198.51.100.7:443`, `[2001:db8::7]:443`, `2001:db8::7`, `lb1:443`
    fn end(&self, word: &Word<'_>, help: &'static str) -> Result<Place, PacketError> {
        let text = word.text;
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else {
                let message = "the bracket is not closed".to_owned();
                return Err(self.error(&word.place, message, help));
            };
            (
                host,
                rest.strip_prefix(':')
                    .or((!rest.is_empty()).then_some(rest)),
            )
        } else if text.parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => (self.addresses)(host),
        };
        if addresses.is_empty() {
            let message = format!("`{host}` is neither an address nor a machine of the site");
            let start = word.place.start + usize::from(text.starts_with('['));
            return Err(self.error(&(start..start + host.len()), message, help));
        }
        let port_place = word.place.end - port.map_or(0, str::len)..word.place.end;
        let port = match port.map(str::parse) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => {
                let message = format!("`{}` is not a port", &self.text[port_place.clone()]);
                return Err(self.error(&port_place, message, help));
            }
        };
        Ok(Place {
            addresses,
            port,
            place: word.place.clone(),
            port_place,
        })
    }

    fn number<N: std::str::FromStr>(
        &self,
        word: &Word<'_>,
        otherwise: &str,
    ) -> Result<N, PacketError> {
        word.text
            .parse()
            .map_err(|_| self.error(&word.place, otherwise.to_owned(), NUMBERS))
    }

    fn next(
        &self,
        words: &mut std::vec::IntoIter<Word<'t>>,
        what: &str,
    ) -> Result<Word<'t>, PacketError> {
        let end = self.text.trim_end().len();
        words
            .next()
            .ok_or_else(|| self.error(&(end..end), format!("{what} is missing"), KINDS))
    }

    fn words(&self) -> Vec<Word<'t>> {
        let mut words = Vec::new();
        let mut place = 0;
        for part in self.text.split(char::is_whitespace) {
            if !part.is_empty() {
                words.push(Word {
                    text: part,
                    place: place..place + part.len(),
                });
            }
            place += part.len()
                + self.text[place + part.len()..]
                    .chars()
                    .next()
                    .map_or(0, char::len_utf8);
        }
        words
    }

    fn error(&self, place: &Range<usize>, message: String, help: &'static str) -> PacketError {
        PacketError {
            // What is missing at the end needs a place to point at.
            text: format!("{} ", self.text),
            message,
            place: place.clone(),
            help,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Packet, PacketError> {
        packet(text, |name| match name {
            "lb1" => vec![
                [10, 20, 1, 11].into(),
                "2001:db8:1::11".parse().expect("an address"),
            ],
            _ => Vec::new(),
        })
    }

    #[test]
    fn what_is_read_is_shown_alike() {
        for (text, shown) in [
            ("tcp 198.51.100.7:40000 -> 203.0.113.10:443", ""),
            ("udp [2001:db8::7]:53 -> [2001:db8::8]:53", ""),
            ("ping 198.51.100.7 -> 10.20.1.11", ""),
            ("ping 2001:db8::7 -> 2001:db8::8", ""),
            ("icmp 198.51.100.7 -> 10.20.1.11 type 3 code 1", ""),
            ("protocol 47 198.51.100.7 -> 10.20.1.11", ""),
            ("tcp 10.0.0.1:1 -> 10.0.0.2:2 flags syn,ack", ""),
            ("tcp 10.0.0.1:1 -> 10.0.0.2:2 flags none", ""),
            (
                "tcp 198.51.100.7 -> lb1:443",
                "tcp 198.51.100.7:40000 -> 10.20.1.11:443",
            ),
            (
                "tcp  2001:db8::7\t->   lb1:443 ",
                "tcp [2001:db8::7]:40000 -> [2001:db8:1::11]:443",
            ),
        ] {
            let packet = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                packet.to_string(),
                if shown.is_empty() { text } else { shown }
            );
        }
        assert_eq!(
            read("ping 10.0.0.1 -> 10.0.0.2 ttl 1").map(|packet| packet.hops),
            Ok(1)
        );
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, message, place) in [
            ("", "the protocol is missing", 0..0),
            (
                "tpc 10.0.0.1:1 -> 10.0.0.2:2",
                "there is no protocol `tpc`",
                0..3,
            ),
            ("tcp 10.0.0.1:1", "`->` is missing", 14..14),
            (
                "tcp 10.0.0.1:1 10.0.0.2:2",
                "`->` belongs between source and destination",
                15..25,
            ),
            (
                "tcp 10.0.0.1:1 -> 10.0.0.2",
                "the destination lacks a port",
                18..26,
            ),
            ("tcp 10.0.0.1:1 -> 10.0.0.2:x", "`x` is not a port", 27..28),
            (
                "tcp 10.0.0.1:1 -> 10.0.0.2:65536",
                "`65536` is not a port",
                27..32,
            ),
            (
                "tcp [2001:db8::1]:1 -> [2001:db8::2]443x",
                "`443x` is not a port",
                36..40,
            ),
            (
                "tcp [2001:db8::1]:1 -> 2001:db8::2:443",
                "the destination lacks a port",
                23..38,
            ),
            (
                "tcp 10.0.0.1:1 -> [10.0.0.256]:80",
                "`10.0.0.256` is neither an address nor a machine of the site",
                19..29,
            ),
            (
                "tcp 10.0.0.1:1 -> lb7:80",
                "`lb7` is neither an address nor a machine of the site",
                18..21,
            ),
            (
                "ping 10.0.0.1:1 -> 10.0.0.2",
                "only tcp and udp have ports",
                14..15,
            ),
            (
                "tcp 10.0.0.1 -> [2001:db8::1]:80",
                "source and destination are of different IP versions",
                16..32,
            ),
            (
                "icmp6 10.0.0.1 -> 10.0.0.2",
                "`icmp6` is not of the addresses' IP version",
                0..5,
            ),
            (
                "tcp [2001:db8::1 -> 10.0.0.2:1",
                "the bracket is not closed",
                4..16,
            ),
            (
                "tcp 10.0.0.1 -> 10.0.0.2:1 flags syn,psh",
                "`psh` is none of fin, syn, rst, ack",
                37..40,
            ),
            (
                "udp 10.0.0.1 -> 10.0.0.2:1 flags syn",
                "`flags` is not understood here",
                27..32,
            ),
            (
                "ping 10.0.0.1 -> 10.0.0.2 ttl 0",
                "a TTL is a number from 1 to 255",
                30..31,
            ),
            (
                "protocol x 10.0.0.1 -> 10.0.0.2",
                "a protocol is a number from 0 to 255",
                9..10,
            ),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(
                (error.message.as_str(), error.place.clone()),
                (message, place),
                "{text}"
            );
        }
    }

    /// As a terminal without colours shows them.
    #[test]
    fn mistakes_say_how_it_is_written() {
        let theme = miette::GraphicalTheme::unicode_nocolor();
        let handler = miette::GraphicalReportHandler::new_themed(theme).with_width(110);
        let mut shown = String::new();
        for text in [
            "tpc 198.51.100.7:40000 -> 203.0.113.10:443",
            "tcp 2001:db8:7::7 -> 2001:db8::10:443",
            "tcp 198.51.100.7:40000 -> [2001:db8::10]:443",
            "ping lb1:7 -> 203.0.113.10",
            "icmp6 198.51.100.7 -> lb1",
            "tcp lb1 -> 203.0.113.10:443 flags syn,psh",
            "udp lb1 -> 203.0.113.10:53 flags syn",
            "tcp lb1 -> 203.0.113.10:443 ttl many",
            "tcp lb1",
        ] {
            let error = read(text).expect_err(text);
            handler.render_report(&mut shown, &error).expect("text");
            shown.push('\n');
        }
        insta::assert_snapshot!(shown);
    }
}
