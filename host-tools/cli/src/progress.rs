//! What long commands show while they work: bars on a terminal, plain lines elsewhere; always on stderr.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use build::{Progress as Event, Step};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Draws the steps of a build.
pub struct Progress {
    bars: MultiProgress,
    running: Mutex<Vec<(Step, ProgressBar)>>,
    total: ProgressBar,
    terminal: bool,
}

impl Progress {
    /// Draws nothing until the first event.
    pub fn new() -> Self {
        let bars = MultiProgress::new();
        let total =
            ProgressBar::hidden().with_style(style("{bar:30} {pos} of {len} steps, {elapsed}"));
        Self {
            bars,
            running: Mutex::default(),
            total,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Shows one event; called from several threads.
    pub fn show(&self, event: Event) {
        match event {
            Event::Waiting => self.line("waiting for another build to end"),
            Event::Planned { steps } => {
                if self.terminal && !steps.is_empty() {
                    self.total.set_length(steps.len() as u64);
                    self.bars.add(self.total.clone());
                    self.total.enable_steady_tick(TICK);
                }
            }
            Event::Started(step) if self.terminal => {
                let bar = self.bars.insert(0, spinner(&step.to_string()));
                lock(&self.running).push((step, bar));
            }
            Event::Started(step) => self.line(&format!("{step} ...")),
            Event::Finished(step, took) => {
                let mut running = lock(&self.running);
                if let Some(index) = running.iter().position(|(other, _)| *other == step) {
                    running.swap_remove(index).1.finish_and_clear();
                }
                drop(running);
                self.line(&format!("{step} done in {:.1} s", took.as_secs_f64()));
                if step != Step::Programs && step != Step::Lock {
                    self.total.inc(1);
                }
            }
        }
    }

    /// Shows a step that is not one of the images.
    pub fn during<T>(&self, step: &str, work: impl FnOnce() -> T) -> T {
        let bar = self.terminal.then(|| self.bars.insert(0, spinner(step)));
        let begun = Instant::now();
        let result = work();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        self.line(&format!(
            "{step} done in {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        result
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        if self.terminal {
            // A terminal that is gone is no reason to stop.
            let _ = self.bars.println(text);
        } else {
            eprintln!("{text}");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        for (_, bar) in lock(&self.running).drain(..) {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// A line that moves while something lasts; nothing when stderr is no terminal.
pub fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner()
        .with_style(style("{spinner} {msg} {elapsed}"))
        .with_message(text.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// Whether bars can be drawn.
pub fn on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A bar that counts the bytes of one device; its message is what is going on.
pub fn bytes(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(0)
        .with_style(style("{prefix:12} {bar:24} {msg} {bytes} of {total_bytes}"));
    bar.with_prefix(name.to_owned())
}

/// A bar that counts devices.
pub fn devices(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    bar.with_style(style("{pos} of {len} devices, {elapsed}"))
}

const TICK: Duration = Duration::from_millis(120);

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What it guards, also after a panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
