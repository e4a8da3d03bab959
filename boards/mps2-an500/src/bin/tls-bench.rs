//! What TLS of a check costs, and how long it keeps an interrupt waiting, for `ravelin bench packet`.
//!
//! The host places, as 32-bit words: a time and the lengths of what follows; then, as bytes: an authority's name and key, our
//! hello, and all that a server with its certificate answers to it. Our keys come from a fixed seed, so the answer fits. Runs
//! under `-icount shift=0`, where every instruction takes one nanosecond of guest time. The log's last line is
//! `tls TOTAL LONGEST-STEP LONGEST-WAIT HEAP`.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use defmt::{info, unwrap};
use hal::Board as _;
use health::{Ask, Tunnel as _};
use mps2_an500::{MAILBOX, Mps2};
use policy::Anchor;
use tls::{Client, Worker};

/// The same as in `ravelin bench`.
const SEED: u64 = 7;
/// SysTick counts at 25 MHz, so one tick is 40 ns and 40 instructions.
const INSTRUCTIONS_PER_TICK: u32 = 40;
/// Ticks between two interrupts: longer than anything should wait, and no multiple of anything.
const PERIOD: u32 = 9973;
/// Handshakes with interrupts, so that they come at many moments.
const ROUNDS: u32 = 20;

/// Ticks that an interrupt waited at most.
static LONGEST_WAIT: AtomicU32 = AtomicU32::new(0);

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    let mut systick = unwrap!(cortex_m::Peripherals::take()).SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();
    // SAFETY: once, and before anything is allocated.
    unsafe { mps2_an500::start_heap() };

    let region = board.config();
    let word = |at: usize| u32::from_le_bytes(unwrap!(region[4 * at..4 * at + 4].try_into().ok()));
    let mut begin = 4 * 5;
    let [subject, key, hello, answer] = [1, 2, 3, 4].map(|at| {
        let end = begin + word(at) as usize;
        let part = &region[begin..end];
        begin = end;
        part
    });
    let anchor = Anchor {
        subject: unwrap!(subject.try_into().ok()),
        key: unwrap!(key.try_into().ok()),
        ..Anchor::default()
    };
    let ask = Ask {
        host: "www.example.org",
        anchor: Some(&anchor),
        since: word(0).into(),
        request: b"GET / HTTP/1.1\r\n\r\n",
    };

    let mut measure = || {
        tls::seed(SEED);
        let (mut client, mut worker) = (Client::new(&MAILBOX), Worker::new(&MAILBOX));
        let (mut total, mut longest) = (0, 0);
        let mut work = |board: &mut Mps2| {
            loop {
                board.feed_watchdog();
                let before = SYST::get_current();
                let done = worker.step();
                // It counts down, and no step takes it once around.
                let ticks = before.wrapping_sub(SYST::get_current()) & 0x00ff_ffff;
                if !done {
                    return;
                }
                total += ticks;
                longest = longest.max(ticks);
            }
        };
        unwrap!(client.open(&ask).ok());
        work(&mut board);
        let mut said = [0; 512];
        let said = &mut said[..hello.len()];
        client.copy(0, said);
        defmt::assert_eq!(said, hello, "our hello is another than the host's");
        client.receive(answer);
        work(&mut board);
        defmt::assert!(client.heard(&mut |_| {}).is_ok(), "the handshake failed");
        defmt::assert!(usize::from(client.total()) > hello.len(), "no answer");
        client.close();
        work(&mut board);
        (total, longest)
    };
    let (total, longest) = measure();
    mps2_an500::interrupt_every(PERIOD);
    // SAFETY: the handler below uses nothing that is used here.
    unsafe { cortex_m::interrupt::enable() };
    for _ in 0..ROUNDS {
        measure();
    }
    cortex_m::interrupt::disable();
    let [total, longest, wait] = [total, longest, LONGEST_WAIT.load(Ordering::Relaxed)]
        .map(|ticks| ticks * INSTRUCTIONS_PER_TICK);
    let heap = mps2_an500::heap_usage().peak;
    info!(
        "tls {=u32} {=u32} {=u32} {=usize}",
        total, longest, wait, heap
    );
    loop {
        board.feed_watchdog();
    }
}

#[cortex_m_rt::exception]
unsafe fn DefaultHandler(_: i16) {
    LONGEST_WAIT.fetch_max(mps2_an500::interrupted_since(PERIOD), Ordering::Relaxed);
}
