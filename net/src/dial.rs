//! Dials coordinators, and says in words for people why a connection fails.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::Service;

use crate::files::ClientTls;

/// For a connection that is made when it is first used: behind a coordinator that is frozen another
/// one leads.
const LAZY_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first_byte: Duration::from_secs(1),
};
/// For a connection that somebody waits for.
const CONNECT_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    first_byte: Duration::from_secs(5),
};
/// How often an idle connection is probed.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long the probe may take: what finds a coordinator that fell silent.
const KEEP_ALIVE_WAIT_MAX: Duration = Duration::from_secs(3);
/// Bytes that are read ahead, to see the first one.
const READ_AHEAD_BYTES: usize = 1024;

/// What is no address of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be dialled.
    #[error("`{url}` is not the address of a coordinator")]
    Malformed {
        /// What was given.
        url: String,
    },
    /// `https` needs to know whom to trust.
    #[error(
        "`{url}` is https, which needs to know whom to trust: --tls-ca FILE names the authority \
         that signed its certificate"
    )]
    NoAuthority {
        /// What was given.
        url: String,
    },
    /// A follower names the leader by host and port: whoever follows it there has to know how to
    /// speak.
    #[error("`{url}` is not like the addresses before it: all of them are http, or all are https")]
    Mixed {
        /// The first that differs.
        url: String,
    },
    /// There is none.
    #[error("no address of a coordinator is given")]
    None,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be dialled.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody answers there, or the two cannot agree.
    #[error("no connection came about")]
    Failed {
        /// Why, in words, if somebody answered.
        failure: Option<ConnectFailure>,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Dials in the clear, or over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialer {
    tls: Option<Arc<ClientTls>>,
}

/// A connection to one address: made when it is first used, and again after it broke.
#[derive(Debug, Clone)]
pub struct Connection {
    /// What calls go over.
    pub channel: Channel,
    address: String,
    last_failure: LastFailure,
}

/// Why a connection fails although somebody listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectFailure {
    text: String,
    /// Whether one of the two does not trust the other; then trying again does not help.
    pub is_distrust: bool,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// In all.
    connect: Duration,
    /// How long the other end is waited for to speak first; a coordinator does so at once.
    first_byte: Duration,
}

type LastFailure = Arc<Mutex<Option<ConnectFailure>>>;

impl Dialer {
    /// A dialer for the addresses `urls`, and these as host and port. `https` in all of them, or in
    /// none; without a scheme the presence of `tls` decides.
    ///
    /// # Errors
    /// The first address that cannot be dialled.
    pub fn for_addresses(
        urls: &[String],
        tls: Option<ClientTls>,
    ) -> Result<(Self, Vec<String>), AddressError> {
        let mut addresses = Vec::new();
        let mut is_secure = None;
        for url in urls {
            let (secure, address) = match url.split_once("://") {
                Some(("https", rest)) => (true, rest),
                Some(("http", rest)) => (false, rest),
                Some(_) => return Err(AddressError::Malformed { url: url.clone() }),
                None => (tls.is_some(), url.as_str()),
            };
            if *is_secure.get_or_insert(secure) != secure {
                return Err(AddressError::Mixed { url: url.clone() });
            }
            if secure && tls.is_none() {
                return Err(AddressError::NoAuthority { url: url.clone() });
            }
            let address = address.trim_end_matches('/');
            endpoint(address).map_err(|()| AddressError::Malformed { url: url.clone() })?;
            addresses.push(address.to_owned());
        }
        if addresses.is_empty() {
            return Err(AddressError::None);
        }
        Ok((
            Self::new(tls.filter(|_| is_secure == Some(true))),
            addresses,
        ))
    }

    /// A dialer over TLS if it knows whom to trust, else in the clear.
    #[must_use]
    pub fn new(tls: Option<ClientTls>) -> Self {
        Self {
            tls: tls.map(Arc::new),
        }
    }

    /// How an address is written for people.
    #[must_use]
    pub fn url(&self, address: &str) -> String {
        format!(
            "{}://{address}",
            if self.tls.is_some() { "https" } else { "http" }
        )
    }

    /// Whether what it dials is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// A connection to `address`, which is a host and a port. Nothing is dialled before it is used.
    ///
    /// # Errors
    /// The address cannot be dialled.
    pub fn connect_lazy(&self, address: &str) -> Result<Connection, AddressError> {
        let (endpoint, connector, last_failure) = self.parts(address, LAZY_TIMEOUTS)?;
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(Connection {
            channel,
            address: self.url(address),
            last_failure,
        })
    }

    /// A connection to `address`, which is a host and a port, once it is made.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn connect(&self, address: &str) -> Result<Connection, ConnectError> {
        let (endpoint, connector, last_failure) = self.parts(address, CONNECT_TIMEOUTS)?;
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => Ok(Connection {
                channel,
                address: self.url(address),
                last_failure,
            }),
            Err(source) => {
                let failure = last_failure
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                Err(ConnectError::Failed { failure, source })
            }
        }
    }

    fn parts(
        &self,
        address: &str,
        timeouts: Timeouts,
    ) -> Result<(Endpoint, impl Connector, LastFailure), AddressError> {
        let malformed = || AddressError::Malformed {
            url: self.url(address),
        };
        let endpoint = endpoint(address)
            .map_err(|()| malformed())?
            .connect_timeout(timeouts.connect);
        // tonic would want to make TLS by itself of an `https` endpoint: it only learns what the
        // calls are for.
        let origin: Uri = self.url(address).parse().map_err(|_| malformed())?;
        let last_failure = LastFailure::default();
        let (slot, tls, there) = (
            Arc::clone(&last_failure),
            self.tls.clone(),
            address.to_owned(),
        );
        let connector = tower::service_fn(move |_: Uri| {
            let (slot, tls, address) = (Arc::clone(&slot), tls.clone(), there.clone());
            Box::pin(async move {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let (stream, failure) =
                    match dial(&address, tls.as_deref(), timeouts.first_byte).await {
                        Ok((stream, failure)) => (Ok(TokioIo::new(stream)), failure),
                        Err(failed) => (Err(failed.error), failed.failure),
                    };
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = failure;
                stream
            }) as Connecting
        });
        Ok((endpoint.origin(origin), connector, last_failure))
    }
}

/// Bytes in both directions, as tonic wants them.
type Wire = TokioIo<BufReader<Box<dyn Stream>>>;
type Connecting = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;
trait Connector:
    Service<Uri, Response = Wire, Error = io::Error, Future = Connecting> + Send + 'static
{
}
impl<T: Service<Uri, Response = Wire, Error = io::Error, Future = Connecting> + Send + 'static>
    Connector for T
{
}

impl Connection {
    /// Where it leads, for people.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Why it failed when it was last dialled, if the other end was reached and something can be
    /// said.
    #[must_use]
    pub fn failure(&self) -> Option<ConnectFailure> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The endpoint of a host and a port. Its scheme is never seen by anybody.
fn endpoint(address: &str) -> Result<Endpoint, ()> {
    let uri: Uri = format!("http://{address}").parse().map_err(|_| ())?;
    let is_plain = uri.path() == "/" && uri.query().is_none() && !address.contains(['@', '/']);
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() || !is_plain {
        return Err(());
    }
    Ok(Endpoint::from(uri)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WAIT_MAX)
        .keep_alive_while_idle(true))
}

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct FailedDial {
    error: io::Error,
    failure: Option<ConnectFailure>,
}

impl From<io::Error> for FailedDial {
    fn from(error: io::Error) -> Self {
        Self {
            error,
            failure: None,
        }
    }
}

async fn dial(
    address: &str,
    tls: Option<&ClientTls>,
    first_byte: Duration,
) -> Result<(BufReader<Box<dyn Stream>>, Option<ConnectFailure>), FailedDial> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let mut stream =
            BufReader::with_capacity(READ_AHEAD_BYTES, Box::new(stream) as Box<dyn Stream>);
        let told = |text: &str| {
            Some(ConnectFailure {
                text: text.to_owned(),
                is_distrust: false,
            })
        };
        // A plain connection to a server that waits for TLS hears nothing, until that one has
        // waited long enough.
        return match tokio::time::timeout(first_byte, stream.fill_buf()).await {
            Ok(Ok([_, ..])) => Ok((stream, None)),
            Ok(Ok([])) => Err(FailedDial {
                error: io::ErrorKind::UnexpectedEof.into(),
                failure: told(
                    "it hung up without a word: it goes down, or it speaks TLS only (https://)",
                ),
            }),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok((
                stream,
                told("it takes calls and stays silent: it hangs, or it speaks TLS only (https://)"),
            )),
        };
    };
    let told = |error: io::Error, host: &str| {
        let failure = explain(&error, tls, host);
        FailedDial { error, failure }
    };
    let config = tls.read().map_err(|error| {
        let text = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        FailedDial {
            error: io::Error::other(error),
            failure: Some(ConnectFailure {
                text,
                is_distrust: true,
            }),
        }
    })?;
    let host = tls
        .server_name
        .as_deref()
        .unwrap_or_else(|| host_of(address))
        .to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|error| {
        let text = format!("`{host}` is no name that a certificate can be for");
        FailedDial {
            error: io::Error::other(error),
            failure: Some(ConnectFailure {
                text,
                is_distrust: true,
            }),
        }
    })?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| told(error, &host))?;
    let mut stream =
        BufReader::with_capacity(READ_AHEAD_BYTES, Box::new(stream) as Box<dyn Stream>);
    // Whether our certificate is taken shows only in what comes after the handshake.
    if let Ok(heard) = tokio::time::timeout(first_byte, stream.fill_buf()).await {
        let is_over = heard.map_err(|error| told(error, &host))?.is_empty();
        if is_over {
            return Err(told(io::ErrorKind::UnexpectedEof.into(), &host));
        }
    }
    Ok((stream, None))
}

/// The host of a host and a port; an IPv6 address without its brackets.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// What a failed handshake means; nothing for a connection that merely broke.
fn explain(error: &io::Error, tls: &ClientTls, host: &str) -> Option<ConnectFailure> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let authority = tls.authority.display();
    let text = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            format!("its certificate is not signed by the authority in {authority} (--tls-ca)")
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "its certificate is not for the name {host}; --tls-server-name says what it is for"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it lets nobody in without a certificate: name one by --tls-cert and --tls-key"
                .to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => match &tls.identity {
            Some(identity) => {
                format!(
                    "it does not accept the certificate in {} ({alert:?})",
                    identity.certificate.display()
                )
            }
            None => format!("it does not let us in without a certificate ({alert:?})"),
        },
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS: is it http:// there?".to_owned()
        }
        other => format!("no TLS connection came about: {other}"),
    };
    Some(ConnectFailure {
        text,
        is_distrust: true,
    })
}
