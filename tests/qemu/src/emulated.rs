//! One board in QEMU.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use build::Firmware;
use build::defmt_log::Decoder;
use miette::Diagnostic as _;
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use rehearse::machine::{self, Appliance, Serial, Socket};
use rehearse::process::Process;
use rehearse::qmp::Qmp;
use tempfile::TempDir;
use virtual_probe::Stub;

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running board. It ends when this is dropped.
pub struct Emulated {
    process: Process,
    cables: Vec<UnixDatagram>,
    sockets: Vec<Socket>,
    monitor: Qmp,
    log: RefCell<Log>,
    firmware: Firmware,
    debugger: Option<Stub>,
    directory: TempDir,
}

/// What was read of the console.
struct Log {
    console: File,
    decoder: Decoder,
    text: String,
}

/// One program of a board, built once for all tests.
///
/// # Panics
/// If it cannot be built; the message says what to install.
pub fn firmware(board: &str, program: &str) -> Firmware {
    static BUILT: LazyLock<Mutex<BTreeMap<(String, String), Firmware>>> =
        LazyLock::new(Mutex::default);
    let mut built = BUILT
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = (board.to_owned(), program.to_owned());
    let build = || {
        build::program(&source(), board, program).unwrap_or_else(|error| {
            let help = error
                .help()
                .map(|help| help.to_string())
                .unwrap_or_default();
            panic!("{error}\n{help}")
        })
    };
    built.entry(key).or_insert_with(build).clone()
}

impl Emulated {
    /// Starts `program` of `board` with these bytes as configuration.
    ///
    /// # Panics
    /// If QEMU or the compiler is missing; the message says what to install.
    pub fn start(board: &str, program: &str, config: &[u8]) -> Self {
        let firmware = firmware(board, program);
        let Firmware { board, elf, .. } = &firmware;
        let directory = tempfile::Builder::new()
            .prefix("rv")
            .tempdir()
            .expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("config"), config).expect("the configuration is written");
        let socket = |port: u8| Socket {
            machine: path(&format!("{port}.m")),
            switch: path(&format!("{port}.s")),
            mac: [0x52, 0x54, 0, 0, 0, port], // the firmware does not care for it
        };
        let sockets: Vec<Socket> = (0..board.ports).map(socket).collect();
        let cables = sockets.iter().map(|socket| {
            let cable = UnixDatagram::bind(&socket.switch).expect("a cable's end");
            cable
                .set_nonblocking(true)
                .expect("a socket that does not wait");
            cable
        });
        let cables = cables.collect();
        let qemu = board.emulator().expect("an emulated board");
        let appliance = Appliance::Emulated {
            machine: qemu.machine.clone(),
            elf: elf.clone(),
            config: path("config"),
            config_address: board.config_address,
            flash: None,
            nic_model: Some(qemu.nic.clone()),
        };
        let console = path("console");
        let serial = Serial {
            socket: path("line"),
            listens: true,
        };
        let line = machine::appliance(
            &appliance,
            &sockets,
            Some(&serial),
            &console,
            &path("monitor"),
        );
        let mut process = Process::spawn(&line.program, &line.arguments, 0, &path("qemu.log"))
            .unwrap_or_else(|error| panic!("cannot run setpriv: {error}; install util-linux"));
        let monitor = wait(
            || match (Qmp::connect(&path("monitor")), process.exited()) {
                (Ok(monitor), _) => Some(monitor),
                (Err(_), None) => None,
                (Err(_), Some(status)) => panic!(
                    "{} ended ({status}): {}\nis it installed? `apt-get install qemu-system-arm`",
                    line.program.display(),
                    process.tail()
                ),
            },
        );
        let monitor = monitor.expect("QEMU listens");
        let log = Log {
            console: File::open(&console).expect("QEMU writes a console"),
            decoder: Decoder::open(elf).expect("the program has a log table"),
            text: String::new(),
        };
        let this = Self {
            process,
            cables,
            sockets,
            monitor,
            log: RefCell::new(log),
            firmware,
            debugger: None,
            directory,
        };
        this.wait_for_log(""); // frames before the driver runs would be lost
        this
    }

    /// The other end of its serial line.
    ///
    /// # Panics
    /// If QEMU does not listen there.
    pub fn line(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("line")).expect("QEMU listens")
    }

    /// Puts a frame on a cable.
    ///
    /// # Panics
    /// If QEMU does not take it.
    pub fn send(&self, port: usize, frame: &[u8]) {
        let to = &self.sockets[port].machine;
        let sent = wait(|| match self.cables[port].send_to(frame, to) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None, // the queue is full for now
            done => Some(done),
        });
        sent.expect("QEMU reads").expect("QEMU takes the frame");
    }

    /// The next frame from a cable, if one is there.
    pub fn receive(&self, port: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let len = self.cables[port].recv(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// The next frame from a cable.
    ///
    /// # Panics
    /// If none comes.
    pub fn wait_for_frame(&self, port: usize) -> Vec<u8> {
        let frame = wait(|| self.receive(port));
        frame.unwrap_or_else(|| panic!("no frame on port {port}; the log:\n{}", self.log()))
    }

    /// Throws away all echoes that are under way: they come before that of a frame sent now.
    ///
    /// # Panics
    /// If nothing is echoed any more.
    pub fn flush(&self, port: usize) {
        // A full queue may still lose the frame, so each try sends another one.
        for mark in 0..=u8::MAX {
            self.send(port, &[mark; 60]);
            for _ in 0..100 {
                if std::iter::from_fn(|| self.receive(port)).any(|frame| frame == [mark; 60]) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!(
            "nothing comes back on port {port}; the log:\n{}",
            self.log()
        );
    }

    /// The other end of a cable: a socket, where it is bound, and where the board's is.
    ///
    /// # Panics
    /// If there are no more file descriptors.
    pub fn cable(&self, port: usize) -> (UnixDatagram, &Path, &Path) {
        let socket = self.cables[port].try_clone().expect("a file descriptor");
        let Socket {
            machine, switch, ..
        } = &self.sockets[port];
        (socket, switch, machine)
    }

    /// How many cables the board has.
    pub fn ports(&self) -> usize {
        self.cables.len()
    }

    /// Pulls a cable out, or puts it back.
    ///
    /// # Panics
    /// If QEMU refuses.
    pub fn set_link(&mut self, port: usize, up: bool) {
        self.monitor
            .set_link(&format!("n{port}"), up)
            .expect("QEMU changes the link");
    }

    /// CPU time that QEMU has used so far.
    ///
    /// # Panics
    /// If QEMU is gone.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))
            .expect("QEMU runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        // utime and stime (proc(5)), in hundredths of a second
        let ticks = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Bytes of stack that the board asks for.
    pub const fn stack_budget(&self) -> u64 {
        self.firmware.board.budget.stack
    }

    /// Bytes of the stack that were ever used, of those that the board's budget asks for: memory of the emulator is zero until
    /// somebody writes to it.
    ///
    /// # Panics
    /// If QEMU refuses.
    pub fn stack_used(&mut self) -> u64 {
        let size = self.stack_budget();
        let file = self.directory.path().join("stack");
        let bottom = stack_top(&self.firmware.elf) - size;
        let saved = self.monitor.save_memory(bottom, size, &file);
        saved.expect("QEMU writes a file");
        let stack = std::fs::read(&file).expect("the file is there");
        let untouched = stack.iter().take_while(|byte| **byte == 0).count();
        size - untouched as u64
    }

    /// Where the program has a function with all of these words in its name, and no shorter name that has.
    ///
    /// # Panics
    /// If it has none.
    pub fn code(&self, words: &[&str]) -> u32 {
        let bytes = std::fs::read(&self.firmware.elf).expect("the program");
        let file = object::File::parse(&*bytes).expect("an ELF");
        let names = file.symbols().filter_map(|symbol| {
            let name = symbol.name().ok()?;
            let is_it =
                symbol.kind() == SymbolKind::Text && words.iter().all(|word| name.contains(word));
            is_it.then_some((name.len(), symbol.address()))
        });
        let (_, address) = names
            .min()
            .unwrap_or_else(|| panic!("the program has no function {words:?}"));
        u32::try_from(address).expect("32 bits") & !1
    }

    /// The processor, as the compiler calls it.
    pub fn target(&self) -> &str {
        &self.firmware.board.target
    }

    /// Asks the board again and again, for what its own patience has to come before.
    ///
    /// # Panics
    /// If there is no answer in time.
    pub fn wait_for<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Option<T>) -> T {
        let answer = (0..3).find_map(|_| wait(|| ask(self)));
        answer.unwrap_or_else(|| panic!("it did not happen; the log:\n{}", self.log()))
    }

    /// Changes the program while it runs, as a debugger does; a start brings it back.
    ///
    /// # Panics
    /// If QEMU refuses.
    pub fn change(&mut self, address: u32, bytes: &[u8]) {
        let stub = self.debugger.get_or_insert_with(|| {
            let socket = self.directory.path().join("gdb");
            let listens = self.monitor.debug(&socket);
            listens.expect("QEMU listens to debuggers");
            let lives = || self.process.exited().is_none();
            Stub::connect(&socket, lives).expect("QEMU answers debuggers")
        });
        stub.halt().expect("the board stops");
        stub.write(address, bytes).expect("it is memory");
        stub.resume().expect("the board goes on");
    }

    /// How the board failed last, as it keeps it over resets.
    ///
    /// # Panics
    /// If QEMU refuses, or the board keeps nothing.
    pub fn last_crash(&mut self) -> Option<recovery::Crash> {
        let file = self.directory.path().join("kept");
        let address = self.firmware.board.record_address.expect("it keeps some");
        let saved = self
            .monitor
            .save_memory(address, recovery::SIZE as u64, &file);
        saved.expect("QEMU writes a file");
        recovery::last(&std::fs::read(&file).expect("the file is there"))
    }

    /// All that the board has logged so far, one message per line.
    ///
    /// # Panics
    /// If the console's file is gone.
    pub fn log(&self) -> String {
        let mut log = self.log.borrow_mut();
        let mut bytes = Vec::new();
        log.console.read_to_end(&mut bytes).expect("a console");
        let lines = log.decoder.push(&bytes);
        log.text
            .extend(lines.iter().map(|line| format!("{line}\n")));
        log.text.clone()
    }

    /// Waits until the log has a message with this text.
    ///
    /// # Panics
    /// If it does not appear.
    pub fn wait_for_log(&self, text: &str) {
        let appeared = wait(|| {
            self.log()
                .lines()
                .any(|line| line.contains(text))
                .then_some(())
        });
        assert!(
            appeared.is_some(),
            "no {text:?} in the log:\n{}{}",
            self.log(),
            self.process.tail()
        );
    }
}

/// Tries until there is a result or patience ends.
pub(crate) fn wait<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt() {
            return Some(result);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where a program's main stack begins; it grows down.
fn stack_top(elf: &Path) -> u64 {
    let bytes = std::fs::read(elf).expect("the program");
    let file = object::File::parse(&*bytes).expect("an ELF");
    let mut symbols = file.symbols();
    let top = symbols.find(|symbol| symbol.name().is_ok_and(|name| TOPS.contains(&name)));
    top.expect("a stack").address()
}

/// What cortex-m-rt and the Zynq's start-up code call it.
const TOPS: [&str; 2] = ["_stack_start", "_sys_stack_high_end"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
