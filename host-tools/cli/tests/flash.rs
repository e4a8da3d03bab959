//! The commands of a bench, at a board that is emulated behind a virtual probe.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use build::Board as Settings;
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use serde_json::Value;
use tempfile::TempDir;
use virtual_probe::{Board, Fault};

const BOARD: &str = "mps2-an500";

#[test]
fn a_unit_from_blank_board_to_label() {
    let bench = Bench::new();

    // Blank: it becomes the first appliance of the site.
    let done = bench.flash(&[]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let last = last(&done);
    assert_eq!(
        (&last["appliance"], &last["outcome"]),
        (&"gw1".into(), &"done".into())
    );
    let serial = last["serial_number"]
        .as_str()
        .expect("it has one")
        .to_owned();
    let phases: Vec<Value> = lines(&done)
        .iter()
        .map(|line| line["phase"].clone())
        .collect();
    for phase in [
        "connecting",
        "comparing",
        "erasing",
        "writing",
        "verifying",
        "starting",
    ] {
        assert!(phases.contains(&phase.into()), "{phase}");
    }
    // From now on it says who it is.
    let again = bench.flash(&[]);
    assert_eq!(
        self::last(&again)["outcome"],
        "up-to-date",
        "{}",
        stderr(&again)
    );
    assert_eq!(code(&bench.flash(&["--check"])), 0);
    let resumed = bench.flash(&["--resume"]);
    assert_eq!((code(&resumed), lines(&resumed).len()), (0, 0));
    assert!(
        stderr(&resumed).contains("gw1: done before"),
        "{}",
        stderr(&resumed)
    );

    let label = bench.run(&["label", "gw1", "--format", "zpl", "--board", BOARD]);
    assert_eq!(code(&label), 0, "{}", stderr(&label));
    let text = stdout(&label);
    assert!(
        text.contains(&serial) && text.contains("^FDgw1^FS"),
        "{text}"
    );
    // The unit, and both ends of its one cable.
    assert_eq!(text.matches("^XA").count(), 3);
    let none = bench.run(&["label", "gw2", "--board", BOARD]);
    assert_eq!(code(&none), 1);
    assert!(stderr(&none).contains("gw2 has not been flashed from here"));

    // What it says after somebody has pressed its reset button.
    bench
        .board
        .probe()
        .reset_target()
        .expect("the emulator lives");
    let probe = bench.selector();
    let logs = [
        "logs",
        "gw1",
        "--board",
        BOARD,
        "--probe",
        &probe,
        "--seconds",
        "15",
        "--json",
    ];
    let said = bench.run(&logs);
    assert_eq!(code(&said), 0, "{}", stderr(&said));
    let said = lines(&said);
    let alive = said.iter().find(|line| {
        let text = line["text"].as_str().unwrap_or_default();
        text.starts_with("alive: firmware ")
    });
    let alive = alive.unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(alive["level"], "info");
    assert!(
        alive["file"]
            .as_str()
            .is_some_and(|file| file.ends_with(".rs")),
        "{alive}"
    );

    // Its program breaks: it fails again and again, and says where. Mended, it comes back.
    let last_crash = || {
        let words = ["logs", "gw1", "--board", BOARD, "--probe", &probe];
        bench.run(&[&words[..], &["--last-crash", "--json"]].concat())
    };
    assert_eq!(code(&last_crash()), 1, "it has not failed yet");
    let place = bench.code(&["Node", "poll", "superloop"]);
    let target = bench.board.probe();
    let whole = target.memory(place, 2).expect("the emulator lives");
    let udf = [0x00, 0xde];
    target.change_memory(place, &udf).expect("it lives");
    let crash = std::iter::repeat_with(last_crash)
        .take(20)
        .find(|said| code(said) == 0)
        .expect("it fails");
    target.change_memory(place, &whole).expect("it lives");
    let crash = &self::last(&crash)["crash"];
    assert_eq!(crash["cause"], "hard-fault", "{crash}");
    let pc = &crash["registers"][0];
    assert_eq!((&pc["name"], &pc["value"]), (&"pc".into(), &place.into()));
    let function = pc["function"].as_str().expect("the program knows");
    assert!(function.contains("poll"), "{crash}");
    assert_eq!(code(&bench.flash(&["--check"])), 0);
    let back = bench.run(&logs);
    let failed = |line: &Value| {
        let text = line["text"].as_str().unwrap_or_default();
        text.starts_with("the run before failed: hard-fault")
    };
    assert!(lines(&back).iter().any(failed), "{}", stdout(&back));

    // A fault: what it is and what mends it; and no label any more.
    bench.board.probe().faults().add(Fault::NoPower);
    let failed = bench.flash(&["--appliance", "gw1"]);
    assert_eq!(code(&failed), 3);
    let last = self::last(&failed);
    assert_eq!(last["outcome"], "failed");
    assert!(
        last["help"]
            .as_str()
            .is_some_and(|help| help.contains("powered")),
        "{last}"
    );
    let label = bench.run(&["label", "gw1", "--board", BOARD]);
    assert_eq!(code(&label), 1);
    assert!(
        stderr(&label).contains("was not verified"),
        "{}",
        stderr(&label)
    );
    bench.board.probe().faults().mend();

    // It becomes another appliance only if somebody says so.
    let differs = bench.flash(&["--appliance", "gw2", "--check"]);
    assert_eq!(
        (code(&differs), &self::last(&differs)["outcome"]),
        (1, &"differs".into())
    );
    let other = bench.flash(&["--appliance", "gw2"]);
    let last = self::last(&other);
    assert_eq!(
        (&last["outcome"], &last["serial_number"]),
        (&"done".into(), &serial.into())
    );
}

#[test]
fn cargo_run_in_a_boards_folder_flashes_and_shows_what_it_says() {
    let bench = Bench::new();
    let settings = Settings::read(&source(), BOARD).expect("a board");
    let mut cargo =
        build::cargo(&source(), &settings, "run", BOARD).expect("a compiler for the board");
    // Its runner is what `.cargo/config.toml` there says; the tool is compiled already.
    cargo.current_dir(source().join("boards").join(BOARD));
    cargo.env("RAVELIN_TOOL", env!("CARGO_BIN_EXE_ravelin"));
    cargo.env("RAVELIN_PROBE", bench.selector());
    cargo.env("RAVELIN_SECONDS", "15");
    let run = cargo.output().expect("it runs");
    assert_eq!(code(&run), 0, "{}", stderr(&run));
    let progress = stderr(&run);
    for phase in ["comparing ...", "writing ...", "verifying ...", "started"] {
        assert!(progress.contains(phase), "{phase}: {progress}");
    }
    // It was never provisioned, so it is closed, and says so.
    let said = stdout(&run);
    for line in [BOARD, "no usable configuration", "alive: firmware "] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // What it is told after that is kept by the next program.
    let done = bench.flash(&["--appliance", "gw2"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let again = cargo.output().expect("it runs");
    assert!(
        stderr(&again).contains("had the program already"),
        "{}",
        stderr(&again)
    );
    assert!(
        stdout(&again).contains("configuration of gw2"),
        "{}",
        stdout(&again)
    );
}

/// What a dry run can do for a board that no emulator has.
#[test]
fn hardware_without_an_emulator_is_prepared_and_not_rehearsed() {
    const HARDWARE: &str = "nucleo-h743zi";
    let bench = Bench::new();
    let dry = bench.run(&["flash", "--dry-run", "--json", "--board", HARDWARE]);
    assert_eq!(code(&dry), 0, "{}", stderr(&dry));
    for line in lines(&dry) {
        assert_eq!(line["outcome"], "prepared", "{line}");
        // The program's sectors of 128 KiB, and one for its slot.
        let sectors = line["bytes"].as_u64().map(|bytes| bytes / 0x2_0000);
        assert!(
            sectors.is_some_and(|count| (6..10).contains(&count)),
            "{line}"
        );
    }
    assert_eq!(lines(&dry).len(), 2, "both appliances");
    let rehearsed = bench.run(&["rehearse", "--appliances", HARDWARE]);
    assert_eq!(code(&rehearsed), 2, "{}", stderr(&rehearsed));
    let why = stderr(&rehearsed);
    assert!(
        why.contains("no emulator has the board") && why.contains(BOARD),
        "{why}"
    );
}

/// A site, and a board at a probe.
struct Bench {
    folder: TempDir,
    board: Board,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let reference = source().join("examples/foobar/site.toml");
        std::fs::copy(reference, folder.path().join("site.toml")).expect("a site");
        let settings = Settings::read(&source(), BOARD).expect("a board");
        let qemu = settings.emulator().expect("an emulated one");
        let board = Board::power_up(&qemu.program, &qemu.machine, &[], None);
        Self {
            folder,
            board: board
                .unwrap_or_else(|error| panic!("{error}; `apt-get install qemu-system-arm`")),
        }
    }

    fn selector(&self) -> String {
        format!("1d50:6018:{}", self.board.probe().address())
    }

    /// Where its program has a function with these words in its name.
    fn code(&self, words: &[&str]) -> u32 {
        let elf = format!(".ravelin/firmware/{BOARD}.elf");
        let bytes = std::fs::read(self.folder.path().join(elf)).expect("a program");
        let file = object::File::parse(&*bytes).expect("an ELF");
        let names = file.symbols().filter_map(|symbol| {
            let name = symbol.name().ok()?;
            let is_it =
                symbol.kind() == SymbolKind::Text && words.iter().all(|word| name.contains(word));
            is_it.then_some((name.len(), symbol.address()))
        });
        let (_, address) = names.min().expect("a function");
        u32::try_from(address).expect("32 bits") & !1
    }

    fn flash(&self, options: &[&str]) -> Output {
        let probe = self.selector();
        let all = [
            &["flash", "--json", "--board", BOARD, "--probe", &probe],
            options,
        ]
        .concat();
        self.run(&all)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ravelin"));
        command.args(arguments).current_dir(self.folder.path());
        command.output().expect("it runs")
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = stdout(output);
    let parse = |line: &str| serde_json::from_str(line).expect("a line of JSON");
    text.lines().map(parse).collect()
}

fn last(output: &Output) -> Value {
    let mut all = lines(output);
    all.pop()
        .unwrap_or_else(|| panic!("nothing on stdout: {}", stderr(output)))
}
