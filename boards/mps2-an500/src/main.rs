//! The appliance on the MPS2 board. Interrupts do its work; TLS has the time between them.

#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use defmt::{error, info};
use drivers::lan9118::Lan9118;
use hal::Board as _;
use mps2_an500::{Line, MAILBOX, Mps2};
use node::superloop::{self, Superloop};
use node::{Node, Tables};
use slots::Slots;

/// Flows of IPv4, the same as in board.toml.
const FLOWS: usize = 8192;
/// Flows of IPv6.
const FLOWS6: usize = 2048;

/// All that the interrupts need.
struct Loop {
    board: Mps2,
    turns: Superloop<'static, Lan9118, Line>,
    node: &'static mut Node<'static>,
}

/// Bytes of a configuration that comes while the board runs: as many as the region of the first has.
const SLOT: usize = 0x8_0000;

static mut SLOTS: [[u32; SLOT / 4]; 2] = [[0; SLOT / 4]; 2];
static mut STORE: MaybeUninit<Slots> = MaybeUninit::uninit();
static mut TABLES: Tables<FLOWS, FLOWS6> = Tables::new();
static mut NODE: MaybeUninit<Node<'static>> = MaybeUninit::uninit();
static mut PORTS: MaybeUninit<[Lan9118; 1]> = MaybeUninit::uninit();
static mut LOOP: MaybeUninit<Loop> = MaybeUninit::uninit();

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    info!(
        "mps2-an500, {=usize} + {=usize} flows of IPv4 and IPv6",
        FLOWS, FLOWS6
    );
    let start = mps2_an500::begin(&node::identity(env!("CARGO_PKG_VERSION"), board.config()));
    node::report_start(&start);
    let seed = board.seed();
    tls::seed(seed.rotate_left(32));
    let (tables, node) = (&raw mut TABLES, &raw mut NODE);
    // SAFETY: `main` runs once, and TABLES and NODE are mentioned nowhere else.
    let (tables, node) = unsafe { (&mut *tables, &mut *node) };
    let node = Node::start(node, board.config(), tables, seed, board.now());
    node.check_over_tls(&MAILBOX);
    let port = match board.port() {
        Ok(port) => port,
        Err(reason) => panic!("LAN9118: {reason:?}"),
    };
    let (ports, all) = (&raw mut PORTS, &raw mut LOOP);
    // SAFETY: `main` runs once, PORTS is mentioned nowhere else, and interrupts, which mention LOOP, are masked.
    let (ports, all) = unsafe { (&mut *ports, &mut *all) };
    let (memory, store) = (&raw mut SLOTS, &raw mut STORE);
    // SAFETY: `main` runs once, and SLOTS and STORE are mentioned nowhere else.
    let ([first, second], store) = unsafe { (&mut *memory, &mut *store) };
    // SAFETY: the loop's node alone uses the store, and keeps the promise.
    let store = store.write(unsafe { Slots::new(board.config(), [first, second]) });
    let mut turns = Superloop::with_line(ports.write([port]), board.line()).with_store(store);
    if let Some(time) = start.stand_back() {
        turns.recover(node, board.now(), time);
    }
    let all = all.write(Loop { board, turns, node });
    all.visit();
    node::report_alive(env!("CARGO_PKG_VERSION"), all.board.config());
    mps2_an500::run_below()
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
    if !mps2_an500::wakes(interrupt) {
        panic!("interrupt {interrupt} is nobody's")
    }
    let all = &raw mut LOOP;
    // SAFETY: interrupts are let in once `main` has written LOOP and let it go, and both have the same priority, so that none
    // interrupts the other.
    unsafe { (*all).assume_init_mut() }.visit();
}
