//! A laboratory of database servers: the real roots of a site's db, app and monitor servers as containers on one
//! switch, with disks that outlive them. Needs root; builds the roots if they are not cached.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{ClientIdentity, Conn, Opts, OptsBuilder, SslOpts};
use netns::Namespace;
use nix::sched::{CloneFlags, setns};
use rehearse::cgroup::Cgroup;
use rehearse::light;
use rehearse::process::Process;
use site::plan::{Role, Server, ports};
use site::{Boards, Plan};

/// Waits are generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The example site of this name.
#[must_use]
pub fn plan(text: &str) -> Plan {
    let boards = Boards::new([("zynq7000", 2)]);
    site::parse("site.toml", text, &boards).expect("the example is good")
}

/// Servers as containers, and what connects them.
pub struct Lab {
    /// The site.
    pub plan: Plan,
    /// Its certificates, and the servers' disks.
    pub state: tempfile::TempDir,
    /// Certificates of all servers.
    pub pki: build::pki::Pki,
    switch: Namespace,
    roots: BTreeMap<String, (PathBuf, Vec<build::HostFile>)>,
    running: BTreeMap<String, Machine>,
    number: u32,
}

struct Machine {
    container: Process,
    network: Process,
    _cgroup: Cgroup,
}

impl Lab {
    /// Builds what these servers need; nothing runs yet.
    #[must_use]
    pub fn new(plan: Plan, servers: &[&str]) -> Self {
        assert!(
            nix::unistd::Uid::effective().is_root(),
            "containers need root"
        );
        // Chosen once, whatever other crates of this program were built with.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let state = tempfile::tempdir().expect("temporary directory");
        let pki = build::pki::open(state.path(), &plan).expect("certificates");
        let places = image_test::places(state.path());
        let options = build::Options {
            only: Some(servers.iter().map(|name| (*name).to_owned()).collect()),
            ..build::Options::default()
        };
        let images = build::images(&places, &plan, &pki, &options, &image_test::tell);
        let images = images.expect("images");
        let roots = images
            .into_iter()
            .map(|image| (image.server, (image.root_tree, image.host_files)));
        let switch = Namespace::new(netns::prefix("rvdb")).expect("a namespace");
        let lab = Self {
            switch,
            roots: roots.collect(),
            running: BTreeMap::new(),
            state,
            pki,
            plan,
            number: 0,
        };
        lab.lay_switch();
        lab
    }

    /// One switch for all networks, and the gateways on it.
    fn lay_switch(&self) {
        let mut lines =
            String::from("link set lo up\nlink add rack type bridge\nlink set rack up\n");
        for network in &self.plan.networks {
            let prefix = network.subnet.prefix_len();
            lines += &format!(
                "address add {}/{prefix} dev rack\n",
                network.virtual_address
            );
        }
        self.switch.ip_all(&lines).expect("a switch");
        let forward = || fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        self.switch.enter(forward).expect("root").expect("a router");
    }

    /// A server of the plan.
    #[must_use]
    pub fn server(&self, name: &str) -> &Server {
        self.plan.server(name).expect("a server of the plan")
    }

    /// Where a server's data is, from outside.
    #[must_use]
    pub fn disk(&self, name: &str) -> PathBuf {
        self.state.path().join(format!("{name}.disk"))
    }

    /// The root tree that a server runs from.
    #[must_use]
    pub fn root(&self, name: &str) -> &Path {
        &self.roots[name].0
    }

    /// Switches a server on.
    pub fn power_on(&mut self, name: &str) {
        assert!(!self.running.contains_key(name), "{name} runs");
        let (root, files) = &self.roots[name];
        let path = self.state.path();
        let etc = path.join(format!("{name}.etc"));
        light::write_host_files(&etc, files).expect("files");
        let disk = self.disk(name);
        fs::create_dir_all(&disk).expect("a disk");
        let network = light::namespace(&path.join(format!("{name}.net"))).expect("a namespace");
        let mac: Vec<String> = (self.server(name).mac.iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let lines = format!(
            "link add v-{name} type veth peer name eth0 address {} netns {}\n\
             link set v-{name} master rack up\n",
            mac.join(":"),
            network.id()
        );
        self.switch.ip_all(&lines).expect("a cable");
        self.number += 1;
        let unique = format!("{}-{name}-{}", std::process::id(), self.number);
        let cgroup = Cgroup::new(&format!("ravelin-db-{unique}"));
        let line = light::container(name, root, &etc, &disk, &network, &cgroup);
        let console = path.join(format!("{name}.console"));
        let container =
            Process::spawn(&line.program, &line.arguments, 0, &console).expect("a container");
        let machine = Machine {
            container,
            network,
            _cgroup: cgroup,
        };
        self.running.insert(name.to_owned(), machine);
    }

    /// Cuts a server's power: every process of it ends at once.
    pub fn power_off(&mut self, name: &str) {
        let mut machine = self.running.remove(name).expect("it runs");
        machine.container.kill();
        machine.network.kill();
        let gone = Instant::now() + Duration::from_secs(60);
        while self.switch.ip(&format!("link show v-{name}")).is_ok() {
            assert!(Instant::now() < gone, "the cable of {name} stays");
            sleep(Duration::from_millis(20));
        }
    }

    /// Cuts or mends a server's cable.
    pub fn cable(&self, name: &str, whole: bool) {
        let state = if whole { "up" } else { "down" };
        let line = format!("link set v-{name} {state}");
        self.switch.ip(&line).expect("a cable");
    }

    /// Runs a command on a server.
    pub fn on(&self, name: &str, command: &[&str]) -> Output {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match light::run(&self.running[name].container, command) {
                Ok(output) => return output,
                Err(error) => assert!(Instant::now() < deadline, "{name}: {error}"),
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// What a command on a server says.
    pub fn says(&self, name: &str, command: &[&str]) -> String {
        let output = self.on(name, command);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The answer of the database server there to an administrator.
    pub fn sql(&self, name: &str, query: &str) -> String {
        let socket = "--socket=/run/mysqld/mysqld.sock";
        self.says(
            name,
            &[
                "mariadb",
                "--no-defaults",
                "--skip-ssl",
                socket,
                "-N",
                "-e",
                query,
            ],
        )
    }

    /// The second column of a status row.
    pub fn status(&self, name: &str, value: &str) -> String {
        let row = self.sql(name, &format!("SHOW GLOBAL STATUS LIKE '{value}'"));
        row.split('\t').nth(1).unwrap_or_default().to_owned()
    }

    /// Runs `work` on a thread in a server's network.
    pub fn inside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let id = self.running[name].network.id();
        let file = fs::File::open(format!("/proc/{id}/ns/net")).expect("a namespace");
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter");
            work()
        })
    }

    /// The end of a server's journal and console, for a failed test.
    pub fn tell(&self, name: &str) {
        let journal = self.says(name, &["journalctl", "--no-pager", "-n", "60", "-o", "cat"]);
        println!("--- {name}\n{journal}");
    }

    /// Waits for something that must happen.
    pub fn until(&self, what: &str, mut happened: impl FnMut(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        while !happened(self) {
            if begin.elapsed() > PATIENCE {
                for name in self.running.keys() {
                    self.tell(name);
                }
                panic!("waited in vain until {what}");
            }
            sleep(Duration::from_millis(200));
        }
        begin.elapsed()
    }

    /// How the application of a server gets to its database.
    #[must_use]
    pub fn way(&self, app: &str) -> Way {
        let server = self.server(app);
        let material = self.pki.material(server);
        Way {
            host: "127.0.0.1".to_owned(),
            user: "app".to_owned(),
            password: material.database_password.unwrap_or_default(),
            ca: material.tiers[&Role::Db].clone(),
            identity: material.client,
            name: Role::Db.name().to_owned(),
            tls: true,
        }
    }
}

/// One way to a database server.
#[derive(Clone)]
pub struct Way {
    /// Address.
    pub host: String,
    /// Whom we claim to be.
    pub user: String,
    /// Whether we know the password.
    pub password: String,
    /// Whom we trust.
    pub ca: String,
    /// Who we are.
    pub identity: Option<render::Identity>,
    /// The name that the server must have.
    pub name: String,
    /// Whether to encrypt at all.
    pub tls: bool,
}

impl Way {
    fn options(&self) -> Opts {
        let identity = self.identity.as_ref().map(|identity| {
            let bytes = |text: &String| text.clone().into_bytes();
            ClientIdentity::new(
                bytes(&identity.certificate).into(),
                bytes(&identity.key).into(),
            )
        });
        let tls = self.tls.then(|| {
            SslOpts::default()
                .with_disable_built_in_roots(true)
                .with_root_certs(vec![self.ca.clone().into_bytes().into()])
                .with_client_identity(identity)
                .with_danger_tls_hostname_override(Some(self.name.clone()))
        });
        OptsBuilder::default()
            .ip_or_hostname(self.host.clone())
            .tcp_port(ports::DB)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .db_name(Some("app"))
            .prefer_socket(Some(false))
            .ssl_opts(tls)
            .into()
    }

    /// Asks one thing; to be called in the network of an app server.
    pub fn query(&self, query: &str) -> Result<Option<String>, String> {
        let query = query.to_owned();
        let options = self.options();
        block_on(async move {
            let ask = async {
                let mut connection = Conn::new(options).await?;
                connection.query_first::<String, _>(query).await
            };
            match tokio::time::timeout(Duration::from_secs(10), ask).await {
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            }
        })
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(work)
}

/// Increments a counter as fast as it is acknowledged, as an application does: a failure is tried again on a new
/// connection. What was acknowledged is counted apart from the database.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<JoinHandle<Duration>>,
}

impl Load {
    /// Begins in the network of an app server.
    #[must_use]
    pub fn start(lab: &Lab, app: &str) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let way = lab.way(app);
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = lab.inside(app, move || block_on(increments(&way, &stopped, &count)));
        Self {
            stop,
            acknowledged,
            thread: Some(thread),
        }
    }

    /// How many increments were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Ends it; returns how many were acknowledged, and the longest time between two acknowledgements.
    pub fn finish(mut self) -> (u64, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("one end");
        let gap = thread.join().expect("the load ran");
        (self.acknowledged(), gap)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

async fn increments(way: &Way, stop: &AtomicBool, count: &AtomicU64) -> Duration {
    const ADD: &str = "UPDATE acknowledged SET value = value + 1 WHERE id = 1";
    let mut connection: Option<Conn> = None;
    let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        let attempt = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Conn::new(way.options()).await?,
            };
            open.query_drop(ADD).await?;
            let changed = open.affected_rows();
            connection = Some(open);
            Ok::<u64, mysql_async::Error>(changed)
        };
        // Longer than any gap: an application that gives up sooner tries again no sooner either.
        match tokio::time::timeout(Duration::from_secs(30), attempt).await {
            Ok(Ok(1)) => {
                count.fetch_add(1, Ordering::SeqCst);
                gap = gap.max(last.elapsed());
                last = Instant::now();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            _ => {
                connection = None;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    gap.max(last.elapsed())
}
