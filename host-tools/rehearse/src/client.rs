//! A user of the site: HTTPS requests through the uplink's local port, checked against the site's CA.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::version::Version;

/// How to reach the site as a user.
#[derive(Clone)]
pub struct Client {
    at: SocketAddr,
    domain: String,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    patience: Duration,
}

/// What a request brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The web server that answered (`X-Served-By`).
    pub web: Option<String>,
    /// The app server behind it (`X-App`).
    pub app: Option<String>,
    /// From the first byte of the connection, or of the request on an open one, to the last of the answer.
    pub took: Duration,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The CA file is missing or not a certificate.
    #[error("cannot use the site's CA certificate {path}: {reason}")]
    Authority {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot check a certificate against this name.
    #[error("`{0}` is not a DNS name")]
    Name(String),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No TCP connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// TLS was refused by one side.
    #[error("TLS: {0}")]
    Tls(String),
    /// The connection ended in the middle.
    #[error("connection broken: {0}")]
    Broken(String),
    /// Nothing came in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Client {
    /// A client that connects to `at`, a local port of the rack, trusts only the CA in the PEM file `authority` and asks for `domain`.
    pub fn new(
        at: SocketAddr,
        domain: &str,
        authority: &Path,
        patience: Duration,
    ) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Authority {
            path: authority.display().to_string(),
            reason,
        };
        let mut roots = RootCertStore::empty();
        for certificate in
            CertificateDer::pem_file_iter(authority).map_err(|e| wrong(e.to_string()))?
        {
            roots
                .add(certificate.map_err(|e| wrong(e.to_string()))?)
                .map_err(|e| wrong(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(wrong("it has no certificate".into()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server_name = ServerName::try_from(domain.to_owned())
            .map_err(|_| ClientError::Name(domain.into()))?;
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self {
            at,
            domain: domain.into(),
            server_name,
            tls,
            patience,
        })
    }

    /// The version of IP that it comes with.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::of(self.at.ip())
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks for the site's page on a connection of its own, as a new user does.
    pub async fn get(&self) -> Result<Answer, RequestError> {
        self.send(Method::GET, "/").await
    }

    /// One request on a connection of its own.
    pub async fn send(&self, method: Method, path: &str) -> Result<Answer, RequestError> {
        let begin = Instant::now();
        let attempt = async { self.open().await?.ask(method, path).await };
        let mut answer = timeout(self.patience, attempt)
            .await
            .map_err(|_| RequestError::Timeout(self.patience))??;
        answer.took = begin.elapsed();
        Ok(answer)
    }

    /// A connection that stays open for many requests.
    pub async fn connect(&self) -> Result<Connection, RequestError> {
        timeout(self.patience, self.open())
            .await
            .map_err(|_| RequestError::Timeout(self.patience))?
    }

    async fn open(&self) -> Result<Connection, RequestError> {
        let tcp = TcpStream::connect(self.at)
            .await
            .map_err(|e| RequestError::Connect(e.to_string()))?;
        let tls = self.tls.connect(self.server_name.clone(), tcp).await;
        let tls = tls.map_err(|e| RequestError::Tls(e.to_string()))?;
        let (sender, driver) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|e| RequestError::Broken(e.to_string()))?;
        // Errors of the connection show up at the request that waits for it.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection {
            sender,
            host: self.domain.clone(),
            patience: self.patience,
            driver,
        })
    }
}

/// An open connection to the site.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
    patience: Duration,
    driver: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// One more request on this connection.
    pub async fn get(&mut self) -> Result<Answer, RequestError> {
        let patience = self.patience;
        timeout(patience, self.ask(Method::GET, "/"))
            .await
            .map_err(|_| RequestError::Timeout(patience))?
    }

    async fn ask(&mut self, method: Method, path: &str) -> Result<Answer, RequestError> {
        let broken = |e: hyper::Error| RequestError::Broken(root_cause(&e));
        let begin = Instant::now();
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .body(Empty::new())
            .map_err(|e| RequestError::Broken(e.to_string()))?;
        self.sender.ready().await.map_err(broken)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let web = header(response.headers(), "x-served-by");
        let app = header(response.headers(), "x-app");
        response.into_body().collect().await.map_err(broken)?;
        Ok(Answer {
            status,
            web,
            app,
            took: begin.elapsed(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// hyper's own text says little; the error below it says why.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
