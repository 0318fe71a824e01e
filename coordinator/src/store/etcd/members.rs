//! One client per member, and what a failed call means.
//!
//! etcd's client does not fail over: with one of two members dead, every second call would fail. So
//! each member has a client of its own, made at its first use, and a failure moves everyone on to
//! the next member.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use highwater_net::ClientTls;
use tokio::sync::Mutex;
use tonic::Code;

use super::options::EtcdOptions;
use crate::store::StoreError;

/// The members of one etcd.
pub(super) struct Members {
    members: Vec<Member>,
    /// Where calls go now, modulo the number of members.
    current: AtomicUsize,
    options: ConnectOptions,
    tls: Option<ClientTls>,
    request_timeout: Duration,
    place: String,
}

struct Member {
    endpoint: String,
    client: Mutex<Option<Client>>,
}

type Source = Box<dyn Error + Send + Sync>;

/// Why one call of one member failed.
#[derive(Debug)]
pub(super) enum CallError {
    /// It never left: there is no connection.
    NotSent(Source),
    /// etcd answered that it will not, and did nothing.
    Refused(Source),
    /// etcd has no room, and did nothing.
    Full(Source),
    /// The revision that was asked for is history.
    Compacted(Source),
    /// The lease that was meant does not exist.
    LeaseGone(Source),
    /// It may have been carried out.
    Unknown(Source),
}

/// Why no member carried out what may be repeated.
#[derive(Debug)]
pub(super) enum AskError {
    /// None answered.
    Unreachable(Source),
    /// etcd answered that it will not.
    Refused(Source),
    /// etcd has no room.
    Full(Source),
    /// The revision that was asked for is history.
    Compacted(Source),
    /// The lease that was meant does not exist.
    LeaseGone(Source),
}

/// What came of a call that is made once.
#[derive(Debug)]
pub(super) enum Sent<T> {
    /// It was carried out.
    Answered(T),
    /// It may have been.
    Unknown(Source),
}

impl Members {
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, StoreError> {
        let endpoints = &options.endpoints;
        let refused = |reason| StoreError::Rejected {
            place: "etcd".to_owned(),
            source: Box::new(reason),
        };
        if endpoints.is_empty() {
            return Err(refused(BadEndpoints("no endpoint is given")));
        }
        if endpoints.iter().any(|endpoint| endpoint.contains('@')) {
            // Not quoted: what stands before the @ may be a password.
            return Err(refused(BadEndpoints(
                "an endpoint must not hold a user or a password",
            )));
        }
        if endpoints
            .iter()
            .any(|endpoint| endpoint.starts_with("https://"))
            && options.tls.is_none()
        {
            return Err(refused(BadEndpoints(
                "https needs to know whom to trust: name the authority by --etcd-ca FILE",
            )));
        }
        if endpoints
            .iter()
            .any(|endpoint| !endpoint.starts_with("https://"))
            && options.tls.is_some()
        {
            return Err(refused(BadEndpoints(
                "TLS was asked for: every endpoint has to begin with https://",
            )));
        }
        Ok(Self {
            members: endpoints
                .iter()
                .map(|e| Member {
                    endpoint: e.clone(),
                    client: Mutex::new(None),
                })
                .collect(),
            current: AtomicUsize::new(0),
            options: connect_options(options),
            tls: options.tls.clone(),
            request_timeout: options.request_timeout,
            place: endpoints.join(","),
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Makes a call that may be repeated, on each member in turn until one answers.
    pub(super) async fn ask<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.ask_within(self.request_timeout, call).await
    }

    /// The same, where each member has this time for its answer.
    pub(super) async fn ask_within<T, F>(
        &self,
        within: Duration,
        call: impl Fn(Client) -> F,
    ) -> Result<T, AskError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut failure = None;
        // Once more than there are members: the first may have failed on a connection that broke
        // while it was idle.
        for _ in 0..=self.members.len() {
            match self.call(within, &call).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(source)) => return Err(AskError::Refused(source)),
                Err(CallError::Full(source)) => return Err(AskError::Full(source)),
                Err(CallError::Compacted(source)) => return Err(AskError::Compacted(source)),
                Err(CallError::LeaseGone(source)) => return Err(AskError::LeaseGone(source)),
                Err(CallError::NotSent(source) | CallError::Unknown(source)) => {
                    failure = Some(source)
                }
            }
        }
        Err(AskError::Unreachable(failure.unwrap_or_else(|| {
            Box::new(BadEndpoints("no endpoint is given"))
        })))
    }

    /// Makes a call that must not be repeated: it goes to the first member that can be sent to,
    /// once.
    ///
    /// # Errors
    /// [`StoreError`] when it is certain that nothing was done.
    pub(super) async fn send<T, F>(&self, call: impl Fn(Client) -> F) -> Result<Sent<T>, StoreError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let mut failure = None;
        for _ in 0..self.members.len() {
            match self.call(self.request_timeout, &call).await {
                Ok(answer) => return Ok(Sent::Answered(answer)),
                Err(CallError::Unknown(source)) => return Ok(Sent::Unknown(source)),
                Err(CallError::Refused(source) | CallError::Compacted(source)) => {
                    return Err(self.store_error(AskError::Refused(source)));
                }
                Err(CallError::Full(source)) => {
                    return Err(self.store_error(AskError::Full(source)));
                }
                // We were away for longer than the lease lived, or etcd was: nothing is wrong, and
                // the next try has a new one.
                Err(CallError::LeaseGone(source)) => {
                    return Err(self.store_error(AskError::Unreachable(source)));
                }
                Err(CallError::NotSent(source)) => failure = Some(source),
            }
        }
        let source = failure.unwrap_or_else(|| Box::new(BadEndpoints("no endpoint is given")));
        Err(self.store_error(AskError::Unreachable(source)))
    }

    /// Makes a call on the current member, and moves on from it if it does not answer `within` that
    /// time.
    pub(super) async fn call<T, F>(
        &self,
        within: Duration,
        call: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let at = self.current.load(Ordering::Relaxed);
        let answer = self.call_at(at, within, call).await;
        if let Err(CallError::NotSent(source) | CallError::Unknown(source)) = &answer {
            let member = &self.members[at % self.members.len()];
            tracing::debug!(endpoint = %member.endpoint, error = %source, "a call of etcd failed");
            self.leave(at);
        }
        answer
    }

    /// The member that calls go to now, to be left when a stream from it breaks.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Moves everyone on from the member `at`, unless somebody did already.
    pub(super) fn leave(&self, at: usize) {
        self.current
            .compare_exchange(at, at.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed)
            .ok();
    }

    async fn call_at<T, F>(
        &self,
        at: usize,
        within: Duration,
        call: impl Fn(Client) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let member = &self.members[at % self.members.len()];
        let client = match tokio::time::timeout(within, self.client(member)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(error),
            Err(elapsed) => return Err(CallError::NotSent(Box::new(elapsed))),
        };
        let answer = match tokio::time::timeout(within, call(client)).await {
            Ok(answer) => answer.map_err(call_error),
            Err(elapsed) => Err(CallError::Unknown(Box::new(elapsed))),
        };
        if self.tls.is_some() && matches!(answer, Err(CallError::NotSent(_))) {
            // the next one is made of the files as they are then
            *member.client.lock().await = None;
        }
        answer
    }

    /// The client of a member, made when there is none.
    async fn client(&self, member: &Member) -> Result<Client, CallError> {
        let mut known = member.client.lock().await;
        if let Some(client) = &*known {
            return Ok(client.clone());
        }
        let mut options = self.options.clone();
        if let Some(tls) = self
            .tls
            .as_ref()
            .filter(|_| member.endpoint.starts_with("https://"))
        {
            options = options
                .with_tls(tls_options(tls).map_err(|error| CallError::NotSent(Box::new(error)))?);
        }
        let client = Client::connect([&member.endpoint], Some(options))
            .await
            .map_err(connect_error)?;
        Ok(known.insert(client).clone())
    }

    pub(super) fn store_error(&self, error: AskError) -> StoreError {
        let place = self.place.clone();
        match error {
            AskError::Unreachable(source) => StoreError::Unreachable { place, source },
            AskError::Full(source) => StoreError::Full { place, source },
            AskError::Refused(source)
            | AskError::Compacted(source)
            | AskError::LeaseGone(source) => StoreError::Rejected { place, source },
        }
    }

    pub(super) fn rejected(&self, source: impl Error + Send + Sync + 'static) -> StoreError {
        self.store_error(AskError::Refused(Box::new(source)))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

fn connect_options(options: &EtcdOptions) -> ConnectOptions {
    // Half of what a call has, so that a member that cannot be reached is told from one that does
    // not answer.
    let connect_timeout = options.request_timeout / 2;
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(connect_timeout)
        .with_keep_alive(options.keep_alive, options.keep_alive)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    if let Some(login) = &options.login {
        connect = connect
            .with_user(&login.user, &login.password)
            .with_auto_token_refresh(true);
    }
    connect
}

/// What etcd's client makes TLS of, from the files as they are now.
fn tls_options(tls: &ClientTls) -> Result<TlsOptions, FileError> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| FileError {
            path: path.to_owned(),
            source,
        })
    };
    let mut options =
        TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.authority)?));
    if let Some(identity) = &tls.identity {
        options = options.identity(Identity::from_pem(
            read(&identity.certificate)?,
            read(&identity.key)?,
        ));
    }
    Ok(match &tls.server_name {
        Some(name) => options.domain_name(name),
        None => options,
    })
}

/// Making a client sends nothing but a login.
fn connect_error(error: etcd_client::Error) -> CallError {
    match call_error(error) {
        CallError::Refused(source) => CallError::Refused(source),
        CallError::NotSent(source)
        | CallError::Full(source)
        | CallError::Compacted(source)
        | CallError::LeaseGone(source)
        | CallError::Unknown(source) => CallError::NotSent(source),
    }
}

/// Whatever is not known to have done nothing may have done something.
fn call_error(error: etcd_client::Error) -> CallError {
    use etcd_client::Error as E;
    match &error {
        E::GRpcStatus(status) if never_connected(status) => CallError::NotSent(Box::new(error)),
        E::GRpcStatus(status) => match answer_of_etcd(status) {
            Some(Code::OutOfRange) if status.message().contains("compacted") => {
                CallError::Compacted(Box::new(error))
            }
            Some(Code::NotFound) if status.message().contains("lease not found") => {
                CallError::LeaseGone(Box::new(error))
            }
            // The alarm NOSPACE: the request was looked at and not carried out.
            Some(Code::ResourceExhausted) if status.message().contains("space exceeded") => {
                CallError::Full(Box::new(error))
            }
            // Too many requests at once: this one was not taken, and may be sent again.
            Some(Code::ResourceExhausted) => CallError::NotSent(Box::new(error)),
            Some(
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::AlreadyExists
                | Code::OutOfRange
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented,
            ) => CallError::Refused(Box::new(error)),
            Some(
                Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss,
            )
            | None => CallError::Unknown(Box::new(error)),
        },
        // The client's word for a keep-alive that was answered by a time to live of 0.
        E::LeaseKeepAliveError(_) => CallError::LeaseGone(Box::new(error)),
        E::InvalidArgs(_)
        | E::InvalidUri(_)
        | E::IoError(_)
        | E::TransportError(_)
        | E::WatchError(_)
        | E::Utf8Error(_)
        | E::ElectError(_)
        | E::InvalidMetadataValue(_)
        | E::EndpointError(_)
        | E::EndpointsNotManaged
        | E::Internal(_) => CallError::Unknown(Box::new(error)),
    }
}

/// The code, if etcd itself gave it: a broken connection is told by the same codes.
fn answer_of_etcd(status: &tonic::Status) -> Option<Code> {
    status
        .message()
        .starts_with("etcdserver: ")
        .then(|| status.code())
}

fn never_connected(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A file of TLS cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
struct FileError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The endpoints cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadEndpoints(&'static str);
