//! Client and worker against a rustls server with another provider (ring), in pieces of every size.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Authority, HOST, NOW, Talk, client, server, versions};
use health::{Ask, Flaw, Reason, Tunnel};
use rustls::crypto::ring::cipher_suite as suite;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n";

#[test]
fn every_suite_and_key() {
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
                let authority = Authority::new(key);
                let anchor = authority.anchor();
                let mut server = server(suite, &[authority.issue(HOST, key)], versions::TLS13);
                let (mut client, mut worker) = client();
                let answer = vec![b'x'; 7000];
                client.open(&ask(Some(&anchor))).unwrap();
                let mut talk = Talk::new(piece, &answer);
                talk.run(&mut client, &mut worker, &mut server).unwrap();
                assert_eq!(talk.asked, REQUEST);
                assert!(talk.heard == answer, "{} bytes", talk.heard.len());
                assert_eq!(server.server_name(), Some(HOST));
                assert!(client.total() < 1000, "{}", client.total());
                client.close();
                while worker.step() {}
                assert!(!client.is_open() && !client.is_working());
            }
        }
    }
}

/// Each row: what the server has, and what becomes of the check.
#[test]
fn certificates_are_verified() {
    let ours = Authority::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let other = Authority::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let intermediate = ours.intermediate();
    let key = &rcgen::PKCS_ECDSA_P256_SHA256;
    let day = Duration::from_secs(24 * 60 * 60);
    let made = UNIX_EPOCH + Duration::from_secs(NOW);
    let dated = |from: SystemTime, to: SystemTime| ours.issue_dated(HOST, key, from, to);
    let bad = |flaw| Err(Reason::Certificate(flaw));
    let table = [
        ("signed for the name", vec![ours.issue(HOST, key)], Ok(())),
        (
            "by one that it signed",
            vec![intermediate.issue(HOST, key), intermediate.own()],
            Ok(()),
        ),
        (
            "by one that is not shown",
            vec![intermediate.issue(HOST, key)],
            bad(Flaw::Issuer),
        ),
        (
            "for any name of the domain",
            vec![ours.issue("*.example.org", key)],
            Ok(()),
        ),
        (
            "for another name",
            vec![ours.issue("www.example.com", key)],
            bad(Flaw::Name),
        ),
        (
            "by somebody else",
            vec![other.issue(HOST, key)],
            bad(Flaw::Issuer),
        ),
        (
            "expired",
            vec![dated(made - 90 * day, made - day)],
            bad(Flaw::Expired),
        ),
        (
            "on its last day",
            vec![dated(made - 90 * day, made + day)],
            Ok(()),
        ),
        // Nobody knows how much later it is.
        (
            "made after the configuration",
            vec![dated(made + 300 * day, made + 390 * day)],
            Ok(()),
        ),
        (
            "made when its authority was gone",
            vec![dated(made + 30_000 * day, made + 30_001 * day)],
            Ok(()), // an anchor has no dates (RFC 5280 §6.1.1)
        ),
        (
            "no server's",
            vec![ours.issue_for_clients(HOST, key)],
            bad(Flaw::Other),
        ),
        (
            "a long chain",
            [vec![ours.issue(HOST, key)], vec![intermediate.own(); 4]].concat(),
            bad(Flaw::Other),
        ),
    ];
    let anchor = ours.anchor();
    for (name, chain, expected) in table {
        let (mut client, mut worker) = client();
        let mut server = server(
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            &chain,
            versions::TLS13,
        );
        client.open(&ask(Some(&anchor))).unwrap();
        let result = Talk::new(536, b"yes").run(&mut client, &mut worker, &mut server);
        assert_eq!(result, expected, "{name}");
        client.close();

        while worker.step() {}
        let mut server = common::server(
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            &chain,
            versions::TLS13,
        );
        client.open(&ask(None)).unwrap();
        let result = Talk::new(536, b"yes").run(&mut client, &mut worker, &mut server);
        assert_eq!(result, Ok(()), "{name}, and nobody looks");
    }
}

/// What is trusted may be the authority below the root: the root's signature, with a key that costs more, is not looked at.
#[test]
fn an_authority_below_the_root_may_be_trusted() {
    let root = Authority::new(&rcgen::PKCS_ECDSA_P384_SHA384);
    let tier = root.intermediate();
    let chain = [tier.issue(HOST, &rcgen::PKCS_ECDSA_P256_SHA256), tier.own()];
    let next = root.intermediate();
    let table = [
        ("the root", root.anchor(), Ok(())),
        ("the tier", tier.anchor(), Ok(())),
        (
            "another tier",
            next.anchor(),
            Err(Reason::Certificate(Flaw::Issuer)),
        ),
    ];
    for (name, anchor, expected) in table {
        let (mut client, mut worker) = client();
        let suite = suite::TLS13_CHACHA20_POLY1305_SHA256;
        let mut server = server(suite, &chain, versions::TLS13);
        client.open(&ask(Some(&anchor))).unwrap();
        let result = Talk::new(536, b"yes").run(&mut client, &mut worker, &mut server);
        assert_eq!(result, expected, "{name}");
    }
}

#[test]
fn refusals() {
    let key = &rcgen::PKCS_ECDSA_P256_SHA256;
    let authority = Authority::new(key);
    let anchor = authority.anchor();
    let (mut client, mut worker) = client();
    let mut fails = |what: &str, ask: &Ask<'_>, answer: &[u8], expected| {
        client.open(ask).unwrap();
        while worker.step() {}
        client.receive(answer);
        while worker.step() {}
        let mut heard = |bytes: &[u8]| assert_eq!(bytes, b"", "nothing was said in secret");
        assert_eq!(client.heard(&mut heard), Err(expected), "{what}");
        client.close();
        assert!(!client.is_open(), "{what}");
    };
    let nameless = Ask {
        host: "not a name",
        ..ask(None)
    };
    fails("not a name", &nameless, b"", Reason::Tls);
    let table: [(&str, &[u8], Reason); 4] = [
        ("http", b"HTTP/1.1 400 Bad Request\r\n\r\n", Reason::Tls),
        ("noise", &[0xff; 600], Reason::Tls),
        (
            "handshake failure",
            &[0x15, 3, 3, 0, 2, 2, 40],
            Reason::TlsVersion,
        ),
        (
            "protocol version",
            &[0x15, 3, 3, 0, 2, 2, 70],
            Reason::TlsVersion,
        ),
    ];
    for (what, answer, expected) in table {
        fails(what, &ask(Some(&anchor)), answer, expected);
    }

    let chain = [authority.issue(HOST, key)];
    let mut old = server(
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        &chain,
        versions::TLS12,
    );
    client.open(&ask(Some(&anchor))).unwrap();
    let result = Talk::new(536, b"").run(&mut client, &mut worker, &mut old);
    assert_eq!(result, Err(Reason::TlsVersion));
    assert!(client.is_open(), "until it is closed");
    client.close();
    assert!(!client.is_open());
    assert_eq!(
        tls::Client::default().open(&ask(None)),
        Err(Reason::NoTls),
        "nobody does it"
    );
}

/// A server that says more than a record may hold.
#[test]
fn endless_records_end() {
    let (mut client, mut worker) = client();
    client.open(&ask(None)).unwrap();
    while worker.step() {}
    // A handshake message of 16 MB, begun in records of the greatest size.
    let record = [
        &[0x16, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff][..],
        &[0; 16_380],
    ]
    .concat();
    for piece in record.chunks(4096).cycle().take(20) {
        if client.heard(&mut |_| {}).is_err() {
            break;
        }
        assert!(client.has_room(piece.len()));
        client.receive(piece);
        while worker.step() {}
    }
    let error = client.heard(&mut |_| {}).unwrap_err();
    assert!([Reason::TooLong, Reason::Tls].contains(&error), "{error}");
}

/// The node may give up at any time; the next connection is not mixed up with the one before.
#[test]
fn given_up_and_asked_again() {
    let key = &rcgen::PKCS_ECDSA_P256_SHA256;
    let authority = Authority::new(key);
    let anchor = authority.anchor();
    let (mut client, mut worker) = client();
    client.open(&ask(Some(&anchor))).unwrap();
    client.close();
    assert!(!client.is_open(), "before the worker saw it");
    for steps in 0..4 {
        client.open(&ask(Some(&anchor))).unwrap();
        for _ in 0..steps {
            worker.step();
        }
        client.close();
        while worker.step() {}
        assert!(!client.is_open(), "after {steps} steps");
        let mut server = server(
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            &[authority.issue(HOST, key)],
            versions::TLS13,
        );
        client.open(&ask(Some(&anchor))).unwrap();
        let mut talk = Talk::new(536, b"yes");
        assert_eq!(talk.run(&mut client, &mut worker, &mut server), Ok(()));
        assert_eq!(talk.heard, b"yes");
        client.close();
    }
}

/// A worker that ran out of memory is replaced; its check fails, the next one does not.
#[test]
fn a_lost_worker_costs_one_check() {
    let mailbox = common::mailbox();
    let mut client = tls::Client::new(mailbox);
    let mut worker = tls::Worker::new(mailbox);
    client.open(&ask(None)).unwrap();
    worker.step();
    drop(worker);
    tls::Worker::abandon(mailbox, Reason::NoMemory);
    assert_eq!(client.heard(&mut |_| {}), Err(Reason::NoMemory));
    client.close();
    let mut worker = tls::Worker::new(mailbox);
    let key = &rcgen::PKCS_ED25519;
    let authority = Authority::new(key);
    let chain = [authority.issue(HOST, key)];
    let mut server = server(
        suite::TLS13_CHACHA20_POLY1305_SHA256,
        &chain,
        versions::TLS13,
    );
    client.open(&ask(Some(&authority.anchor()))).unwrap();
    let result = Talk::new(536, b"yes").run(&mut client, &mut worker, &mut server);
    assert_eq!(result, Ok(()));
}

/// No connection's keys are those of another.
#[test]
fn every_hello_is_new() {
    let (mut client, mut worker) = client();
    let mut hello = || {
        client.open(&ask(None)).unwrap();
        while worker.step() {}
        let mut bytes = vec![0; client.total().into()];
        client.copy(0, &mut bytes);
        client.close();
        while worker.step() {}
        bytes
    };
    let (first, second) = (hello(), hello());
    assert!(first.len() > 100);
    assert_eq!(first.len(), second.len());
    let equal = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    // Random, session id and key share differ.
    assert!(equal < first.len() - 80, "{equal} of {}", first.len());
}

fn ask(anchor: Option<&policy::Anchor>) -> Ask<'_> {
    Ask {
        host: HOST,
        anchor,
        since: NOW,
        request: REQUEST,
    }
}
