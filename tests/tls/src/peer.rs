//! A peer with any certificate: what it shows, whom it believes, how it asks.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use render::Identity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that the authority of this tier signed, for any name and any time: what somebody has who stole its key.
///
/// # Panics
/// If the site has no such tier.
#[must_use]
pub fn forge(state: &Path, tier: &str, name: &str, expired: bool) -> Identity {
    let path = state.join(format!("pki/tiers/{tier}.pem"));
    let text = std::fs::read_to_string(path).expect("an authority");
    let (chain, own) = text.split_at(text.find("-----BEGIN PRIVATE").expect("a key"));
    let own = KeyPair::from_pem(own).expect("its key");
    let issuer = Issuer::from_ca_cert_pem(chain, own).expect("its certificate");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let now = SystemTime::now();
    params.not_before = (now - 10 * DAY).into();
    params.not_after = if expired { now - DAY } else { now + DAY }.into();
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    Identity {
        certificate: certificate.pem() + chain,
        key: key.serialize_pem(),
    }
}

/// Certificates and key as rustls takes them.
pub(crate) fn parts(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
    (
        chain.collect::<Result<_, _>>().expect("certificates"),
        key.expect("a key"),
    )
}

/// A request for `path` of whoever is at `address`, under the name that its certificate must have; `Err` says why there is no
/// answer. The answer is its head and the certificate that was shown.
///
/// # Errors
/// If the server cannot be reached or does not like what it is shown.
///
/// # Panics
/// If the texts are no certificates.
pub fn ask(
    address: SocketAddr,
    path: &str,
    host: &str,
    name: &str,
    trusted: &str,
    identity: Option<&Identity>,
) -> Result<(String, Vec<u8>), String> {
    let mut stream = open(address, name, trusted, identity)?;
    let answer = request(&mut stream, path, host)?;
    let shown = stream
        .conn
        .peer_certificates()
        .and_then(|chain| chain.first());
    Ok((
        answer,
        shown.map(|shown| shown.to_vec()).unwrap_or_default(),
    ))
}

/// A connection over which nothing was asked yet.
///
/// # Errors
/// If nobody is there. A handshake has not taken place.
///
/// # Panics
/// If the texts are no certificates.
pub fn open(
    address: SocketAddr,
    name: &str,
    trusted: &str,
    identity: Option<&Identity>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = match identity.map(parts) {
        Some((chain, key)) => config.with_client_auth_cert(chain, key).expect("a key"),
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    Ok(StreamOwned::new(connection, connect(address)?))
}

/// The head of the answer to a request without TLS.
///
/// # Errors
/// If there is none.
pub fn ask_plainly(address: SocketAddr, path: &str, host: &str) -> Result<String, String> {
    request(&mut connect(address)?, path, host)
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10));
    let stream = stream.map_err(|error| error.to_string())?;
    let set = stream.set_read_timeout(Some(Duration::from_secs(30)));
    set.map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Asks on a connection, which stays open; gives back the head of the answer.
///
/// # Errors
/// If there is no whole answer.
pub fn request(
    stream: &mut (impl std::io::Read + std::io::Write),
    path: &str,
    host: &str,
) -> Result<String, String> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let sent = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
    sent.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) => {
                return Err(format!(
                    "it ended after {:?}",
                    String::from_utf8_lossy(&head)
                ));
            }
            Ok(_) => head.push(byte[0]),
            Err(error) => return Err(error.to_string()),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        let is_length = key.eq_ignore_ascii_case("content-length");
        is_length
            .then(|| value.trim().parse::<usize>().ok())
            .flatten()
    });
    if let Some(length) = length {
        let body = stream.take(length as u64).read_to_end(&mut Vec::new());
        let whole = body.map_err(|error| error.to_string())? == length;
        whole.then_some(()).ok_or("half a body")?;
    }
    Ok(head)
}
