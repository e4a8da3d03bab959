//! Who begins a Galera cluster after all of its servers were down. Pure: what is known comes in, what to do goes out.
//!
//! A cluster must never begin twice: two servers that both did would each take writes the other never sees. So a
//! server begins it only if it *knows* that nobody runs it and that nobody knows more than itself.

use serde::{Deserialize, Serialize};

/// What a server's disk has of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// Nothing: a new server, or one with a new disk.
    Fresh,
    /// A copy that was cut short: good for nothing.
    Partial,
    /// The database as it was after so many transactions.
    At {
        /// History that the number counts in; zeros for a database that never was in a cluster.
        cluster: String,
        /// Number of the last transaction.
        seqno: i64,
        /// Whether it left last, in good order: nobody can know more.
        safe: bool,
    },
}

/// Where a server is with its database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does not know yet.
    Unknown,
    /// It waits, and its disk has this.
    Waiting(Position),
    /// It was told to run, and does not answer yet.
    Starting,
    /// It runs.
    Running {
        /// Whether it is in the one part of the cluster that goes on.
        primary: bool,
    },
}

/// What the arbiter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arbiter {
    /// It votes in a cluster.
    Votes,
    /// It is in none.
    Idle,
}

/// What a server does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Begin the cluster.
    Begin,
    /// Join the one that runs.
    Join,
    /// Ask again later.
    Wait(String),
    /// Never begin: somebody has to look.
    Refuse(String),
}

/// Decides for the server at place `own` of the list of all; `heard` has what each one said (ours too), `None`
/// for who is silent. `arbiter` is `None` if there is no arbiter, or if it has been silent for long.
#[must_use]
pub fn decide(
    names: &[String],
    own: usize,
    heard: &[Option<Standing>],
    arbiter: Option<Arbiter>,
) -> Decision {
    let primary = Some(Standing::Running { primary: true });
    if heard.contains(&primary) {
        return Decision::Join;
    }
    let Some(Some(Standing::Waiting(ours))) = heard.get(own) else {
        return Decision::Wait("our own position is not known yet".to_owned());
    };
    let waiting: Vec<(usize, &Position)> = (heard.iter().enumerate())
        .filter_map(|(index, one)| match one {
            Some(Standing::Waiting(position)) => Some((index, position)),
            Some(Standing::Unknown | Standing::Starting | Standing::Running { .. }) | None => None,
        })
        .collect();
    let mut histories: Vec<&str> = waiting.iter().filter_map(|(_, p)| history(p)).collect();
    histories.sort_unstable();
    histories.dedup();
    if histories.len() > 1 {
        let histories = histories.join(" and ");
        return Decision::Refuse(format!(
            "servers have data of different clusters ({histories}): empty the one that is wrong"
        ));
    }
    // Of equal ones, the first in the site file.
    let best = waiting
        .iter()
        .max_by_key(|(index, position)| (rank(position), std::cmp::Reverse(*index)));
    let best = best.map_or(own, |(index, _)| *index);
    if best != own {
        return Decision::Wait(format!(
            "`{}` knows at least as much and begins",
            name(names, best)
        ));
    }
    let last = matches!(ours, Position::At { safe: true, .. });
    let unsure = (heard.iter().enumerate())
        .find(|(_, one)| !matches!(one, Some(Standing::Waiting(_))))
        .map(|(index, _)| index);
    if let Some(index) = unsure.filter(|_| !last) {
        return Decision::Wait(format!("`{}` may know more", name(names, index)));
    }
    if *ours == Position::Partial {
        return Decision::Refuse(
            "our copy was cut short and nobody has another: restore a backup".to_owned(),
        );
    }
    match arbiter {
        // It would be a cluster of its own, which ours could not merge with.
        Some(Arbiter::Votes) => Decision::Wait("the arbiter still votes in a cluster".to_owned()),
        Some(Arbiter::Idle) | None => Decision::Begin,
    }
}

fn name(names: &[String], index: usize) -> &str {
    names.get(index).map_or("?", String::as_str)
}

fn history(position: &Position) -> Option<&str> {
    match position {
        Position::At { cluster, .. } if cluster != NO_HISTORY => Some(cluster),
        Position::At { .. } | Position::Fresh | Position::Partial => None,
    }
}

/// The higher, the more is known.
fn rank(position: &Position) -> (u8, i64, bool) {
    match position {
        Position::Partial => (0, 0, false),
        Position::Fresh => (1, 0, false),
        Position::At { cluster, .. } if cluster == NO_HISTORY => (2, 0, false),
        Position::At { seqno, safe, .. } => (3, *seqno, *safe),
    }
}

/// The history of who has none.
pub const NO_HISTORY: &str = "00000000-0000-0000-0000-000000000000";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seqno: i64) -> Standing {
        whole("a", seqno, false)
    }

    fn whole(cluster: &str, seqno: i64, safe: bool) -> Standing {
        Standing::Waiting(Position::At {
            cluster: cluster.to_owned(),
            seqno,
            safe,
        })
    }

    fn names() -> Vec<String> {
        ["db1", "db2", "db3"].map(str::to_owned).to_vec()
    }

    /// What the two servers do that said this to each other.
    fn both(db1: Option<Standing>, db2: Option<Standing>) -> (Decision, Decision) {
        let heard = [db1, db2];
        let one = |own| decide(&names()[..2], own, &heard, Some(Arbiter::Idle));
        (one(0), one(1))
    }

    #[test]
    fn the_one_that_knows_most_begins_and_only_if_it_is_sure() {
        use Decision::{Begin, Join};
        let fresh = || Some(Standing::Waiting(Position::Fresh));
        let partial = || Some(Standing::Waiting(Position::Partial));
        let running = |primary| Some(Standing::Running { primary });
        let waits = |decision: &Decision| matches!(decision, Decision::Wait(_));
        let refuses = |decision: &Decision| matches!(decision, Decision::Refuse(_));

        // A new rack: the first of the file, once it has heard that the other is new too.
        let (db1, db2) = both(fresh(), fresh());
        assert!(db1 == Begin && waits(&db2));
        assert!(waits(&both(fresh(), None).0));
        // A new disk beside old data, in either order.
        let (db1, db2) = both(fresh(), Some(at(5)));
        assert!(waits(&db1) && db2 == Begin);
        assert_eq!(both(Some(at(5)), partial()).0, Begin);
        assert!(refuses(&both(partial(), partial()).0));
        assert!(waits(&both(partial(), None).0));
        // After a power cut: the more advanced one; of equals the first.
        let (db1, db2) = both(Some(at(7)), Some(at(8)));
        assert!(waits(&db1) && db2 == Begin);
        let (db1, db2) = both(Some(at(8)), Some(at(8)));
        assert!(db1 == Begin && waits(&db2));
        // The other may know more.
        for other in [
            None,
            Some(Standing::Unknown),
            Some(Standing::Starting),
            running(false),
        ] {
            assert!(waits(&both(Some(at(8)), other.clone()).0), "{other:?}");
        }
        // Who left last in good order needs nobody.
        assert_eq!(both(Some(whole("a", 8, true)), None).0, Begin);
        assert!(waits(&both(Some(whole("a", 8, true)), Some(at(9))).0));
        // Somebody runs it.
        assert_eq!(both(Some(whole("a", 8, true)), running(true)).0, Join);
        // Two histories.
        assert!(refuses(&both(Some(at(8)), Some(whole("b", 2, true))).0));
        // One that was alone before is no other history.
        let alone = Some(whole(NO_HISTORY, -1, false));
        assert_eq!(both(fresh(), alone).1, Begin);
        // An arbiter that votes is in a cluster that is not ours.
        let heard = [Some(at(8)), Some(at(8))];
        assert!(waits(&decide(
            &names()[..2],
            0,
            &heard,
            Some(Arbiter::Votes)
        )));
    }

    /// What may happen to a rack.
    #[derive(Clone, Debug)]
    enum Event {
        PowerOff(usize),
        PowerOn(usize),
        NewDisk(usize),
        Cut(usize, usize),
        Mend,
        Write,
        Stop(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..3usize).prop_map(Event::PowerOff),
            (0..3usize).prop_map(Event::PowerOn),
            (0..3usize).prop_map(Event::PowerOn),
            (0..3usize).prop_map(Event::NewDisk),
            (0..3usize, 0..3usize).prop_map(|(a, b)| Event::Cut(a, b)),
            Just(Event::Mend),
            Just(Event::Write),
            Just(Event::Write),
            (0..3usize).prop_map(Event::Stop),
        ]
    }

    /// Three servers, in a model that is as hostile as Galera allows: a majority of the last members goes on, the
    /// rest stops being primary at once.
    #[derive(Debug)]
    struct Model {
        disk: [Position; 3],
        on: [bool; 3],
        /// Members of the part that goes on.
        primary: Vec<usize>,
        cut: Vec<(usize, usize)>,
        begun: u32,
    }

    impl Model {
        fn new() -> Self {
            Self {
                disk: std::array::from_fn(|_| Position::Fresh),
                on: [false; 3],
                primary: Vec::new(),
                cut: Vec::new(),
                begun: 0,
            }
        }

        fn sees(&self, a: usize, b: usize) -> bool {
            a == b || !self.cut.contains(&(a.min(b), a.max(b)))
        }

        /// The members that are left after `gone` is away keep the majority, or nobody goes on.
        fn regroup(&mut self) {
            let members = self.primary.clone();
            let part = members.iter().map(|one| {
                let seen = members
                    .iter()
                    .filter(|other| self.on[**other] && self.sees(*one, **other));
                if self.on[*one] {
                    seen.copied().collect()
                } else {
                    Vec::new()
                }
            });
            let largest = part.max_by_key(Vec::len).unwrap_or_default();
            // A clique, so that every member sees every other.
            let clique = (largest.iter()).all(|a| largest.iter().all(|b| self.sees(*a, *b)));
            self.primary = match largest.len() * 2 > members.len() && clique {
                true => largest,
                false => Vec::new(),
            };
        }

        fn standing(&self, of: usize) -> Standing {
            match self.primary.contains(&of) {
                true => Standing::Running { primary: true },
                false => Standing::Waiting(self.disk[of].clone()),
            }
        }

        /// Everybody who waits decides; returns how many began.
        fn decisions(&mut self) -> Vec<usize> {
            let mut begins = Vec::new();
            for own in 0..3 {
                if !self.on[own] || self.primary.contains(&own) {
                    continue;
                }
                let heard: Vec<Option<Standing>> = (0..3)
                    .map(|other| {
                        (self.on[other] && self.sees(own, other)).then(|| self.standing(other))
                    })
                    .collect();
                match decide(&names(), own, &heard, None) {
                    Decision::Begin => begins.push(own),
                    Decision::Join => {
                        let all = self.primary.iter().all(|member| self.sees(own, *member));
                        if let (true, Some(donor)) = (all, self.primary.first()) {
                            self.disk[own] = self.disk[*donor].clone();
                            self.primary.push(own);
                        }
                    }
                    Decision::Wait(_) | Decision::Refuse(_) => {}
                }
            }
            begins
        }
    }

    proptest! {
        /// Whatever happens: no two servers ever begin at once, none while another part goes on, and none without the
        /// last acknowledged write, unless the disks with it were taken away.
        #[test]
        fn a_cluster_never_begins_twice(events in prop::collection::vec(event(), 1..60)) {
            let mut model = Model::new();
            let mut acknowledged = 0;
            for event in events {
                match event {
                    Event::PowerOff(one) => {
                        model.on[one] = false;
                        model.regroup();
                    }
                    Event::PowerOn(one) => model.on[one] = true,
                    Event::NewDisk(one) => {
                        // Operators do this to a single broken server, while the others have the data.
                        let others = (0..3).filter(|other| *other != one).all(|other| {
                            matches!(&model.disk[other], Position::At { seqno, .. } if *seqno == acknowledged)
                        });
                        if !model.on[one] && others {
                            model.disk[one] = Position::Fresh;
                        }
                    }
                    Event::Cut(a, b) if a != b => {
                        model.cut.push((a.min(b), a.max(b)));
                        model.regroup();
                    }
                    Event::Cut(..) => {}
                    Event::Mend => model.cut.clear(),
                    Event::Write if !model.primary.is_empty() => {
                        acknowledged += 1;
                        for member in model.primary.clone() {
                            model.disk[member] = Position::At {
                                cluster: model.begun.min(1).to_string(),
                                seqno: acknowledged,
                                safe: false,
                            };
                        }
                    }
                    Event::Write => {}
                    Event::Stop(one) if model.primary.contains(&one) => {
                        model.on[one] = false;
                        model.primary.retain(|member| *member != one);
                        if let (true, Position::At { safe, .. }) =
                            (model.primary.is_empty(), &mut model.disk[one])
                        {
                            *safe = true;
                        }
                    }
                    Event::Stop(_) => {}
                }
                let begins = model.decisions();
                prop_assert!(begins.len() <= 1, "{begins:?} {model:?}");
                if let Some(one) = begins.first() {
                    prop_assert!(model.primary.is_empty(), "{one} {model:?}");
                    if acknowledged > 0 {
                        let has = matches!(&model.disk[*one], Position::At { seqno, .. } if *seqno == acknowledged);
                        prop_assert!(has, "{one} begins without {acknowledged}: {model:?}");
                    }
                    model.begun += 1;
                    model.primary = vec![*one];
                    if let Position::At { safe, .. } = &mut model.disk[*one] {
                        *safe = false;
                    }
                }
            }
        }
    }
}
