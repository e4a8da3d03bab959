//! The commands of a bench, at a board that is emulated behind a virtual probe.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use build::Board as Settings;
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
    let logs = bench.run(&logs);
    assert_eq!(code(&logs), 0, "{}", stderr(&logs));
    let said = lines(&logs);
    let alive = said.iter().find(|line| {
        let text = line["text"].as_str().unwrap_or_default();
        text.starts_with("alive: firmware ")
    });
    let alive = alive.unwrap_or_else(|| panic!("{}", stdout(&logs)));
    assert_eq!(alive["level"], "info");
    assert!(
        alive["file"]
            .as_str()
            .is_some_and(|file| file.ends_with(".rs")),
        "{alive}"
    );

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
        let qemu = Settings::read(&source(), BOARD).expect("a board").qemu;
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
