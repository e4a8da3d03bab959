//! First packets of flows that wait until the peer knows the flow, so that whoever answers finds an appliance that does too.
//! They lie where packets wait for their neighbours.
//!
//! Only the first one waits: what follows on the fast path overtakes it. In a TCP handshake nothing does, for the client
//! waits for the answer; other protocols must live with packets that overtake each other anyway.

use filter::Hop;
use time::Instant;
use wire::ethernet::Mac;

use crate::appliance::Appliance;
use crate::{Log, Transmit};

impl Appliance<'_> {
    /// Keeps the packet that was judged last until the peer knows the flow that it opened. `false` if it opened none, nobody
    /// listens, or there is no room: then it goes on at once.
    pub(crate) fn defers(
        &mut self,
        now: Instant,
        from: (u8, Mac),
        hop: Hop,
        packet: &[u8],
        out: &mut impl Transmit,
    ) -> bool {
        self.pairing.is_some()
            && self.neighbours.held().can_defer()
            && self.defer(now, from, hop, packet, out).is_some()
    }

    fn defer(
        &mut self,
        now: Instant,
        from: (u8, Mac),
        hop: Hop,
        packet: &[u8],
        out: &mut impl Transmit,
    ) -> Option<()> {
        let usual = self.pairing.as_ref()?.defers;
        let item = self.filter.deferred(usual)?;
        let deferred = self.tell_flow(now, item, out)?;
        let owner = self.owner(from, packet);
        let kept = self.neighbours.defer(hop, packet, owner, deferred);
        self.reschedule();
        kept.ok()
    }

    /// Sends what waits for the peer no longer on its way.
    pub(crate) fn let_go(&mut self, now: Instant, log: &mut Log, out: &mut impl Transmit) {
        let Some(pairing) = &self.pairing else {
            return;
        };
        let session = &pairing.session;
        self.neighbours.let_go(now, session, &self.legs, log, out);
    }
}
