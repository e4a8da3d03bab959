//! No rendered configuration talks to another machine without TLS, or without looking whom it talks to: a chain that leads to
//! the right authority is not enough, the name counts as well. The daemons' defaults do not.

#![allow(clippy::unwrap_used)]

mod common;

use common::{dualstack, foobar, material};
use render::server::files;
use site::plan::Role;

#[test]
fn every_hop_is_encrypted_and_checks_names() {
    let (mut upstreams, mut binds) = (0, 0);
    for plan in [foobar(), dualstack()] {
        for server in &plan.servers {
            for file in files(&plan, server, &material(server)).unwrap() {
                let text = String::from_utf8(file.bytes).unwrap();
                let faults = match &*file.path {
                    "/etc/haproxy/haproxy.cfg" => haproxy(&text),
                    // Who reads the monitor's page has a browser and no certificate; who may is the firewall's say.
                    "/etc/nginx/nginx.conf" if server.role == Role::Monitor => continue,
                    "/etc/nginx/nginx.conf" => nginx(&text),
                    "/etc/prometheus/prometheus.yml" => prometheus(&text),
                    _ => continue,
                };
                assert_eq!(
                    faults,
                    Vec::<String>::new(),
                    "{}:{}",
                    server.name,
                    file.path
                );
                upstreams +=
                    text.matches("sni str(").count() + text.matches("proxy_pass https").count();
                binds += text.matches("verify required").count();
            }
        }
    }
    assert!(upstreams > 4 && binds > 4, "nothing was looked at");
}

#[test]
fn faults_are_found() {
    let server = |options: &str| {
        haproxy(&format!(
            "backend web\n    server web1 10.0.0.1:8443 {options}\n"
        ))
    };
    let good = "ssl verify required ca-file /x sni str(web1) crt /y";
    assert!(server(good).is_empty());
    assert!(server(&format!("{good} check check-sni web1")).is_empty());
    let bad = [
        "",
        "check",
        "ssl verify none sni str(web1) crt /y",
        "ssl verify required ca-file /x crt /y",
        "ssl verify required ca-file /x sni str(web1)",
        &format!("{good} check"),
    ];
    for options in bad {
        assert_eq!(server(options).len(), 1, "{options}");
    }
    let inherited =
        format!("backend web\n    default-server {good}\n    server web1 10.0.0.1:8443\n");
    assert!(haproxy(&inherited).is_empty());
    let through = "check check-ssl verify required ca-file /x crt /y check-sni db1 verifyhost db1";
    let database = |options: &str| {
        let bind = "listen database\n    bind 127.0.0.1:3306\n";
        haproxy(&format!("{bind}    server db1 10.0.0.1:3306 {options}\n"))
    };
    assert!(database(through).is_empty());
    for word in ["check-ssl ", "verify required ", "verifyhost db1"] {
        assert_eq!(database(&through.replace(word, "")).len(), 1, "{word}");
    }
    assert!(haproxy("backend app\n    server local 127.0.0.1:9000\n").is_empty());
    let bind = |rest: &str| haproxy(&format!("frontend inside\n    bind 10.0.0.1:8405 {rest}\n"));
    let names = "\n    http-request deny unless { ssl_c_s_dn(CN) -m str mon1 }";
    assert!(bind(&format!("ssl crt /x ca-file /y verify required{names}")).is_empty());
    for rest in [
        "",
        "ssl crt /x",
        "ssl crt /x ca-file /y verify required",
        "ssl crt /x ca-file /y verify optional",
    ] {
        assert_eq!(bind(rest).len(), 1, "{rest}");
    }
    let location = "location / {\n proxy_pass https://app;\n proxy_ssl_verify on;\n proxy_ssl_name app;\n proxy_ssl_server_name on;\n \
                    proxy_ssl_trusted_certificate /x;\n proxy_ssl_certificate /y;\n proxy_ssl_protocols TLSv1.3;\n}\n";
    assert!(nginx(location).is_empty());
    for (index, _) in location.match_indices("proxy_ssl_") {
        let without = format!("{}#{}", &location[..index], &location[index..]);
        assert_eq!(nginx(&without).len(), 1, "{without}");
    }
    assert_eq!(
        nginx("location / {\n proxy_pass http://10.0.0.1:9000;\n}\n").len(),
        1
    );
    assert_eq!(nginx("server {\n listen 10.0.0.1:8080 ssl;\n}\n").len(), 1);
}

/// Sections in the middle: those that users do not reach.
fn haproxy(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sections: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        match sections.last_mut() {
            Some(section) if !line.starts_with(char::is_alphabetic) => section.push(line.trim()),
            _ => sections.push(vec![line]),
        }
    }
    for section in &sections {
        let head = section.first().copied().unwrap_or_default();
        let of = |word: &'static str| {
            let lines = section.iter().copied();
            lines.filter(move |line| line.split(' ').next() == Some(word))
        };
        let defaults: String = of("default-server").collect::<Vec<_>>().join(" ");
        for line in of("server") {
            let all = format!("{line} {defaults} ");
            let is_here = is_local(line)
                || all
                    .split(' ')
                    .nth(2)
                    .is_some_and(|at| at.starts_with("127.0.0.1:") || at.starts_with('/'));
            let mut wanted = vec![" verify required ", " ca-file ", " crt "];
            match head {
                // The application's own TLS passes through; what the proxy says itself is its questions.
                "listen database" => wanted.extend([" check-ssl ", " check-sni ", " verifyhost "]),
                _ => wanted.extend([" ssl ", " sni "]),
            }
            if all.contains(" check ") {
                wanted.push(" check-sni ");
            }
            if !is_here && wanted.iter().any(|word| !all.contains(word)) {
                faults.push(format!("{head}: {line}"));
            }
        }
        // Users have no certificates, nor have appliances, which ask whether somebody is there.
        let open = [
            "frontend users-http",
            "frontend users-https",
            "frontend agent",
            "frontend health",
        ];
        let users = open.contains(&head);
        let names = section.iter().any(|line| {
            line.to_lowercase()
                .contains(" unless { ssl_c_s_dn(cn) -m str ")
        });
        for line in of("bind").filter(|line| !users && !is_local(line)) {
            let all = format!("{line} ");
            let wanted = [" ssl ", " ca-file ", " verify required "];
            if wanted.iter().any(|word| !all.contains(word)) || !names {
                faults.push(format!("{head}: {line}"));
            }
        }
    }
    faults
}

/// Whether a line leads to a socket of the same machine, or names itself among peers.
fn is_local(line: &str) -> bool {
    line.starts_with("bind 127.0.0.1:")
        || line.contains(" abns@")
        || line.contains(" unix@")
        || line.starts_with("server ") && line.split(' ').count() == 2
}

fn nginx(text: &str) -> Vec<String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let text: String = lines.collect::<Vec<_>>().join("\n");
    let mut faults = Vec::new();
    for block in text
        .split("location ")
        .skip(1)
        .filter(|block| block.contains("proxy_pass "))
    {
        let block = block.split('}').next().unwrap_or_default();
        let wanted = [
            "proxy_pass https://",
            "proxy_ssl_verify on;",
            "proxy_ssl_name ",
            "proxy_ssl_server_name on;",
            "proxy_ssl_trusted_certificate ",
            "proxy_ssl_certificate ",
            "proxy_ssl_protocols TLSv1.3;",
        ];
        if wanted.iter().any(|word| !block.contains(word)) {
            faults.push(block.trim().to_owned());
        }
    }
    let verifies = ["ssl_verify_client on;", "ssl_client_certificate "];
    let all = verifies.iter().all(|word| text.contains(word));
    for block in text.split("server {").skip(1) {
        let block = block.split("server {").next().unwrap_or_default();
        let names = block.contains("return 403;") || block.contains("return 421;");
        let listens = |line: &str| line.trim().starts_with("listen ") && line.contains(" ssl");
        if block.lines().any(listens) && !(all && names) {
            faults.push(block.trim().to_owned());
        }
    }
    faults
}

fn prometheus(text: &str) -> Vec<String> {
    let jobs = text.split("- job_name:").skip(1);
    let is_local = |job: &&str| {
        job.lines()
            .filter(|line| line.contains("targets:"))
            .all(|line| line.contains("127.0.0.1:") || line.contains("localhost:"))
    };
    let wanted = ["scheme: https", "ca_file:", "cert_file:", "key_file:"];
    // Blackbox, on the same machine, has modules of its own for whom it believes.
    jobs.filter(|job| !is_local(job) && !job.contains("through-blackbox"))
        .filter(|job| {
            wanted.iter().any(|word| !job.contains(word)) || job.contains("insecure_skip_verify")
        })
        .map(str::to_owned)
        .collect()
}
