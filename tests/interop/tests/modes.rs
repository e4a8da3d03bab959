//! The same story beside every peer in each of its modes: each takes over from the other whatever happens, both agree about who
//! is Active, traffic follows, and there are never two for longer than a take-over takes.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use interop::mode::{ALL, Mode, Rival};
use interop::{Lab, Router, Side, Watch, wait_until};
use libtest_mimic::{Arguments, Trial};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appliance");
/// They wait most of the time.
const AT_ONCE: usize = 5;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(AT_ONCE);
    let trials = ALL.iter().flat_map(|mode| {
        [
            Trial::test(format!("{}: we are preferred", mode.name), || {
                preferred(*mode);
                Ok(())
            }),
            Trial::test(format!("{}: the other one is preferred", mode.name), || {
                deferred(*mode);
                Ok(())
            }),
        ]
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

const HIGHEST: u8 = 220;
const HIGH: u8 = 200;
const LOW: u8 = 150;

/// A lab, and what holds in it all the time.
struct Stage {
    lab: Lab,
    watch: Watch,
    mode: Mode,
}

impl Stage {
    fn new(mode: Mode) -> Self {
        let lab = Lab::new();
        lab.client_speaks_ipv6();
        let watch = lab.watch();
        Self { lab, watch, mode }
    }

    fn ours(&self, priority: u8) -> Router {
        let config = self.mode.config(Side::Left, priority);
        self.lab.appliance_with(PROGRAM, Side::Left, &config)
    }

    fn theirs(&self, priority: u8) -> Rival<'_> {
        Rival::start(&self.lab, self.mode, Side::Right, priority)
    }

    /// We are Active, the other one agrees, and users reach us.
    fn we_are_active(&self, ours: &Router, theirs: Option<&Rival<'_>>) {
        let routers: Vec<&Router> = [ours]
            .into_iter()
            .chain(theirs.map(|theirs| &theirs.router))
            .collect();
        wait_until("we are Active", &routers, || state(ours) == Some("Active"));
        if let Some(theirs) = theirs {
            wait_until("the other one agrees", &routers, || theirs.says(false));
        }
        self.users_are_served(&routers);
    }

    /// The other one is Active, we agree, and users reach it.
    fn they_are_active(&self, ours: Option<&Router>, theirs: &Rival<'_>) {
        let routers: Vec<&Router> = [&theirs.router].into_iter().chain(ours).collect();
        wait_until("the other one is Active", &routers, || theirs.says(true));
        if let Some(ours) = ours {
            wait_until("we agree", &routers, || state(ours) == Some("Backup"));
        }
        self.users_are_served(&routers);
    }

    fn users_are_served(&self, routers: &[&Router]) {
        for address in self.mode.virtual_addresses() {
            wait_until(&format!("{address} answers"), routers, || {
                self.lab.ping("client", address)
            });
        }
    }

    /// Since this moment there were never two for longer than a take-over.
    fn never_two_for_long(&self, since: Instant) {
        let both = self.watch.both_active(since, self.mode.interval());
        let limit = self.mode.take_over(LOW) + self.mode.interval() + Duration::from_millis(200);
        assert!(
            both <= limit,
            "both were Active for {both:?}:\n{}",
            self.watch
        );
    }
}

/// What our appliance has logged last about its state.
fn state(ours: &Router) -> Option<&'static str> {
    let log = ours.log();
    let states = ["Active", "Backup", "Fault", "Initialize"];
    let mut changes = log.lines().rev().filter_map(|line| {
        let (_, to) = line.split_once("-> ")?;
        states.into_iter().find(|state| to.starts_with(state))
    });
    changes.next()
}

fn preferred(mode: Mode) {
    let stage = Stage::new(mode);
    let begun = Instant::now();
    let ours = stage.ours(HIGH);
    stage.we_are_active(&ours, None);
    let theirs = stage.theirs(LOW);
    stage.we_are_active(&ours, Some(&theirs));

    theirs.set_priority(HIGHEST);
    stage.they_are_active(Some(&ours), &theirs);
    theirs.set_priority(LOW);
    stage.we_are_active(&ours, Some(&theirs));

    ours.power_off();
    stage.they_are_active(None, &theirs);
    let ours = stage.ours(HIGH);
    stage.we_are_active(&ours, Some(&theirs));
    stage.never_two_for_long(begun);

    stage.lab.split(true);
    wait_until("both are Active, apart", &[&ours, &theirs.router], || {
        theirs.says(true) && state(&ours) == Some("Active")
    });
    stage.lab.split(false);
    let healed = Instant::now();
    stage.we_are_active(&ours, Some(&theirs));
    stage.never_two_for_long(healed);

    let before = Instant::now();
    ours.stop();
    stage.they_are_active(None, &theirs);
    stage.never_two_for_long(before);
}

fn deferred(mode: Mode) {
    let stage = Stage::new(mode);
    let begun = Instant::now();
    let theirs = stage.theirs(HIGH);
    stage.they_are_active(None, &theirs);
    let ours = stage.ours(LOW);
    stage.they_are_active(Some(&ours), &theirs);

    theirs.stop();
    stage.we_are_active(&ours, None);
    let theirs = stage.theirs(HIGH);
    stage.they_are_active(Some(&ours), &theirs);

    theirs.power_off();
    stage.we_are_active(&ours, None);
    let theirs = stage.theirs(HIGH);
    stage.they_are_active(Some(&ours), &theirs);
    ours.stop();
    stage.they_are_active(None, &theirs);
    stage.never_two_for_long(begun);
}
