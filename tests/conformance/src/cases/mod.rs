//! All cases.

mod announcing;
mod authentication;
mod membership;
mod resolution;
mod several;
mod timing;
mod transmission;
mod unicast;
mod validation;

use std::time::Duration;

use crate::cable;
use crate::profile::Profile;
use crate::tester::{Tester, Verdict};

/// One thing that a device has to do.
pub struct Case {
    /// What it does.
    pub name: String,
    /// Where that is written.
    pub section: &'static str,
    /// As what.
    pub profile: Profile,
    /// Whether it needs a device that starts just now.
    pub fresh: bool,
    /// Whether the device is asked to end.
    pub stops: bool,
    /// Panics if the device does otherwise.
    pub run: Box<dyn Fn(&mut Tester<'_>) -> Verdict + Send + Sync>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        section: &'static str,
        profile: Profile,
        run: impl Fn(&mut Tester<'_>) -> Verdict + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            section,
            profile,
            fresh: false,
            stops: false,
            run: Box::new(run),
        }
    }

    /// On a device that starts with it.
    fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }

    /// And is asked to end.
    fn stops(mut self) -> Self {
        self.stops = true;
        self.fresh()
    }
}

/// All of them; `each_alone` as [`crate::Bench::is_quick`] says.
pub fn all(each_alone: bool) -> Vec<Case> {
    let all = [
        transmission::cases(),
        timing::cases(),
        resolution::cases(),
        announcing::cases(),
        membership::cases(),
        authentication::cases(),
        unicast::cases(),
        several::cases(),
        validation::cases(each_alone),
    ];
    let mut all: Vec<Case> = all.into_iter().flatten().collect();
    // Neighbours share devices.
    all.sort_by_key(|case| case.profile.name);
    all
}

/// The times between adverts of an Active, about its first virtual router.
pub fn gaps(tester: &mut Tester<'_>, count: usize) -> Vec<Duration> {
    let limit = cable::now() + 3 * tester.unit() * count as u32;
    let (vrid, own) = (tester.facts.vrid, tester.facts.own);
    let mut times = Vec::new();
    tester.listen(limit, |frame| {
        let router = frame.advert().map(|advert| advert.message[1]);
        if router == Some(vrid) && frame.ip().is_some_and(|ip| ip.source == own) {
            times.push(frame.at);
        }
        times.len() > count
    });
    assert!(
        times.len() > 1,
        "an Active that does not advertise; its log:\n{}",
        tester.device.log()
    );
    let pairs = times.windows(2);
    pairs.map(|pair| pair[1].saturating_sub(pair[0])).collect()
}
