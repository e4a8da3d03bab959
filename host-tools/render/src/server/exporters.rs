//! Figures of what runs on a server, for the monitor alone.

use site::plan::{Role, Server, ports};

use super::{EXPORTERS_TLS, HostFile, public, sockets};

/// The exporter of the role's own daemon, if it does not tell its figures itself.
pub(super) fn files(server: &Server) -> Vec<HostFile> {
    let (unit, port, source) = match server.role {
        Role::Nginx => (
            "prometheus-nginx-exporter",
            ports::NGINX_EXPORTER,
            format!("--nginx.scrape-uri=http://127.0.0.1:{NGINX_STATUS}/status"),
        ),
        Role::Db => (
            "prometheus-mysqld-exporter",
            ports::MYSQL_EXPORTER,
            "--config.my-cnf=/etc/ravelin/exporter.cnf".to_owned(),
        ),
        Role::Haproxy | Role::App | Role::Monitor => return Vec::new(),
    };
    let listen: Vec<String> = (sockets(server).iter())
        .map(|address| format!("--web.listen-address={address}:{port}"))
        .collect();
    let arguments = format!(
        "ARGS=\"{} --web.config.file={EXPORTERS_TLS} {source}\"\n",
        listen.join(" ")
    );
    let mut files = vec![public(&format!("/etc/default/{unit}"), arguments)];
    if server.role == Role::Db {
        // By the socket the database knows whom it talks to: there is no password.
        let own = "[client]\nuser = prometheus\nsocket = /run/mysqld/mysqld.sock\n";
        files.push(public("/etc/ravelin/exporter.cnf", own.to_owned()));
    }
    files
}

/// Where Nginx counts, for its own machine.
pub(super) const NGINX_STATUS: u16 = 9145;
