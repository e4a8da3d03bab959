//! The Linux board as a process of its own on virtual cables.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use board_linux::{Options, PortSpec};
use classifier::Aligned;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{Bench, Cable, Device, Profile};

/// Set in the environment of a process that is a device: its configuration.
pub const CONFIGURATION: &str = "RAVELIN_CONFORMANCE_DEVICE";

/// Starts devices as processes of the program that runs.
#[derive(Debug)]
pub struct Linux;

/// Is a device in this process, if it was started as one.
///
/// # Errors
/// If it could not be one.
pub fn be_a_device() -> Option<Result<(), Box<dyn Error>>> {
    let directory = env::var_os(CONFIGURATION)?;
    Some(device(Path::new(&directory)))
}

fn device(directory: &Path) -> Result<(), Box<dyn Error>> {
    let blob = fs::read(directory.join("blob"))?;
    let policy = classifier::load(Aligned::copy(&blob).leak())?;
    let port = PortSpec::Cable {
        local: directory.join("device"),
        remote: directory.join("tester"),
    };
    Ok(board_linux::run(Options {
        policy,
        blob: &[],
        source: None,
        file: None,
        rules: Vec::new(),
        ports: vec![port],
        stop: None,
        realtime: false,
    })?)
}

struct Process {
    child: Child,
    cable: Cable,
    directory: TempDir,
}

impl Bench for Linux {
    fn start(&self, profile: &Profile) -> Box<dyn Device> {
        let directory = TempDir::with_prefix("rv").expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("blob"), profile.blob()).expect("a writable directory");
        let cable = Cable::new(&path("tester"), &path("device"));
        let log = File::create(path("log")).expect("a writable directory");
        let child = Command::new(env::current_exe().expect("a program"))
            .env(CONFIGURATION, directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("it starts");
        Box::new(Process {
            child,
            cable,
            directory,
        })
    }

    fn can_stop(&self) -> bool {
        true
    }

    fn is_quick(&self) -> bool {
        true
    }
}

impl Device for Process {
    fn cable(&self) -> &Cable {
        &self.cable
    }

    fn set_link(&mut self, up: bool) {
        self.cable.plug(up);
    }

    fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGTERM).expect("it runs");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
