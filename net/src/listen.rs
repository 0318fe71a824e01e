//! Accepts callers, in the clear or over TLS.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::caller::Caller;
use crate::files::{ServerTls, TlsFileError};

/// Handshakes at once.
const HANDSHAKES_MAX: usize = 1024;
/// How long a caller's handshake may take.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long to wait when no more callers can be accepted, such as for want of file descriptors.
const ACCEPT_RETRY_WAIT: Duration = Duration::from_millis(100);

/// A caller's connection.
#[derive(Debug)]
pub enum Accepted {
    /// In the clear.
    Clear(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The callers of `listener`, for a server. One whose handshake fails is told to the log, and keeps
/// nobody else waiting before there are a thousand of its kind.
///
/// With `tls`, its files are looked at again at each caller, and read again when they have changed;
/// while they cannot be used, the ones before go on to hold.
///
/// # Errors
/// The files cannot be used now.
pub fn incoming(
    listener: TcpListener,
    tls: Option<ServerTls>,
) -> Result<impl Stream<Item = io::Result<Accepted>>, TlsFileError> {
    let tls = tls.map(Watched::read).transpose()?;
    let callers = stream::unfold((listener, tls), |(listener, mut tls)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, caller)) => {
                    let config = tls.as_mut().map(Watched::current);
                    return Some((handshake(stream, caller, config), (listener, tls)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a caller");
                    tokio::time::sleep(ACCEPT_RETRY_WAIT).await;
                }
            }
        }
    });
    Ok(callers
        .buffer_unordered(HANDSHAKES_MAX)
        .filter_map(std::future::ready)
        .map(Ok))
}

async fn handshake(
    stream: TcpStream,
    caller: SocketAddr,
    config: Option<Arc<ServerConfig>>,
) -> Option<Accepted> {
    stream.set_nodelay(true).ok();
    let Some(config) = config else {
        return Some(Accepted::Clear(stream));
    };
    match tokio::time::timeout(HANDSHAKE_WAIT_MAX, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some(Accepted::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::warn!(%caller, %error, "a caller was refused: no TLS connection came about");
            None
        }
        Err(_) => {
            tracing::warn!(%caller, "a caller was refused: silent for {HANDSHAKE_WAIT_MAX:?}");
            None
        }
    }
}

/// When each of some files was last changed, and how long it is.
type Seen = Vec<Option<(SystemTime, u64)>>;

/// TLS, and the state that its files were in when they were last read.
struct Watched {
    files: ServerTls,
    seen: Seen,
    /// The state in which they could not be used, once that has been told.
    refused: Option<Seen>,
    config: Arc<ServerConfig>,
}

impl Watched {
    fn read(files: ServerTls) -> Result<Self, TlsFileError> {
        let seen = look(&files);
        let config = files.read()?;
        Ok(Self {
            files,
            seen,
            refused: None,
            config,
        })
    }

    fn current(&mut self) -> Arc<ServerConfig> {
        let now = look(&self.files);
        if now != self.seen {
            match self.files.read() {
                Ok(config) => {
                    (self.config, self.seen) = (config, now);
                    tracing::info!("certificates read again");
                }
                // Tried again at the next caller: the owner of a file may be set after its content.
                Err(error) if self.refused.as_ref() != Some(&now) => {
                    let cause = std::error::Error::source(&error)
                        .map(ToString::to_string)
                        .unwrap_or_default();
                    tracing::warn!(%error, %cause, "the changed certificates cannot be used; the \
                        former ones still hold");
                    self.refused = Some(now);
                }
                Err(_) => {}
            }
        }
        Arc::clone(&self.config)
    }
}

/// The state of the files now.
fn look(files: &ServerTls) -> Seen {
    let state = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.paths().map(state).collect()
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        match self {
            Self::Clear(_) => Caller::default(),
            Self::Tls(stream) => Caller::of(stream.get_ref().1.peer_certificates()),
        }
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
