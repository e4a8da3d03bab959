//! Runs stories through both worlds and judges the differences.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use node::Drop;

use crate::Emission;
use crate::kernel::Kernel;
use crate::known::{self, Difference};
use crate::ours::Ours;
use crate::site::Site;
use crate::story::{Step, Story};

/// One step and what both worlds made of it.
#[derive(Debug)]
pub struct Case<'a> {
    /// What both got before in this story.
    pub before: &'a [Step],
    /// Which of those the kernel took.
    pub taken: &'a [bool],
    /// What both got.
    pub step: &'a Step,
    /// What the kernel sent.
    pub kernel: &'a [Emission],
    /// What our node sent.
    pub ours: &'a [Emission],
    /// Why our node dropped packets, if it did.
    pub drops: &'a [Drop],
}

/// Both worlds, and what was seen in them.
#[derive(Debug)]
pub struct Comparison {
    site: Site,
    kernel: Kernel,
    ours: Ours,
    tally: Tally,
    /// Which steps of the story the kernel took.
    taken: Vec<bool>,
    /// The first of each sort, and how many there were.
    failures: BTreeMap<String, (u32, String)>,
}

/// How many of what.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Stories run.
    pub stories: u32,
    /// Packets sent into both worlds.
    pub packets: u32,
    /// Packets that both passed on or answered with the same bytes.
    pub sent: u32,
    /// Steps on which both were silent.
    pub silent: u32,
    /// Listed differences, by name.
    pub known: BTreeMap<&'static str, u32>,
    /// Why our node dropped packets.
    pub drops: BTreeMap<&'static str, u32>,
}

/// Sorts of failures that are written out; one is enough to fail.
const SHOWN: usize = 40;

impl Comparison {
    /// Both worlds with this site.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        Self {
            kernel: Kernel::new(site),
            ours: Ours::new(site),
            site: site.clone(),
            tally: Tally::default(),
            taken: Vec::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Runs one story. The rest of a story is not looked at once the worlds are in different states.
    pub fn run(&mut self, story: &Story) {
        self.renew();
        for index in 0..story.steps.len() {
            if self.step(story, index).is_none() {
                return;
            }
        }
    }

    /// Runs a story that goes on with what `next` makes of its steps so far and what came of the last one. For so many that the
    /// node has room for their flows.
    pub fn converse(
        &mut self,
        mut story: Story,
        mut next: impl FnMut(&[Step], &[Emission]) -> Option<Step>,
    ) {
        self.tally.stories += 1;
        let mut index = 0;
        while let Some(sent) = self.step(&story, index) {
            story.steps.truncate(index + 1);
            let Some(step) = next(&story.steps, &sent) else {
                return;
            };
            story.steps.push(step);
            index += 1;
        }
    }

    /// Counts a story, and lets both worlds begin anew now and then.
    fn renew(&mut self) {
        self.tally.stories += 1;
        // A node has less room for flows than the kernel. Behind a translated address flows of different stories can clash:
        // both or neither must know them.
        if self.tally.stories.is_multiple_of(FRESH) {
            self.ours = Ours::new(&self.site);
            self.kernel = Kernel::new(&self.site);
        }
    }

    /// One step of a story in both worlds: what the kernel sent, if both go on from the same state.
    fn step(&mut self, story: &Story, index: usize) -> Option<Vec<Emission>> {
        let step = story.steps.get(index)?;
        self.taken.truncate(index);
        let packets: Vec<&[u8]> = step.packets.iter().map(Vec::as_slice).collect();
        let kernel = self.kernel.exchange(step.leg, &packets);
        let (ours, drops) = self.ours.exchange(step.leg, &packets);
        self.tally.packets += packets.len() as u32;
        for drop in &drops {
            *self.tally.drops.entry(drop.name()).or_default() += 1;
        }
        let case = Case {
            before: &story.steps[..index],
            taken: &self.taken,
            step,
            kernel: &kernel,
            ours: &ours,
            drops: &drops,
        };
        match judge(&case) {
            Judgement::Same if kernel.is_empty() => self.tally.silent += 1,
            Judgement::Same => self.tally.sent += kernel.len() as u32,
            Judgement::Known(difference) => {
                *self.tally.known.entry(difference.name).or_default() += 1;
                if difference.parts {
                    return None;
                }
            }
            Judgement::Unknown => {
                let text = || report(story, index, &case);
                let sort = self.failures.entry(sort(&case));
                sort.or_insert_with(|| (0, text())).0 += 1;
                return None;
            }
        }
        let taken = known::is_taken(&case);
        self.taken.push(taken);
        Some(kernel)
    }

    /// What was seen.
    ///
    /// # Errors
    /// With the differences that are not listed.
    pub fn finish(self) -> Result<Tally, String> {
        if self.failures.is_empty() {
            return Ok(self.tally);
        }
        let count: u32 = self.failures.values().map(|(count, _)| count).sum();
        let shown = self.failures.values().take(SHOWN);
        let list: Vec<String> = shown
            .map(|(count, text)| format!("{text}\n({count} like this)"))
            .collect();
        Err(format!(
            "{}\n{}\n{count} stories differ in {} ways, of which {} are shown",
            self.tally,
            list.join("\n"),
            self.failures.len(),
            list.len()
        ))
    }
}

/// Failures with the same sort have most likely the same cause.
fn sort(case: &Case<'_>) -> String {
    let shape = |emissions: &[Emission]| -> String {
        let parts = emissions
            .iter()
            .map(|e| format!("{}:{}", e.leg, e.packet.get(9).unwrap_or(&0)));
        parts.collect::<Vec<_>>().join(" ")
    };
    let names: Vec<&str> = case.drops.iter().map(|drop| drop.name()).collect();
    let differ = case.kernel.len() == case.ours.len();
    format!(
        "{} {} {differ} {} {}",
        case.step.what,
        names.join(","),
        shape(case.kernel).len(),
        shape(case.ours).len()
    )
}

/// Stories after which both worlds begin anew.
const FRESH: u32 = 1000;

enum Judgement {
    Same,
    Known(&'static Difference),
    Unknown,
}

fn judge(case: &Case<'_>) -> Judgement {
    if case.kernel == case.ours {
        return Judgement::Same;
    }
    match known::of(case) {
        Some(known) => Judgement::Known(known),
        None => Judgement::Unknown,
    }
}

fn report(story: &Story, index: usize, case: &Case<'_>) -> String {
    let mut text = format!("--- {} {}, step {index}\n", story.name, story.number);
    for (number, step) in story.steps.iter().enumerate().take(index + 1) {
        for packet in &step.packets {
            let _ = writeln!(
                text,
                "  {number} leg {} {}: {}",
                step.leg,
                step.what,
                forge::read(packet)
            );
        }
    }
    for (who, emissions) in [("kernel", case.kernel), ("ours", case.ours)] {
        if emissions.is_empty() {
            let _ = writeln!(text, "{who}: nothing");
        }
        for emission in emissions {
            let Emission { leg, to, packet } = emission;
            let _ = writeln!(
                text,
                "{who}: leg {leg} to {to:02x?} {}",
                forge::read(packet)
            );
        }
    }
    if let ([kernel], [ours]) = (case.kernel, case.ours)
        && kernel.packet != ours.packet
    {
        let _ = writeln!(text, "kernel {:02x?}", kernel.packet);
        let _ = writeln!(text, "ours   {:02x?}", ours.packet);
    }
    let names: Vec<&str> = case.drops.iter().map(|drop| drop.name()).collect();
    let _ = write!(text, "our drops: {}", names.join(", "));
    text
}

impl Tally {
    /// Counts another run, too.
    pub fn add(&mut self, other: &Self) {
        self.stories += other.stories;
        self.packets += other.packets;
        self.sent += other.sent;
        self.silent += other.silent;
        for (name, count) in &other.known {
            *self.known.entry(name).or_default() += count;
        }
        for (name, count) in &other.drops {
            *self.drops.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} stories, {} packets: {} sent alike, {} steps silent alike",
            self.stories, self.packets, self.sent, self.silent
        )?;
        for (name, count) in &self.known {
            writeln!(f, "{count:>6} listed: {name}")?;
        }
        for (name, count) in &self.drops {
            writeln!(f, "{count:>6} dropped by us: {name}")?;
        }
        Ok(())
    }
}
