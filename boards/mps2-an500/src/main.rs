//! The appliance on the MPS2 board.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use defmt::{Display2Format, error, info};
use hal::Board as _;
use mps2_an500::{CONFIG_ADDRESS, Mps2};
use node::Node;

/// Flows of IPv4, the same as in board.toml.
const FLOWS: usize = 8192;
/// Flows of IPv6.
const FLOWS6: usize = 2048;

static mut NODE: MaybeUninit<Node<'static, FLOWS, FLOWS6>> = MaybeUninit::uninit();

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    info!(
        "mps2-an500, {=usize} + {=usize} flows of IPv4 and IPv6",
        FLOWS, FLOWS6
    );
    let policy = match classifier::load(board.config()) {
        Ok(policy) => {
            info!("configuration of {=str}", policy.config.name.as_str());
            Some(policy)
        }
        Err(reason) => {
            error!(
                "closed, no usable configuration at {=usize:#x}: {}",
                CONFIG_ADDRESS,
                Display2Format(&reason)
            );
            None
        }
    };
    let seed = board.seed();
    let node = &raw mut NODE;
    // SAFETY: `main` runs once, and NODE is mentioned nowhere else.
    let node = unsafe { &mut *node }.write(Node::new(policy, seed, board.now()));
    match board.port() {
        Ok(port) => node::superloop::run(&mut board, &mut [port], node, |event| info!("{}", event)),
        Err(reason) => {
            error!("LAN9118: {}", reason);
            mps2_an500::reset()
        }
    }
}
