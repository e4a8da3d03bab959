//! All cases of virtual routers on both boards.

use std::process::ExitCode;

use conformance::{Bench, Cable, Device, Profile};
use qemu::Emulated;

/// They wait most of the time.
const AT_ONCE: usize = 12;

fn main() -> ExitCode {
    let boards = ["mps2-an500", "zynq7000"];
    let benches = boards.map(|board| (board, Box::new(Board(board)) as Box<dyn Bench>));
    conformance::run(benches.into(), AT_ONCE)
}

/// Starts devices of this kind.
struct Board(&'static str);

struct Running {
    emulated: Emulated,
    cable: Cable,
}

impl Bench for Board {
    fn start(&self, profile: &Profile) -> Box<dyn Device> {
        let emulated = Emulated::start(self.0, self.0, &profile.blob());
        let (socket, here, there) = emulated.cable(0);
        let cable = Cable::over(socket, here, there);
        Box::new(Running { emulated, cable })
    }

    fn can_stop(&self) -> bool {
        false
    }

    fn is_quick(&self) -> bool {
        false
    }
}

impl Device for Running {
    fn cable(&self) -> &Cable {
        &self.cable
    }

    fn set_link(&mut self, up: bool) {
        self.emulated.set_link(0, up);
    }

    fn stop(&mut self) {
        panic!("firmware does not end");
    }

    fn log(&self) -> String {
        self.emulated.log()
    }
}
