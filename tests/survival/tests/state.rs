//! What else a new Active has to know: how much somebody has used up, whose server is whose, and which port stands for whom.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lab::{CLIENTS, SERVERS, VIRTUAL};
use socket2::{Domain, Socket, Type};
use survival::{MORE, Pair};

const PROGRAM: &str = env!("CARGO_BIN_EXE_survivor");

/// One new connection a second after the first five.
const LIMITED: &str = "
[services.limited]
port = 7100
role = \"haproxy\"
rate = \"1/s burst 5 per source\"
check = { kind = \"ping\", interval = \"200ms\", timeout = \"150ms\" }
why = \"somebody tries again and again\"
";

/// Whoever has used up his budget gets no other one from the new Active; whoever has not still has his.
#[test]
fn a_take_over_gives_nobody_a_fresh_budget() {
    let mut pair = Pair::new(PROGRAM, LIMITED);
    let knock = |pair: &Pair, client: Ipv4Addr| {
        let opened = pair.lab.knock(client, MORE, 20, KNOCK);
        opened.expect("a client")
    };
    let used = Instant::now();
    let before = knock(&pair, CLIENTS[1]);
    let earned = |since: Instant| since.elapsed().as_secs() as usize + 1;
    assert!((5..=5 + earned(used)).contains(&before), "{before}");
    pair.synchronize();
    pair.kill(0);
    pair.wait_for(1);
    let after = knock(&pair, CLIENTS[1]);
    assert!(
        before + after <= 5 + earned(used),
        "{before}, then {after}\n{}",
        pair.logs()
    );
    let other = knock(&pair, CLIENTS[0]);
    assert!((5..20).contains(&other), "{other}\n{}", pair.logs());
}

/// Long enough for a segment to be sent again.
const KNOCK: Duration = Duration::from_millis(2500);

const PERSISTENT: &str = "
[services.persistent]
port = 7100
role = \"haproxy\"
balance = \"round-robin\"
persistence = { time = \"10m\" }
check = { kind = \"ping\", interval = \"200ms\", timeout = \"150ms\" }
why = \"clients return to their server\"
";

#[test]
fn clients_return_to_their_server_through_the_new_active() {
    let mut pair = Pair::new(PROGRAM, PERSISTENT);
    // Which server gets a new connection of a client.
    let server = |pair: &Pair, client: Ipv4Addr| {
        let before = pair.echo.accepted();
        let opened = pair.lab.knock(client, MORE, 1, Duration::from_secs(5));
        assert_eq!(opened.expect("a client"), 1, "{}", pair.logs());
        let mut new = [0, 0];
        pair.wait("a server accepts it", || {
            new = [0, 1].map(|server| pair.echo.accepted()[server] - before[server]);
            new != [0, 0]
        });
        new
    };
    let theirs = CLIENTS.map(|client| server(&pair, client));
    assert_ne!(theirs[0], theirs[1], "round robin");
    // Who stays with whom is told in slow passes, but at once to an appliance that joins.
    pair.kill(1);
    pair.start(1);
    pair.synchronize();
    pair.kill(0);
    pair.wait_for(1);
    // In the other order, twice: by turns it would not be the same ones.
    for _ in 0..2 {
        for (client, server_before) in CLIENTS.into_iter().zip(theirs).rev() {
            assert_eq!(server(&pair, client), server_before, "{}", pair.logs());
        }
    }
}

const OUTWARDS: &str = "
[[nat]]
name = \"way-out\"
kind = \"masquerade\"
from = \"haproxy\"

[[flows]]
name = \"outwards\"
from = \"haproxy\"
to = \"internet\"
protocol = \"tcp\"
port = 9000
why = \"servers fetch something\"
";

/// Both servers come from the same port, so that one of them gets another one outside. After the take-over it speaks first.
#[test]
fn translated_ports_stay_as_they_are() {
    let mut pair = Pair::new(PROGRAM, OUTWARDS);
    let listening = pair
        .lab
        .clients()
        .enter(|| TcpListener::bind((CLIENTS[0], 9000)));
    let listener = listening.expect("root may enter").expect("a free port");
    let mut ends = Vec::new();
    for server in SERVERS {
        let connected = pair.lab.servers().enter(|| from_port(server, 40_000));
        let inside = connected.expect("root may enter");
        let inside = inside.unwrap_or_else(|error| panic!("{error}\n{}", pair.logs()));
        let (outside, seen) = listener.accept().expect("it connected");
        outside.set_read_timeout(Some(PATIENCE)).expect("a socket");
        ends.push((inside, outside, seen));
    }
    assert_ne!(ends[0].2, ends[1].2);
    assert!(ends.iter().all(|(_, _, seen)| seen.ip() == VIRTUAL));
    pair.synchronize();
    pair.kill(0);
    pair.wait_for(1);
    for (number, (inside, outside, _)) in ends.iter_mut().enumerate().rev() {
        let result = exchange(inside, outside).and_then(|()| exchange(outside, inside));
        result.unwrap_or_else(|error| panic!("{number}: {error}\n{}", pair.logs()));
    }
    pair.all_well(&[]);
}

fn from_port(server: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((server, port)).into())?;
    socket.connect_timeout(&SocketAddr::from((CLIENTS[0], 9000)).into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Some bytes from one end arrive at the other.
fn exchange(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
    let mut arrived = [0; 5];
    from.write_all(b"hello")?;
    to.read_exact(&mut arrived)?;
    assert_eq!(&arrived, b"hello");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
