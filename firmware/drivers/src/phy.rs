//! What any PHY of 10 and 100 Mbit/s says on its management bus (IEEE 802.3 clause 22): no register of one vendor is needed.

/// How a link runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// 100 Mbit/s, not 10.
    pub fast: bool,
    /// Full duplex.
    pub full: bool,
}

impl Mode {
    /// What both ends take if they can.
    pub const FASTEST: Self = Self {
        fast: true,
        full: true,
    };
}

/// Lets the PHY offer all that it can; `None` if the bus does not answer.
pub fn negotiate(mut write: impl FnMut(u32, u32) -> Option<()>) -> Option<()> {
    write(ANAR, ANAR_ALL)?;
    write(BCR, BCR_AUTO_NEGOTIATE | BCR_RESTART)
}

/// How the link runs, if there is one.
pub fn link(mut read: impl FnMut(u32) -> Option<u32>) -> Option<Mode> {
    read(BSR)?; // a lost link is latched until it was read
    if read(BSR)? & BSR_LINK == 0 {
        return None;
    }
    let common = read(ANAR)? & read(ANLPAR)?;
    let known = [
        (FAST_FULL, true, true),
        (FAST_HALF, true, false),
        (SLOW_FULL, false, true),
    ];
    let best = known.into_iter().find(|(bit, ..)| common & bit != 0);
    // A partner that does not negotiate is found out by its signal, and half duplex.
    let (_, fast, full) = best.unwrap_or((SLOW_HALF, false, false));
    Some(Mode { fast, full })
}

const BCR: u32 = 0;
const BSR: u32 = 1;
const ANAR: u32 = 4;
const ANLPAR: u32 = 5;
const BCR_AUTO_NEGOTIATE: u32 = 1 << 12;
const BCR_RESTART: u32 = 1 << 9;
const BSR_LINK: u32 = 1 << 2;
const FAST_FULL: u32 = 1 << 8;
const FAST_HALF: u32 = 1 << 7;
const SLOW_FULL: u32 = 1 << 6;
const SLOW_HALF: u32 = 1 << 5;
const SELECTOR: u32 = 1;
const ANAR_ALL: u32 = FAST_FULL | FAST_HALF | SLOW_FULL | SLOW_HALF | SELECTOR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_both_offer_is_what_runs() {
        let mode = |partner, status| {
            link(|register| {
                Some(match register {
                    BSR => status,
                    ANAR => ANAR_ALL,
                    ANLPAR => partner,
                    _ => panic!("register {register}"),
                })
            })
        };
        for (partner, fast, full) in [
            (ANAR_ALL, true, true),
            (FAST_HALF | SLOW_FULL, true, false),
            (SLOW_FULL | SLOW_HALF, false, true),
            (SLOW_HALF, false, false),
            (0, false, false),
        ] {
            assert_eq!(mode(partner, BSR_LINK), Some(Mode { fast, full }));
            assert_eq!(mode(partner, 0), None);
        }
        assert_eq!(link(|_| None), None);
    }
}
