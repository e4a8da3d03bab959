//! Sends every frame back with its addresses exchanged: shows that driver and board carry any frame.

#![no_std]
#![no_main]

use defmt::{info, unwrap};
use hal::{Board as _, Port as _};
use mps2_an500::Mps2;
use time::Duration;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    let mut port = unwrap!(board.port());
    info!("echo");
    let mut buffer = [0; 2048];
    loop {
        board.feed_watchdog();
        while let Some(len) = port.receive(&mut buffer, 6) {
            let frame = &mut buffer[6..6 + len];
            if let Some((to, from)) = frame.get_mut(..12).map(|macs| macs.split_at_mut(6)) {
                to.swap_with_slice(from);
            }
            port.transmit(frame);
        }
        if port.arm() {
            board.sleep_until(board.now() + Duration::from_secs(1));
        }
    }
}
