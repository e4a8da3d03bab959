//! HTTP over TLS 1.3 in which both ends check the other's name.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// No handshake and no short answer takes longer.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// Longest answer that is read.
const ANSWER: usize = 1 << 16;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Our certificate and whose we trust.
#[derive(Clone)]
pub struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Reads the certificates in the directory that the configuration names.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = own(&directory.join("server.pem"))?;
        let clients = trusted(&directory.join("trust-clients.pem"))?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(clients, provider.clone()).build()?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (chain, key) = own(&directory.join("peer.pem"))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(trusted(&directory.join("trust-group.pem"))?)
            .with_client_auth_cert(chain, key)?;
        Ok(Self {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// Listens for those whose certificate has one of these names.
    pub async fn listen(&self, address: SocketAddr, names: Vec<String>) -> io::Result<Door> {
        let listener = TcpListener::bind(address).await?;
        let acceptor = TlsAcceptor::from(self.server.clone());
        let (send, guests) = mpsc::channel(16);
        let names = Arc::new(names);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of files, for instance: that passes.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (acceptor, send, names) = (acceptor.clone(), send.clone(), names.clone());
                tokio::spawn(async move {
                    let Ok(Ok(stream)) = timeout(PATIENCE, acceptor.accept(stream)).await else {
                        return;
                    };
                    let Some(name) = named(&stream, &names) else {
                        return;
                    };
                    let _ = send.send((stream, Guest(name))).await; // we are ending
                });
            }
        });
        Ok(Door { address, guests })
    }

    /// Asks the server at `address`, whose certificate must have this name.
    pub async fn ask<B>(
        &self,
        name: &str,
        address: SocketAddr,
        request: Request<B>,
    ) -> Result<(StatusCode, Bytes), Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Error>,
    {
        let connector = TlsConnector::from(self.client.clone());
        let server = ServerName::try_from(name.to_owned())?;
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            connector.connect(server, stream).await
        };
        let stream = timeout(PATIENCE, connect).await??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await?;
            Ok((status, body.to_bytes()))
        };
        let answer = answer.await;
        connection.abort();
        answer
    }
}

fn file(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn own(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let text = file(path)?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(&text)?))
}

fn trusted(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&file(path)?) {
        roots.add(certificate?)?;
    }
    Ok(Arc::new(roots))
}

/// The name by which a guest is known: one of those that its certificate has.
fn named(stream: &tokio_rustls::server::TlsStream<TcpStream>, names: &[String]) -> Option<String> {
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates()?.first()?;
    let certificate = ParsedCertificate::try_from(certificate).ok()?;
    let mut names = names.iter();
    let name = names.find(|name| {
        ServerName::try_from(name.as_str())
            .is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
    });
    name.cloned()
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest(pub String);

/// Where guests come in, after their handshake.
pub struct Door {
    address: SocketAddr,
    guests: mpsc::Receiver<(tokio_rustls::server::TlsStream<TcpStream>, Guest)>,
}

impl Listener for Door {
    type Io = tokio_rustls::server::TlsStream<TcpStream>;
    type Addr = Guest;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.guests.recv().await {
            Some(guest) => guest,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Guest(self.address.to_string()))
    }
}

impl Connected<IncomingStream<'_, Door>> for Guest {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}
