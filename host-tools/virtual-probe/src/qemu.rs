//! An emulated board without firmware, at whose gdbstub a probe can be held.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{VirtualProbe, VirtualProbeError, gdb::Stub};

/// The emulator, which ends when this is dropped.
#[derive(Debug)]
pub struct Board {
    emulator: Child,
    probe: VirtualProbe,
    // Last: the sockets in it are in use before.
    _folder: TempDir,
}

impl Board {
    /// Powers up a board by this command (`qemu-system-arm -M ...`), its memory empty, and holds a probe to it. What it says on its
    /// serial port goes to `log`. It ends with the thread that calls this, at the latest.
    ///
    /// # Errors
    /// If the emulator cannot be started, or there is no stub in it.
    pub fn power_up(
        program: &str,
        machine: &[String],
        more: &[String],
        log: Option<&Path>,
    ) -> Result<Self, VirtualProbeError> {
        let folder = tempfile::tempdir().map_err(VirtualProbeError::Machine)?;
        let socket = folder.path().join("gdb");
        // Ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command.args(machine).args(more);
        command.args(["-display", "none", "-monitor", "none", "-S"]);
        let log = log.map_or_else(
            || "null".to_owned(),
            |log| format!("file:{}", log.display()),
        );
        command.args(["-serial", &log]);
        let chardev = format!("socket,id=gdb,path={},server=on,wait=off", socket.display());
        command.args(["-chardev", &chardev, "-gdb", "chardev:gdb"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut emulator = command
            .spawn()
            .map_err(|cause| VirtualProbeError::Emulator {
                program: program.to_owned(),
                cause,
            })?;
        let lives = || matches!(emulator.try_wait(), Ok(None));
        let probe = Stub::connect(&socket, lives)
            .map_err(VirtualProbeError::from)
            .and_then(VirtualProbe::start);
        match probe {
            Ok(probe) => Ok(Self {
                emulator,
                probe,
                _folder: folder,
            }),
            Err(error) => {
                end(&mut emulator).ok();
                Err(error)
            }
        }
    }

    /// The probe at it.
    #[must_use]
    pub fn probe(&self) -> &VirtualProbe {
        &self.probe
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // One that has ended already is no trouble.
        end(&mut self.emulator).ok();
    }
}

fn end(emulator: &mut Child) -> io::Result<()> {
    emulator.kill()?;
    emulator.wait().map(|_| ())
}
