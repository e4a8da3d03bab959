//! Random policies in both worlds.

use std::env;

use differential::compare::{Comparison, Tally};
use differential::{nft, policies};
use fastrand::Rng;

/// `RAVELIN_SEED=N` repeats one policy.
#[test]
fn random_policies() {
    let mut tally = Tally::default();
    let seeds = match env::var("RAVELIN_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("RAVELIN_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..many(),
    };
    let (first, last) = (seeds.start, seeds.end - 1);
    for seed in seeds {
        match compare(seed) {
            Ok(seen) => tally.add(&seen),
            Err(differences) => panic!(
                "{}\n{differences}\nRAVELIN_SEED={seed} repeats it",
                nft::render(&policies::site(seed))
            ),
        }
    }
    println!("policies with the seeds {first} to {last}\n{tally}");
}

fn compare(seed: u64) -> Result<Tally, String> {
    let site = policies::site(seed);
    let mut comparison = Comparison::new(&site);
    let mut rng = Rng::with_seed(seed ^ 0xc0de);
    for number in 0..CONVERSATIONS {
        let story = policies::begin(&mut rng, &site, number);
        comparison.converse(story, |steps, sent| policies::next(&mut rng, steps, sent));
    }
    comparison.finish()
}

const CONVERSATIONS: u32 = 250;

fn many() -> u64 {
    match env::var_os("RAVELIN_SOAK") {
        Some(_) => 2_000,
        None => 60,
    }
}
