//! Runs the cases on one kind of device.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::cable;
use crate::cases::{self, Case};
use crate::tester::{Late, Tester, Verdict};
use crate::{Bench, Device, Profile};

/// What a device logs when its loop got no time.
const STALLED: &str = "was away for too long";

/// How often a case is tried before being late is a failure.
const TRIES: usize = 4;

/// Runs all cases that these benches can run, `at_once` of them at the same time: they mostly wait.
#[must_use]
pub fn run(benches: Vec<(&'static str, Box<dyn Bench>)>, at_once: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(at_once);
    let mut trials = Vec::new();
    for (board, bench) in benches {
        let (each_alone, can_stop) = (bench.is_quick(), bench.can_stop());
        let pool = Arc::new(Pool {
            bench,
            idle: Mutex::default(),
            most: at_once / 2,
        });
        let cases = cases::all(each_alone).into_iter();
        trials.extend(cases.filter(|case| can_stop || !case.stops).map(|case| {
            let pool = Arc::clone(&pool);
            let name = format!("{board}: {} ({})", case.name, case.section);
            Trial::test(name, move || pool.try_case(&case))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Devices that run, and wait for a case.
struct Pool {
    bench: Box<dyn Bench>,
    idle: Mutex<BTreeMap<&'static str, Vec<Running>>>,
    /// Most that wait.
    most: usize,
}

/// A device, and what its clock makes of a second.
struct Running {
    device: Box<dyn Device>,
    scale: f64,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<Running>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_case(&self, case: &Case) -> Result<(), Failed> {
        let mut late = Vec::new();
        for _ in 0..TRIES {
            match self.try_once(case) {
                Ok(()) => return Ok(()),
                Err(Late(what)) => late.push(what),
            }
        }
        Err(format!("late or too early every time:\n{}", late.join("\n")).into())
    }

    fn try_once(&self, case: &Case) -> Verdict {
        let started = cable::now();
        let mut running = match case.fresh {
            true => Running {
                device: self.bench.start(&case.profile),
                scale: 1.0,
            },
            false => self.running(&case.profile)?,
        };
        let mut tester = Tester::new(&mut *running.device, &case.profile, running.scale);
        tester.started = started;
        let verdict = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut tester)));
        let verdict = match verdict {
            // It stood still because the machine did, and gave way to others as it should.
            Err(_) if running.device.log().contains(STALLED) => {
                return Err(Late(format!(
                    "it {STALLED}; its log:\n{}",
                    running.device.log()
                )));
            }
            Err(panic) => resume_unwind(panic), // a device that fails is not used again
            Ok(verdict) => verdict,
        };
        if case.fresh {
            return verdict;
        }
        let mut idle = self.idle();
        // Of another kind too, so that not all kinds wait at the same time.
        let count: usize = idle.values().map(Vec::len).sum();
        if count >= self.most
            && let Some(other) = idle.values_mut().find(|list| !list.is_empty())
        {
            other.pop();
        }
        idle.entry(case.profile.name).or_default().push(running);
        verdict
    }

    /// A device that is Active or will be, and its clock.
    fn running(&self, profile: &Profile) -> Result<Running, Late> {
        let idle = self.idle().get_mut(profile.name).and_then(Vec::pop);
        if let Some(running) = idle {
            return Ok(running);
        }
        let mut device = self.bench.start(profile);
        let scale = clock(&mut *device, profile)?;
        Ok(Running { device, scale })
    }
}

/// What a device's clock makes of a second, told from its own adverts.
fn clock(device: &mut dyn Device, profile: &Profile) -> Result<f64, Late> {
    let mut tester = Tester::new(device, profile, 1.0);
    tester.make_active()?;
    // Half of them say more than their sum, which one late advert makes long.
    let mut gaps = cases::gaps(&mut tester, 9);
    gaps.sort();
    Ok(gaps[gaps.len() / 2].div_duration_f64(tester.facts.interval))
}
