//! A loop that no longer turns is reset: the independent watchdog has a clock of its own, and nothing stops it.

use crate::registers::{self, IWDG1, iwdg};

const SECONDS: u32 = 10;

pub fn start() {
    registers::write(IWDG1 + iwdg::KR, iwdg::START);
    registers::write(IWDG1 + iwdg::KR, iwdg::UNLOCK);
    registers::write(IWDG1 + iwdg::PR, iwdg::BY_256);
    registers::write(IWDG1 + iwdg::RLR, SECONDS * iwdg::HERTZ);
    feed();
}

pub fn feed() {
    registers::write(IWDG1 + iwdg::KR, iwdg::FEED);
}
