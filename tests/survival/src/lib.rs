//! A pair of Linux appliances between clients and servers, and what can happen to it.

mod tls;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::{
    Adverts, Appliances, Cable, Capture, Device, Echo, GATEWAYS, Lab, Load, OWN, Program, Request,
    Wrap,
};
use site::plan::ports;

/// A running pair, its servers, and eyes on both sides.
pub struct Pair {
    // In the order in which they end.
    nodes: [Option<Program>; 2],
    /// The servers.
    pub echo: Echo,
    /// What a client makes of a connection to [`TLS`].
    pub tls: Wrap,
    adverts: Adverts,
    captures: [Capture; 2],
    program: PathBuf,
    blobs: [PathBuf; 2],
    /// The namespaces.
    pub lab: Lab,
}

impl Pair {
    /// Starts both appliances on the lab's site with `more` at its end, and waits until the preferred one is Active and the
    /// other one follows it. `program` is the test crate's own `survivor`.
    ///
    /// # Panics
    /// Without root: a test that cannot run must not pass.
    #[must_use]
    pub fn new(program: &str, more: &str) -> Self {
        let lab = Lab::new().expect("root, iproute2 and procps");
        let appliances = Appliances {
            interval: INTERVAL,
            pair: true,
            more: &format!("{SITE}{more}"),
        };
        let (accept, connect) = tls::ends();
        let blobs = appliances.blobs().expect("a good site");
        let blobs = [0, 1].map(|gateway: usize| {
            let name = format!("{}.blob", GATEWAYS[gateway]);
            lab.file(&name, &blobs[gateway]).expect("room")
        });
        let mut pair = Self {
            nodes: [None, None],
            echo: Echo::start_with(&lab, &[(TLS, accept), (MORE, lab::plain())])
                .expect("free ports"),
            tls: connect,
            adverts: Adverts::listen(&lab).expect("root"),
            captures: [lab.clients(), lab.servers()]
                .map(|space| Capture::start(space).expect("root")),
            program: program.into(),
            blobs,
            lab,
        };
        pair.start(0);
        pair.start(1);
        pair.settle();
        pair
    }

    /// Starts one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&mut self, gateway: usize) {
        let blob = self.blobs[gateway].display().to_string();
        let words = [&blob, "wan=wan", "lan=lan"];
        let started = self.lab.start(gateway, Path::new(&self.program), &words);
        self.nodes[gateway] = Some(started.expect("iproute2"));
    }

    /// Kills one, as a power loss does: nothing of it is left in its kernel.
    pub fn kill(&mut self, gateway: usize) {
        self.nodes[gateway].take().expect("it runs").kill();
    }

    /// Asks one to end in good order.
    pub fn stop(&mut self, gateway: usize) {
        let mut node = self.nodes[gateway].take().expect("it runs");
        node.terminate();
        self.wait("an appliance ends", || node.ended().is_some());
    }

    /// Orders the Active to hand over, and waits until it has.
    ///
    /// # Panics
    /// If it does not.
    pub fn hand_over(&self, gateway: usize) {
        let result = self.lab.operate(gateway, Device::hand_over);
        result.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
    }

    /// Ends the maintenance that a hand-over begins.
    ///
    /// # Panics
    /// If it does not.
    pub fn maintained(&self, gateway: usize) {
        let order = |device: &mut Device| device.order(&Request::Maintenance(false));
        let result = self.lab.operate(gateway, order);
        result.unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
    }

    /// Cuts a cable of one.
    pub fn cut(&self, gateway: usize, cable: Cable) {
        self.lab.cut(gateway, cable).expect("iproute2");
    }

    /// Mends it.
    pub fn mend(&self, gateway: usize, cable: Cable) {
        self.lab.mend(gateway, cable).expect("iproute2");
    }

    /// Waits until one alone advertises.
    pub fn wait_for(&self, gateway: usize) {
        self.wait(&format!("{} is Active", GATEWAYS[gateway]), || {
            self.adverts.active(Duration::from_millis(300)) == Some(OWN[gateway])
        });
    }

    /// Waits until the preferred one is Active, the other one follows it, and connections are taken.
    pub fn settle(&self) {
        self.wait_for(0);
        self.wait("the Backup knows all flows", || self.lab.is_in_sync(0));
        sleep(Duration::from_millis(500)); // checks of the servers
    }

    /// Waits until the Backup has been told what happened just now: used budgets twice a second, connections sooner.
    pub fn synchronize(&self) {
        sleep(Duration::from_millis(700));
        self.wait("the Backup knows all flows", || self.lab.is_in_sync(0));
    }

    /// Waits until something holds.
    ///
    /// # Panics
    /// After 20 seconds, with what the appliances said.
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "never happened: {what}\n{}",
                self.logs()
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Everything that the appliances have said.
    #[must_use]
    pub fn logs(&self) -> String {
        let nodes = GATEWAYS.iter().zip(&self.nodes);
        let logs =
            nodes.filter_map(|(name, node)| Some(format!("--- {name}\n{}", node.as_ref()?.log())));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// None of these connections is broken: each one carries data since now. And nobody was told to give up.
    ///
    /// # Panics
    /// If that is not so.
    pub fn all_well(&self, loads: &[(&str, &Load)]) {
        let now = Instant::now();
        for (name, load) in loads {
            load.ask_all();
            let broken = load.broken_after(now, Duration::from_secs(10));
            assert!(
                broken.is_empty(),
                "{name}: {} of {} broken: {:?}\n{}",
                broken.len(),
                load.connections().len(),
                broken.iter().take(3).collect::<Vec<_>>(),
                self.logs()
            );
        }
        for capture in &self.captures {
            let mut refusals = capture.refusals();
            // The laboratory's servers run no HAProxy whose agent would answer the appliances.
            let agent = format!(":{} -> ", ports::HAPROXY_AGENT);
            refusals.retain(|refusal| !refusal.to_string().contains(&agent));
            let shown = refusals.iter().take(5).map(ToString::to_string);
            assert!(
                refusals.is_empty(),
                "{} refusals: {:?}\n{}",
                refusals.len(),
                shown.collect::<Vec<_>>(),
                self.logs()
            );
        }
    }
}

/// How often everything happens: once, or more often if there is time.
#[must_use]
pub fn rounds() -> usize {
    match std::env::var_os("RAVELIN_SOAK") {
        Some(_) => 10,
        None => 1,
    }
}

/// The port of the service with TLS.
pub const TLS: u16 = 7443;
/// A port of the servers that no service of the lab's site has; what is sent to it comes back.
pub const MORE: u16 = 7100;
/// What the lab's site does not have by itself.
const SITE: &str = "
[services.tls]
port = 7443
role = \"haproxy\"
check = { kind = \"ping\", interval = \"200ms\", timeout = \"150ms\" }
why = \"the lab's sessions\"
";
/// Between two adverts.
const INTERVAL: Duration = Duration::from_millis(100);
