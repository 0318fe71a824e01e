//! Certificates and keys in files, in PEM form, and what TLS makes of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use crate::ALPN;

/// A certificate, with those that lead to its authority behind it, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The file of the certificates.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

/// TLS of the end that dials: which authority it trusts, and its own certificate if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The file of the authorities that may have signed the other end's certificate.
    pub authority: PathBuf,
    /// What is shown to an end that asks for a certificate.
    pub identity: Option<Identity>,
    /// The name that the other end's certificate has to be for, when it is not the host that is
    /// dialled.
    pub server_name: Option<String>,
}

/// TLS of the end that listens: its certificate, and which callers it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// What is shown to everybody.
    pub identity: Identity,
    /// The file of the authorities that have to have signed a caller's certificate; without one,
    /// nobody is asked for any.
    pub client_authority: Option<PathBuf>,
    /// Whether a caller without any certificate is let in all the same: he says otherwise who he is.
    /// One that is shown has to be signed nonetheless.
    pub is_certificate_optional: bool,
}

/// Files that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read, or holds no PEM.
    #[error("cannot read {what} in {}", path.display())]
    Unreadable {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// It holds PEM, but not what was looked for.
    #[error("there is no {what} in {}", path.display())]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Certificate and key are not for each other, or cannot be used.
    #[error("the certificate in {} cannot be used with the key in {}", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No authority can be made of a certificate.
    #[error("a certificate in {} is no authority: {why}", path.display())]
    Authority {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The versions of TLS that are built in cannot be used: a defect.
    #[error("TLS cannot be set up")]
    Versions(#[source] rustls::Error),
}

/// Settings of TLS of which some are missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteTls {
    /// A certificate without its key, or the other way round.
    #[error(
        "a certificate needs its key, and a key its certificate: --tls-cert FILE and --tls-key FILE"
    )]
    Identity,
    /// Whom to let in or to trust, and no certificate of its own.
    #[error("TLS needs a certificate of this coordinator: --tls-cert FILE and --tls-key FILE")]
    Certificate,
    /// Something about TLS, and not whom to trust.
    #[error("TLS needs to know whom to trust: --tls-ca FILE names the authority")]
    Authority,
}

impl Identity {
    /// What two settings say: both, or neither.
    ///
    /// # Errors
    /// [`IncompleteTls::Identity`]
    pub fn of(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<Self>, IncompleteTls> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(IncompleteTls::Identity),
        }
    }
}

impl ClientTls {
    /// Reads the files, as they are now.
    ///
    /// # Errors
    /// The first of them that cannot be used.
    pub fn read(&self) -> Result<Arc<ClientConfig>, TlsFileError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsFileError::Versions)?
            .with_root_certificates(authorities(&self.authority)?);
        let mut config = match &self.identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                config
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| identity.mismatch(source))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }
}

impl ServerTls {
    /// Reads the files, as they are now.
    ///
    /// # Errors
    /// The first of them that cannot be used.
    pub fn read(&self) -> Result<Arc<ServerConfig>, TlsFileError> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsFileError::Versions)?;
        let config = match &self.client_authority {
            None => config.with_no_client_auth(),
            Some(path) => {
                let authorities = Arc::new(authorities(path)?);
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(authorities, provider);
                if self.is_certificate_optional {
                    verifier = verifier.allow_unauthenticated();
                }
                let refused =
                    |error: rustls::server::VerifierBuilderError| TlsFileError::Authority {
                        path: path.clone(),
                        why: error.to_string(),
                    };
                config.with_client_cert_verifier(verifier.build().map_err(refused)?)
            }
        };
        let (chain, key) = self.identity.read()?;
        let mut config = config
            .with_single_cert(chain, key)
            .map_err(|source| self.identity.mismatch(source))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    /// The files, for whoever watches whether they change.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let own = [
            self.identity.certificate.as_path(),
            self.identity.key.as_path(),
        ];
        own.into_iter().chain(self.client_authority.as_deref())
    }
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsFileError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsFileError::Missing {
                what: "private key",
                path: self.key.clone(),
            },
            source => TlsFileError::Unreadable {
                what: "a private key",
                path: self.key.clone(),
                source,
            },
        })?;
        Ok((chain, key))
    }

    fn mismatch(&self, source: rustls::Error) -> TlsFileError {
        TlsFileError::Mismatch {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let unreadable = |source| TlsFileError::Unreadable {
        what: "certificates",
        path: path.to_owned(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(TlsFileError::Missing {
            what: "certificate",
            path: path.to_owned(),
        });
    }
    Ok(found)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let refused = |error: rustls::Error| TlsFileError::Authority {
            path: path.to_owned(),
            why: error.to_string(),
        };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}
