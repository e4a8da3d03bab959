//! A debug probe without hardware: speaks the Black Magic remote protocol over TCP, as probe-rs does, and has an emulated Cortex-M
//! behind QEMU's gdbstub as its target. Whatever flashes real boards flashes emulated ones through it, and meets faults on demand.

#![forbid(unsafe_code)]

mod core;
mod faults;
mod gdb;
mod port;
mod qemu;
pub mod remote;
mod swd;

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::{core::Core, port::Port, swd::Wire};

pub use faults::{Fault, Faults};
pub use gdb::{Stub, StubError};
pub use qemu::Board;
use remote::{Answer, Command, Decoder};
use swd::Registers as _;

/// Why there is no virtual probe.
#[derive(Debug, Error)]
pub enum VirtualProbeError {
    /// The emulator cannot be started.
    #[error("cannot start {program}: {cause}")]
    Emulator {
        /// The program.
        program: String,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
    /// No folder or no socket.
    #[error("cannot make what a virtual probe needs: {0}")]
    Machine(#[source] io::Error),
    /// The emulated core does not do as told.
    #[error(transparent)]
    Stub(#[from] StubError),
}

/// A probe that listens on a local port, for one debugger at a time, until it is dropped.
#[derive(Debug)]
pub struct VirtualProbe {
    address: SocketAddr,
    faults: Faults,
    written: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    bench: Arc<Mutex<Bench>>,
    thread: Option<JoinHandle<()>>,
}

impl VirtualProbe {
    /// Listens, with the core behind `stub` as its target.
    ///
    /// # Errors
    /// If no port can be had, or the emulator is gone.
    pub fn start(stub: Stub) -> Result<Self, VirtualProbeError> {
        let faults = Faults::default();
        let written = Arc::new(AtomicU64::new(0));
        let end = Arc::new(AtomicBool::new(false));
        let bench = Arc::new(Mutex::new(Bench {
            port: Port::new(Core::new(stub, faults.clone())?),
            wire: Wire::default(),
            faults: faults.clone(),
            written: Arc::clone(&written),
        }));
        let served = Arc::clone(&bench);
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(VirtualProbeError::Machine)?;
        let address = listener.local_addr().map_err(VirtualProbeError::Machine)?;
        let ended = Arc::clone(&end);
        let serve = move || {
            thread::scope(|scope| {
                for stream in listener.incoming().flatten() {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let (bench, ended) = (&*served, &ended);
                    scope.spawn(move || match free(bench) {
                        // Whoever goes away is gone; the next one comes.
                        Some(mut bench) => bench.serve(stream, ended),
                        // Another debugger holds the probe: hang up.
                        None => Ok(()),
                    });
                }
            });
        };
        let thread = thread::Builder::new()
            .name("virtual probe".to_owned())
            .spawn(serve)
            .map_err(VirtualProbeError::Machine)?;
        Ok(Self {
            address,
            faults,
            written,
            end,
            bench,
            thread: Some(thread),
        })
    }

    /// Where it listens. For probe-rs its serial number: `1d50:6018:ADDRESS` selects it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes wrong at it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Presses the target's reset button, without a debugger.
    ///
    /// # Errors
    /// If the emulator is gone, or a debugger holds the probe.
    pub fn reset_target(&self) -> Result<(), VirtualProbeError> {
        let busy = || VirtualProbeError::Machine(io::ErrorKind::ResourceBusy.into());
        let mut bench = free(&self.bench).ok_or_else(busy)?;
        bench.port.core().hold_in_reset(true)?;
        Ok(bench.port.core().hold_in_reset(false)?)
    }

    /// Takes a look at the target's memory, without a debugger.
    ///
    /// # Errors
    /// If there is none, the emulator is gone, or a debugger holds the probe.
    pub fn memory(&self, address: u32, length: usize) -> Result<Vec<u8>, VirtualProbeError> {
        let busy = || VirtualProbeError::Machine(io::ErrorKind::ResourceBusy.into());
        let mut bench = free(&self.bench).ok_or_else(busy)?;
        Ok(bench.port.core().read(address, length)?)
    }

    /// Changes the target's memory, without a debugger.
    ///
    /// # Errors
    /// If there is none, the emulator is gone, or a debugger holds the probe.
    pub fn change_memory(&self, address: u32, bytes: &[u8]) -> Result<(), VirtualProbeError> {
        let busy = || VirtualProbeError::Machine(io::ErrorKind::ResourceBusy.into());
        let mut bench = free(&self.bench).ok_or_else(busy)?;
        Ok(bench.port.core().write(address, bytes)?)
    }

    /// Bytes of memory that debuggers have written through it.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for VirtualProbe {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Ends its wait for the next debugger; if nobody can connect, it does not wait.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// The probe and all behind it.
#[derive(Debug)]
struct Bench {
    port: Port,
    wire: Wire,
    faults: Faults,
    written: Arc<AtomicU64>,
}

/// The bench, when nobody is at it; one who has just left may not have been noticed yet.
fn free<T>(bench: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let begun = Instant::now();
    loop {
        match bench.try_lock() {
            Ok(bench) => return Some(bench),
            Err(TryLockError::Poisoned(bench)) => return Some(bench.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > 5 * TICK => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(TICK / 10),
        }
    }
}

/// How soon a probe that shall end notices, while a debugger says nothing.
const TICK: Duration = Duration::from_millis(100);

impl Bench {
    fn serve(&mut self, mut stream: TcpStream, ended: &AtomicBool) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        let mut decoder = Decoder::default();
        let mut bytes = [0; 4096];
        while !ended.load(Ordering::Relaxed) {
            let count = match stream.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            for command in bytes[..count].iter().filter_map(|byte| decoder.push(*byte)) {
                if self.faults.drops() {
                    return Ok(());
                }
                let answer = match command {
                    Ok(command) => self.execute(command).unwrap_or(Answer::Fault),
                    Err(remote::Malformed) => Answer::Malformed,
                };
                stream.write_all(&answer.encode())?;
            }
        }
        Ok(())
    }

    fn execute(&mut self, command: Command) -> Result<Answer, StubError> {
        let powered = !self.faults.no_power();
        Ok(match command {
            Command::Identify => Answer::Text("Ravelin virtual probe v1.10"),
            Command::Version => Answer::Number(1),
            Command::Voltage => Answer::Text(if powered { "3.3V" } else { "0.0V" }),
            Command::Speed => Answer::Number(4_000_000),
            Command::Setting => Answer::Done,
            Command::Unknown => Answer::Unsupported,
            // A line that nobody drives reads as ones.
            Command::SwdIn { count } if !powered => {
                Answer::Number(u64::MAX.checked_shr(64 - count.min(64)).unwrap_or(0))
            }
            Command::SwdOut { .. } if !powered => Answer::Done,
            _ if !powered => Answer::Fault,
            Command::Reset(hold) => {
                self.port.core().hold_in_reset(hold)?;
                Answer::Done
            }
            Command::SwdOut { count, bits } => {
                self.wire.take(count, bits, &mut self.port);
                Answer::Done
            }
            Command::SwdIn { count } => Answer::Number(self.wire.give(count, &mut self.port)),
            Command::ReadPort { address } => Answer::Register(self.port.read(address)),
            Command::WritePort { address, value } => {
                self.port.write(address, value);
                Answer::Done
            }
            Command::ReadAccess { port, address } => {
                Answer::Register(self.port.read_access(port, address)?)
            }
            Command::WriteAccess {
                port,
                address,
                value,
            } => {
                self.port.write_access(port, address, value)?;
                Answer::Done
            }
            Command::ReadMemory { address, length } => {
                Answer::Bytes(self.port.core().read(address, length)?)
            }
            Command::WriteMemory { address, bytes } => {
                self.port.core().write(address, &bytes)?;
                self.written
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Answer::Done
            }
        })
    }
}
