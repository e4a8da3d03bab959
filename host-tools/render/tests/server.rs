//! Every file of every server of the reference site, and what the programs that read them say.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{foobar, material};
use render::server::{Mail, files};
use render::{HostFile, Material};
use site::plan::{Email, Party, PortRange, Role, Ssh, Traffic};

#[test]
fn every_file_of_every_server() {
    let plan = foobar();
    for server in &plan.servers {
        let mut text = String::new();
        for file in files(&plan, server, &material(server)).unwrap() {
            let body = String::from_utf8(file.bytes).unwrap();
            text.push_str(&format!("=== {} {:o}\n{body}\n", file.path, file.mode));
        }
        insta::assert_snapshot!(server.name.as_str(), text);
    }
}

#[test]
fn secrets_are_for_root_alone_and_only_where_they_are_used() {
    let mut plan = foobar();
    plan.ssh = Some(Ssh {
        keys: vec!["ssh-ed25519 AAAA ann@laptop".to_owned()],
        from: vec!["10.20.5.100/32".parse().unwrap()],
    });
    plan.monitoring.email = Some(Email {
        to: vec!["ops@foobar.com".to_owned()],
        from: "mon1@foobar.com".to_owned(),
        server: "smtp.foobar.com".to_owned(),
        port: 465,
        user: Some("mon1".to_owned()),
        password_file: Some("smtp.password".to_owned()),
        ca: None,
    });
    for server in &plan.servers {
        let mut material = material(server);
        material.mail = Some(Mail {
            password: Some("of its mail".to_owned()),
            ca: None,
        });
        let secrets = [
            material.ssh_host_key.clone(),
            (server.role == Role::Monitor).then(|| "of its mail".to_owned()),
            material.server.as_ref().map(|server| server.key.clone()),
            material.client.as_ref().map(|client| client.key.clone()),
            material.peer.as_ref().map(|peer| peer.key.clone()),
            material.site.as_ref().map(|site| site.key.clone()),
            material.database_password.clone(),
        ];
        for file in files(&plan, server, &material).unwrap() {
            let text = String::from_utf8(file.bytes).unwrap();
            let secret = secrets
                .iter()
                .flatten()
                .any(|secret| text.contains(secret.as_str()));
            let expected = if secret { 0o600 } else { 0o644 };
            assert_eq!(file.mode, expected, "{}:{}", server.name, file.path);
        }
    }
}

#[test]
fn paths_are_below_etc_and_unique() {
    let plan = foobar();
    for server in &plan.servers {
        let mut paths: Vec<String> = files(&plan, server, &material(server))
            .unwrap()
            .into_iter()
            .map(|f| f.path)
            .collect();
        assert!(
            paths.iter().all(|path| path.starts_with("/etc/")),
            "{paths:?}"
        );
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}

#[test]
fn what_is_missing_is_named() {
    let plan = foobar();
    let [lb1, db1] = ["lb1", "db1"].map(|name| {
        plan.servers
            .iter()
            .find(|server| server.name == name)
            .unwrap()
    });
    let quoted = |text: &str| Material {
        database_password: Some(text.into()),
        ..material(db1)
    };
    let table = [
        (
            lb1,
            Material {
                site: None,
                ..material(lb1)
            },
            "`lb1` cannot work without the certificate of the site",
        ),
        (
            db1,
            Material {
                database_password: None,
                ..material(db1)
            },
            "`db1` cannot work without the password of the database",
        ),
        (
            db1,
            quoted("x'; DROP"),
            "the password of the database may have letters and digits only",
        ),
        (
            db1,
            quoted(""),
            "the password of the database may have letters and digits only",
        ),
    ];
    for (server, material, text) in table {
        let Err(error) = files(&plan, server, &material) else {
            panic!("{text}")
        };
        assert_eq!(error.to_string(), text);
    }
}

/// Pings in both directions and from all parties must give rules that nftables takes.
#[test]
fn nftables_accepts_every_kind_of_flow() {
    let mut plan = foobar();
    for (n, (from, to)) in [
        (Party::Appliances, Party::Servers),
        (Party::Servers, Party::Appliances),
        (Party::Servers, Party::Servers),
        (Party::Servers, Party::Internet),
    ]
    .into_iter()
    .enumerate()
    {
        let mut flow = plan.flows[0].clone();
        flow.name = format!("ping-{n}");
        (flow.from, flow.to, flow.traffic) = (from, to, Traffic::Ping);
        plan.flows.push(flow.clone());
        flow.name = format!("dns-{n}");
        flow.traffic = Traffic::to(policy::Transport::Udp, PortRange::one(53));
        plan.flows.push(flow);
    }
    for server in &plan.servers {
        let files = files(&plan, server, &material(server)).unwrap();
        check(
            &["nft", "-c", "-f", "-"],
            text_of(&files, "/etc/nftables.conf"),
        );
    }
}

/// Runs a checker on standard input.
fn check(command: &[&str], input: &str) {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} is needed for this test: {error}", command[0]));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}\n{input}");
}

fn text_of<'a>(files: &'a [HostFile], path: &str) -> &'a str {
    let file = files.iter().find(|file| file.path == path).unwrap();
    str::from_utf8(&file.bytes).unwrap()
}
