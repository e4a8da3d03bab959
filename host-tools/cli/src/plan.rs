//! `ravelin plan`: what will exist.

use std::{path::Path, process::ExitCode};

use serde_json::json;
use site::{
    Plan,
    plan::{Leg, Party, Port, Transport},
};

use crate::{
    args::Json,
    failure::{Failure, Message},
    site_file::SiteFile,
    source, table,
};

/// Prints the plan, and what is compiled from it for the appliances.
pub fn plan(site: Option<&Path>, options: &Json) -> Result<ExitCode, Failure> {
    let boards = source::boards(&source::root()?)?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&boards)?;
    let mut configs = Vec::new();
    for appliance in &plan.appliances {
        let config = render::appliance::config(&plan, &appliance.name)
            .map_err(|error| Failure::input(Message::new(error.to_string())))?;
        configs.push(config);
    }
    if options.json {
        let images: Vec<String> = plan
            .servers
            .iter()
            .map(|server| image(&server.name))
            .collect();
        println!(
            "{:#}",
            json!({ "plan": plan, "cables": cables(&plan), "appliances": configs, "images": images })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: https://{}/", plan.name, plan.domain);
    networks(&plan);
    addresses(&plan);
    let rows: Vec<Vec<String>> = cables(&plan).into_iter().map(Vec::from).collect();
    table::print("Cables", &["from", "to", "carries"], &rows);
    flows(&plan);
    if let Some(config) = configs.first() {
        rules(config);
    }
    images(&plan);
    Ok(ExitCode::SUCCESS)
}

fn networks(plan: &Plan) {
    let row = |network: &site::plan::Network| {
        vec![
            network.name.clone(),
            network.subnet.to_string(),
            tag(network.vlan),
            network.vrid.to_string(),
            network.virtual_address.to_string(),
            network
                .uplink
                .map_or_else(String::new, |uplink| uplink.to_string()),
        ]
    };
    let rows: Vec<_> = plan.networks.iter().map(row).collect();
    table::print(
        "Networks",
        &[
            "name",
            "subnet",
            "vlan",
            "vrid",
            "virtual address",
            "uplink",
        ],
        &rows,
    );
}

fn addresses(plan: &Plan) {
    let mut rows = Vec::new();
    for appliance in &plan.appliances {
        for leg in &appliance.legs {
            rows.push(vec![
                appliance.name.clone(),
                format!("{}, priority {}", appliance.board, appliance.priority),
                leg.network.clone(),
                leg.address.to_string(),
                mac(leg.mac),
            ]);
        }
    }
    for server in &plan.servers {
        let role = server.role.name().to_owned();
        rows.push(vec![
            server.name.clone(),
            role,
            server.network.clone(),
            server.address.to_string(),
            mac(server.mac),
        ]);
    }
    table::print(
        "Addresses",
        &["machine", "is a", "network", "address", "mac"],
        &rows,
    );
}

/// Every cable: both ends and the networks on it.
fn cables(plan: &Plan) -> Vec<[String; 3]> {
    let mut cables = Vec::new();
    for appliance in &plan.appliances {
        let mut ports: Vec<u8> = appliance.legs.iter().map(|leg| leg.port).collect();
        ports.dedup();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let legs = || appliance.legs.iter().filter(move |leg| leg.port == port);
            let is_wan = |leg: &Leg| {
                plan.network(&leg.network)
                    .is_some_and(|network| network.port == Port::Wan)
            };
            let side = match (legs().any(is_wan), legs().all(is_wan)) {
                (_, true) => "uplink switch",
                (true, false) => "uplink and rack switch",
                (false, false) => "rack switch",
            };
            let carried: Vec<String> = legs()
                .map(|leg| format!("{} {}", leg.network, tag(leg.vlan)))
                .collect();
            cables.push([
                format!("{} port {port}", appliance.name),
                side.to_owned(),
                carried.join(", "),
            ]);
        }
    }
    for server in &plan.servers {
        cables.push([
            server.name.clone(),
            "rack switch".to_owned(),
            format!("{} untagged", server.network),
        ]);
    }
    cables
}

fn flows(plan: &Plan) {
    let row = |flow: &site::plan::Flow| {
        let port = match flow.protocol {
            Transport::Tcp => format!("tcp {}", flow.port),
            Transport::Udp => format!("udp {}", flow.port),
            Transport::Ping => "ping".to_owned(),
        };
        vec![
            flow.name.clone(),
            party(&flow.from).to_owned(),
            party(&flow.to).to_owned(),
            port,
            flow.why.clone(),
        ]
    };
    let rows: Vec<_> = plan.flows.iter().map(row).collect();
    table::print(
        "Flows (all else is dropped)",
        &["name", "from", "to", "port", "why"],
        &rows,
    );
}

fn rules(config: &policy::Config) {
    let side = |index: Option<u8>| match index {
        Some(index) => config
            .interfaces
            .get(usize::from(index))
            .map_or("?", |interface| interface.name.as_str()),
        None => "any",
    };
    let row = |rule: &policy::Rule| {
        vec![
            rule.name.to_string(),
            format!("{} {}", side(rule.from), prefix(rule.source)),
            format!("{} {}", side(rule.to), prefix(rule.destination)),
            protocol(rule.protocol),
            format!("{:?}", rule.action).to_lowercase(),
        ]
    };
    let rows: Vec<_> = config.rules.iter().map(row).collect();
    table::print(
        "Rules on each appliance",
        &["flow", "from", "to", "protocol", "action"],
        &rows,
    );
}

fn images(plan: &Plan) {
    let row = |server: &site::plan::Server| {
        vec![
            server.name.clone(),
            server.role.name().to_owned(),
            image(&server.name),
        ]
    };
    let rows: Vec<_> = plan.servers.iter().map(row).collect();
    table::print("Images", &["server", "role", "disk image"], &rows);
}

fn image(server: &str) -> String {
    format!(".ravelin/images/{server}/disk.raw")
}

fn party(party: &Party) -> &'static str {
    match party {
        Party::Internet => "internet",
        Party::Role(role) => role.name(),
        Party::Servers => "servers",
        Party::Appliances => "appliances",
    }
}

fn prefix(prefix: policy::Prefix) -> String {
    match prefix.length {
        0 => "any".to_owned(),
        32 => prefix.address.to_string(),
        length => format!("{}/{length}", prefix.address),
    }
}

fn protocol(protocol: policy::Protocol) -> String {
    let range = |first: u16, last: u16| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    match protocol {
        policy::Protocol::Any => "any".to_owned(),
        policy::Protocol::Tcp { first, last } => format!("tcp {}", range(first, last)),
        policy::Protocol::Udp { first, last } => format!("udp {}", range(first, last)),
        policy::Protocol::Ping => "ping".to_owned(),
    }
}

fn tag(vlan: Option<u16>) -> String {
    vlan.map_or_else(|| "untagged".to_owned(), |vlan| vlan.to_string())
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
