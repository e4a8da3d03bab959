//! The appliance as a Linux process, on interfaces of the kernel, TAP devices or virtual cables.
//!
//! It is the same node as on the hardware boards; see the README for what the host has to leave alone.

mod cable;
mod offload;
mod packet;
mod port;
mod spec;
mod store;
mod sys;
mod tap;

use std::fmt::{self, Display};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Thread;
use std::time::SystemTime;

use classifier::Policy;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use node::superloop::Superloop;
use node::{Event, Node, Refusal, Tables};
use time::Instant;

use port::AnyPort;
pub use spec::{PortSpec, PortSpecError};
use store::Store;

/// Flows of IPv4 that one process can track.
pub const FLOWS: usize = 16384;
/// Flows of IPv6.
pub const FLOWS6: usize = 4096;

/// Between the checks and their TLS.
static MAILBOX: tls::Mailbox = tls::Mailbox::new();

/// What `run` needs.
pub struct Options {
    /// What the appliance does.
    pub policy: Policy<'static>,
    /// The blob that `policy` is in; empty if it is in none.
    pub blob: &'static [u8],
    /// Names of its rules, for reports; those that are missing are numbered.
    pub rules: Vec<String>,
    /// Where the configuration comes from, to be read again on SIGHUP.
    pub source: Option<Source>,
    /// The file that a configuration is written to which came over the network and was confirmed.
    pub file: Option<PathBuf>,
    /// Its physical ports in the order that `policy` counts them (0 is wan on a two-port board).
    pub ports: Vec<PortSpec>,
    /// When this becomes readable or its other end closes, the appliance stops in good order, as it
    /// does on SIGTERM and SIGINT.
    pub stop: Option<OwnedFd>,
    /// Locks all memory and runs under SCHED_FIFO, so that adverts are on time on a busy machine.
    pub realtime: bool,
}

/// Reads a configuration: its blob, and the names of its rules; or says why it cannot.
pub type Source = Box<dyn Fn() -> Result<(Vec<u8>, Vec<String>), String> + Send + Sync>;

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("Options");
        options
            .field("policy", &self.policy)
            .field("ports", &self.ports);
        options.finish_non_exhaustive()
    }
}

/// Why the appliance could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Fewer `--port` options than the configuration counts.
    #[error("{name} has {needed} port(s) in the site file, but {given} were given")]
    TooFewPorts {
        /// Name of the appliance.
        name: String,
        /// Ports in the configuration.
        needed: usize,
        /// Ports in the options.
        given: usize,
    },
    /// More ports than the loop serves.
    #[error("{given} ports were given, the most is {}", node::superloop::MAX_PORTS)]
    TooManyPorts {
        /// Ports in the options.
        given: usize,
    },
    /// A port could not be opened.
    #[error("port {port}: {problem}")]
    Port {
        /// The port as the operator wrote it.
        port: String,
        /// What is wrong and how to mend it.
        problem: String,
    },
    /// The kernel itself holds an address of the appliance, and would answer for it.
    #[error(
        "interface {interface} has the address {address}, which is {name}'s: the kernel would answer for it \
         beside the appliance; remove it with `ip addr del {address} dev {interface}`"
    )]
    AddressTaken {
        /// Name of the appliance.
        name: String,
        /// The interface.
        interface: String,
        /// The address.
        address: std::net::Ipv4Addr,
    },
    /// The realtime option was refused.
    #[error(
        "real-time scheduling refused: {0}; it needs CAP_SYS_NICE and CAP_IPC_LOCK (run as root)"
    )]
    Realtime(#[source] io::Error),
    /// Anything else that the operating system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
}

/// Runs the appliance until it is told to stop. SIGHUP reads the configuration again and goes on with it, SIGUSR1 prints the
/// counters, SIGUSR2 hands over to the peer. Events and counters go to
/// stderr, one per line.
///
/// # Errors
/// When a port cannot be opened, or the system refuses something the loop cannot do without.
pub fn run(options: Options) -> Result<(), RunError> {
    let ports = open_ports(&options)?;
    let signals = Signals::catch()?;
    let seed = seed()?;
    let worker = start_worker(seed)?; // not in real time: before that is asked for
    if options.realtime {
        sys::realtime().map_err(RunError::Realtime)?;
    }
    turn_until_stopped(options, ports, signals, seed, &worker)
}

/// Starts the thread that does TLS for the checks whenever it is woken; it ends with the process.
fn start_worker(seed: u64) -> Result<Thread, RunError> {
    tls::seed(seed.rotate_left(32));
    let work = || {
        let mut worker = tls::Worker::new(&MAILBOX);
        loop {
            while worker.step() {}
            std::thread::park();
        }
    };
    let thread = std::thread::Builder::new().name("tls".into()).spawn(work);
    let thread = thread.map_err(|error| RunError::System {
        what: "starting the thread for TLS",
        error,
    })?;
    Ok(thread.thread().clone())
}

fn turn_until_stopped(
    options: Options,
    mut ports: Vec<AnyPort>,
    mut signals: Signals,
    seed: u64,
    worker: &Thread,
) -> Result<(), RunError> {
    let Options {
        policy,
        blob,
        mut rules,
        source,
        file,
        stop,
        ..
    } = options;
    let source = source.map(Arc::new);
    let mut store = Store::new(blob, file);
    let clock = Clock::start();
    let name = policy.config.name.to_string();
    let mut tables = Tables::<FLOWS, FLOWS6>::boxed();
    let mut node = Node::new(Some(policy), &mut tables, seed, clock.now());
    node.check_over_tls(&MAILBOX);
    let names: Vec<String> = ports.iter().map(|port| port.name().to_owned()).collect();
    log(
        clock.now(),
        &name,
        format_args!("started on {}", names.join(", ")),
    );
    let mut turns = Superloop::new(&mut ports).with_store(&mut store);
    let mut time_due = Instant::ZERO;
    loop {
        let now = clock.now();
        if now >= time_due {
            time_due = now + TIME;
            tell_time(&mut node, now);
        }
        let busy = turns.turn(&mut node, now);
        if MAILBOX.has_work() {
            worker.unpark();
        }
        while let Some(event) = node.next_event() {
            if matches!(event, Event::Configured { .. }) {
                rules.clear(); // what they are called now, the network does not say
            }
            say(&clock, &name, &rules, event);
        }
        let wait = match busy {
            true => time::Duration::ZERO,
            false => turns.deadline(&node).since(clock.now()),
        };
        match sleep(&turns, stop.as_ref(), &mut signals, wait)? {
            Woken::Work => {}
            Woken::Report => report(clock.now(), &name, &rules, &node, turns.ports()),
            Woken::HandOver => {
                if let Err(refusal) = turns.hand_over(&mut node, clock.now()) {
                    log(
                        clock.now(),
                        &name,
                        format_args!("not handed over: {refusal}"),
                    );
                }
            }
            Woken::Reread => match &source {
                Some(source) => signals.read(source),
                None => log(clock.now(), &name, "there is nothing to read again"),
            },
            Woken::News(news) => {
                let result = news.and_then(|(blob, names)| {
                    let replaced = turns.replace(&mut node, clock.now(), &blob);
                    replaced.map_err(|objection| objection.to_string())?;
                    Ok(names)
                });
                say_all(&mut node, &clock, &name, &rules);
                match result {
                    Ok(names) => rules = names,
                    Err(problem) => {
                        let text =
                            format!("goes on as it was, the configuration is refused: {problem}");
                        log(clock.now(), &name, text);
                    }
                }
            }
            Woken::Stop => break,
        }
    }
    relieve(&mut turns, &mut node, &clock, |event| {
        say(&clock, &name, &rules, event);
    });
    turns.stop(&mut node, clock.now());
    say_all(&mut node, &clock, &name, &rules);
    report(clock.now(), &name, &rules, &node, turns.ports());
    drop(turns);
    if let Some(problem) = store.settle() {
        log(clock.now(), &name, problem);
    }
    log(clock.now(), &name, "stopped");
    Ok(())
}

/// Logs what has happened to the node.
fn say_all(node: &mut Node<'_>, clock: &Clock, name: &str, rules: &[String]) {
    while let Some(event) = node.next_event() {
        say(clock, name, rules, event);
    }
}

fn say(clock: &Clock, name: &str, rules: &[String], event: Event) {
    log(clock.now(), name, Named { event, rules });
}

/// Lets a peer that can take over do so before the appliance stops, and passes on what still comes here meanwhile: a stop in good
/// order loses nothing. It stands back for its absence only, not until somebody ends its maintenance.
fn relieve(
    turns: &mut Superloop<'_, AnyPort>,
    node: &mut Node<'_>,
    clock: &Clock,
    mut log: impl FnMut(Event),
) {
    let end = clock.now() + RELIEF;
    let mut order = turns.hand_over(node, clock.now());
    // A Backup that is a moment behind is worth waiting for.
    let is_worth = |order| matches!(order, Ok(()) | Err(Refusal::NotInSync));
    while is_worth(order) && node.is_forwarding() && clock.now() < end {
        if order.is_err() {
            order = turns.hand_over(node, clock.now());
        }
        if !turns.turn(node, clock.now()) {
            std::thread::sleep(BREATH);
        }
        while let Some(event) = node.next_event() {
            log(event);
        }
    }
    // Only the maintenance that this order began: an operator's outlives the stop.
    if order.is_ok() {
        turns.maintain(node, clock.now(), false);
    }
}

/// Tells the node what this machine's clock says, for what it sends to collectors.
fn tell_time(node: &mut Node<'_>, now: Instant) {
    if let Ok(since_1970) = SystemTime::UNIX_EPOCH.elapsed() {
        node.set_time(now, since_1970.as_micros() as u64);
    }
}

/// How often: clocks may be set.
const TIME: time::Duration = time::Duration::from_secs(10);
/// How long a relief may take: the peer's three seconds, and one in which late frames are passed on.
const RELIEF: time::Duration = time::Duration::from_secs(5);
/// How long the loop rests when nothing came.
const BREATH: time::Duration = time::Duration::from_micros(200);

enum Woken {
    Work,
    Report,
    HandOver,
    Reread,
    News(News),
    Stop,
}

fn sleep(
    turns: &Superloop<'_, AnyPort>,
    stop: Option<&OwnedFd>,
    signals: &mut Signals,
    wait: time::Duration,
) -> Result<Woken, RunError> {
    let mut fds = vec![
        PollFd::new(signals.stop.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.report.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.hand_over.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.reread.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.news.0.as_fd(), PollFlags::POLLIN),
    ];
    fds.extend(stop.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
    let ports = turns.ports().iter().filter(|port| port.can_be_polled());
    fds.extend(ports.map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)));
    match ppoll(&mut fds, Some(TimeSpec::from_duration(wait)), None) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Woken::Work),
        Ok(_) => {}
        Err(errno) => {
            return Err(RunError::System {
                what: "waiting for frames",
                error: errno.into(),
            });
        }
    }
    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    let stop_asked = ready(&fds[0]) || (stop.is_some() && ready(&fds[5]));
    let (report_asked, hand_over_asked) = (ready(&fds[1]), ready(&fds[2]));
    let (reread_asked, news) = (ready(&fds[3]), ready(&fds[4]));
    if stop_asked {
        return Ok(Woken::Stop);
    }
    if report_asked {
        let _how_often = signals.report.read(&mut [0; 16]);
        return Ok(Woken::Report);
    }
    if hand_over_asked {
        let _how_often = signals.hand_over.read(&mut [0; 16]);
        return Ok(Woken::HandOver);
    }
    if reread_asked {
        let _how_often = signals.reread.read(&mut [0; 16]);
        return Ok(Woken::Reread);
    }
    if news {
        let _one = signals.news.0.read(&mut [0; 1]);
        if let Ok(news) = signals.results.1.try_recv() {
            return Ok(Woken::News(news));
        }
    }
    Ok(Woken::Work)
}

/// An event with the names that rules have in the site file.
struct Named<'a> {
    event: Event,
    rules: &'a [String],
}

impl Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Event::Rule { rule, decided } = &self.event
            && let Some(name) = self.rules.get(usize::from(*rule))
        {
            return write!(f, "rule {name} {decided}");
        }
        self.event.fmt(f)
    }
}

/// All counters that are not zero.
fn report(now: Instant, name: &str, rules: &[String], node: &Node<'_>, ports: &[AnyPort]) {
    let counters = node.counters();
    let text = format!(
        "received {}, forwarded {}, flows {}",
        counters.received,
        counters.forwarded,
        node.flows()
    );
    log(now, name, text);
    for (index, hits) in node
        .rule_hits()
        .iter()
        .enumerate()
        .filter(|(_, hits)| **hits > 0)
    {
        match rules.get(index) {
            Some(rule) => log(now, name, format_args!("rule {rule}: {hits} flows")),
            None => log(now, name, format_args!("rule {index}: {hits} flows")),
        }
    }
    if counters.rules_withheld > 0 {
        let text = format!("{} more packets that rules log", counters.rules_withheld);
        log(now, name, text);
    }
    for (reason, count) in counters.drops() {
        if count > 0 {
            log(now, name, format_args!("dropped {count}: {reason}"));
        }
    }
    for port in ports {
        let hal::Losses { receive, transmit } = hal::Port::losses(port);
        if receive > 0 || transmit > 0 {
            let port = port.name();
            let text = format!("port {port}: {receive} received frames lost, {transmit} not sent");
            log(now, name, text);
        }
    }
}

/// One line on stderr. A closed stderr is no reason to stop forwarding.
fn log(now: Instant, name: &str, text: impl Display) {
    let micros = now.as_micros();
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    writeln!(
        io::stderr().lock(),
        "[{seconds:>5}.{fraction:06}] {name} {text}"
    )
    .ok();
}

fn open_ports(options: &Options) -> Result<Vec<AnyPort>, RunError> {
    let config = &options.policy.config;
    let needed = config
        .interfaces
        .iter()
        .map(|leg| usize::from(leg.port) + 1)
        .max()
        .unwrap_or(0);
    let given = options.ports.len();
    if given < needed {
        return Err(RunError::TooFewPorts {
            name: config.name.to_string(),
            needed,
            given,
        });
    }
    if given > node::superloop::MAX_PORTS {
        return Err(RunError::TooManyPorts { given });
    }
    let shared = config.routers.iter().flat_map(|router| &router.addresses);
    let shared = shared.filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let own = config.interfaces.iter().map(|leg| leg.address);
    let own: Vec<_> = own.chain(shared).collect();
    // On virtual cables the kernel hears nothing that it could answer.
    let kernel_listens = options
        .ports
        .iter()
        .any(|port| !matches!(port, PortSpec::Cable { .. }));
    if kernel_listens && let Some((interface, address)) = sys::first_address_among(&own) {
        return Err(RunError::AddressTaken {
            name: config.name.to_string(),
            interface,
            address,
        });
    }
    options.ports.iter().map(AnyPort::open).collect()
}

fn seed() -> Result<u64, RunError> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| RunError::System {
            what: "reading /dev/urandom",
            error,
        })?;
    Ok(u64::from_le_bytes(bytes))
}

/// Signals as readable file descriptors, so that the loop has one place to wait.
struct Signals {
    stop: UnixStream,
    report: UnixStream,
    hand_over: UnixStream,
    reread: UnixStream,
    /// Readable when a configuration has been read again.
    news: (UnixStream, UnixStream),
    results: (Sender<News>, Receiver<News>),
    registered: Vec<signal_hook::SigId>,
}

type News = Result<(Vec<u8>, Vec<String>), String>;

impl Signals {
    fn catch() -> Result<Self, RunError> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
        let mut registered = Vec::new();
        let mut pipe = |signals: &[i32]| -> io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                let write = write.try_clone()?;
                registered.push(signal_hook::low_level::pipe::register(*signal, write)?);
            }
            Ok(read)
        };
        let failed = |error| RunError::System {
            what: "catching signals",
            error,
        };
        let stop = pipe(&[SIGTERM, SIGINT]).map_err(failed)?;
        let report = pipe(&[SIGUSR1]).map_err(failed)?;
        let hand_over = pipe(&[SIGUSR2]).map_err(failed)?;
        let reread = pipe(&[SIGHUP]).map_err(failed)?;
        let news = UnixStream::pair().map_err(failed)?;
        news.0.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            stop,
            report,
            hand_over,
            reread,
            news,
            results: mpsc::channel(),
            registered,
        })
    }

    /// Reads a configuration again, where nobody waits for it.
    fn read(&self, source: &Arc<Source>) {
        let (source, results) = (Arc::clone(source), self.results.0.clone());
        let Ok(mut wake) = self.news.1.try_clone() else {
            return;
        };
        std::thread::spawn(move || {
            let _ended_meanwhile = results.send(source());
            let _ended_meanwhile = wake.write_all(&[0]);
        });
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Microseconds since the appliance started, from the monotonic clock.
struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.0.elapsed().as_micros() as u64)
    }
}
