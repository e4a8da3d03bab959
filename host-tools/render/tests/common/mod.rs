//! The plan of the reference site, written out, and secrets that are none.

#![allow(dead_code)] // not every test file uses all of it

use render::{Identity, Material};
use site::Plan;
use site::plan::{
    Appliance, Flow, Leg, Network, Party, Port, Role, Server, Service, Transport, Vrrp, ports,
};

pub fn foobar() -> Plan {
    let lan = [("edge", 1), ("web", 2), ("app", 3), ("data", 4), ("ops", 5)];
    let mut networks = vec![Network {
        name: "wan".into(),
        port: Port::Wan,
        subnet: "203.0.113.0/24".parse().unwrap(),
        vlan: Some(10),
        vrid: 10,
        virtual_address: [203, 0, 113, 10].into(),
        uplink: Some([203, 0, 113, 1].into()),
    }];
    networks.extend(lan.map(|(name, n)| Network {
        name: name.into(),
        port: Port::Lan,
        subnet: format!("10.20.{n}.0/24").parse().unwrap(),
        vlan: Some(20 + u16::from(n)),
        vrid: 20 + n,
        virtual_address: [10, 20, n, 1].into(),
        uplink: None,
    }));
    let appliances = [("gw1", 200, 2), ("gw2", 150, 3)]
        .map(|(name, priority, host)| Appliance {
            name: name.into(),
            board: "zynq7000".into(),
            priority,
            legs: (networks.iter())
                .map(|network| Leg {
                    network: network.name.clone(),
                    port: if network.port == Port::Wan { 0 } else { 1 },
                    vlan: network.vlan.filter(|_| network.port == Port::Lan),
                    mac: [
                        2,
                        0,
                        0,
                        0,
                        host,
                        if network.port == Port::Wan { 0 } else { 1 },
                    ],
                    address: match network.subnet.network().octets() {
                        [a, b, c, _] => [a, b, c, host].into(),
                    },
                })
                .collect(),
        })
        .to_vec();
    let servers = [
        ("lb1", Role::Haproxy, 1, 11),
        ("lb2", Role::Haproxy, 1, 12),
        ("web1", Role::Nginx, 2, 11),
        ("web2", Role::Nginx, 2, 12),
        ("app1", Role::App, 3, 11),
        ("app2", Role::App, 3, 12),
        ("db1", Role::Db, 4, 11),
        ("mon1", Role::Monitor, 5, 11),
    ]
    .map(|(name, role, n, host)| Server {
        name: name.into(),
        role,
        network: lan[usize::from(n) - 1].0.into(),
        address: [10, 20, n, host].into(),
        mac: [2, 0, 0, 1, n, host],
    })
    .to_vec();
    let flow = |name: &str, from: Party, to: Role, port| Flow {
        name: name.into(),
        from,
        to: Party::Role(to),
        protocol: Transport::Tcp,
        port,
        why: "test".into(),
    };
    let flows = vec![
        flow("https", Party::Internet, Role::Haproxy, ports::HTTPS),
        flow("http", Party::Internet, Role::Haproxy, ports::HTTP),
        flow(
            "check-https",
            Party::Appliances,
            Role::Haproxy,
            ports::HTTPS,
        ),
        flow("check-http", Party::Appliances, Role::Haproxy, ports::HTTP),
        flow(
            "haproxy-nginx",
            Party::Role(Role::Haproxy),
            Role::Nginx,
            ports::NGINX,
        ),
        flow("nginx-app", Party::Role(Role::Nginx), Role::App, ports::APP),
        flow("app-db", Party::Role(Role::App), Role::Db, ports::DB),
        Flow {
            to: Party::Servers,
            ..flow(
                "node-metrics",
                Party::Role(Role::Monitor),
                Role::Db,
                ports::NODE_EXPORTER,
            )
        },
        flow(
            "haproxy-metrics",
            Party::Role(Role::Monitor),
            Role::Haproxy,
            ports::HAPROXY_METRICS,
        ),
    ];
    let services = [("https", ports::HTTPS), ("http", ports::HTTP)]
        .map(|(name, port)| Service {
            name: name.into(),
            address: [203, 0, 113, 10].into(),
            port,
            role: Role::Haproxy,
            server_port: port,
        })
        .to_vec();
    Plan {
        name: "foobar".into(),
        domain: "www.foobar.com".into(),
        networks,
        appliances,
        servers,
        flows,
        services,
        vrrp: Vrrp {
            advertisement_interval: 10,
            preempt: true,
        },
    }
}

/// What the tool's PKI would give a server.
pub fn material(server: &Server) -> Material {
    let identity = |name: &str| Identity {
        certificate: format!("(certificate of {name})\n"),
        key: format!("(key of {name})\n"),
    };
    Material {
        ca: "(certificate of the authority)\n".into(),
        server: identity(&server.name),
        site: (server.role == Role::Haproxy).then(|| identity("www.foobar.com")),
        database_password: matches!(server.role, Role::App | Role::Db).then(|| "s3cret".into()),
    }
}
