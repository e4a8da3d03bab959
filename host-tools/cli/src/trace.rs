//! `ravelin trace`: what happens to one packet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::ExitCode,
};

use build::Board;
use prove::{End, Moment, Question, Rack, Trace};
use serde_json::json;
use site::plan::{Appliance, Server};

use crate::{
    args,
    failure::{Failure, Message},
    site_file::SiteFile,
    source,
};

/// Follows a packet and says at each hop what happens and why.
pub fn trace(site: Option<&Path>, options: &args::Trace) -> Result<ExitCode, Failure> {
    let source = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&source)?)?;
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
    servers(&rack, options.down.iter().chain(&options.drained))?;
    let gate = appliance(&rack, options.appliance.as_deref())?;
    let question = Question {
        packet,
        from,
        gate,
        moment: Moment {
            down: options.down.clone(),
            drained: options.drained.clone(),
            established: options.established,
            after: options.after,
            taken_over: options.taken_over,
        },
        room: room(&source, &plan.appliances[gate])?,
        places: file.flow_places(),
    };
    let traces =
        (rack.trace(&question)).map_err(|error| Failure::input(Message::new(error.to_string())))?;
    if let Some(odd) = traces.iter().find(|trace| !trace.agrees) {
        return Err(Failure::machine(
            Message::new(format!(
                "the appliance decides about {} otherwise than its rules",
                odd.sent
            ))
            .help("this is a fault of the program, not of your site: please report it"),
        ));
    }
    let delivered = traces.iter().all(arrives);
    if options.json {
        println!("{:#}", json!({ "delivered": delivered, "traces": traces }));
    } else {
        print(&traces);
    }
    Ok(ExitCode::from(u8::from(!delivered)))
}

/// Bytes that the appliance's board has for its configuration.
fn room(source: &Path, appliance: &Appliance) -> Result<usize, Failure> {
    if appliance.board == source::LINUX.0 {
        return Ok(policy::MAX_BLOB);
    }
    let board = Board::read(source, &appliance.board);
    Ok(board
        .map_err(|error| Failure::machine(Message::new(error.to_string())))?
        .config_size)
}

/// Whether all these are servers.
fn servers<'n>(rack: &Rack<'_>, names: impl Iterator<Item = &'n String>) -> Result<(), Failure> {
    let known: Vec<&str> = rack.hosts.iter().map(|host| host.name.as_str()).collect();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(Failure::input(
                Message::new(format!("no server is called `{name}`"))
                    .help(format!("its servers are {}", known.join(", "))),
            ));
        }
    }
    Ok(())
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

/// Whether the packet gets there, and the answer back.
fn arrives(trace: &Trace) -> bool {
    let is_delivered = |trace: &Trace| matches!(trace.end, End::Delivered { .. });
    is_delivered(trace) && trace.answer.as_deref().is_none_or(is_delivered)
}

/// The first way in full; of the other servers' only how they differ.
fn print(traces: &[Trace]) {
    let Some((first, others)) = traces.split_first() else {
        return;
    };
    println!("{}", first.sent);
    way(first);
    let (same, different): (Vec<&Trace>, Vec<&Trace>) = others
        .iter()
        .partition(|other| arrives(other) == arrives(first));
    for other in &same {
        if let End::Delivered { to } = &other.end {
            println!("  likewise if it is {to}'s turn");
        }
    }
    for other in &different {
        println!("\nor, if it is another server's turn:");
        way(other);
    }
    println!();
    for trace in [first].into_iter().chain(different) {
        println!("{}", end(trace));
        if let Some(answer) = &trace.answer {
            println!("its answer is {}", end(answer));
        }
    }
}

fn end(trace: &Trace) -> String {
    match &trace.end {
        End::Delivered { to } => format!("delivered to {to} as {}", trace.seen),
        End::Dropped { at, why } => format!("dropped at {at}: {why}"),
    }
}

/// There and back.
fn way(trace: &Trace) {
    steps(trace);
    if let Some(answer) = &trace.answer {
        println!("and back: {}", answer.sent);
        steps(answer);
    }
}

fn steps(trace: &Trace) {
    let places = trace.steps.iter().map(|step| step.place.chars().count());
    let width = places.max().unwrap_or(0);
    for step in &trace.steps {
        println!("  {:width$}  {}", step.place, step.what);
    }
}
