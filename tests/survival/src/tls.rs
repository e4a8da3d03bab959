//! TLS 1.3 inside the connections, with a certificate that only the lab's clients trust.

use std::io;
use std::sync::Arc;

use lab::{Stream, Wrap};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in the certificate.
const NAME: &str = "www.lab.test";

/// What the servers do, and what the clients do.
///
/// # Panics
/// Without randomness.
#[must_use]
pub fn ends() -> (Wrap, Wrap) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows it")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("its own key");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a good certificate");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider knows it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let connector = TlsConnector::from(Arc::new(client));
    let accept: Wrap = Arc::new(move |stream| {
        let accepted = acceptor.accept(stream);
        Box::pin(async { boxed(accepted.await) })
    });
    let name = ServerName::try_from(NAME).expect("a name");
    let connect: Wrap = Arc::new(move |stream| {
        let connected = connector.connect(name.clone(), stream);
        Box::pin(async { boxed(connected.await) })
    });
    (accept, connect)
}

fn boxed(stream: io::Result<impl Stream + 'static>) -> io::Result<Box<dyn Stream>> {
    Ok(Box::new(stream?))
}
