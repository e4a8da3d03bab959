//! Instructions per look-up in compiled rules, for `ravelin bench packet`.
//!
//! The host places, as 32-bit words: the number of keys, the keys (`KEY` words each, the last of which is the rule that
//! must be found), the tables. Runs under `-icount shift=0`, where every instruction takes one nanosecond of guest
//! time. The log's last line is `classify AVERAGE MOST`.

#![no_std]
#![no_main]

use classifier::{Addresses, Key, Match, State, Tables};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use defmt::{info, unwrap};
use hal::Board as _;
use mps2_an500::Mps2;

/// Words of a key: IP version, source, destination, ports, protocol and legs, rule.
const KEY: usize = 12;
/// Look-ups of one key in one measurement: the clock is coarser than one of them.
const TURNS: u32 = 40;
/// SysTick counts at 25 MHz, so one tick is 40 ns and 40 instructions.
const INSTRUCTIONS_PER_TICK: u32 = 40;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut board = Mps2::take();
    let mut systick = unwrap!(cortex_m::Peripherals::take()).SYST;
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(0x00ff_ffff);
    systick.clear_current();
    systick.enable_counter();

    let region = board.config();
    let (words, _) = region.as_chunks::<4>();
    let word = |at: usize| u32::from_le_bytes(*unwrap!(words.get(at)));
    let keys = word(0) as usize;
    let length = word(1) as usize;
    let begin = 4 * (2 + keys * KEY);
    let tables = unwrap!(region.get(begin..begin + length));
    let tables = unwrap!(Tables::parse(tables).ok(), "no tables were placed");

    let (mut sum, mut most) = (0_u32, 0);
    for number in 0..keys {
        let at = |word_of_key: usize| word(2 + number * KEY + word_of_key);
        let (key, expected) = (key(at), at(KEY - 1));
        let found = look_up(&tables, &key).map_or(u32::MAX, |found| found.rule.into());
        defmt::assert_eq!(found, expected, "key {=usize}", number);
        let idle = measure(&mut board, || {
            core::hint::black_box(nothing(&tables, core::hint::black_box(&key)));
        });
        let busy = measure(&mut board, || {
            core::hint::black_box(look_up(&tables, core::hint::black_box(&key)));
        });
        let cost = (busy - idle) * INSTRUCTIONS_PER_TICK / TURNS;
        sum += cost;
        most = most.max(cost);
    }
    info!("classify {=u32} {=u32}", sum / keys as u32, most);
    loop {
        board.feed_watchdog();
        cortex_m::asm::nop();
    }
}

#[inline(never)]
fn look_up(tables: &Tables<'_>, key: &Key) -> Option<Match> {
    tables.lookup(key)
}

/// What calling [`look_up`] costs without it.
#[inline(never)]
fn nothing(_tables: &Tables<'_>, _key: &Key) -> Option<Match> {
    core::hint::black_box(None)
}

/// SysTick ticks of `TURNS` turns.
fn measure(board: &mut Mps2, mut turn: impl FnMut()) -> u32 {
    board.feed_watchdog();
    let begin = SYST::get_current();
    for _ in 0..TURNS {
        turn();
    }
    begin.wrapping_sub(SYST::get_current()) & 0x00ff_ffff
}

fn key(at: impl Fn(usize) -> u32) -> Key {
    let four = |first: usize| core::array::from_fn(|index| at(first + index));
    let [_, from, to, protocol] = at(10).to_be_bytes();
    Key {
        addresses: match at(0) {
            4 => Addresses::V4 {
                source: at(1),
                destination: at(5),
            },
            _ => Addresses::V6 {
                source: four(1),
                destination: four(5),
            },
        },
        source_port: (at(9) >> 16) as u16,
        destination_port: at(9) as u16,
        protocol,
        from,
        to,
        state: State::New,
    }
}
