//! How a node comes to be in the memory of a board: piece by piece where it stays, because on its way from place to place it would
//! take several times its size from the stack.

use core::mem::MaybeUninit;

use classifier::{LoadError, Policy};
use time::Instant;

use crate::appliance::Appliance;
use crate::{Event, Node, Tables};

impl<'t> Node<'t> {
    /// Makes the node of a board in `place`, of the configuration in `region`; without a usable one it is closed, and the board's
    /// log says why. `seed` is that of [`Self::new`].
    pub fn start<'p, const FLOWS: usize, const FLOWS6: usize>(
        place: &'p mut MaybeUninit<Self>,
        region: &'t [u8],
        tables: &'t mut Tables<FLOWS, FLOWS6>,
        seed: u64,
        now: Instant,
    ) -> &'p mut Self {
        let node = empty(place, now);
        if let Err(reason) = node.open(region, tables, seed, now) {
            #[cfg(feature = "defmt")]
            defmt::error!(
                "closed, no usable configuration at {=usize:#x}: {}",
                region.as_ptr().addr(),
                defmt::Display2Format(&reason)
            );
            #[cfg(not(feature = "defmt"))]
            let _ = reason;
            node.log.journal.push(now, Event::Closed);
        }
        node
    }

    /// Runs what is in `region`.
    #[inline(never)]
    fn open<const FLOWS: usize, const FLOWS6: usize>(
        &mut self,
        region: &'t [u8],
        tables: &'t mut Tables<FLOWS, FLOWS6>,
        seed: u64,
        now: Instant,
    ) -> Result<(), LoadError> {
        let loaded = classifier::load(region);
        let policy = loaded.as_ref().map_err(|reason| *reason)?;
        #[cfg(feature = "defmt")]
        defmt::info!("configuration of {=str}", policy.config.name.as_str());
        build(&mut self.appliance, policy, tables, seed, now);
        Ok(())
    }
}

#[inline(never)]
fn build<'t, const FLOWS: usize, const FLOWS6: usize>(
    place: &mut Option<Appliance<'t>>,
    policy: &Policy<'t>,
    tables: &'t mut Tables<FLOWS, FLOWS6>,
    seed: u64,
    now: Instant,
) {
    *place = Some(Appliance::new(policy, tables, seed, now));
}

#[inline(never)]
fn empty<'p, 't>(place: &'p mut MaybeUninit<Node<'t>>, now: Instant) -> &'p mut Node<'t> {
    place.write(Node::empty(now))
}
