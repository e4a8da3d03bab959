//! Thousands of packets through the kernel and through our node.

use std::env;

use differential::compare::Comparison;
use differential::site::Site;
use differential::stories::{self, Setting};

#[test]
fn ipv4() {
    compare(stories::site, Setting::default());
}

#[test]
fn ipv6() {
    let setting = Setting {
        v6: true,
        ..Setting::default()
    };
    compare(stories::site, setting);
}

#[test]
fn translations() {
    let setting = Setting {
        translated: true,
        ..Setting::default()
    };
    compare(stories::translating, setting);
}

#[test]
fn clamped_sizes() {
    for v6 in [false, true] {
        let setting = Setting {
            v6,
            translated: true,
        };
        compare(stories::clamping, setting);
    }
}

/// Every kind of story, many times.
fn compare(site: fn() -> Site, setting: Setting) {
    let mut comparison = Comparison::new(&site());
    let mut number = 0;
    for _ in 0..stories_of_each_kind() {
        for kind in stories::KINDS {
            comparison.run(&stories::tell(kind, number, setting));
            number += 1;
        }
    }
    match comparison.finish() {
        Ok(tally) => println!("{tally}"),
        Err(differences) => panic!("{differences}"),
    }
}

fn stories_of_each_kind() -> u32 {
    match env::var_os("RAVELIN_SOAK") {
        Some(_) => 20_000,
        None => 500,
    }
}
