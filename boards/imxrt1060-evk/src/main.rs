//! The appliance on the evaluation kit. Interrupts do its work; TLS has the time between them.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use defmt::{error, info};
use drivers::enet::Enet;
use hal::Board as _;
use imxrt1060_evk::{Evk, Line, MAILBOX};
use node::superloop::{self, Superloop};
use node::{Node, Tables};
use slots::Slots;

/// Flows of IPv4, the same as in board.toml.
const FLOWS: usize = 2048;
/// Flows of IPv6.
const FLOWS6: usize = 256;

/// All that the interrupts need.
struct Loop {
    board: Evk,
    turns: Superloop<'static, Enet, Line>,
    node: &'static mut Node<'static>,
}

/// Bytes of a configuration that comes while the board runs.
const SLOT: usize = 0x8000;

#[unsafe(link_section = ".ocram")]
static mut SLOTS: [[u32; SLOT / 4]; 2] = [[0; SLOT / 4]; 2];
#[unsafe(link_section = ".ocram")]
static mut TABLES: Tables<FLOWS, FLOWS6> = Tables::new();
#[unsafe(link_section = ".ocram")]
static mut NODE: MaybeUninit<Node<'static>> = MaybeUninit::uninit();
static mut STORE: MaybeUninit<Slots> = MaybeUninit::uninit();
static mut PORTS: MaybeUninit<[Enet; 1]> = MaybeUninit::uninit();
static mut LOOP: MaybeUninit<Loop> = MaybeUninit::uninit();

#[cortex_m_rt::entry]
fn main() -> ! {
    // SAFETY: it is the first, and `main` runs once.
    let mut board = unsafe { Evk::take() };
    info!(
        "imxrt1060-evk, {=usize} + {=usize} flows of IPv4 and IPv6",
        FLOWS, FLOWS6
    );
    let seed = board.seed();
    tls::seed(seed.rotate_left(32));
    let (tables, node) = (&raw mut TABLES, &raw mut NODE);
    // SAFETY: `main` runs once, and TABLES and NODE are mentioned nowhere else.
    let (tables, node) = unsafe { (&mut *tables, &mut *node) };
    let node = Node::start(node, board.config(), tables, seed, board.now());
    node.check_over_tls(&MAILBOX);
    let port = board.port().unwrap_or_else(|reason| {
        error!("Ethernet MAC: {}", reason);
        imxrt1060_evk::reset()
    });
    let (ports, all) = (&raw mut PORTS, &raw mut LOOP);
    // SAFETY: `main` runs once, PORTS is mentioned nowhere else, and interrupts, which mention LOOP, are masked.
    let (ports, all) = unsafe { (&mut *ports, &mut *all) };
    let (memory, store) = (&raw mut SLOTS, &raw mut STORE);
    // SAFETY: `main` runs once, and SLOTS and STORE are mentioned nowhere else.
    let ([first, second], store) = unsafe { (&mut *memory, &mut *store) };
    // SAFETY: the loop's node alone uses the store, and keeps the promise.
    let store = store.write(unsafe { Slots::new(board.config(), [first, second]) });
    let turns = Superloop::with_line(ports.write([port]), board.line()).with_store(store);
    let all = all.write(Loop { board, turns, node });
    all.visit();
    node::report_alive(env!("CARGO_PKG_VERSION"), all.board.config());
    imxrt1060_evk::run_below()
}

impl Loop {
    fn visit(&mut self) {
        self.board.quiet();
        superloop::visit(
            &mut self.board,
            &mut self.turns,
            self.node,
            |event| info!("{}", event),
            || MAILBOX.has_work(),
        );
    }
}

/// Every interrupt.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(interrupt: i16) {
    if !imxrt1060_evk::wakes(interrupt) {
        error!("interrupt {=i16} is nobody's", interrupt);
        imxrt1060_evk::reset()
    }
    let all = &raw mut LOOP;
    // SAFETY: interrupts are let in once `main` has written LOOP and let it go, and all have the same priority, so that none
    // interrupts another.
    unsafe { (*all).assume_init_mut() }.visit();
}
