//! Firmware that fails on both emulated boards: a debugger breaks the real one while it runs. Each time it leaves word, starts over
//! with the program as it was, and serves again, but for a while only because nobody else does.

use std::net::Ipv4Addr;
use std::thread;

use policy::Config;
use qemu::frames::{self, BROADCAST};
use qemu::{Emulated, Neighbours, blob, config, mac_of, router, shared};
use recovery::{Cause, Crash, Fault, Part, Register};
use smoltcp::wire::{ArpOperation, ArpRepr};

const BOARDS: [&str; 2] = ["mps2-an500", "zynq7000"];

/// What the loop calls each turn, and what the work below it does.
const IN_THE_LOOP: [&str; 3] = ["Node", "poll", "superloop"];
const BELOW: [&str; 3] = ["tls", "Worker", "step"];

#[test]
fn a_loop_that_fails_says_how_and_comes_back() {
    each_board(|board| {
        let config = config(board);
        let mut emulated = Emulated::start(board, board, &blob(board));
        assert_eq!(emulated.last_crash(), None, "{board}");
        serves(&emulated, &config, config.availability.priority);
        let place = emulated.code(&IN_THE_LOOP);

        let code = panics(&emulated, place);
        let crash = fails(&mut emulated, place, &code);
        let said = "index out of bounds: the len is 3 but the index is 7";
        assert_eq!((crash.cause, &*crash.message), (Cause::Panic, said));
        assert_eq!((&*crash.file, crash.line), ("broken.rs", 42), "{board}");
        serves(&emulated, &config, 1);

        let code = Code::of(&emulated);
        // No memory is here; on QEMU's Zynq there is some everywhere, but no word.
        let nowhere = match code {
            Code::Thumb => 0x9000_0000,
            Code::Arm => 0x9000_0001,
        };
        let crash = fails(&mut emulated, place, &code.reads(place, nowhere));
        let fault = code.fault(Fault::DataAbort);
        assert_eq!(crash.cause, Cause::Fault(fault), "{board}: {crash}");
        let address = match code {
            Code::Thumb => Register::Bfar,
            Code::Arm => Register::Dfar,
        };
        assert_eq!(crash.register(address), Some(nowhere), "{board}");
        let near = |pc: u32| (place..place + 8).contains(&pc);
        assert!(crash.register(Register::Pc).is_some_and(near), "{crash}");
        serves(&emulated, &config, 1);

        let crash = fails(&mut emulated, place, code.undefined());
        let fault = code.fault(Fault::Undefined);
        assert_eq!(crash.cause, Cause::Fault(fault), "{board}: {crash}");
        assert!(crash.register(Register::Pc).is_some_and(near), "{crash}");
        serves(&emulated, &config, 1);

        let crash = fails(&mut emulated, place, code.hangs());
        assert_eq!(crash.cause, Cause::Watchdog(Part::Loop), "{board}: {crash}");
        assert!(crash.register(Register::Pc).is_some_and(near), "{crash}");
        assert_eq!(crash.start, 4, "{board}");
        emulated.wait_for_log("failures in a row: 4; leaves the addresses to a peer that works");
        serves(&emulated, &config, 1);
    });
}

#[test]
fn work_below_the_loop_that_hangs_is_missed() {
    each_board(|board| {
        let config = config(board);
        let mut emulated = Emulated::start(board, board, &blob(board));
        serves(&emulated, &config, config.availability.priority);
        let place = emulated.code(&BELOW);
        let code = Code::of(&emulated);
        let crash = fails(&mut emulated, place, code.hangs());
        assert_eq!(
            crash.cause,
            Cause::Watchdog(Part::Background),
            "{board}: {crash}"
        );
        let near = |pc: u32| (place..place + 8).contains(&pc);
        assert!(crash.register(Register::Pc).is_some_and(near), "{crash}");
        emulated.wait_for_log("the background stopped");
        serves(&emulated, &config, 1);
        // Nobody interrupts it any more. QEMU's Zynq has only a watchdog that interrupts.
        if let Code::Thumb = code {
            let crash = fails(&mut emulated, place, &[0x72, 0xb6, 0xfe, 0xe7]);
            assert_eq!(crash.cause, Cause::Watchdog(Part::Interrupts), "{board}");
            serves(&emulated, &config, 1);
        }
    });
}

/// All boards at once: most of this is waiting.
fn each_board(test: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for board in BOARDS {
            let test = &test;
            scope.spawn(move || test(board));
        }
    });
}

/// Breaks the program here, and waits for its next start; what it has left behind, which that start tells too.
fn fails(emulated: &mut Emulated, place: u32, code: &[u8]) -> Crash {
    let before = emulated.last_crash().map_or(0, |crash| crash.start);
    emulated.change(place, code);
    let crash = emulated.wait_for(|emulated| {
        let crash = emulated.last_crash();
        crash.filter(|crash| crash.start > before)
    });
    emulated.wait_for_log(&format!("the run before failed: {crash}"));
    crash
}

/// Waits until it answers for the address that it shares with its peer, which only the Active does, and advertises this priority.
fn serves(emulated: &Emulated, config: &Config, priority: u8) {
    let site = Neighbours::new(emulated, config);
    let leg = &config.interfaces[0];
    let address = shared(config, leg);
    let asker = Ipv4Addr::from_bits(leg.address.to_bits() | 0x64);
    let asker = (mac_of(asker), asker);
    let request = frames::arp(leg.vlan, ArpOperation::Request, asker, (BROADCAST, address));
    let vrid = router(config, leg).vrid;
    let (mut answered, mut advertised) = (false, 0);
    let ask = || site.send(leg, &request);
    site.until("an answer and an advertisement", ask, |name, frame| {
        if name == leg.name {
            answered |= matches!(frame.arp(), Some(ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply, source_protocol_addr, ..
            }) if source_protocol_addr == address);
            let advert = frame.ipv4();
            let advert = advert.filter(|(ip, ..)| ip.next_header == 112.into());
            if let Some((_, _, &[_, id, worth, ..])) = advert
                && id == vrid
            {
                // What it sent while nobody looked tells of the run before.
                if advertised > 0 {
                    assert_eq!(worth, priority);
                }
                advertised += u32::from(worth == priority);
            }
        }
        (answered && advertised > 3).then_some(())
    });
}

/// A processor's instructions.
#[derive(Clone, Copy)]
enum Code {
    Thumb,
    Arm,
}

impl Code {
    fn of(emulated: &Emulated) -> Self {
        match emulated.target().starts_with("thumb") {
            true => Self::Thumb,
            false => Self::Arm,
        }
    }

    /// A Cortex-M calls every fault hard.
    fn fault(self, fault: Fault) -> Fault {
        match self {
            Self::Thumb => Fault::Hard,
            Self::Arm => fault,
        }
    }

    /// `b .`
    fn hangs(self) -> &'static [u8] {
        match self {
            Self::Thumb => &[0xfe, 0xe7],
            Self::Arm => &[0xfe, 0xff, 0xff, 0xea],
        }
    }

    /// `udf #0`
    fn undefined(self) -> &'static [u8] {
        match self {
            Self::Thumb => &[0x00, 0xde],
            Self::Arm => &[0xf0, 0x00, 0xf0, 0xe7],
        }
    }

    /// `ldr r3, =address; ldr r3, [r3]`, or `ldm r3, {r3}`, which wants a word.
    fn reads(self, place: u32, address: u32) -> Vec<u8> {
        let mut code: Vec<u8> = match (self, place % 4) {
            (Self::Thumb, 0) => [0x4b00_u16, 0x681b].map(u16::to_le_bytes).concat(),
            (Self::Thumb, _) => [0x4b01_u16, 0x681b, 0xbf00].map(u16::to_le_bytes).concat(),
            (Self::Arm, _) => [0xe59f_3000_u32, 0xe893_0008]
                .map(u32::to_le_bytes)
                .concat(),
        };
        code.extend(address.to_le_bytes());
        code
    }
}

/// Calls the panic of an index that is out of bounds, with a place in a source that does not exist.
fn panics(emulated: &Emulated, place: u32) -> Vec<u8> {
    const FILE: &[u8] = b"broken.rs\0";
    let panic = emulated.code(&["panicking", "panic_bounds_check"]);
    // Loads r0 to r3 from behind, and goes where r3 says.
    let (mut code, panic): (Vec<u8>, u32) = match (Code::of(emulated), place % 4) {
        (Code::Thumb, odd) => {
            let load = [0x4802_u16, 0x4903, 0x4a03, 0x4b04, 0x4718, 0xbf00];
            let skip = (odd != 0).then_some(0xbf00);
            let code = skip.into_iter().chain(load);
            (code.flat_map(u16::to_le_bytes).collect(), panic | 1)
        }
        (Code::Arm, _) => {
            let load = [
                0xe59f_000c_u32,
                0xe59f_100c,
                0xe59f_200c,
                0xe59f_300c,
                0xe12f_ff13,
            ];
            (load.into_iter().flat_map(u32::to_le_bytes).collect(), panic)
        }
    };
    let words = place + code.len() as u32;
    let location = words + 16;
    let file = location + 16;
    let length = FILE.len() as u32 - 1;
    for word in [7, 3, location, panic, file, length, 42, 1] {
        code.extend(u32::to_le_bytes(word));
    }
    code.extend(FILE);
    code
}
