//! Which appliance each connected device is: what its flash says, else what is left, in order.

use std::collections::BTreeSet;

use miette::Diagnostic;
use thiserror::Error;

/// Why devices and appliances do not go together.
#[derive(Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum AssignError {
    /// Two devices say that they are the same appliance.
    #[error("{first} and {second} both say that they are {appliance}")]
    #[diagnostic(help("say which one is: --appliance {appliance} --probe {first}"))]
    Twice {
        /// The appliance.
        appliance: String,
        /// One device's probe.
        first: String,
        /// The other's.
        second: String,
    },
    /// A device belongs to another site, or to an appliance that is not meant.
    #[error("the device at {probe} says that it is {name}, which is none of {wanted}")]
    #[diagnostic(help(
        "if it shall become one of them, say which: --appliance NAME --probe {probe}"
    ))]
    Stranger {
        /// Its probe.
        probe: String,
        /// What it says.
        name: String,
        /// The appliances that are meant.
        wanted: String,
    },
    /// More devices than appliances.
    #[error("there are {devices} devices for {wanted}")]
    #[diagnostic(help(
        "name those that are meant: --appliance NAME --probe VID:PID:SERIAL, once for each"
    ))]
    TooMany {
        /// How many devices.
        devices: usize,
        /// The appliances that are meant.
        wanted: String,
    },
}

/// The appliance of each probe. A device says who it is, or (`None`) nothing: then it becomes the first appliance that no other
/// device is.
///
/// # Errors
/// If a device is a stranger, or there are too many.
pub fn assign(
    appliances: &[String],
    devices: &[(String, Option<String>)],
) -> Result<Vec<(String, String)>, AssignError> {
    let wanted = || appliances.join(", ");
    let mut known: Vec<(&str, &str)> = Vec::new();
    for (probe, name) in devices {
        let Some(name) = name else { continue };
        if !appliances.contains(name) {
            return Err(AssignError::Stranger {
                probe: probe.clone(),
                name: name.clone(),
                wanted: wanted(),
            });
        }
        if let Some((first, _)) = known.iter().find(|(_, other)| other == name) {
            return Err(AssignError::Twice {
                appliance: name.clone(),
                first: (*first).to_owned(),
                second: probe.clone(),
            });
        }
        known.push((probe, name));
    }
    let taken: BTreeSet<&str> = known.iter().map(|(_, name)| *name).collect();
    let mut left = appliances
        .iter()
        .filter(|name| !taken.contains(name.as_str()));
    let pair = |(probe, name): &(String, Option<String>)| {
        let appliance = name.as_ref().or_else(|| left.next())?;
        Some((appliance.clone(), probe.clone()))
    };
    let pairs: Option<Vec<_>> = devices.iter().map(pair).collect();
    pairs.ok_or_else(|| AssignError::TooMany {
        devices: devices.len(),
        wanted: wanted(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_who() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let devices = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(probe, name)| {
                    let name = (!name.is_empty()).then(|| (*name).to_owned());
                    ((*probe).to_owned(), name)
                })
                .collect::<Vec<_>>()
        };
        let site = names(&["gw1", "gw2"]);
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let good: [(Pairs<'_>, Pairs<'_>); 4] = [
            (&[], &[]),
            (&[("a", "")], &[("gw1", "a")]),
            (&[("a", ""), ("b", "gw1")], &[("gw2", "a"), ("gw1", "b")]),
            (&[("a", "gw2"), ("b", "")], &[("gw2", "a"), ("gw1", "b")]),
        ];
        for (given, expected) in good {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, probe)| ((*name).to_owned(), (*probe).to_owned()))
                .collect();
            assert_eq!(assign(&site, &devices(given)), Ok(expected), "{given:?}");
        }
        let bad: [(Pairs<'_>, &str); 3] = [
            (
                &[("a", "gw1"), ("b", "gw1")],
                "a and b both say that they are gw1",
            ),
            (
                &[("a", "fw9")],
                "the device at a says that it is fw9, which is none of gw1, gw2",
            ),
            (
                &[("a", ""), ("b", ""), ("c", "")],
                "there are 3 devices for gw1, gw2",
            ),
        ];
        for (given, expected) in bad {
            let error = assign(&site, &devices(given)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
