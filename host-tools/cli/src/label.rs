//! `ravelin label`: labels for an appliance that was flashed and verified, and for both ends of its cables.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use build::Places;
use flash::{
    Entry,
    label::{Label, pdf, svg, zpl},
};
use site::{
    Plan,
    plan::{Appliance, Leg, Port},
};

use crate::{
    args::{self, LabelFormat},
    failure::{Failure, Message},
    flash::{meant, open_journal, plan},
    plan::mac,
    site_file::SiteFile,
    source,
};

/// Prints labels, or writes them into a file.
pub fn label(site: Option<&Path>, options: &args::Label) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = plan(&file, options.board.as_deref(), &root)?;
    let places = Places::new(&root, &file.path);
    let appliance = meant(&plan, std::slice::from_ref(&options.appliance))?[0];
    let journal = open_journal(&places)?;
    let unit = journal.last(&appliance.name);
    let Some(unit) = unit.filter(|unit| unit.is_verified()) else {
        let why = match unit {
            Some(_) => "was not verified the last time that it was flashed",
            None => "has not been flashed from here",
        };
        let message = Message::new(format!("{} {why}", appliance.name));
        return Err(Failure::no(message.help(
            "`ravelin flash` verifies it; only a verified unit gets a label",
        )));
    };
    let labels = labels(&plan, appliance, unit);
    let made = match options.format {
        LabelFormat::Svg => svg(&labels).map(String::into_bytes),
        LabelFormat::Pdf => pdf(&labels),
        LabelFormat::Zpl => Ok(zpl(&labels).into_bytes()),
    };
    let bytes = made.map_err(|error| Failure::input(Message::new(error)))?;
    match &options.output {
        Some(path) => fs::write(path, bytes)
            .map_err(|error| Failure::machine(Message::file("write", path, &error)))?,
        None => io::stdout()
            .write_all(&bytes)
            .map_err(|error| Failure::machine(Message::new(format!("stdout: {error}"))))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One for the unit, and two for each of its cables.
fn labels(plan: &Plan, appliance: &Appliance, unit: &Entry) -> Vec<Label> {
    let serial = unit.serial_number.as_deref().unwrap_or("without a number");
    let code = format!("ravelin:{}/{}?serial={serial}", plan.name, appliance.name);
    let mut ports: BTreeMap<u8, Vec<&Leg>> = BTreeMap::new();
    for leg in &appliance.legs {
        ports.entry(leg.port).or_default().push(leg);
    }
    let mut lines = vec![
        format!("{} \u{b7} {serial}", plan.domain),
        format!("{}, priority {}", appliance.board, appliance.priority),
    ];
    let mut cables = Vec::new();
    for (port, legs) in &ports {
        let name = port_name(plan, legs, ports.len());
        let mac = legs.first().map(|leg| mac(leg.mac)).unwrap_or_default();
        lines.push(format!("{name}: {mac}"));
        let near = format!("{} {name}", appliance.name);
        let far = match &*name {
            "wan" => "uplink switch",
            "lan" => "rack switch",
            _ => "uplink and rack switch",
        };
        let carried: Vec<&str> = legs.iter().map(|leg| leg.network.as_str()).collect();
        for (this, other, end) in [(&*near, far, "a"), (far, &*near, "b")] {
            cables.push(Label {
                heading: near.clone(),
                lines: vec![
                    format!("this end: {this}"),
                    format!("other end: {other}"),
                    shortened(&carried.join(", ")),
                ],
                code: format!("{code}&port={port}&end={end}"),
            });
        }
    }
    let unit = Label {
        heading: appliance.name.clone(),
        lines,
        code,
    };
    [unit].into_iter().chain(cables).collect()
}

/// As the site file calls it; the one port of a board that has one is a trunk.
fn port_name(plan: &Plan, legs: &[&Leg], ports: usize) -> String {
    let is_wan = |leg: &&Leg| {
        let network = plan.network(&leg.network);
        network.is_some_and(|network| network.port == Port::Wan)
    };
    match (ports, legs.iter().any(is_wan)) {
        (1, _) => "trunk",
        (_, true) => "wan",
        (_, false) => "lan",
    }
    .to_owned()
}

/// As much as a line of a label holds.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 28;
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['\u{2026}']).collect(),
        false => text.to_owned(),
    }
}
