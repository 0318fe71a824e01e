//! Finds the coordinator: the one that an address names, the live process behind
//! `.highwater/control.sock`, or one started in this process.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_net::{ClientTlsArgs, ConnectError, ConnectFailure, Dialer};
use highwater_proto::v1::Document;
use highwater_worker::AllowedPrograms;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};

use crate::args::Global;
pub(crate) use crate::control::Need;
use crate::control::{CONTROL_SOCKET, ControlClient, client};
use crate::embedded::{self, Embedded};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::token::Token;

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Where a command goes.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    /// The addresses of a cluster's coordinators, with commas between.
    pub coordinator: Option<String>,
    /// Whom to trust among them, and who we are to them.
    pub tls: ClientTlsArgs,
    /// What says there who we are, beside a certificate.
    pub token: Token,
    /// The name that the user has given the cluster.
    pub context: Option<String>,
    /// The folder of the embedded mode.
    pub state: PathBuf,
    /// Workers to start, if any are.
    pub workers: u32,
    /// How long a silent worker of the embedded mode counts as alive.
    pub session_ttl: Option<Duration>,
    /// The programs that steps may run in this process, and folders of such.
    pub programs: Vec<PathBuf>,
}

impl Where {
    /// What the flags say; environment and contexts have been settled already.
    #[must_use]
    pub(crate) fn new(global: &Global, workers: u32) -> Self {
        let coordinator = global.coordinator.clone().filter(|url| !url.is_empty());
        Self {
            coordinator,
            tls: global.tls.clone(),
            token: global.token.clone(),
            context: global.context.clone(),
            state: global.state.clone(),
            workers,
            session_ttl: global.session_ttl.map(|ttl| ttl.0),
            programs: global.allow_exec.clone(),
        }
    }
}

impl Where {
    /// The programs that steps may run in this process.
    ///
    /// # Errors
    /// Code 2 for a path where nothing is.
    pub(crate) fn programs(&self) -> Result<AllowedPrograms, CliError> {
        AllowedPrograms::new(&self.programs).map_err(|error| {
            CliError::new(ExitCode::Usage, "a program that is allowed is not there")
                .why(error.to_string())
                .next("--allow-exec PATH, of a program or of a folder of such")
        })
    }
}

/// Where a connection leads.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    /// To this machine: this process or another, over a folder.
    Embedded,
    /// To a cluster, which has these coordinators.
    Remote(Coordinators),
}

/// A way to the coordinator.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The client.
    pub client: ControlClient,
    /// Where it leads.
    pub place: Destination,
    /// What runs in this process; `None` when the coordinator is another's.
    pub embedded: Option<Embedded>,
    banner: String,
}

impl Connection {
    /// The way to a coordinator of this process.
    #[must_use]
    pub(crate) fn of_process(embedded: Embedded, place: Destination, banner: String) -> Self {
        Self {
            client: embedded.client.clone(),
            place,
            embedded: Some(embedded),
            banner,
        }
    }

    /// Line 1 on stderr: where the command goes.
    #[must_use]
    pub(crate) fn banner(&self) -> &str {
        &self.banner
    }

    /// Goes to the next of a cluster's coordinators that answers, after the one in use did not.
    /// When none does, it stays where it is until the next time.
    pub(crate) async fn move_on(&mut self) {
        if let Destination::Remote(coordinators) = &self.place
            && let Ok(next) = coordinators.with_the_first_last().dial().await
        {
            *self = next;
        }
    }

    /// Ends what runs in this process, once nothing more is wanted of it.
    ///
    /// # Errors
    /// What ended it, when it was not this.
    pub(crate) async fn close(self) -> Result<(), CliError> {
        let Some(embedded) = self.embedded else {
            return Ok(());
        };
        embedded.drain.cancel();
        embedded.ended.await.unwrap_or(Ok(()))
    }
}

/// Opens the way that `place` names.
///
/// # Errors
/// Code 5 when nobody answers at an address, 6 when another process is in the way, 4 when there is
/// nothing to read.
pub(crate) async fn open(place: &Where, need: Need) -> Result<Connection, CliError> {
    if let Some(url) = &place.coordinator {
        return Coordinators::of(url, place)?.dial().await;
    }
    let dir = &place.state;
    let attached = attach(&dir.join(CONTROL_SOCKET)).await?;
    match (attached, need) {
        (Some(client), Need::Read | Need::Act) => Ok(Connection {
            client,
            place: Destination::Embedded,
            embedded: None,
            banner: format!(
                "embedded {}, through the process that runs there",
                dir.display()
            ),
        }),
        (Some(_), Need::Own) => Err(CliError::new(
            ExitCode::Refused,
            "another process works there",
        )
        .at(format!("embedded {}", dir.display()))
        .why("one process at a time holds the state")
        .next(format!(
            "highwater --state {0} status, or another folder by --state",
            dir.display()
        ))),
        (None, Need::Read) if !dir.is_dir() => Err(CliError::new(
            ExitCode::NothingSelected,
            "there is no run",
        )
        .at(format!("embedded {}", dir.display()))
        .why("the folder does not exist")
        .next(
            "highwater run FILE, or name a cluster with --coordinator, or a folder with --state",
        )),
        (None, Need::Read | Need::Act | Need::Own) => start(place, need).await,
    }
}

async fn start(place: &Where, need: Need) -> Result<Connection, CliError> {
    let dir = &place.state;
    let (workers, with) = match (need, place.workers) {
        (Need::Read, _) => (0, "read only".to_owned()),
        (Need::Act | Need::Own, 1) => (1, "1 worker".to_owned()),
        (Need::Act | Need::Own, workers) => (workers, format!("{workers} workers")),
    };
    let programs = place.programs()?;
    let embedded = embedded::start(dir, workers, need, place.session_ttl, programs).await?;
    let banner = format!("embedded {}, {with}", dir.display());
    Ok(Connection::of_process(
        embedded,
        Destination::Embedded,
        banner,
    ))
}

/// A cluster's coordinators.
#[derive(Debug, Clone)]
pub(crate) struct Coordinators {
    dialer: Dialer,
    addresses: Vec<String>,
    token: Token,
    name: String,
}

impl Coordinators {
    fn of(urls: &str, place: &Where) -> Result<Self, CliError> {
        let wrong = |why: String| {
            CliError::new(
                ExitCode::Usage,
                format!("`{urls}` does not say where a coordinator is"),
            )
            .why(why)
            .next("--coordinator http://HOST:7070")
        };
        let tls = place
            .tls
            .clone()
            .settle()
            .map_err(|error| wrong(error.to_string()))?;
        let urls: Vec<String> = urls
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::to_owned)
            .collect();
        let (dialer, addresses) =
            Dialer::for_addresses(&urls, tls).map_err(|error| wrong(error.to_string()))?;
        if place.token.is_there() && !dialer.is_secure() {
            return Err(CliError::new(
                ExitCode::Usage,
                "a token is sent over TLS only, and this address is not https",
            )
            .at(urls.join(","))
            .next("--coordinator https://HOST:7070 with --tls-ca FILE, or leave the token out"));
        }
        place.token.check()?;
        let name = place
            .context
            .as_ref()
            .map_or_else(String::new, |name| format!("{name} "));
        Ok(Self {
            dialer,
            addresses,
            token: place.token.clone(),
            name,
        })
    }

    /// The same, to be asked in the order that begins after the first.
    fn with_the_first_last(&self) -> Self {
        let mut next = self.clone();
        next.addresses.rotate_left(1);
        next
    }

    /// The first that answers, which is the first of its addresses then; one that follows passes
    /// calls on to the leader.
    async fn dial(&self) -> Result<Connection, CliError> {
        let mut last = None;
        for (at, address) in self.addresses.iter().enumerate() {
            let banner = format!("cluster {}{}", self.name, self.dialer.url(address));
            match self.dialer.connect(address).await {
                Ok(found) if found.failure().is_some() => {
                    last = found.failure().map(|failure| failed(&failure).at(banner));
                }
                Ok(found) => {
                    let client = client(found.channel, self.token.clone());
                    let mut coordinators = self.clone();
                    coordinators.addresses.rotate_left(at);
                    return Ok(Connection {
                        client,
                        place: Destination::Remote(coordinators),
                        embedded: None,
                        banner,
                    });
                }
                Err(error) => last = Some(unreachable(&error).at(banner)),
            }
        }
        Err(last.unwrap_or_else(|| CliError::new(ExitCode::Usage, "no coordinator is named")))
    }
}

fn unreachable(error: &ConnectError) -> CliError {
    match error {
        ConnectError::Address(error) => CliError::new(ExitCode::Usage, error.to_string()),
        ConnectError::Failed {
            failure: Some(failure),
            ..
        } => failed(failure),
        ConnectError::Failed {
            failure: None,
            source,
        } => {
            let cause = std::iter::successors(Some(source as &dyn std::error::Error), |error| {
                error.source()
            })
            .last();
            CliError::new(ExitCode::Unreachable, "cannot reach the coordinator")
                .why(cause.map(ToString::to_string).unwrap_or_default())
                .next(
                    "start it, or leave --coordinator and HIGHWATER_COORDINATOR away to run in \
                       this process",
                )
        }
    }
}

fn failed(failure: &ConnectFailure) -> CliError {
    CliError::new(ExitCode::Unreachable, "cannot reach the coordinator")
        .why(failure.to_string())
        .next("mend the address (http or https), --tls-ca, or --tls-cert and --tls-key")
}

/// The live process behind a socket. A socket that nobody listens on was left by a process that was
/// killed.
async fn attach(socket: &Path) -> Result<Option<ControlClient>, CliError> {
    match UnixStream::connect(socket).await {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            return Err(CliError::from_io(
                ExitCode::Unreachable,
                "cannot reach the process there",
                socket,
                &error,
            ));
        }
    }
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is never looked up: the connector knows the way.
    let channel = patient(Endpoint::from_static("http://embedded"))
        .connect_with_connector(connector)
        .await;
    let channel = channel.map_err(|error| {
        CliError::new(ExitCode::Unreachable, "the process there does not answer")
            .at(socket.display().to_string())
            .why(error.to_string())
    })?;
    Ok(Some(client(channel, Token::None)))
}

fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_WAIT_MAX)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WAIT_MAX)
        .keep_alive_while_idle(true)
}

/// A document as it came, and as this version understands it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fetched<T> {
    /// Everything, also what a newer coordinator added.
    pub json: serde_json::Value,
    /// What this version knows of it.
    pub view: T,
}

impl<T: DeserializeOwned> TryFrom<Document> for Fetched<T> {
    type Error = CliError;

    fn try_from(document: Document) -> Result<Self, CliError> {
        let unreadable = |error: serde_json::Error| {
            CliError::new(
                ExitCode::Unexpected,
                format!("cannot read the coordinator's document {}", document.schema),
            )
            .why(error.to_string())
            .next("use the version that the coordinator has")
        };
        let json: serde_json::Value = serde_json::from_slice(&document.json).map_err(unreadable)?;
        let view = T::deserialize(&json).map_err(unreadable)?;
        Ok(Self { json, view })
    }
}
