//! The first program of a server's boot. It runs from the initrd as process 1 and
//!
//! 1. loads the kernel modules listed in `/modules/order`,
//! 2. finds the slot whose root has the hash on the kernel command line (`root-a` with `root-verity-a`, or `b`),
//! 3. mounts it read-only through dm-verity,
//! 4. finds the identity of this server, signed by the key on the kernel command line, for the role on it,
//! 5. mounts `/var`, and the files of the identity over `/etc`, in memory,
//! 6. becomes systemd.
//!
//! Whatever fails is said on the console; the kernel then restarts the machine (`panic=` on its command line).

mod disks;
mod identity;
mod root;
mod steps;
mod verity;

use std::fs;
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let error = match steps::boot() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let message = format!("ravelin-init: cannot {error}\n");
    // The kernel's log reaches every console.
    if fs::write("/dev/kmsg", format!("<2>{message}")).is_err() {
        eprint!("{message}");
    }
    // Time for a slow serial line before the kernel panics because process 1 has ended.
    sleep(Duration::from_secs(2));
    exit(1);
}
