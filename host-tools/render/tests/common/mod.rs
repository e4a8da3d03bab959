//! The plan of the reference site, and secrets that are none.

#![allow(dead_code)] // not every test file uses all of it

use render::{Identity, Material};
use site::plan::{Role, Server};
use site::{Boards, Plan};

/// The plan of `examples/foobar/site.toml`.
pub fn foobar() -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let boards = Boards::new([("zynq7000", 2), ("mps2-an500", 1), ("linux", 2)]);
    site::parse("site.toml", text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What the tool's PKI would give a server.
pub fn material(server: &Server) -> Material {
    let identity = |name: &str| Identity {
        certificate: format!("(certificate of {name})\n"),
        key: format!("(key of {name})\n"),
    };
    Material {
        ca: "(certificate of the authority)\n".into(),
        server: Some(identity(&server.name)),
        site: (server.role == Role::Haproxy).then(|| identity("www.foobar.com")),
        database_password: matches!(server.role, Role::App | Role::Db).then(|| "s3cret".into()),
    }
}
