//! A daemon's admin port: whether it started, lives and is ready, and its numbers, over plain HTTP.
//! Never changes anything, and never asks another process.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::daemon::Ending;
use crate::metrics::Metrics;
use crate::{CancelledBy, SpawnKind, Supervisor};

/// Where it listens, unless told otherwise.
const DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7072);
/// How long a caller may take for what it asks.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// How long a connection is kept; what is being answered then is answered to its end, within
/// [`LAST_WAIT`].
const CONNECTION_MAX: Duration = Duration::from_secs(60);
const LAST_WAIT: Duration = Duration::from_secs(10);
/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 64;

/// The flag of the admin port.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Address and port of health and metrics over plain HTTP, or `off` [default: 127.0.0.1:7072]
    #[arg(long, env = "HIGHWATER_ADMIN_LISTEN", value_name = "ADDR")]
    admin_listen: Option<String>,
}

/// Where the admin port is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// There, if nobody else is: no address was named, and a second daemon of the host has none.
    IfFree(SocketAddr),
    /// There.
    At(SocketAddr),
}

impl AdminArgs {
    /// Lays flag and environment over the file, and the file over the default.
    ///
    /// # Errors
    /// What was given is no address.
    pub fn settle(self, file: Option<String>) -> Result<AdminListen, Ending> {
        match self.admin_listen.or(file).as_deref() {
            None => Ok(AdminListen::IfFree(DEFAULT)),
            Some("off") => Ok(AdminListen::Off),
            Some(named) => named.parse().map(AdminListen::At).map_err(|error| {
                Ending::usage(format!(
                    "`{named}` is no address for the admin port ({error}): write {DEFAULT}, or off"
                ))
            }),
        }
    }
}

/// Whether a daemon can do what it is there for.
pub trait Ready: Send + Sync + 'static {
    /// # Errors
    /// What it waits for, in words.
    fn ready(&self) -> Result<(), String>;
}

/// The port, for as long as this is kept.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    _serving: DropGuard,
}

impl Admin {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What is told.
struct Told {
    ready: Arc<dyn Ready>,
    metrics: Metrics,
    has_started: AtomicBool,
}

/// Opens the admin port. `None` when it is off, or when nobody named it and it is taken.
///
/// # Errors
/// The address that was named cannot be listened on.
pub async fn open(
    listen: AdminListen,
    ready: Arc<dyn Ready>,
    metrics: Metrics,
) -> Result<Option<Admin>, Ending> {
    let address = match listen {
        AdminListen::Off => return Ok(None),
        AdminListen::IfFree(address) | AdminListen::At(address) => address,
    };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok::<_, io::Error>((listener, address))
    };
    let (listener, address) = match (bound.await, listen) {
        (Ok(bound), _) => bound,
        (Err(error), AdminListen::IfFree(_)) => {
            tracing::warn!(
                "no health and no metrics: {address} cannot be listened on ({error}); name another \
                 by --admin-listen, or off"
            );
            return Ok(None);
        }
        (Err(error), AdminListen::Off | AdminListen::At(_)) => {
            return Err(Ending::cannot(
                &format!("listen on {address} for health and metrics"),
                &error,
            ));
        }
    };
    let cancel = CancellationToken::new();
    let supervisor = Supervisor::new(cancel.clone());
    let told = Arc::new(Told {
        ready,
        metrics,
        has_started: AtomicBool::new(false),
    });
    tracing::info!(admin = %address, "health and metrics");
    supervisor.spawn(Loop::Accept, accept(listener, told, supervisor.clone()));
    Ok(Some(Admin {
        address,
        _serving: cancel.drop_guard(),
    }))
}

/// The loops of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Loop {
    Accept,
    Connection,
}

impl SpawnKind for Loop {
    fn cancelled_by(self) -> CancelledBy {
        CancelledBy::Supervisor
    }
}

async fn accept(listener: TcpListener, told: Arc<Told>, supervisor: Supervisor<Loop>) {
    let cancel = supervisor.cancel_token().clone();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&free).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (told, cancel) = (Arc::clone(&told), cancel.clone());
                supervisor.spawn(Loop::Connection, async move {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => {}
                        () = converse(stream, &told) => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // no more files, or a caller that is gone already
                tracing::debug!(%error, "nobody was accepted on the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, told: &Told) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(told.answer(request.method(), request.uri().path()))
    });
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WAIT)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let served = tokio::select! {
        biased;
        served = &mut serving => served,
        () = tokio::time::sleep(CONNECTION_MAX) => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_WAIT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a caller of the admin port went away");
    }
}

impl Told {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n".to_owned());
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allowed);
            return refused;
        }
        match path {
            // whoever is answered sees that the process turns
            "/health/live" => health(Ok(())),
            "/health/ready" => health(self.ready()),
            "/health/startup" if self.has_started.load(Ordering::Relaxed) => health(Ok(())),
            "/health/startup" => health(self.ready()),
            "/metrics" => match self.metrics.text() {
                Ok(text) => plain(StatusCode::OK, text),
                Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            },
            _ => plain(
                StatusCode::NOT_FOUND,
                "/health/startup /health/live /health/ready /metrics\n".to_owned(),
            ),
        }
    }

    fn ready(&self) -> Result<(), String> {
        let ready = self.ready.ready();
        if ready.is_ok() {
            self.has_started.store(true, Ordering::Relaxed);
        }
        ready
    }
}

fn health(is: Result<(), String>) -> Response<Full<Bytes>> {
    match is {
        Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
        Err(waits) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{waits}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;
