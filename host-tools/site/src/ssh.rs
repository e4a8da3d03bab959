//! `[ssh]`: who may log in to servers, and from where. Without it no server has a program for that.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use ssh_key::{Algorithm, PublicKey, public::KeyData};
use toml::de::DeValue;

use crate::{
    derive,
    error::Problem,
    file::{Network, SiteFile},
    flow,
    plan::{Flow, Party, Role, Traffic, ports},
    read::{At, Table, Value, Wrong, text},
    traffic::{host_address, host_address6},
    version6,
};

/// Operators' way into the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ssh {
    /// Their public keys, as OpenSSH writes them.
    pub keys: Vec<String>,
    /// Where they sit, in the network of a monitor.
    pub from: Vec<IpNet>,
}

/// `[ssh]` as written.
pub(crate) struct Entry {
    keys: Vec<At<Key>>,
    from: Vec<At<IpNet>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 2] = ["keys", "from"];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let keys = table.required_list("keys", problems);
        let from = table.required_list("from", problems);
        Some(Self {
            keys: keys?,
            from: from?,
        })
    }
}

/// What follows from the file; `None` without the table.
pub(crate) fn settings(file: &SiteFile) -> Option<Ssh> {
    let entry = file.ssh.as_ref()?;
    Some(Ssh {
        keys: (entry.keys.iter())
            .map(|key| key.get_ref().line.clone())
            .collect(),
        from: entry.from.iter().map(|from| *from.get_ref()).collect(),
    })
}

/// Operators log in to every server.
pub(crate) fn flows(file: &SiteFile) -> Vec<Flow> {
    let from = file.ssh.iter().flat_map(|entry| &entry.from);
    let flow = |from: &At<IpNet>| {
        flow::plain(
            FLOW.to_owned(),
            Party::Address(*from.get_ref()),
            Party::Servers,
            Traffic::tcp(ports::SSH),
            "operators log in, with their keys",
        )
    };
    from.map(flow).collect()
}

/// Name of the flow.
pub(crate) const FLOW: &str = "operator-ssh";

/// Keys that differ, and addresses of people, not machines of ours, in the management network.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    let Some(entry) = &file.ssh else { return };
    for (position, key) in entry.keys.iter().enumerate() {
        let mut earlier = entry.keys.iter().take(position);
        if let Some(twin) = earlier.find(|other| other.get_ref().data == key.get_ref().data) {
            problems.push(
                Problem::new("site::duplicate_key", "a key stands twice in `keys`")
                    .at(twin.span(), "here")
                    .at(key.span(), "and again here")
                    .help("remove one of them"),
            );
        }
    }
    let management: Vec<(&str, &Network)> = management(file).collect();
    if management.is_empty() {
        return; // There is no monitor, which was reported.
    }
    for from in &entry.from {
        let prefix = *from.get_ref();
        let home = (management.iter())
            .find(|(_, network)| subnets(network).any(|subnet| subnet.contains(&prefix)));
        let Some((_, network)) = home else {
            let names: Vec<&str> = management.iter().map(|(name, _)| *name).collect();
            problems.push(
                Problem::new(
                    "site::not_management",
                    "operators log in from the management network only",
                )
                .at(from.span(), "not in the network of a monitor server")
                .help(format!(
                    "give operators' machines addresses in {}, and write those here",
                    names.join(" or ")
                )),
            );
            continue;
        };
        if let Some(machine) = machine_in(file, network, prefix) {
            problems.push(
                Problem::new(
                    "site::machine_logs_in",
                    format!("`{machine}` could log in to all servers"),
                )
                .at(from.span(), format!("`{machine}` has an address in here"))
                .help("write the addresses of operators' machines only, such as \"10.20.5.100\""),
            );
        }
    }
}

/// The networks of monitor servers.
fn management(file: &SiteFile) -> impl Iterator<Item = (&str, &Network)> {
    let is_home = |name: &str| {
        file.servers.entries.iter().any(|(_, server)| {
            server.network.get_ref() == name
                && derive::role(server.role.get_ref()) == Some(Role::Monitor)
        })
    };
    (file.networks.entries.iter())
        .filter(move |(name, _)| is_home(name.get_ref()))
        .map(|(name, network)| (name.get_ref().as_str(), network))
}

fn subnets(network: &Network) -> impl Iterator<Item = IpNet> {
    let v6 = network
        .subnet6
        .as_ref()
        .map(|subnet| IpNet::V6(*subnet.get_ref()));
    [IpNet::V4(*network.subnet.get_ref())].into_iter().chain(v6)
}

/// A machine of the site with an address there.
fn machine_in<'a>(file: &'a SiteFile, network: &Network, prefix: IpNet) -> Option<&'a str> {
    let servers = file.servers.entries.iter().map(|(name, server)| {
        let v6 = version6::server(file, server).map(IpAddr::V6);
        let v4 = IpAddr::V4(*server.address.get_ref());
        (name, [Some(v4), v6])
    });
    let appliances = file.appliances.entries.iter().map(|(name, appliance)| {
        let host = appliance.host.get_ref().0;
        let v6 = (network.subnet6.as_ref())
            .map(|subnet| IpAddr::V6(host_address6(*subnet.get_ref(), host)));
        let v4 = IpAddr::V4(host_address(*network.subnet.get_ref(), host));
        (name, [Some(v4), v6])
    });
    servers
        .chain(appliances)
        .find(|(_, addresses)| addresses.iter().flatten().any(|one| prefix.contains(one)))
        .map(|(name, _)| name.get_ref().as_str())
}

/// An operator's public key.
struct Key {
    line: String,
    data: KeyData,
}

impl Value for Key {
    const WANTED: &'static str =
        "the line of a public key file (~/.ssh/id_ed25519.pub), such as \"ssh-ed25519 AAAA… name\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let wrong = |label: &str| Err(Wrong::Content(label.to_owned()));
        let text = text(value)?;
        if text.contains("PRIVATE KEY") {
            return wrong("a private key: nobody else may ever see it");
        }
        let line = text.trim();
        if line.chars().any(char::is_control) {
            return wrong("more than one line");
        }
        let Ok(key) = PublicKey::from_openssh(line) else {
            return wrong("not a public key as OpenSSH writes it");
        };
        match key.algorithm() {
            Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::SkEcdsaSha2NistP256 => {}
            Algorithm::Rsa { .. } if rsa_bits(key.key_data()) >= RSA_BITS => {}
            Algorithm::Rsa { .. } => return wrong("an RSA key of less than 3072 bits"),
            _ => return wrong("keys of this kind are broken, or known to nobody"),
        }
        Ok(Self {
            line: line.to_owned(),
            data: key.key_data().clone(),
        })
    }
}

/// What `RequiredRSASize` of the servers asks for, too.
const RSA_BITS: usize = 3072;

fn rsa_bits(key: &KeyData) -> usize {
    let modulus = key.rsa().and_then(|key| key.n.as_positive_bytes());
    modulus.map_or(0, |bytes| 8 * bytes.len())
}
