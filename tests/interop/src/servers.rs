//! Real daemons of Debian in the lab's `host` namespace, which stands for the server behind the appliances; and work inside
//! a namespace.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Lab, ip, run, wait_until};

/// The server's IPv4 address.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
/// The server's IPv6 address, once [`Lab::give_host_ipv6`] was called.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 0x100);

/// A daemon in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Sends a signal to the daemon itself; none of ours has worker processes.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// Ends it at once, as a crash does.
    pub fn crash(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lab {
    /// Gives the server an IPv6 address on the LAN.
    pub fn give_host_ipv6(&self) {
        let namespace = self.ns("host");
        run(Command::new("ip").args([
            "netns",
            "exec",
            &namespace,
            "sysctl",
            "-qw",
            "net.ipv6.conf.eth0.disable_ipv6=0",
        ]));
        let address = format!("{HOST6}/64");
        ip(&[
            "-n", &namespace, "addr", "add", &address, "dev", "eth0", "nodad",
        ]);
    }

    /// Starts a daemon on the server.
    ///
    /// # Panics
    /// If it is not installed: an interop test that cannot run must not pass.
    #[must_use]
    pub fn daemon(&self, package: &str, command: &[&str]) -> Daemon {
        let installed = Command::new("sh")
            .args(["-c", "command -v \"$0\"", command[0]])
            .stdout(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        let name = command[0];
        assert!(installed, "{name} is missing: apt-get install {package}");
        let log = self.path(&format!("{name}.log"));
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a writable directory");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.ns("host")])
            .args(command)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle"))
            .stderr(out)
            .spawn()
            .expect("ip netns exec starts");
        Daemon { child, log }
    }

    /// Nginx with this `server { … }`, in one process.
    #[must_use]
    pub fn nginx(&self, server: &str) -> Daemon {
        let directory = self.directory.path().display();
        let conf = self.file(
            "nginx.conf",
            &format!(
                "daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log {directory}/nginx-access.log;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    server {{ {server} }}
}}
"
            ),
        );
        let prefix = format!("{directory}");
        self.daemon("nginx-light", &["nginx", "-p", &prefix, "-c", &conf])
    }

    /// What nginx has written to its access log.
    #[must_use]
    pub fn nginx_access(&self) -> String {
        fs::read_to_string(self.path("nginx-access.log")).unwrap_or_default()
    }

    /// HAProxy with this configuration.
    #[must_use]
    pub fn haproxy(&self, conf: &str) -> Daemon {
        let conf = self.file("haproxy.cfg", conf);
        self.daemon("haproxy", &["haproxy", "-db", "-f", &conf])
    }

    /// dnsmasq that knows this name and refuses all others.
    #[must_use]
    pub fn dnsmasq(&self, name: &str, port: u16) -> Daemon {
        let address = format!("--address=/{name}/192.0.2.1");
        let port = format!("--port={port}");
        self.daemon(
            "dnsmasq-base",
            &[
                "dnsmasq",
                "-k",
                "-C",
                "/dev/null",
                "-R",
                "-h",
                "--user=root",
                "--log-facility=-",
                "--pid-file=",
                &address,
                &port,
            ],
        )
    }

    /// An empty MariaDB with these further options.
    #[must_use]
    pub fn mariadb(&self, options: &[&str]) -> Daemon {
        let data = self.path("mariadb");
        if !data.exists() {
            let status = Command::new("mariadb-install-db")
                .args([
                    "--no-defaults",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    &format!("--datadir={}", data.display()),
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "mariadb-install-db failed: apt-get install mariadb-server-core mariadb-client-core"
            );
        }
        let datadir = format!("--datadir={}", data.display());
        let socket = format!("--socket={}", self.path("mariadb.sock").display());
        let pid = format!("--pid-file={}", self.path("mariadb.pid").display());
        let mut command = vec![
            "mariadbd",
            "--no-defaults",
            "--user=root",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=4M",
            "--bind-address=*",
            &datadir,
            &socket,
            &pid,
        ];
        command.extend_from_slice(options);
        self.daemon("mariadb-server-core", &command)
    }

    /// Waits until somebody listens on these TCP ports of the server.
    pub fn listening(&self, ports: &[u16]) {
        for port in ports {
            wait_until(&format!("port {port} of the server"), &[], || {
                self.within("host", || TcpStream::connect((HOST, *port)).is_ok())
            });
        }
    }

    /// Runs `work` on a thread inside a namespace; sockets made there stay there.
    ///
    /// # Panics
    /// If `work` does.
    pub fn within<T: Send>(&self, namespace: &str, work: impl FnOnce() -> T + Send) -> T {
        let space = self.space(namespace);
        space.enter(work).expect("root may enter it")
    }

    /// Writes a file of the lab's own; its path.
    ///
    /// # Panics
    /// Without a writable directory for temporary files.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a writable directory");
        path.to_str().expect("a UTF-8 path").to_owned()
    }
}

/// The server's address of a version.
#[must_use]
pub fn host(six: bool) -> IpAddr {
    if six { HOST6.into() } else { HOST.into() }
}
