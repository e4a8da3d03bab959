//! Why a frame was dropped: every drop has a name and a counter.

use core::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a frame was dropped, in the order of the checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(u8)]
        pub enum Drop { $($(#[doc = $doc])+ $name,)+ }

        impl Drop {
            /// Every reason, in the order of [`Drop::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Short words for logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

reasons! {
    /// The appliance has no valid configuration.
    Closed = "closed: no configuration",
    /// Too short for an Ethernet header, or from a multicast source address.
    Ethernet = "bad ethernet header",
    /// No leg has this port and VLAN tag.
    UnknownVlan = "unknown vlan",
    /// Addressed to another station.
    OtherStation = "for another station",
    /// Neither IPv4, IPv6 nor ARP.
    EtherType = "unsupported ethertype",
    /// An ARP packet that is malformed, or whose sender is not in the leg's subnet.
    Arp = "bad arp",
    /// A neighbour solicitation or advertisement that is malformed, was routed, or whose sender is not on the
    /// leg (RFC 4861 §7.1).
    Nd = "bad neighbour discovery",
    /// A router advertisement: the appliance is the only router of its legs (RFC 6105).
    RouterAdvert = "router advertisement",
    /// An ICMP redirect, which no router follows or passes on (RFC 1812 §5.2.7.2).
    Redirect = "redirect",
    /// Somebody else claims an address of ours by ARP or neighbour discovery.
    AddressConflict = "address conflict",
    /// Lengths or version of the IPv4 header are wrong.
    Ipv4Header = "bad ipv4 header",
    /// The IPv4 header checksum is wrong.
    Ipv4Checksum = "bad ipv4 checksum",
    /// Longer than the 1500 bytes that every leg carries.
    TooLong = "longer than 1500 bytes",
    /// IPv4 options, source routes among them (RFC 7126 §4).
    Ipv4Options = "ipv4 options",
    /// Lengths or version of the IPv6 header are wrong.
    Ipv6Header = "bad ipv6 header",
    /// IPv6 on a leg that has no IPv6 address.
    NoIpv6 = "leg without ipv6",
    /// Extension headers that are too many, cut short or in a wrong place.
    ExtensionHeaders = "bad ipv6 extension headers",
    /// A routing header of type 0 (RFC 5095), or one with segments left.
    RoutingHeader = "ipv6 routing header",
    /// A fragment.
    Fragment = "fragment",
    /// The transport header is cut short or contradicts itself.
    Transport = "bad transport header",
    /// An IPv4 option that says which way the packet should take (RFC 7126 §4.3 and §4.4).
    SourceRoute = "ipv4 source route",
    /// A TCP segment that nobody sends in the state of its connection.
    TcpState = "tcp out of state",
    /// A TCP segment outside the windows of its connection.
    OutsideWindow = "tcp outside window",
    /// A combination of TCP flags that no TCP sends.
    TcpFlags = "invalid tcp flags",
    /// A source or destination address that must not be on this wire (RFC 1812 §5.3.7).
    Martian = "martian address",
    /// The source address does not belong on the leg it came in from (RFC 3704 §2.2).
    ReversePath = "reverse path",
    /// Source and destination are the same.
    Land = "land attack",
    /// Addressed to a virtual address that is only forwarded for (RFC 9568 §6.1, Accept_Mode).
    NotAccepted = "virtual address that is not accepted",
    /// Arrived at a Backup, or at a MAC address that is not a virtual router's.
    NotActive = "not active",
    /// Addressed to the appliance, which has no use for it.
    NotForUs = "no such service on the appliance",
    /// The TTL ran out.
    Ttl = "ttl expired",
    /// No leg leads to the destination.
    NoRoute = "no route",
    /// An ICMP message that is not let through.
    IcmpType = "unsupported icmp type",
    /// An ICMP error or echo reply that belongs to no known flow.
    IcmpUnrelated = "unrelated icmp",
    /// A TCP segment of no known flow that does not open one.
    NoFlow = "tcp without flow",
    /// No server of the service is healthy.
    NoHealthyServer = "no healthy server",
    /// No rule accepts it.
    NoRule = "default deny",
    /// A rule drops it.
    Rule = "rule",
    /// A rule rejects it; its sender is told, unless the configuration says otherwise.
    Rejected = "rule: reject",
    /// A SYN that was answered with a cookie.
    SynCookie = "answered with a syn cookie",
    /// A server's answer that ends at the appliance, since it splices the connection.
    Spliced = "answered while splicing",
    /// Another flow has the same addresses and ports.
    FlowClash = "flow clash",
    /// No room for another flow.
    FlowTableFull = "flow table full",
    /// Longer than the next link carries, and not to be fragmented.
    TooBig = "longer than the next link",
    /// The next hop did not answer ARP or neighbour discovery.
    NeighbourSilent = "neighbour silent",
    /// Waiting for the next hop's MAC address, and one packet is held already.
    NeighbourBusy = "waiting for neighbour",
    /// No room for another neighbour.
    NeighbourTableFull = "neighbour table full",
    /// The board left no room for a VLAN tag in front of the frame.
    Headroom = "no headroom for vlan tag",
    /// A VRRP advertisement that may come from beyond the link, or from further away than its router allows (RFC 9568 §7.1).
    VrrpTtl = "vrrp: ttl",
    /// A VRRP advertisement of another version than its router speaks.
    VrrpVersion = "vrrp: version",
    /// A VRRP message that is no advertisement.
    VrrpType = "vrrp: type",
    /// A VRRP advertisement that is cut short.
    VrrpLength = "vrrp: truncated",
    /// A VRRP advertisement of which no form of the checksum is right.
    VrrpChecksum = "vrrp: checksum",
    /// A VRRP advertisement without the password or signature that its router asks for.
    VrrpAuthentication = "vrrp: authentication",
    /// A VRRP advertisement whose signature has been heard before.
    VrrpReplay = "vrrp: replayed",
    /// A VRRP advertisement without an interval, or of version 2 with another one than its router has.
    VrrpInterval = "vrrp: interval",
    /// A VRRP advertisement that lists no address, or not those of its router, which is strict about that.
    VrrpAddresses = "vrrp: addresses",
    /// A VRRP advertisement that is for no virtual router of the leg.
    VrrpRouter = "vrrp: unknown virtual router",
    /// A VRRP advertisement to the group although its router has peers, from somebody who is none of them, or to us without
    /// being a peer's.
    VrrpPeer = "vrrp: not from a peer",
    /// An advertisement of CARP, which uses the protocol number and the addresses of VRRP.
    Carp = "carp",
    /// A fragment that is empty, too long, or whose length is no multiple of 8.
    FragmentLength = "bad fragment length",
    /// A first fragment without the whole transport header.
    FragmentTiny = "tiny first fragment",
    /// A fragment of a datagram whose first fragment has not passed, or out of order beyond measure.
    FragmentOrder = "fragment before the first",
    /// A fragment of a datagram in which fragments overlap (RFC 5722).
    FragmentOverlap = "overlapping fragments",
    /// All servers of the service have as many flows as they may have.
    ServersFull = "servers full",
    /// New flows come faster than the rule allows.
    RateLimit = "rate limit",
    /// More flows than the rule allows.
    FlowLimit = "flow limit",
    /// No port is left for a translated source.
    NoPort = "no port left",
    /// An IPv6 address that prefix translation cannot carry over (RFC 6296 §3.5).
    Untranslatable = "untranslatable address",
    /// A segment to a connection that the appliance has not yet spliced to a server.
    NotSpliced = "not spliced yet",
}

impl Drop {
    /// Place of this reason's counter.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_words() {
        for (index, reason) in Drop::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            let same = Drop::ALL
                .iter()
                .filter(|other| other.name() == reason.name());
            assert_eq!(same.count(), 1, "{reason}");
        }
    }
}
