//! What a check over HTTPS costs the Cortex-M7, and how long the packets wait for it at most.

use std::path::Path;
use std::sync::Arc;

use build::defmt_log::Line;
use health::{Ask, Tunnel as _};
use policy::Anchor;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde::Serialize;
use tls::{Client, Mailbox, Worker};

use crate::BenchError;
use crate::packet::{bench_program, emulate};

/// One handshake with a server whose certificate and its authority's key are of P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Handshake {
    /// Instructions of all of it.
    pub instructions: u32,
    /// Instructions of its longest step: so long would packets wait if it ran among them.
    pub longest_step: u32,
    /// Instructions that one of some 900 interrupts waited at most meanwhile, to 40: so long do they wait. The few places
    /// where interrupts are masked copy 8 KB at most.
    pub longest_wait: u32,
    /// Bytes of heap.
    pub heap: u32,
}

/// Builds the bench program, makes a server's answer to its hello, and measures.
///
/// # Errors
/// If something does not build, QEMU is missing, or the program ends early.
pub fn measure(source: &Path) -> Result<Handshake, BenchError> {
    let bench = bench_program(source, "tls-bench")?;
    let placed = placed().map_err(|error| BenchError::Site(error.to_string()))?;
    emulate(&bench, &placed, result)
}

fn result(lines: &[Line]) -> Option<Handshake> {
    lines.iter().find_map(|line| {
        let numbers = line.text.strip_prefix("tls ")?;
        let numbers: Vec<u32> = numbers.split(' ').flat_map(str::parse).collect();
        let [instructions, longest_step, longest_wait, heap] = numbers[..] else {
            return None;
        };
        Some(Handshake {
            instructions,
            longest_step,
            longest_wait,
            heap,
        })
    })
}

/// The same as in `tls-bench`.
const SEED: u64 = 7;
const HOST: &str = "www.example.org";
/// In November 2026.
const SINCE: u32 = 1_795_000_000;

/// What `tls-bench` reads.
fn placed() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let anchor = webpki::anchor_from_trusted_cert(own.der())?;

    static MAILBOX: Mailbox = Mailbox::new();
    tls::seed(SEED);
    let (mut client, mut worker) = (Client::new(&MAILBOX), Worker::new(&MAILBOX));
    let ask = Ask {
        host: HOST,
        anchor: Some(&Anchor::default()),
        since: SINCE.into(),
        request: b"GET / HTTP/1.1\r\n\r\n",
    };
    client.open(&ask).map_err(|reason| reason.to_string())?;
    while worker.step() {}
    let mut hello = vec![0; client.total().into()];
    client.copy(0, &mut hello);

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([HOST.to_owned()])?.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der())?,
        )?;
    config.send_tls13_tickets = 0;
    let mut server = ServerConnection::new(Arc::new(config))?;
    server.read_tls(&mut &hello[..])?;
    server.process_new_packets()?;
    let mut answer = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut answer)?;
    }

    let parts: [&[u8]; 4] = [
        &anchor.subject,
        &anchor.subject_public_key_info,
        &hello,
        &answer,
    ];
    let mut placed = SINCE.to_le_bytes().to_vec();
    for part in parts {
        placed.extend((part.len() as u32).to_le_bytes());
    }
    placed.extend(parts.concat());
    Ok(placed)
}
