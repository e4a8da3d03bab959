//! Sends every frame back on the port it came from, with its addresses exchanged: shows that drivers
//! and board carry any frame.

#![no_std]
#![no_main]

use defmt::{info, unwrap};
use hal::{Board as _, Port as _};
use time::Duration;
use zynq7000_board::Zynq;

#[zynq7000_rt::entry]
fn main() -> ! {
    // SAFETY: `main` runs once.
    let mut board = unsafe { Zynq::take() };
    let mut ports = unwrap!(board.ports());
    info!("echo");
    let mut buffer = [0; 2048];
    loop {
        board.feed_watchdog();
        for port in &mut ports {
            while let Some(len) = port.receive(&mut buffer, 6) {
                let frame = &mut buffer[6..6 + len];
                if let Some((to, from)) = frame.get_mut(..12).map(|macs| macs.split_at_mut(6)) {
                    to.swap_with_slice(from);
                }
                port.transmit(frame);
            }
        }
        if ports.iter_mut().all(|port| port.arm()) {
            board.sleep_until(board.now() + Duration::from_secs(1));
        }
    }
}
