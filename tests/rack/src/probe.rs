//! Knocks at `ADDRESS:PORT`s, all at once, and prints those where anybody answered: an open port, or one that a firewall
//! let through to nobody (`tcp` and `udp` in front say how).

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

fn main() {
    let targets: Vec<String> = std::env::args().skip(1).collect();
    let open: Vec<String> = std::thread::scope(|scope| {
        let knock = |target: String| scope.spawn(move || is_reached(&target).then_some(target));
        let knocks: Vec<_> = targets.into_iter().map(knock).collect();
        let answers = knocks.into_iter().filter_map(|knock| knock.join().ok());
        answers.flatten().collect()
    });
    for target in open {
        println!("{target}");
    }
}

fn is_reached(target: &str) -> bool {
    let Some((transport, address)) = target.split_once(' ') else {
        return false;
    };
    let Ok(address) = address.parse::<SocketAddr>() else {
        return false;
    };
    let result = match transport {
        "tcp" => TcpStream::connect_timeout(&address, PATIENCE).map(drop),
        _ => ask(address),
    };
    match result {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

/// A datagram is answered, or refused by ICMP.
fn ask(address: SocketAddr) -> std::io::Result<()> {
    let unspecified = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(unspecified)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(b"anybody?")?;
    socket.recv(&mut [0; 512]).map(drop)
}

/// A lost SYN is repeated after one second.
const PATIENCE: Duration = Duration::from_millis(3500);
