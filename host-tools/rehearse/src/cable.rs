//! The switch at work: one thread that moves frames between the cables and the forwarding core.
//!
//! A cable is a unix datagram socket pair (QEMU's `-netdev dgram`, the linux board), a TAP interface, or a
//! socket pair inside this process. The thread never waits for a receiver: a slow one gets a short queue,
//! after that its frames are dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use tun_rs::SyncDevice;

use crate::observer::Observer;
use crate::switch::{Counters, Fault, Mode, PortId, Sink, Switch};

/// A running switch. Its thread and its sockets end when this is dropped.
pub struct Fabric {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a cable of the switch is made of.
pub enum End {
    /// Our end is bound to `local`; frames go to `remote`.
    Unix {
        /// Path of the switch's socket.
        local: PathBuf,
        /// Path of the machine's socket.
        remote: PathBuf,
    },
    /// A TAP interface.
    Tap(SyncDevice),
    /// Our end of a socket pair.
    Pair(UnixDatagram),
}

impl Fabric {
    /// Starts a switch without cables.
    pub fn start(seed: u64, observer: Observer) -> io::Result<Self> {
        let (waker, woken) = UnixDatagram::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let state = State {
            switch: Switch::new(seed),
            cables: Cables {
                list: vec![],
                observer,
            },
            generation: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            waker,
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new().name("switch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &woken)
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Connects a cable; with `record`, every frame on it goes into a pcap file.
    pub fn connect(
        &self,
        name: &str,
        mode: Mode,
        end: End,
        record: Option<&Path>,
    ) -> io::Result<PortId> {
        let recorder = record.map(Recorder::create).transpose()?;
        let (wire, paths) = match end {
            End::Unix { local, remote } => {
                (Some(Wire::bind(&local, &remote)?), Some((local, remote)))
            }
            End::Tap(device) => {
                device.set_nonblocking(true)?;
                (Some(Wire::Tap(device)), None)
            }
            End::Pair(socket) => {
                socket.set_nonblocking(true)?;
                (Some(Wire::Pair(socket)), None)
            }
        };
        let cable = Cable {
            name: name.into(),
            wire: wire.map(Arc::new),
            paths,
            waiting: VecDeque::new(),
            stalled: false,
            recorder,
        };
        let mut state = self.shared.lock();
        let port = state.switch.add(mode);
        state.cables.list.push(cable);
        self.changed(&mut state);
        Ok(port)
    }

    /// Connects a host that lives in this process and returns its end.
    pub fn attach(
        &self,
        name: &str,
        mode: Mode,
        record: Option<&Path>,
    ) -> io::Result<(PortId, UnixDatagram)> {
        let (ours, theirs) = UnixDatagram::pair()?;
        theirs.set_nonblocking(true)?;
        let port = self.connect(name, mode, End::Pair(ours), record)?;
        Ok((port, theirs))
    }

    /// Changes what is wrong with a cable.
    pub fn set_fault(&self, port: PortId, fault: Fault) {
        self.shared.lock().switch.set_fault(port, fault);
    }

    /// What is wrong with a cable.
    #[must_use]
    pub fn fault(&self, port: PortId) -> Fault {
        self.shared.lock().switch.fault(port).clone()
    }

    /// Takes the switch's end of a cable away: the machine at the other end loses its carrier. Only a unix cable can be put
    /// back.
    pub fn unplug(&self, port: PortId) {
        let mut state = self.shared.lock();
        if let Some(cable) = state.cables.list.get_mut(port.index()) {
            cable.wire = None;
            cable.waiting.clear();
            if let Some((local, _)) = &cable.paths {
                remove_socket(local);
            }
            self.changed(&mut state);
        }
    }

    /// Puts an unplugged cable back.
    pub fn plug(&self, port: PortId) -> io::Result<()> {
        let mut state = self.shared.lock();
        if let Some(cable) = state.cables.list.get_mut(port.index())
            && cable.wire.is_none()
            && let Some((local, remote)) = &cable.paths
        {
            cable.wire = Some(Arc::new(Wire::bind(local, remote)?));
            self.changed(&mut state);
        }
        Ok(())
    }

    /// Name and counters of every cable.
    #[must_use]
    pub fn counters(&self) -> Vec<(String, Counters)> {
        let state = self.shared.lock();
        let names = state.cables.list.iter().map(|cable| cable.name.clone());
        names
            .zip((0..).map(|index| state.switch.counters(PortId::at(index))))
            .collect()
    }

    /// Asks the observer of VRRP advertisements.
    pub fn observe<T>(&self, question: impl FnOnce(&Observer) -> T) -> T {
        question(&self.shared.lock().cables.observer)
    }

    fn changed(&self, state: &mut State) {
        state.generation += 1;
        // A full waker socket already wakes the thread.
        let _ = self.shared.waker.send(&[0]);
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.shared.waker.send(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for cable in &mut self.shared.lock().cables.list {
            if let Some((local, _)) = &cable.paths {
                remove_socket(local);
            }
            if let Some(recorder) = &mut cable.recorder {
                recorder.flush();
            }
        }
    }
}

struct Shared {
    state: Mutex<State>,
    waker: UnixDatagram,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    switch: Switch,
    cables: Cables,
    /// Counts changes of the list of wires, so that the thread knows when to look again.
    generation: u64,
}

struct Cables {
    list: Vec<Cable>,
    observer: Observer,
}

struct Cable {
    name: String,
    wire: Option<Arc<Wire>>,
    paths: Option<(PathBuf, PathBuf)>,
    /// Frames for a slow receiver, with the time until which they are worth sending.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// The receiver has let frames wait too long: it gets nothing more than what it takes at once.
    stalled: bool,
    recorder: Option<Recorder>,
}

impl Sink for Cables {
    fn entered(&mut self, now: Instant, _: PortId, vlan: u16, frame: &[u8]) {
        self.observer.see(now, vlan, frame);
    }

    fn transmit(&mut self, to: PortId, frame: &[u8]) -> bool {
        let Some(cable) = self.list.get_mut(to.index()) else {
            return false;
        };
        let Some(wire) = &cable.wire else {
            return false;
        };
        let outcome = if cable.waiting.is_empty() {
            wire.send(frame)
        } else {
            Outcome::Later
        };
        let sent = match outcome {
            Outcome::Sent => {
                cable.stalled = false;
                true
            }
            Outcome::Gone => false,
            Outcome::Later if !cable.stalled && cable.waiting.len() < MAX_WAITING => {
                cable
                    .waiting
                    .push_back((Instant::now() + MAX_WAIT, frame.to_vec()));
                true
            }
            Outcome::Later => false,
        };
        if sent && let Some(recorder) = &mut cable.recorder {
            recorder.record(frame);
        }
        sent
    }
}

enum Wire {
    Unix {
        socket: UnixDatagram,
        remote: PathBuf,
    },
    Tap(SyncDevice),
    Pair(UnixDatagram),
}

enum Outcome {
    Sent,
    Later,
    Gone,
}

impl Wire {
    fn bind(local: &Path, remote: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(local)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix {
            socket,
            remote: remote.to_path_buf(),
        })
    }

    fn send(&self, frame: &[u8]) -> Outcome {
        let result = match self {
            Self::Unix { socket, remote } => socket.send_to(frame, remote),
            Self::Tap(device) => device.send(frame),
            Self::Pair(socket) => socket.send(frame),
        };
        match result {
            Ok(_) => Outcome::Sent,
            Err(e) if e.kind() == ErrorKind::WouldBlock => Outcome::Later,
            // Not started yet, killed, or an interface that is down.
            Err(_) => Outcome::Gone,
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Unix { socket, .. } | Self::Pair(socket) => socket.recv(buffer).ok(),
            Self::Tap(device) => device.recv(buffer).ok(),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix { socket, .. } | Self::Pair(socket) => socket.as_fd(),
            Self::Tap(device) => device.as_fd(),
        }
    }
}

fn run(shared: &Shared, woken: &UnixDatagram) {
    let mut buffer = vec![0; 65_536];
    let mut known = None;
    let mut wires: Vec<(PortId, Arc<Wire>)> = Vec::new();
    let mut flushed = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let timeout = {
            let state = shared.lock();
            if known != Some(state.generation) {
                known = Some(state.generation);
                let list = state.cables.list.iter().enumerate();
                wires = list
                    .filter_map(|(index, cable)| {
                        Some((PortId::at(index), Arc::clone(cable.wire.as_ref()?)))
                    })
                    .collect();
            }
            state.patience(Instant::now())
        };
        let ready = wait(&wires, woken, timeout);
        while woken.recv(&mut buffer).is_ok() {}

        let mut guard = shared.lock();
        let State { switch, cables, .. } = &mut *guard;
        cables.retry(Instant::now(), switch);
        for (port, wire) in ready {
            for _ in 0..BATCH {
                let Some(length) = wire.receive(&mut buffer) else {
                    break;
                };
                let frame = &buffer[..length];
                if !switch.fault(port).cut
                    && let Some(recorder) = cables
                        .list
                        .get_mut(port.index())
                        .and_then(|cable| cable.recorder.as_mut())
                {
                    recorder.record(frame);
                }
                switch.receive(Instant::now(), port, frame, cables);
            }
        }
        switch.release(Instant::now(), cables);
        if flushed.elapsed() > FLUSH {
            flushed = Instant::now();
            cables
                .list
                .iter_mut()
                .filter_map(|cable| cable.recorder.as_mut())
                .for_each(Recorder::flush);
        }
    }
}

impl State {
    /// How long the thread may sleep when no frame comes.
    fn patience(&self, now: Instant) -> Duration {
        let retry = self
            .cables
            .list
            .iter()
            .any(|cable| !cable.waiting.is_empty())
            .then_some(RETRY);
        let due = self
            .switch
            .deadline()
            .map(|due| due.saturating_duration_since(now));
        [retry, due]
            .into_iter()
            .flatten()
            .fold(FLUSH, Duration::min)
    }
}

impl Cables {
    /// Sends what waits for slow receivers, as far as they take it.
    fn retry(&mut self, now: Instant, switch: &mut Switch) {
        for (index, cable) in self.list.iter_mut().enumerate() {
            let Some(wire) = &cable.wire else { continue };
            while let Some((until, frame)) = cable.waiting.front() {
                match wire.send(frame) {
                    Outcome::Later if now < *until => break,
                    Outcome::Later => {
                        cable.stalled = true;
                        switch.receiver_lost(PortId::at(index));
                    }
                    Outcome::Sent => {}
                    Outcome::Gone => switch.receiver_lost(PortId::at(index)),
                }
                cable.waiting.pop_front();
            }
        }
    }
}

/// Waits until a wire has frames; returns those that do.
fn wait(
    wires: &[(PortId, Arc<Wire>)],
    woken: &UnixDatagram,
    timeout: Duration,
) -> Vec<(PortId, Arc<Wire>)> {
    let mut polled: Vec<_> = wires
        .iter()
        .map(|(_, wire)| PollFd::new(wire.as_fd(), PollFlags::POLLIN))
        .collect();
    polled.push(PollFd::new(woken.as_fd(), PollFlags::POLLIN));
    // An interrupted wait is a short one.
    let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(timeout)), None);
    let ready = polled.iter().map(|fd| fd.any().unwrap_or_default());
    wires
        .iter()
        .zip(ready)
        .filter(|(_, ready)| *ready)
        .map(|((port, wire), _)| (*port, Arc::clone(wire)))
        .collect()
}

/// A pcap file of one cable. Recording is an aid: a full disk ends it, never the rehearsal.
struct Recorder {
    writer: Option<PcapWriter<BufWriter<File>>>,
    written: u64,
}

impl Recorder {
    fn create(path: &Path) -> io::Result<Self> {
        let writer =
            PcapWriter::new(BufWriter::new(File::create(path)?)).map_err(io::Error::other)?;
        Ok(Self {
            writer: Some(writer),
            written: 0,
        })
    }

    fn record(&mut self, frame: &[u8]) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.written += u64::from(length);
        let recorded = PcapPacket::new(now, length, frame)
            .map_err(io::Error::other)
            .and_then(|packet| writer.write_packet(&packet).map_err(io::Error::other));
        if recorded.is_err() || self.written > MAX_RECORDED {
            self.flush();
            self.writer = None;
        }
    }

    fn flush(&mut self) {
        if self
            .writer
            .as_mut()
            .is_some_and(|writer| writer.flush().is_err())
        {
            self.writer = None;
        }
    }
}

fn remove_socket(path: &Path) {
    // Already gone is as good.
    let _ = std::fs::remove_file(path);
}

/// Frames that wait for one slow receiver; a burst of a TCP window fits.
const MAX_WAITING: usize = 512;
/// A frame that a receiver did not take for so long is lost: it may not read at all, as a machine that boots.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// Frames taken from one cable before the others have their turn.
const BATCH: usize = 64;
/// How soon a receiver that was slow is tried again.
const RETRY: Duration = Duration::from_micros(200);
const FLUSH: Duration = Duration::from_millis(500);
/// A recording ends after so many bytes.
const MAX_RECORDED: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::Drop as Reason;

    const BROADCAST: [u8; 60] = frame([0xff; 6], 1);

    #[test]
    fn frames_pass_between_unix_cables_and_hosts_inside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fabric = fabric();
        let (machine, port) = unix_cable(&fabric, dir.path(), "m");
        let (_, inside) = fabric
            .attach("inside", Mode::access(10), None)
            .expect("attach");

        machine
            .send_to(&BROADCAST, dir.path().join("m.b"))
            .expect("send");
        assert_eq!(receive(&inside), BROADCAST);
        inside.send(&frame([2, 0, 0, 0, 0, 1], 2)).expect("send");
        assert_eq!(receive(&machine), frame([2, 0, 0, 0, 0, 1], 2));
        assert_eq!(fabric.counters()[port.index()].1.received, 1);
    }

    #[test]
    fn a_machine_that_is_gone_costs_only_its_own_frames() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fabric = fabric();
        let (machine, port) = unix_cable(&fabric, dir.path(), "m");
        let (_, a) = fabric.attach("a", Mode::access(10), None).expect("attach");
        let (_, b) = fabric.attach("b", Mode::access(10), None).expect("attach");
        drop(machine);

        for _ in 0..5 {
            a.send(&BROADCAST).expect("send");
            assert_eq!(receive(&b), BROADCAST);
        }
        assert_eq!(
            fabric.counters()[port.index()].1.dropped(Reason::Receiver),
            5
        );

        // It comes back at the same path.
        std::fs::remove_file(dir.path().join("m.a")).expect("old socket");
        let machine = UnixDatagram::bind(dir.path().join("m.a")).expect("bind");
        a.send(&BROADCAST).expect("send");
        assert_eq!(receive(&machine), BROADCAST);
    }

    #[test]
    fn a_machine_that_does_not_read_never_blocks_the_others() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fabric = fabric();
        let (_machine, port) = unix_cable(&fabric, dir.path(), "m");
        let (_, a) = fabric.attach("a", Mode::access(10), None).expect("attach");
        let (_, b) = fabric.attach("b", Mode::access(10), None).expect("attach");
        for _ in 0..2 * MAX_WAITING {
            a.send(&BROADCAST).expect("send");
            assert_eq!(receive(&b), BROADCAST);
        }
        assert!(fabric.counters()[port.index()].1.dropped(Reason::Receiver) > 0);
    }

    #[test]
    fn an_unplugged_cable_takes_the_socket_away_and_plugging_brings_it_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fabric = fabric();
        let (machine, port) = unix_cable(&fabric, dir.path(), "m");
        let (_, inside) = fabric
            .attach("inside", Mode::access(10), None)
            .expect("attach");
        fabric.unplug(port);
        assert!(machine.send_to(&BROADCAST, dir.path().join("m.b")).is_err());
        fabric.plug(port).expect("plug");
        machine
            .send_to(&BROADCAST, dir.path().join("m.b"))
            .expect("send");
        assert_eq!(receive(&inside), BROADCAST);

        drop(fabric);
        assert!(
            !dir.path().join("m.b").exists(),
            "the switch's socket is left behind"
        );
    }

    #[test]
    fn a_recording_has_both_directions() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("a.pcap");
        let fabric = fabric();
        let (_, a) = fabric
            .attach("a", Mode::access(10), Some(&path))
            .expect("attach");
        let (_, b) = fabric.attach("b", Mode::access(10), None).expect("attach");
        a.send(&BROADCAST).expect("send");
        receive(&b);
        b.send(&frame([0xff; 6], 2)).expect("send");
        receive(&a);
        drop(fabric);

        let mut reader =
            pcap_file::pcap::PcapReader::new(File::open(path).expect("file")).expect("pcap");
        let mut sources = vec![];
        while let Some(packet) = reader.next_packet() {
            sources.push(packet.expect("packet").data()[11]);
        }
        assert_eq!(sources, [1, 2]);
    }

    fn fabric() -> Fabric {
        Fabric::start(1, Observer::new(10, 10, Duration::from_millis(100))).expect("switch")
    }

    fn unix_cable(fabric: &Fabric, dir: &Path, name: &str) -> (UnixDatagram, PortId) {
        let (machine, ours) = (dir.join(format!("{name}.a")), dir.join(format!("{name}.b")));
        let socket = UnixDatagram::bind(&machine).expect("bind");
        let end = End::Unix {
            local: ours,
            remote: machine,
        };
        (
            socket,
            fabric
                .connect(name, Mode::access(10), end, None)
                .expect("connect"),
        )
    }

    fn receive(socket: &UnixDatagram) -> [u8; 60] {
        socket.set_nonblocking(false).expect("blocking");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        let mut buffer = [0; 60];
        assert_eq!(
            socket.recv(&mut buffer).expect("a frame in time"),
            buffer.len()
        );
        buffer
    }

    const fn frame(to: [u8; 6], from: u8) -> [u8; 60] {
        let mut frame = [0; 60];
        let mut i = 0;
        while i < 6 {
            frame[i] = to[i];
            i += 1;
        }
        frame[6] = 2;
        frame[11] = from;
        frame[12] = 8;
        frame
    }
}
