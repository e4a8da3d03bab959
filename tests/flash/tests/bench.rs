//! A bench of boards: what happens when all is well, and when it is not.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bench_of_boards::{FIRMWARE, board, configuration, flash_all, flash_one, image};
use flash::{Credentials, FlashError, Image, Issuer, Job, Options, Outcome, selector};
use virtual_probe::{Board, Fault};

const PLAIN: Options = Options {
    check: false,
    erase_all: false,
    rotate: false,
    jobs: 0,
};
const CHECK: Options = Options {
    check: true,
    ..PLAIN
};
const ERASE_ALL: Options = Options {
    erase_all: true,
    ..PLAIN
};

/// A cell in the middle of the program.
const CELL: u32 = 0x2_0010;

#[test]
fn only_what_differs_is_written() {
    let board = board();
    let (first, second) = (image("gw1", "100ms"), image("gw1", "200ms"));
    let program = first.program.iter().map(|piece| piece.bytes.len() as u64);
    let whole = program.sum::<u64>() + first.configuration.len() as u64;

    // Sectors of zeros are what the emulated memory has already.
    let most = whole / 10 * 9;
    let differs = flash_one(&board, &first, CHECK);
    assert!(
        matches!(differs, Ok(Outcome::Differs { bytes }) if bytes > most),
        "{differs:?}"
    );
    let written = board.probe().written();
    let again = flash_one(&board, &first, CHECK);
    assert!(
        matches!(again, Ok(Outcome::Differs { .. })),
        "a check changes nothing"
    );
    assert!(
        board.probe().written() - written < 1024,
        "it writes to debug registers only"
    );

    let begun = Instant::now();
    let done = flash_one(&board, &first, PLAIN);
    assert!(
        matches!(done, Ok(Outcome::Done { bytes }) if bytes > most),
        "{done:?}"
    );
    println!("{whole} bytes into a blank board: {:?}", begun.elapsed());
    let begun = Instant::now();
    let again = flash_one(&board, &first, PLAIN);
    assert!(matches!(again, Ok(Outcome::UpToDate)), "{again:?}");
    println!("nothing to do: {:?}", begun.elapsed());

    // One line of the site file.
    let change = flash_one(&board, &second, PLAIN);
    let Ok(Outcome::Done { bytes }) = change else {
        panic!("{change:?}");
    };
    println!("one line of the site file: {bytes} bytes");
    assert!(bytes > 0 && bytes < whole / 4, "{bytes} of {whole}");
    let same = flash_one(&board, &second, CHECK);
    assert!(matches!(same, Ok(Outcome::UpToDate)), "{same:?}");

    // It says who it is, and goes on talking.
    let name = flash::identify(&selector(&board), &FIRMWARE.board).expect("it answers");
    assert_eq!(name.as_deref(), Some("gw1"));
}

#[test]
fn a_board_says_where_in_its_source_it_is() {
    let board = board();
    let image = image("gw1", "100ms");
    // As if the cable had come off after the reset: what it says is still to be read.
    write_without_listening(&board, &image);
    let mut heard = Vec::new();
    let begun = Instant::now();
    flash::tail(&selector(&board), &FIRMWARE, &mut |line| {
        heard.extend(line);
        let enough = heard.len() >= 2 || begun.elapsed() > Duration::from_secs(120);
        match enough {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .expect("it talks");
    let first = heard.first().expect("a line");
    assert!(first.text.contains("mps2-an500"), "{first:?}");
    assert_eq!(first.level, "info");
    let file = first.file.as_deref().unwrap_or_default();
    assert!(file.ends_with("boards/mps2-an500/src/main.rs"), "{first:?}");
    assert!(first.line.is_some() && !first.time.is_empty(), "{first:?}");
}

/// The image is flashed, the firmware started, and nobody has listened to it yet.
fn write_without_listening(board: &Board, image: &Image) {
    let done = flash_one(board, image, PLAIN);
    assert!(matches!(done, Ok(Outcome::Done { .. })), "{done:?}");
    board.probe().reset_target().expect("the emulator lives");
}

/// Signs nothing: counts, and knows what it gave out.
#[derive(Default)]
struct Counter(AtomicU32);

impl Issuer for Counter {
    fn is_good(&self, appliance: &str, certificate: &[u8]) -> bool {
        certificate.starts_with(appliance.as_bytes())
    }

    fn issue(&self, appliance: &str) -> Result<Credentials, String> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Credentials {
            certificate: format!("{appliance} {number}").into_bytes(),
            key: vec![number as u8; 121],
        })
    }
}

#[test]
fn a_unit_keeps_its_number_and_its_key_until_they_are_renewed() {
    let board = board();
    let counter = Arc::new(Counter::default());
    let given = || counter.0.load(Ordering::Relaxed);
    let flash = |appliance: &str, options| {
        let issuer: Arc<dyn Issuer> = Arc::clone(&counter) as _;
        let job = Job {
            appliance: appliance.to_owned(),
            probe: Some(selector(&board)),
            image: image(appliance, "100ms"),
            issuer: Some(issuer),
        };
        let mut reports = flash::run(vec![job], options, &|_, _| {}, &|_| {});
        reports.remove(0).result.expect("it works")
    };
    let first = flash("gw1", PLAIN);
    assert!(first.serial_number.is_some() && given() == 1);
    let again = flash("gw1", PLAIN);
    assert_eq!((again.outcome, given()), (Outcome::UpToDate, 1));
    // Renewed on request; erased with all the rest and written again; another appliance's is no good.
    let rotate = Options {
        rotate: true,
        ..PLAIN
    };
    for (appliance, options, keys) in [("gw1", rotate, 2), ("gw1", ERASE_ALL, 2), ("gw2", PLAIN, 3)]
    {
        let done = flash(appliance, options);
        assert!(matches!(done.outcome, Outcome::Done { .. }), "{done:?}");
        assert_eq!(given(), keys, "{options:?}");
        assert_eq!(done.serial_number, first.serial_number, "{options:?}");
        let name = flash::identify(&selector(&board), &FIRMWARE.board).expect("it answers");
        assert_eq!(name.as_deref(), Some(appliance));
    }
}

/// `firmware/slots` cuts at every single write to a slot; here the whole way is cut, from the probe to the core.
#[test]
fn a_device_that_is_cut_off_is_what_it_was_or_what_it_shall_be() {
    let board = board();
    let (old, new) = (image("gw1", "100ms"), image("gw2", "100ms"));
    flash_one(&board, &old, PLAIN).expect("it works");
    let mut broken = 0;
    // Comparing takes the first 1,800 commands or so.
    for after in (1_700..).step_by(80) {
        board.probe().faults().add(Fault::DroppedLink { after });
        let done = flash_one(&board, &new, PLAIN);
        board.probe().faults().mend();
        let name = flash::identify(&selector(&board), &FIRMWARE.board).expect("it answers");
        let name = name.expect("never nobody");
        match done {
            Ok(_) => {
                assert_eq!(name, "gw2");
                break;
            }
            Err(error) => {
                assert!(
                    matches!(error, FlashError::LinkLost { .. }),
                    "{after}: {error}"
                );
                assert!(name == "gw1" || name == "gw2", "{after}: {name}");
                broken += 1;
            }
        }
        // It is the old one again, for the next cut.
        if name == "gw2" {
            flash_one(&board, &old, PLAIN).expect("it works");
        }
    }
    assert!(broken >= 2, "{broken}");
}

/// What goes wrong at a device, what is said, and how it is mended.
struct Case {
    name: &'static str,
    fault: Fault,
    is_said: fn(&FlashError) -> bool,
    /// Whether the device has to be erased to be mended.
    erase_all: bool,
}

#[test]
fn every_fault_is_named_and_running_again_mends_the_board() {
    let image = image("gw1", "100ms");
    let flash = 0..0x40_0000;
    let cases = [
        Case {
            name: "no power",
            fault: Fault::NoPower,
            is_said: |error| matches!(error, FlashError::NoPower { .. }),
            erase_all: false,
        },
        Case {
            name: "another chip",
            fault: Fault::OtherChip {
                address: 0x4002_fffc,
                word: 0x4104_3850,
            },
            is_said: |error| matches!(error, FlashError::WrongChip { .. }),
            erase_all: false,
        },
        Case {
            name: "a cable that comes off while it is written",
            fault: Fault::DroppedLink { after: 4000 },
            is_said: |error| matches!(error, FlashError::LinkLost { .. }),
            erase_all: false,
        },
        Case {
            name: "a flash algorithm that never returns",
            fault: Fault::StuckAlgorithm { after: 40 },
            is_said: |error| matches!(error, FlashError::Write { .. }),
            erase_all: false,
        },
        Case {
            name: "a worn cell",
            fault: Fault::WornCell { address: CELL },
            is_said: |error| matches!(error, FlashError::ReadBack { address, .. } if *address == u64::from(CELL)),
            erase_all: false,
        },
        Case {
            name: "a locked chip",
            fault: Fault::Locked { flash },
            is_said: |error| matches!(error, FlashError::Locked { .. }),
            erase_all: true,
        },
    ];
    // All at once, and one without a fault among them: none stops another.
    let boards: Vec<Board> = (0..=cases.len()).map(|_| board()).collect();
    for (board, case) in boards.iter().zip(&cases) {
        if case.erase_all {
            // A chip is locked with something in it.
            let filled = flash_one(board, &image, PLAIN);
            assert!(matches!(filled, Ok(Outcome::Done { .. })), "{filled:?}");
        }
        board.probe().faults().add(case.fault.clone());
    }
    let all: Vec<&Board> = boards.iter().collect();
    let reports = flash_all(&all, &image, PLAIN);
    for (report, case) in reports.iter().zip(&cases) {
        match &report.result {
            Err(error) => assert!((case.is_said)(error), "{}: {error}", case.name),
            Ok(done) => panic!("{}: {done:?}", case.name),
        }
    }
    let good = reports[cases.len()]
        .result
        .as_ref()
        .map(|done| done.outcome);
    assert!(matches!(good, Ok(Outcome::Done { .. })), "{good:?}");

    for (board, case) in boards.iter().zip(&cases) {
        let how = match case.erase_all {
            true => ERASE_ALL,
            false => {
                board.probe().faults().mend();
                PLAIN
            }
        };
        let again = flash_one(board, &image, how);
        assert!(
            matches!(again, Ok(Outcome::Done { .. })),
            "{}: {again:?}",
            case.name
        );
        let then = flash_one(board, &image, CHECK);
        assert!(
            matches!(then, Ok(Outcome::UpToDate)),
            "{}: {then:?}",
            case.name
        );
    }
}

#[test]
fn a_probe_that_another_holds_is_left_to_it() {
    let board = board();
    let image = image("gw1", "100ms");
    let mut other = TcpStream::connect(board.probe().address()).expect("it listens");
    // Who was answered holds it: "who are you?"
    other.write_all(b"+#!GA#").expect("it listens");
    other.read_exact(&mut [0]).expect("it answers");
    let refused = flash_one(&board, &image, CHECK);
    assert!(
        matches!(refused, Err(FlashError::Held { .. })),
        "{refused:?}"
    );
    drop(other);
    let then = flash_one(&board, &image, CHECK);
    assert!(matches!(then, Ok(Outcome::Differs { .. })), "{then:?}");
}

#[test]
fn what_does_not_fit_is_refused_before_there_is_a_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("a file");
    write(&vec![0; FIRMWARE.board.config_size + 1]);
    let error = Image::new(&FIRMWARE, &path).expect_err("too large");
    assert!(
        matches!(
            error,
            FlashError::TooLarge {
                what: "the configuration",
                ..
            }
        ),
        "{error}"
    );
    write(&configuration("gw1", "100ms"));
    let mut small = FIRMWARE.clone();
    small.board.probe.as_mut().expect("it has one").program.size = 0x1000;
    let error = Image::new(&small, &path).expect_err("too large");
    assert!(
        matches!(
            error,
            FlashError::TooLarge {
                what: "the firmware",
                ..
            }
        ),
        "{error}"
    );
    let none = Image::new(&FIRMWARE, Path::new("/nowhere")).expect_err("no file");
    assert!(matches!(none, FlashError::File { .. }), "{none}");
}

/// As `ravelin rehearse` starts boards that have a probe; and as it starts others, from files.
#[test]
fn an_emulated_board_starts_from_what_was_flashed_and_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).expect("a file");
    let image = image("gw2", "100ms");
    let alive = image.alive();
    write("config", &image.configuration);
    let job = Job {
        appliance: "gw2".to_owned(),
        probe: None,
        image,
        issuer: None,
    };
    write("flash", &flash::emulated(&job).expect("it is flashed"));
    let kernel = |file: &Path| vec!["-kernel".to_owned(), file.display().to_string()];
    let mut files = kernel(&FIRMWARE.elf);
    let (config, address) = (path("config"), FIRMWARE.board.config_address);
    let loader = format!(
        "loader,file={},addr={address:#x},force-raw=on",
        config.display()
    );
    files.extend(["-device".to_owned(), loader]);
    for arguments in [kernel(&path("flash")), files] {
        let qemu = FIRMWARE.board.emulator().expect("an emulated board");
        let board = Board::power_up(&qemu.program, &qemu.machine, &arguments, None);
        let board = board.expect("it starts");
        let begun = Instant::now();
        let mut heard = false;
        flash::tail(&selector(&board), &FIRMWARE, &mut |line| {
            heard |= line.is_some_and(|line| line.text == alive);
            match heard || begun.elapsed() > Duration::from_secs(120) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .expect("it talks");
        assert!(heard, "nobody said `{alive}`: {arguments:?}");
    }
}

#[test]
fn ten_at_once() {
    let count = match std::env::var_os("RAVELIN_SOAK") {
        Some(_) => 10,
        None => 3,
    };
    let image = image("gw2", "100ms");
    let begun = Instant::now();
    let one = flash_one(&board(), &image, PLAIN);
    assert!(matches!(one, Ok(Outcome::Done { .. })), "{one:?}");
    println!("one: {:?}", begun.elapsed());
    let boards: Vec<Board> = (0..count).map(|_| board()).collect();
    let all: Vec<&Board> = boards.iter().collect();
    let begun = Instant::now();
    for report in flash_all(&all, &image, PLAIN) {
        let outcome = report.result.as_ref().map(|done| done.outcome);
        assert!(matches!(outcome, Ok(Outcome::Done { .. })), "{report:?}");
    }
    println!("{count} at once: {:?}", begun.elapsed());
}
