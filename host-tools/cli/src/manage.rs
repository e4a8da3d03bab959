//! `ravelin status`, `handover`, `maintenance`, `post`: running appliances.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use ::manage::{Device, ManageError, ietf_vrrp};
use build::{Places, secrets};
use mgmt::{Digest, Peer, Request, State, Status};
use serde_json::{Value, json};
use site::Plan;

use crate::{
    args::{self, Order, Switch, Verdict},
    failure::{Failure, Message},
    manifest,
    push::{digest_of, short},
    site_file::SiteFile,
    source, table,
};

/// Prints how the appliances are. The answer is no if one is silent, if nobody is Active or more than one, or if the two run
/// different configurations.
pub fn status(site: Option<&Path>, options: &args::Status) -> Result<ExitCode, Failure> {
    let desk = Desk::open(site)?;
    let names: Vec<&str> = match &options.appliance {
        Some(name) => vec![desk.name(name)?],
        None => desk
            .plan
            .appliances
            .iter()
            .map(|one| one.name.as_str())
            .collect(),
    };
    let mut all = Vec::new();
    for name in names {
        all.push((name, desk.find(name, options.address)));
    }
    let well = is_well(&all, options.appliance.is_none());
    if options.json {
        let mut appliances = Vec::new();
        for (name, found) in &mut all {
            appliances.push(match found {
                Ok((device, status)) => {
                    let members = device.members().map_err(failure)?;
                    let mut value = ietf_vrrp(status, &members);
                    value["ravelin"]["running"]["of-site-file"] = desk.is_own(status).into();
                    value
                }
                Err(error) => json!({ "ravelin": { "name": name, "error": error.to_string() } }),
            });
        }
        println!("{:#}", json!({ "well": well, "appliances": appliances }));
    } else {
        print(&desk, &all);
    }
    Ok(match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

type Found<'a> = (&'a str, Result<(Device, Status), ManageError>);

fn is_well(all: &[Found<'_>], whole: bool) -> bool {
    let statuses = || {
        all.iter()
            .filter_map(|(_, found)| Some(&found.as_ref().ok()?.1))
    };
    let active = statuses()
        .filter(|status| status.state == State::Active)
        .count();
    let agree = statuses().all(|status| {
        status
            .peer
            .as_ref()
            .is_none_or(|peer| peer.same_configuration)
    });
    statuses().count() == all.len() && agree && (!whole || active == 1)
}

fn print(desk: &Desk, all: &[Found<'_>]) {
    let mut rows = Vec::new();
    for (name, found) in all {
        rows.push(match found {
            Ok((device, status)) => row(device.address().ip(), status, desk.is_own(status)),
            Err(error) => vec![(*name).to_owned(), error.to_string()],
        });
    }
    let columns = [
        "name",
        "state",
        "for",
        "priority",
        "stands back",
        "flows",
        "configuration",
        "peer",
        "paths",
        "at",
    ];
    table::print("Appliances", &columns, &rows);
    for (name, found) in all {
        let Ok((_, status)) = found else { continue };
        if let Some(peer) = &status.peer
            && !peer.same_configuration
        {
            println!(
                "\n{name} and {} run different configurations: `ravelin push` gives both the site file's",
                peer.name
            );
        }
        if let Some(refusal) = status.hand_over {
            println!("\n{name} did not hand over: {refusal}");
        }
    }
}

fn row(address: IpAddr, status: &Status, own: Option<bool>) -> Vec<String> {
    let running = status.configuration;
    let mut runs = short(&running.digest);
    match running.unconfirmed {
        Some(seconds) => runs += &format!(", unconfirmed, {seconds} s left"),
        None if own == Some(true) => runs += ", the site file's",
        None if own == Some(false) => runs += ", not the site file's",
        None => {}
    }
    if running.reverted {
        runs += "; what came last was not confirmed";
    }

    let demotions = status
        .demotions
        .iter()
        .map(|reason| format!("{reason:?}").to_lowercase());
    let (peer, paths) = match &status.peer {
        None => (String::new(), String::new()),
        Some(of) => {
            let state = match of.peer {
                Peer::Unknown => "never heard".to_owned(),
                Peer::Lost => "silent".to_owned(),
                Peer::Alive { state, .. } => format!("{state:?}"),
            };
            let sync = if of.in_sync { ", in sync" } else { "" };
            let path = |path: &mgmt::PathStatus| {
                format!("{} {}", path.network, if path.up { "up" } else { "silent" })
            };
            let paths: Vec<String> = of.paths.iter().map(path).collect();
            (format!("{} {state}{sync}", of.name), paths.join(", "))
        }
    };
    vec![
        status.name.to_string(),
        format!("{:?}", status.state),
        format!("{} s", status.since),
        match status.effective_priority == status.priority {
            true => status.priority.to_string(),
            false => format!("{} of {}", status.effective_priority, status.priority),
        },
        demotions.collect::<Vec<_>>().join(", "),
        status.flows.to_string(),
        runs,
        peer,
        paths,
        address.to_string(),
    ]
}

/// Lets the peer take over.
pub fn hand_over(site: Option<&Path>, order: &Order) -> Result<ExitCode, Failure> {
    let (mut device, _) = Desk::open(site)?.device(order)?;
    let status = device.hand_over().map_err(failure)?;
    let peer = status
        .peer
        .map_or(String::new(), |peer| peer.name.to_string());
    say(
        order,
        &format!(
            "{peer} is Active; {0} stands back until `ravelin maintenance {0} off`",
            status.name
        ),
        json!({ "handed_over": status.name.as_str(), "active": peer }),
    );
    Ok(ExitCode::SUCCESS)
}

/// Lets an appliance stand back or not.
pub fn maintenance(site: Option<&Path>, options: &args::Maintenance) -> Result<ExitCode, Failure> {
    let (mut device, status) = Desk::open(site)?.device(&options.order)?;
    let on = options.switch == Switch::On;
    match (on, status.state) {
        // An Active does not just fall behind: its peer takes over first.
        (true, State::Active) => drop(device.hand_over().map_err(failure)?),
        _ => device.order(&Request::Maintenance(on)).map_err(failure)?,
    }
    let text = match on {
        true => format!("{} stands back", status.name),
        false => format!("{} takes part again", status.name),
    };
    say(
        &options.order,
        &text,
        json!({ "appliance": status.name.as_str(), "maintenance": on }),
    );
    Ok(ExitCode::SUCCESS)
}

/// Posts a value.
pub fn post(site: Option<&Path>, options: &args::Post) -> Result<ExitCode, Failure> {
    let desk = Desk::open(site)?;
    let names: Vec<&str> = desk.plan.posted().collect();
    let index = names.iter().position(|name| *name == options.value);
    let index = index
        .and_then(|index| u8::try_from(index).ok())
        .ok_or_else(|| {
            let help = match names.is_empty() {
                true => "the site file tracks no posted value: see [[track]] in docs/site-file.md"
                    .into(),
                false => format!("posted values of the site are {}", names.join(", ")),
            };
            Failure::input(Message::new(format!("nothing tracks `{}`", options.value)).help(help))
        })?;
    let (mut device, status) = desk.device(&options.order)?;
    let request = Request::Post {
        index,
        good: options.verdict == Verdict::Good,
        seconds: options.seconds,
    };
    device.order(&request).map_err(failure)?;
    let text = format!("{} knows for {} s", status.name, options.seconds);
    say(
        &options.order,
        &text,
        json!({ "appliance": status.name.as_str(), "posted": options.value }),
    );
    Ok(ExitCode::SUCCESS)
}

fn say(order: &Order, text: &str, value: Value) {
    match order.json {
        true => println!("{value:#}"),
        false => println!("{text}"),
    }
}

/// What it takes to talk to the appliances of a site.
pub struct Desk {
    /// Where the site file is.
    pub path: PathBuf,
    /// What follows from it.
    pub plan: Plan,
    key: [u8; 32],
}

impl Desk {
    /// Reads the site file and the key.
    pub fn open(site: Option<&Path>) -> Result<Self, Failure> {
        let boards = source::boards(&source::root()?)?;
        let file = SiteFile::read(site)?;
        let plan = file.plan(&boards)?;
        let state = Places::new(Path::new("."), &file.path).state;
        let key = secrets::operator_key(&state).map_err(Failure::input)?;
        let key = key.ok_or_else(|| {
            let message = format!(
                "{} holds no operator key: its appliances were not built here",
                state.display()
            );
            Failure::input(
                Message::new(message)
                    .help("run this where `ravelin build` made what the appliances run"),
            )
        })?;
        Ok(Self {
            path: file.path,
            plan,
            key,
        })
    }

    /// Whether an appliance runs what the site file says; `None` if nobody can know.
    pub fn is_own(&self, status: &Status) -> Option<bool> {
        let running = status.configuration;
        let state = Places::new(Path::new("."), &self.path).state;
        let then = manifest::moment(running.made);
        let compiled = manifest::compile(&self.plan, &state, &status.name, then).ok()?;
        let known = running.digest != Digest::default();
        known.then(|| digest_of(&compiled.blob) == running.digest)
    }

    /// The name, if it is an appliance's.
    pub fn name<'a>(&'a self, name: &str) -> Result<&'a str, Failure> {
        let mut names = self.plan.appliances.iter().map(|one| one.name.as_str());
        names.clone().find(|known| *known == name).ok_or_else(|| {
            let help = match names.next() {
                Some(_) => {
                    let names: Vec<&str> = self
                        .plan
                        .appliances
                        .iter()
                        .map(|one| one.name.as_str())
                        .collect();
                    format!("its appliances are {}", names.join(" and "))
                }
                None => "it has none".to_owned(),
            };
            Failure::input(Message::new(format!("the site has no appliance `{name}`")).help(help))
        })
    }

    /// These appliances, or all of the site if none is named.
    pub fn names<'a>(&'a self, named: &[String]) -> Result<Vec<&'a str>, Failure> {
        match named {
            [] => Ok((self.plan.appliances.iter())
                .map(|one| one.name.as_str())
                .collect()),
            named => named.iter().map(|name| self.name(name)).collect(),
        }
    }

    fn device(&self, order: &Order) -> Result<(Device, Status), Failure> {
        let name = self.name(&order.appliance)?;
        self.find(name, order.address).map_err(failure)
    }

    /// An appliance, at this address or at the first of its own that answers.
    pub fn find(
        &self,
        name: &str,
        address: Option<IpAddr>,
    ) -> Result<(Device, Status), ManageError> {
        let appliance = self.plan.appliances.iter().find(|one| one.name == name);
        let legs = appliance.iter().flat_map(|one| &one.legs);
        let addresses: Vec<IpAddr> = match address {
            Some(address) => vec![address],
            // The inner networks first: that is where operators are.
            None => {
                let mut all: Vec<IpAddr> = legs.map(|leg| IpAddr::V4(leg.address)).collect();
                all.reverse();
                all
            }
        };
        let sockets: Vec<SocketAddr> = (addresses.into_iter())
            .map(|address| SocketAddr::new(address, mgmt::PORT))
            .collect();
        // Who is busy may not answer in time, which looks the same.
        match Device::find(&sockets, &self.key) {
            Err(ManageError::Key(_)) => Device::find(&sockets, &self.key),
            found => found,
        }
    }
}

/// What an error means for the command.
pub fn failure(error: ManageError) -> Failure {
    let message = Message::new(error.to_string());
    match error {
        ManageError::Refused(_) | ManageError::Late(_) | ManageError::Objection(_) => {
            Failure::no(message)
        }
        ManageError::Stuck { .. } => Failure::machine(message),
        ManageError::Silent(_) => Failure::machine(message.help(
            "run this on a machine in one of the site's networks, or name an address that it can reach: --address",
        )),
        ManageError::Key(_) => {
            Failure::input(message.help("use the state directory that it was built with"))
        }
        ManageError::Socket(_) => Failure::machine(message),
    }
}
