//! The client against a rustls server with another provider (ring), in pieces of every size.

use std::io::{Read, Write};
use std::sync::Arc;

use health::{Reason, Tunnel};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};
use tls::Client;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n";

#[test]
fn every_suite_and_key() {
    use rustls::crypto::ring::cipher_suite as suite;
    let suites = [
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    let keys: [&'static rcgen::SignatureAlgorithm; 3] = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ];
    for suite in suites {
        for key in keys {
            for piece in [1, 7, 536, 20_000] {
                let mut server = server(suite, key, &[&rustls::version::TLS13]);
                let mut client = Client::new(7);
                client.open("www.example.org", REQUEST).unwrap();
                let answer = vec![b'x'; 30_000];
                let (asked, heard) = talk(&mut client, &mut server, piece, &answer).unwrap();
                assert_eq!(asked, REQUEST);
                assert!(heard == answer, "{} bytes", heard.len());
                assert_eq!(server.server_name(), Some("www.example.org"));
                assert!(client.total() < 1000, "{}", client.total());
                client.close();
                assert!(!client.is_open());
            }
        }
    }
}

#[test]
fn refusals() {
    use rustls::crypto::ring::cipher_suite as suite;
    let mut client = Client::new(7);
    assert_eq!(client.open("not a name", REQUEST), Err(Reason::Tls));
    assert!(!client.is_open());

    let mut old = server(
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &[&rustls::version::TLS12],
    );
    client.open("www.example.org", REQUEST).unwrap();
    assert!(talk(&mut client, &mut old, 536, b"").is_err(), "TLS 1.2");

    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0xff; 600],
    ] {
        client.open("www.example.org", REQUEST).unwrap();
        let mut heard = |_: &[u8]| panic!("nothing was said in secret");
        assert_eq!(client.receive(answer, &mut heard), Err(Reason::Tls));
        client.close();
    }
    assert_eq!(
        client.receive(b"x", &mut |_| {}),
        Err(Reason::Tls),
        "nothing is open"
    );
}

/// No connection's keys are those of another.
#[test]
fn every_hello_is_new() {
    let mut client = Client::new(7);
    let mut hello = || {
        client.open("www.example.org", REQUEST).unwrap();
        let mut bytes = vec![0; client.total().into()];
        client.copy(0, &mut bytes);
        bytes
    };
    let (first, second) = (hello(), hello());
    assert_eq!(first.len(), second.len());
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    // Random, session id and key share differ.
    assert!(equal < first.len() - 80, "{equal} of {}", first.len());
}

/// Carries bytes both ways until the server has said all; what each has heard.
fn talk(
    client: &mut Client,
    server: &mut ServerConnection,
    piece: usize,
    answer: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), Reason> {
    let (mut sent, mut asked, mut heard) = (0, Vec::new(), Vec::new());
    let mut answered = false;
    for _ in 0..200_000 {
        while sent < client.total() {
            let len = (client.total() - sent).min(piece.min(536) as u16);
            let mut bytes = vec![0; len.into()];
            client.copy(sent, &mut bytes);
            sent += len;
            server
                .read_tls(&mut &bytes[..])
                .expect("in a test's memory");
            let _ = server.process_new_packets();
        }
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = server.reader().read(&mut bytes) {
            asked.extend_from_slice(&bytes[..count]);
        }
        if asked == REQUEST && !answered {
            answered = true;
            server
                .writer()
                .write_all(answer)
                .expect("in a test's memory");
            server.send_close_notify();
        }
        let mut out = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut out).expect("in a test's memory");
        }
        for part in out.chunks(piece.min(4096)) {
            client.receive(part, &mut |bytes| heard.extend_from_slice(bytes))?;
        }
        if answered && heard.len() == answer.len() {
            return Ok((asked, heard));
        }
    }
    panic!("no end: {} bytes asked, {} heard", asked.len(), heard.len());
}

fn server(
    suite: SupportedCipherSuite,
    key: &'static rcgen::SignatureAlgorithm,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConnection {
    let key = rcgen::KeyPair::generate_for(key).expect("in a test's memory");
    let certificate = rcgen::CertificateParams::new(vec!["www.example.org".to_owned()])
        .expect("in a test's memory")
        .self_signed(&key)
        .expect("in a test's memory");
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![suite];
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("in a test's memory")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("in a test's memory"),
        )
        .expect("in a test's memory");
    ServerConnection::new(Arc::new(config)).expect("in a test's memory")
}
