//! How the operator's tool and the servers know each other when a server is updated: each end takes exactly the other's
//! certificate, and no authority has a say.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair};
use render::server::HostFile;
use site::Plan;
use site::plan::{Action, Party, PortRange, Server, Traffic, ports};

use crate::error::BuildError;
use crate::pki::{self, PkiError};

/// What the operator needs to speak with a server.
pub fn to_reach(state: &Path, server: &str) -> Result<update::tls::Papers, BuildError> {
    let own = operator(state)?;
    Ok(update::tls::Papers {
        certificate: own.certificate,
        key: own.key,
        other: self::server(state, server)?.certificate,
    })
}

/// A certificate and its key, PEM.
struct Papers {
    certificate: String,
    key: String,
}

/// The operator's; made when there are none.
fn operator(state: &Path) -> Result<Papers, BuildError> {
    papers(&pki::secret_path(state, "update"), "operator")
}

/// Those of a server; made when there are none.
fn server(state: &Path, name: &str) -> Result<Papers, BuildError> {
    papers(&pki::secret_path(state, "update/servers"), name)
}

/// What `server` needs to be updated: where to listen, whom to answer, and what it must serve to be well.
pub fn files(state: &Path, plan: &Plan, server: &Server) -> Result<Vec<HostFile>, BuildError> {
    let own = self::server(state, &server.name)?;
    let listen = SocketAddr::new(server.address.into(), ports::UPDATE);
    let lines: Vec<String> = serves(plan, server)
        .iter()
        .map(ToString::to_string)
        .collect();
    let files = [
        ("listen", format!("{listen}\n"), 0o644),
        ("serves", lines.join("\n") + "\n", 0o644),
        ("operator.pem", operator(state)?.certificate, 0o644),
        ("server.pem", own.certificate, 0o644),
        ("server.key", own.key, 0o600),
    ];
    let file = |(name, text, mode): (&str, String, u32)| HostFile {
        path: format!("/etc/ravelin/update/{name}"),
        mode,
        bytes: text.into_bytes(),
    };
    Ok(files.into_iter().map(file).collect())
}

/// Where the others of the rack, and users, expect `server` to answer by TCP. What operators allow besides is their own.
fn serves(plan: &Plan, server: &Server) -> BTreeSet<SocketAddr> {
    let mut serves = BTreeSet::new();
    for flow in plan
        .flows
        .iter()
        .filter(|flow| flow.action == Action::Accept)
    {
        let (Traffic::Tcp(wanted), Party::Role(_)) = (&flow.traffic, &flow.from) else {
            continue;
        };
        // A joining database server listens for its first copy only while it gets one.
        let always = |range: &&PortRange| range.first == range.last && range.first != ports::DB_SST;
        for port in wanted.destination.iter().filter(always) {
            let addresses = plan.addresses_in(&flow.to, server);
            serves.extend(addresses.map(|address| SocketAddr::new(address, port.first)));
        }
    }
    for service in &plan.services {
        let here = (service.servers.iter()).any(|member| member.server == server.name);
        if here && service.transport == policy::Transport::Tcp {
            serves.insert(SocketAddr::new(server.address.into(), service.server_port));
        }
    }
    serves
}

fn papers(dir: &Path, name: &str) -> Result<Papers, BuildError> {
    let path = dir.join(format!("{name}.pem"));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path, name)?,
        Err(error) => return Err(BuildError::io("read", &path, error)),
    };
    let broken = || PkiError::Broken {
        path: path.clone(),
        problem: "it holds no private key".to_owned(),
    };
    let (certificate, key) = pki::split(&text).ok_or_else(broken)?;
    Ok(Papers {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    })
}

/// A certificate that vouches for itself, for as long as the site lives.
fn make(path: &Path, name: &str) -> Result<String, BuildError> {
    let made = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
        let certificate = params.self_signed(&key)?;
        Ok(certificate.pem() + &key.serialize_pem())
    };
    let text = made().map_err(|cause| PkiError::Make {
        name: name.to_owned(),
        cause,
    })?;
    pki::keep(path, text.as_bytes())?;
    Ok(text)
}
