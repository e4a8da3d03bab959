//! The first program of a server's boot. It runs from the initrd as process 1 and
//!
//! 1. loads the kernel modules listed in `/modules/order`,
//! 2. finds the partitions `root`, `root-verity` and `var` by name,
//! 3. mounts the root read-only through dm-verity, against the hash on the kernel command line,
//! 4. mounts `/var`, and this server's own files (`/host/etc` of the initrd) over `/etc`, in memory,
//! 5. becomes systemd.
//!
//! Whatever fails is said on the console; the kernel then restarts the machine (`panic=` on its command line).

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
