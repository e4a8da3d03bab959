//! Appliances on networks that lose, delay, reorder and part, with clocks of their own, through any sequence of faults: a Backup
//! never sends, never are two Active for long while they can talk to each other, never is nobody while one is sound, and who
//! loses a healed split says so.
//!
//! `RAVELIN_STORY=1` tells what happens in a case.

use proptest::prelude::*;

mod node;
mod setup;
mod stories;
mod world;

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn one_active_whatever_happens(setup in setup::setup(), events in setup::events()) {
        world::tell(&setup, &events)?;
    }
}

/// That many, or what the environment asks for.
fn cases(quick: u32) -> ProptestConfig {
    let mut config = match std::env::var_os("PROPTEST_CASES") {
        None => ProptestConfig::with_cases(quick),
        Some(_) => ProptestConfig::default(),
    };
    config.failure_persistence = None; // what was found is told in `stories`
    config
}
