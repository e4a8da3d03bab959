//! The appliance on the Zynq.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use defmt::{Display2Format, error, info};
use hal::Board as _;
use node::Node;
use zynq7000_board::{CONFIG_ADDRESS, Zynq};

/// Flows of IPv4, the same as in board.toml.
const FLOWS: usize = 32768;
/// Flows of IPv6.
const FLOWS6: usize = 8192;

static mut NODE: MaybeUninit<Node<'static, FLOWS, FLOWS6>> = MaybeUninit::uninit();

#[zynq7000_rt::entry]
fn main() -> ! {
    // SAFETY: `main` runs once.
    let mut board = unsafe { Zynq::take() };
    info!(
        "zynq7000, {=usize} + {=usize} flows of IPv4 and IPv6",
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
    match board.ports() {
        Ok(mut ports) => {
            node::superloop::run(&mut board, &mut ports, node, |event| info!("{}", event))
        }
        Err(reason) => {
            error!("GEM: {}", reason);
            zynq7000_board::reset()
        }
    }
}
