//! Who may speak with whom: the operator of the site and its servers know each other's certificates.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What one end has: its own certificate and key, and the other's certificate, all PEM.
#[derive(Clone, Debug)]
pub struct Papers {
    /// Own certificate.
    pub certificate: String,
    /// Own key.
    pub key: String,
    /// The other end's certificate, the only one that is taken.
    pub other: String,
}

impl Papers {
    /// For a server.
    pub fn server(&self) -> Result<Arc<ServerConfig>, String> {
        let (roots, chain, key) = self.read()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(text)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(text)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(text)?;
        Ok(config.into())
    }

    /// For the operator's tool.
    pub fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let (roots, chain, key) = self.read()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(text)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(text)?;
        Ok(config.into())
    }

    #[allow(clippy::type_complexity)]
    fn read(
        &self,
    ) -> Result<
        (
            RootCertStore,
            Vec<CertificateDer<'static>>,
            PrivateKeyDer<'static>,
        ),
        String,
    > {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(text);
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.other)?).map_err(text)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(text)?;
        Ok((roots, vec![certificate(&self.certificate)?], key))
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
