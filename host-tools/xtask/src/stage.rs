//! Runs stages one after the other (those that mostly wait, together), counts what passed, and says it all again at the end.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

/// One stage of `xtask test`.
pub struct Stage {
    /// As `--only` names it.
    pub name: &'static str,
    /// What it shows.
    pub what: &'static str,
    /// Whether it mostly waits (for servers to start, for timers): neighbours of this kind run at the same time.
    pub waits: bool,
    /// Runs it.
    pub run: fn(&Context) -> Outcome,
}

/// What every stage is given.
#[derive(Clone)]
pub struct Context {
    /// The repository.
    pub root: PathBuf,
    /// Before each line of its tests: who runs, where several do.
    pub prefix: String,
    /// Whether there is time for more.
    pub soak: bool,
}

/// How a stage ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is good.
    Passed,
    /// It consists of tests.
    Tests(Count),
    /// It is not good; the text says why.
    Failed(String),
    /// It cannot run here; the text says why.
    Skipped(String),
}

/// Tests that passed, tests that failed and their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    passed: u32,
    failed: u32,
    failures: Vec<String>,
}

impl Outcome {
    /// Both together, of two suites in one stage.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Tests(mut first), Self::Tests(second)) => {
                first.passed += second.passed;
                first.failed += second.failed;
                first.failures.extend(second.failures);
                Self::Tests(first)
            }
            (Self::Tests(_) | Self::Passed, other) => other,
            (failed, _) => failed,
        }
    }
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(why) => Self::Failed(why),
        }
    }
}

/// Runs the stages (those named in `only`, or all) and reports; a failure does not stop the stages after it.
pub fn run_all(root: &Path, stages: &[Stage], only: &[String], soak: bool) -> ExitCode {
    if let Some(unknown) = only
        .iter()
        .find(|name| stages.iter().all(|stage| stage.name != **name))
    {
        eprintln!("there is no stage `{unknown}`: see `xtask test --list`");
        return ExitCode::from(2);
    }
    let context = Context {
        root: root.to_owned(),
        prefix: String::new(),
        soak,
    };
    let chosen: Vec<&Stage> = stages
        .iter()
        .filter(|stage| only.is_empty() || only.iter().any(|name| name == stage.name))
        .collect();
    let mut results = Vec::new();
    for together in chosen.chunk_by(|one, next| one.waits && next.waits) {
        thread::scope(|scope| {
            let running: Vec<_> = together
                .iter()
                .map(|stage| {
                    let mut context = context.clone();
                    if together.len() > 1 {
                        context.prefix = format!("{}: ", stage.name);
                    }
                    (*stage, scope.spawn(move || run(stage, &context)))
                })
                .collect();
            for (stage, thread) in running {
                let failed = |_| (Outcome::Failed("it panicked".to_owned()), Duration::ZERO);
                let (outcome, took) = thread.join().unwrap_or_else(failed);
                results.push((stage.name, outcome, took));
            }
        });
    }
    report(&results)
}

fn run(stage: &Stage, context: &Context) -> (Outcome, Duration) {
    println!("\n== {}: {}", stage.name, stage.what);
    let start = Instant::now();
    let outcome = (stage.run)(context);
    let took = start.elapsed();
    println!("== {} {} in {}", stage.name, outcome.word(), seconds(took));
    (outcome, took)
}

fn report(results: &[(&str, Outcome, Duration)]) -> ExitCode {
    println!("\n== all stages");
    let (mut passed, mut failed) = (0, 0);
    for (name, outcome, took) in results {
        let (good, bad, notes) = outcome.count();
        passed += good;
        failed += bad;
        println!(
            "{name:<12} {:<8} {:>8}  {}",
            outcome.word(),
            seconds(*took),
            notes.join("\n                               ")
        );
    }
    println!("\n{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Tests(count) if count.failed == 0 => "passed",
            Self::Tests(_) | Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "skipped",
        }
    }

    /// Passed, failed, and what to print beside it.
    fn count(&self) -> (u32, u32, Vec<String>) {
        match self {
            Self::Passed => (1, 0, Vec::new()),
            Self::Tests(count) => {
                let mut notes = vec![format!("{} passed, {} failed", count.passed, count.failed)];
                notes.extend(count.failures.iter().map(|name| format!("failed: {name}")));
                (count.passed, count.failed, notes)
            }
            Self::Failed(why) => (0, 1, vec![why.clone()]),
            Self::Skipped(why) => (0, 0, vec![why.clone()]),
        }
    }
}

/// Runs a command to its end, its output on ours.
pub fn succeed(command: &mut Command) -> Result<(), String> {
    let name = described(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}`: {status}")),
        Err(error) => Err(format!("`{name}`: {error}")),
    }
}

/// Runs a `cargo test` command, shows its output and counts its tests.
pub fn tests(context: &Context, command: &mut Command) -> Outcome {
    let name = described(command);
    let mut child = match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::Failed(format!("`{name}`: {error}")),
    };
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{}{line}", context.prefix);
            count.read(&line);
        }
    }
    match child.wait() {
        Ok(status) if !status.success() && count.failed == 0 => {
            Outcome::Failed(format!("`{name}`: {status} (does it compile?)"))
        }
        Ok(_) => Outcome::Tests(count),
        Err(error) => Outcome::Failed(format!("`{name}`: {error}")),
    }
}

impl Count {
    /// Takes in a line of libtest: `test a ... FAILED`, or `test result: ok. 7 passed; 0 failed; …`.
    fn read(&mut self, line: &str) {
        let number = |text: &str, before: &str| -> u32 {
            let words = text.split(before).next().unwrap_or_default();
            words
                .split_whitespace()
                .last()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
        };
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number(result, " passed");
            self.failed += number(result, " failed");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

fn described(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_is_counted() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test good ... ok",
            "test module::bad ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            count.read(line);
        }
        assert_eq!(
            count,
            Count {
                passed: 42,
                failed: 1,
                failures: vec!["module::bad".into()]
            }
        );
        assert_eq!(Outcome::Tests(count).word(), "FAILED");
    }

    #[test]
    fn a_test_command_that_does_not_run_is_a_failure() {
        let context = Context {
            root: PathBuf::new(),
            prefix: String::new(),
            soak: false,
        };
        let outcome = tests(&context, Command::new("sh").args(["-c", "exit 101"]));
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        let outcome = tests(&context, &mut Command::new("/nonexistent"));
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
}
