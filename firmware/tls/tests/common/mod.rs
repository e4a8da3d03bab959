//! Servers, authorities, and what carries bytes between a server and a client.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use health::{Reason, Tunnel};
use policy::Anchor;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};
use tls::{Client, Mailbox, Worker};

/// Whom the checks ask.
pub const HOST: &str = "www.example.org";
/// When the configuration was made: in November 2026.
pub const NOW: u64 = 1_795_000_000;

/// Versions of TLS.
pub mod versions {
    use rustls::SupportedProtocolVersion;
    use rustls::version;

    pub const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
    pub const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
}

/// A mailbox of its own.
pub fn mailbox() -> &'static Mailbox {
    Box::leak(Box::new(Mailbox::new()))
}

/// A client and its worker.
pub fn client() -> (Client, Worker) {
    let mailbox = mailbox();
    tls::seed(7);
    (Client::new(mailbox), Worker::new(mailbox))
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    pub key: Vec<u8>,
}

/// Somebody who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Identity,
}

impl Authority {
    pub fn new(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let params = Self::params("authority");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self::of(params, key, certificate.der().clone())
    }

    /// One that this one has signed.
    pub fn intermediate(&self) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = Self::params("intermediate");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Self::of(params, key, certificate.der().clone())
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn of(params: CertificateParams, key: KeyPair, certificate: CertificateDer<'static>) -> Self {
        let own = Identity {
            certificate,
            key: key.serialize_der(),
        };
        Self {
            issuer: Issuer::new(params, key),
            own,
        }
    }

    pub fn own(&self) -> Identity {
        self.own.clone()
    }

    pub fn anchor(&self) -> Anchor {
        let anchor = webpki::anchor_from_trusted_cert(&self.own.certificate).expect("an anchor");
        Anchor {
            subject: anchor.subject.iter().copied().collect(),
            key: anchor.subject_public_key_info.iter().copied().collect(),
            constraints: heapless::Vec::new(),
        }
    }

    pub fn issue(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Identity {
        let made = UNIX_EPOCH + Duration::from_secs(NOW);
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        self.issue_dated(name, algorithm, made - year, made + year)
    }

    pub fn issue_dated(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        from: SystemTime,
        to: SystemTime,
    ) -> Identity {
        self.sign(name, algorithm, |params| {
            params.not_before = from.into();
            params.not_after = to.into();
        })
    }

    pub fn issue_for_clients(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
    ) -> Identity {
        self.sign(name, algorithm, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn sign(
        &self,
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }
}

/// A server that shows this chain.
pub fn server(
    suite: SupportedCipherSuite,
    chain: &[Identity],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConnection {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![suite];
    let certificates = chain.iter().map(|part| part.certificate.clone()).collect();
    let key = PrivateKeyDer::try_from(chain[0].key.clone()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions of the suite")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("a certificate and its key");
    ServerConnection::new(Arc::new(config)).expect("a server")
}

/// A connection in memory, and what was said over it.
pub struct Talk<'a> {
    piece: usize,
    answer: &'a [u8],
    pub asked: Vec<u8>,
    pub heard: Vec<u8>,
}

impl<'a> Talk<'a> {
    /// One that is cut in such pieces, to a server that answers like this.
    pub fn new(piece: usize, answer: &'a [u8]) -> Self {
        Self {
            piece,
            answer,
            asked: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Carries bytes both ways until the server has said all, or the client fails.
    pub fn run(
        &mut self,
        client: &mut Client,
        worker: &mut Worker,
        server: &mut ServerConnection,
    ) -> Result<(), Reason> {
        let (mut sent, mut answered) = (0, false);
        for _ in 0..200_000 {
            while worker.step() {}
            client.heard(&mut |bytes| self.heard.extend_from_slice(bytes))?;
            if answered && self.heard.len() == self.answer.len() {
                return Ok(());
            }
            while sent < client.total() {
                let len = (client.total() - sent).min(self.piece.min(536) as u16);
                let mut bytes = vec![0; len.into()];
                client.copy(sent, &mut bytes);
                sent += len;
                server.read_tls(&mut &bytes[..]).expect("bytes in memory");
                let _ = server.process_new_packets();
            }
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = server.reader().read(&mut bytes) {
                self.asked.extend_from_slice(&bytes[..count]);
            }
            if self.asked.ends_with(b"\r\n\r\n") && !answered {
                answered = true;
                server.writer().write_all(self.answer).expect("memory");
                server.send_close_notify();
            }
            let mut out = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut out).expect("memory");
            }
            for part in out.chunks(self.piece.min(4096)) {
                assert!(client.has_room(part.len()));
                client.receive(part);
                while worker.step() {}
            }
        }
        panic!(
            "no end: {} bytes asked, {} heard",
            self.asked.len(),
            self.heard.len()
        );
    }
}
