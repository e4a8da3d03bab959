//! `ravelin trace`: what happens to one packet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::ExitCode,
};

use prove::{End, Rack, Trace};
use serde_json::json;
use site::plan::Server;

use crate::{
    args,
    failure::{Failure, Message},
    site_file::SiteFile,
    source,
};

/// Follows a packet and says at each hop what happens and why.
pub fn trace(site: Option<&Path>, options: &args::Trace) -> Result<ExitCode, Failure> {
    let boards = source::boards(&source::root()?)?;
    let plan = SiteFile::read(site)?.plan(&boards)?;
    let rack = Rack::of(&plan).map_err(|error| Failure::input(Message::new(error.to_string())))?;
    let packet = prove::parse_packet(&options.packet, |name| addresses(&rack, name))
        .map_err(Failure::input)?;
    let from = match &options.from {
        None => None,
        Some(name) => Some(rack.component(name).ok_or_else(|| {
            let names: Vec<&str> = rack
                .components()
                .iter()
                .map(|one| rack.name(*one))
                .collect();
            Failure::input(
                Message::new(format!("nobody is called `{name}`"))
                    .help(format!("use one of {}", names.join(", "))),
            )
        })?),
    };
    let appliance = appliance(&rack, options.appliance.as_deref())?;
    let traces = (rack.trace(from, packet, appliance))
        .map_err(|error| Failure::input(Message::new(error.to_string())))?;
    if let Some(odd) = traces.iter().find(|trace| !trace.agrees) {
        return Err(Failure::machine(
            Message::new(format!(
                "the compiled tables decide about {} otherwise than the rules",
                odd.sent
            ))
            .help("this is a fault of the program, not of your site: please report it"),
        ));
    }
    let delivered = traces.iter().all(is_delivered);
    if options.json {
        println!("{:#}", json!({ "delivered": delivered, "traces": traces }));
    } else {
        print(&traces);
    }
    Ok(ExitCode::from(u8::from(!delivered)))
}

/// The addresses that a name stands for; the Internet's are of the ranges for examples (RFC 5737, RFC 3849).
fn addresses(rack: &Rack<'_>, name: &str) -> Vec<IpAddr> {
    if name == "internet" {
        let example6 = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7);
        return vec![Ipv4Addr::new(198, 51, 100, 7).into(), example6.into()];
    }
    let named = rack.plan.servers.iter().find(|server| server.name == name);
    named.map_or(Vec::new(), |server: &Server| server.addresses().collect())
}

fn appliance(rack: &Rack<'_>, name: Option<&str>) -> Result<usize, Failure> {
    let appliances = rack.plan.appliances.iter().enumerate();
    let found = match name {
        None => appliances.max_by_key(|(_, appliance)| appliance.priority),
        Some(name) => appliances
            .into_iter()
            .find(|(_, appliance)| appliance.name == name),
    };
    found.map(|(index, _)| index).ok_or_else(|| {
        let names: Vec<&str> = rack
            .plan
            .appliances
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        Failure::input(
            Message::new(format!(
                "no appliance is called `{}`",
                name.unwrap_or_default()
            ))
            .help(format!("its appliances are {}", names.join(" and "))),
        )
    })
}

fn is_delivered(trace: &Trace) -> bool {
    matches!(trace.end, End::Delivered { .. })
}

/// The first way in full; of the other servers' only how they differ.
fn print(traces: &[Trace]) {
    let Some((first, others)) = traces.split_first() else {
        return;
    };
    println!("{}", first.sent);
    steps(first);
    let (same, different): (Vec<&Trace>, Vec<&Trace>) = others
        .iter()
        .partition(|other| is_delivered(other) == is_delivered(first));
    for other in different {
        println!("\nor, by another server's turn:");
        steps(other);
    }
    for other in &same {
        if let End::Delivered { to } = &other.end {
            println!("  likewise if it is {to}'s turn");
        }
    }
    println!();
    for trace in [first].into_iter().chain(
        others
            .iter()
            .filter(|other| is_delivered(other) != is_delivered(first)),
    ) {
        match &trace.end {
            End::Delivered { to } => println!("delivered to {to} as {}", trace.seen),
            End::Dropped { at, why } => println!("dropped at {at}: {why}"),
        }
    }
}

fn steps(trace: &Trace) {
    let width = trace
        .steps
        .iter()
        .map(|step| step.place.chars().count())
        .max()
        .unwrap_or(0);
    for step in &trace.steps {
        println!("  {:width$}  {}", step.place, step.what);
    }
}
