//! The serial line between two appliances, with a session of ours at its other end: no cable is plugged in.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use qemu::{Emulated, policy_of};
use sync::{Deframer, Input, Nothing, Path, Peer, Session, Settings, Standing, State};

const BOARDS: [&str; 2] = ["mps2-an500", "zynq7000"];
const KEY: [u8; 32] = [5; 32];

#[test]
fn heartbeats_go_over_the_serial_line() {
    for board in BOARDS {
        let (mut config, rules) = policy_of(board);
        let pair = config.availability.pair.as_mut().expect("a pair");
        (pair.serial, pair.key) = (true, KEY);
        let (heartbeat, misses) = (pair.heartbeat, pair.misses);
        let (first, fingerprint) = (pair.first, pair.fingerprint);
        let paths = pair.paths.len() as u8;
        let blob = classifier::blob(&config, &rules, policy::MAX_BLOB).expect("a good policy");
        let emulated = Emulated::start(board, board, &blob);
        let settings = Settings {
            first: !first,
            key: KEY,
            paths,
            serial: true,
            heartbeat: Duration::from_millis(heartbeat.into()),
            misses,
            sync: false,
            fingerprint,
            ..Settings::default()
        };
        let mut peer = Line::new(emulated.line(), settings);
        peer.run_until(board, |session| {
            matches!(session.peer(), Peer::Alive(remote)
                if remote.standing.state == State::Active && remote.same_policy)
        });
        let only = Path::SERIAL.bit();
        assert_eq!(
            peer.session.status(peer.now(), &Nothing).hears,
            only,
            "{board}"
        );
        peer.run_until(board, move |session| {
            session.status(time::Instant::ZERO, &Nothing).heard == only
        });
        emulated.wait_for_log(&format!("peer: heard on path {}", Path::SERIAL.0));
    }
}

/// One end of the line.
struct Line {
    stream: UnixStream,
    deframer: Deframer,
    session: Session,
    start: Instant,
}

impl Line {
    fn new(stream: UnixStream, settings: Settings) -> Self {
        stream
            .set_nonblocking(true)
            .expect("a socket that does not wait");
        let mut line = Self {
            stream,
            deframer: Deframer::new(),
            session: Session::new(settings, [9; 32]),
            start: Instant::now(),
        };
        let standing = Standing {
            state: State::Backup,
            priority: 1,
            ..Standing::default()
        };
        line.step(Input::Standing(standing));
        line
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    fn step(&mut self, input: Input<'_>) {
        let now = self.now();
        let stream = &mut self.stream;
        let mut send = |path: Path, datagram: &[u8]| {
            if path == Path::SERIAL
                && let Some(frame) = sync::frame(datagram)
            {
                // What a full socket does not take is lost, as on a line.
                let _ = stream.write(&frame);
            }
        };
        let _ = self.session.step(now, input, &mut Nothing, &mut send);
    }

    fn run_until(&mut self, board: &str, done: impl Fn(&Session) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done(&self.session) {
            assert!(Instant::now() < end, "{board}: {:?}", self.session.peer());
            let mut bytes = [0; 256];
            match self.stream.read(&mut bytes) {
                Ok(len) => {
                    for byte in &bytes[..len] {
                        let Some(datagram) = self.deframer.push(*byte) else {
                            continue;
                        };
                        let mut datagram = datagram.to_vec();
                        let (path, bytes) = (Path::SERIAL, &mut datagram[..]);
                        self.step(Input::Datagram { path, bytes });
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{board}: the line: {error}"),
            }
            self.step(Input::Timer);
        }
    }
}
