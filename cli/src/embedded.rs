//! Coordinator and workers in this process, over a folder: the same services and the same protocol
//! as on a cluster, on streams in memory and a store in one file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_common::document::AdoptedDocument;
use highwater_common::id::ConnectionName;
use highwater_common::spec::{self, Spec};
use highwater_coordinator::store::StoreError;
use highwater_coordinator::store::sqlite::SqliteStore;
use highwater_coordinator::{
    Coordinator, CoordinatorError, CoordinatorHandle, CoordinatorOptions, SessionOptions,
    cluster_id, control_service, worker_service,
};
use highwater_net::trace::ServeTraced;
use highwater_runtime::{CancelledBy, SpawnKind, with_causes};
use highwater_worker::connector::open_target;
use highwater_worker::supervisor::Supervisor;
use highwater_worker::{AllowedPrograms, GrpcCoordinator, Worker, WorkerOptions};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::control::{CONTROL_SOCKET, ControlClient, Need, client as control_client};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file::PipelineFile;
use crate::token::Token;

/// The store, within the folder.
const STORE: &str = "store.db";
/// Bytes that a stream in memory holds.
const STREAM_BYTES: usize = 256 * 1024;
/// Connections in memory that wait to be accepted.
const STREAMS_MAX: usize = 16;

/// The one loop that the command spawns: coordinator and workers of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EmbeddedLoop;

impl SpawnKind for EmbeddedLoop {
    /// By the tokens that [`Embedded`] holds.
    fn cancelled_by(self) -> CancelledBy {
        CancelledBy::Owner
    }
}

/// A coordinator and workers that run in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// Reaches the coordinator.
    pub client: ControlClient,
    /// Cancelled to drain: attempts come to their next stop, nothing new begins, then everything
    /// ends.
    pub drain: CancellationToken,
    /// Cancelled to stop at once. What is open stays open, and the next process takes it up.
    pub stop: CancellationToken,
    /// Answers once everything has ended, and with an error when it ended by itself.
    pub ended: oneshot::Receiver<Result<(), CliError>>,
}

/// Starts what `need` asks for over the folder `dir`.
///
/// # Errors
/// Code 6 when another process holds the folder.
pub(crate) async fn start(
    dir: &Path,
    workers: u32,
    need: Need,
    session_ttl: Option<Duration>,
    programs: AllowedPrograms,
) -> Result<Embedded, CliError> {
    let store = open_store(dir, need).await?;
    let sessions = session_ttl.map_or_else(SessionOptions::default, SessionOptions::of_ttl);
    let options = CoordinatorOptions {
        is_exclusive: true,
        sessions,
        ..CoordinatorOptions::default()
    };
    let (coordinator, handle) = Coordinator::new(Arc::<SqliteStore>::clone(&store), options)
        .map_err(|error| from_coordinator(dir, &error))?;
    let (dialler, incoming) = mpsc::channel(STREAMS_MAX);
    let client = control_client(channel(dialler.clone()), Token::None);
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let (tell, ended) = oneshot::channel();
    let parts = Parts {
        dir: dir.to_owned(),
        store,
        coordinator,
        handle,
        incoming,
        workers: (1..=workers)
            .map(|no| worker(no, programs.clone(), dialler.clone()))
            .collect::<Result<_, _>>()?,
        socket: match need {
            Need::Read => None,
            Need::Act | Need::Own => Some(listen(dir)?),
        },
        is_observer: need == Need::Read,
        drain: drain.clone(),
        stop: stop.clone(),
    };
    let supervisor = highwater_runtime::Supervisor::default();
    supervisor.spawn(EmbeddedLoop, async move {
        let _ = tell.send(parts.run().await);
    });
    Ok(Embedded {
        client,
        drain,
        stop,
        ended,
    })
}

/// Takes over the targets of a pipeline for the cluster of the folder `dir`, and tells what it
/// took.
///
/// # Errors
/// When a target cannot be reached, or is held by a live process.
pub(crate) async fn adopt(
    dir: &Path,
    pipeline: &PipelineFile,
) -> Result<BTreeMap<ConnectionName, AdoptedDocument>, CliError> {
    let failed = |what: String, why: String| CliError::new(ExitCode::Refused, what).why(why);
    let store = open_store(dir, Need::Own).await?;
    let cluster = cluster_id(store.as_ref())
        .await
        .map_err(|error| from_coordinator(dir, &error))?;
    let spec: Spec = spec::from_canonical(&pipeline.spec).map_err(|_| {
        failed(
            format!("the spec of {} cannot be read back", pipeline.name),
            "this is a defect of Highwater".to_owned(),
        )
    })?;
    let supervisor = Supervisor::default();
    let mut taken = BTreeMap::new();
    for step in spec.steps.values() {
        let Some(to) = step.strategy.load().sides().target else {
            continue;
        };
        let name = &to.connection;
        let Some(connection) = spec
            .connections
            .get(name)
            .filter(|_| !taken.contains_key(name))
        else {
            continue;
        };
        let cannot = |why: String| failed(format!("cannot take over the target {name}"), why);
        let target = open_target(
            connection,
            name,
            &pipeline.base_dir,
            "of this process",
            &supervisor,
            None,
        )
        .map_err(|error| cannot(error.message))?;
        let former = target
            .adopt(&cluster)
            .await
            .map_err(|error| cannot(error.report.message))?;
        taken.insert(name.clone(), AdoptedDocument { cluster, former });
    }
    Ok(taken)
}

async fn open_store(dir: &Path, need: Need) -> Result<Arc<SqliteStore>, CliError> {
    let path = dir.join(STORE);
    if need == Need::Read {
        let store = SqliteStore::open_read_only(&path)
            .await
            .map_err(|error| from_store(dir, &error))?;
        return Ok(Arc::new(store));
    }
    std::fs::create_dir_all(dir).map_err(|error| {
        CliError::from_io(
            ExitCode::Unexpected,
            "cannot make the folder of the state",
            dir,
            &error,
        )
    })?;
    let store = SqliteStore::open(&path)
        .await
        .map_err(|error| from_store(dir, &error))?;
    Ok(Arc::new(store))
}

/// Everything that runs in this process, before it does.
struct Parts {
    dir: PathBuf,
    store: Arc<SqliteStore>,
    coordinator: Coordinator,
    handle: CoordinatorHandle,
    incoming: mpsc::Receiver<DuplexStream>,
    workers: Vec<Worker>,
    socket: Option<UnixListener>,
    is_observer: bool,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Parts {
    /// Runs until drained or stopped: the workers end first, then who commands them.
    async fn run(self) -> Result<(), CliError> {
        let Self {
            dir,
            store,
            coordinator,
            handle,
            incoming,
            workers,
            socket,
            is_observer,
            drain,
            stop,
        } = self;
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let mut servers = JoinSet::new();
        let in_memory = Server::builder()
            .layer(ServeTraced)
            .add_service(worker_service(handle.clone()))
            .add_service(control_service(handle.clone()));
        let streams = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
        let until = over.clone();
        servers.spawn(async move {
            tokio::select! {
                _ = in_memory.serve_with_incoming(streams) => {}
                () = until.cancelled_owned() => {}
            }
        });
        if let Some(socket) = socket {
            let control = Server::builder()
                .layer(ServeTraced)
                .add_service(control_service(handle));
            let until = over.clone();
            servers.spawn(async move {
                tokio::select! {
                    _ = control.serve_with_incoming(UnixListenerStream::new(socket)) => {}
                    () = until.cancelled_owned() => {}
                }
            });
        }
        let leading = over.clone();
        let mut commanding = JoinSet::new();
        commanding.spawn(async move {
            if is_observer {
                coordinator.observe(leading).await
            } else {
                coordinator.run(leading).await
            }
        });
        let mut working = JoinSet::new();
        for worker in workers {
            let (drain, stop) = (drain.clone(), stop.clone());
            working.spawn(worker.run(drain, stop));
        }
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ended = commanding.join_next() => match ended {
                Some(Ok(Err(error))) => Err(from_coordinator(&dir, &error)),
                Some(Ok(Ok(())) | Err(_)) | None => Ok(()),
            },
            () = async { drain.cancelled().await; while working.join_next().await.is_some() {} } => Ok(()),
        };
        over.cancel();
        while commanding.join_next().await.is_some() {}
        // The next process replaces what is left of it. Who only looked never listened: the socket is
        // that of a process which has begun meanwhile.
        if !is_observer {
            std::fs::remove_file(dir.join(CONTROL_SOCKET)).ok();
        }
        // A stream that is still open holds the store, too; the folder is free all the same.
        store.close().await.ok();
        ended
    }
}

/// A channel whose connections are streams in memory.
fn channel(dialler: mpsc::Sender<DuplexStream>) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let dialler = dialler.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
            dialler
                .send(theirs)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(ours))
        }
    });
    Endpoint::from_static("http://embedded").connect_with_connector_lazy(connector)
}

fn worker(
    no: u32,
    programs: AllowedPrograms,
    dialler: mpsc::Sender<DuplexStream>,
) -> Result<Worker, CliError> {
    let id = format!("embedded-{no}").parse().map_err(|error| {
        CliError::new(ExitCode::Unexpected, "cannot name a worker").why(format!("{error}"))
    })?;
    let options = WorkerOptions {
        id,
        slots: 1,
        labels: Default::default(),
        allow_noop: false,
        programs,
    };
    Ok(Worker::new(
        options,
        Arc::new(GrpcCoordinator::new(channel(dialler))),
    ))
}

fn listen(dir: &Path) -> Result<UnixListener, CliError> {
    let path = dir.join(CONTROL_SOCKET);
    // left by a process that was killed: the store's lock says that none is alive
    std::fs::remove_file(&path).ok();
    UnixListener::bind(&path).map_err(|error| {
        CliError::from_io(
            ExitCode::Unexpected,
            "cannot listen for other commands",
            &path,
            &error,
        )
    })
}

fn from_store(dir: &Path, error: &StoreError) -> CliError {
    let place = format!("embedded {}", dir.display());
    match error {
        StoreError::HeldElsewhere { .. } => {
            CliError::new(ExitCode::Refused, "another process works there")
                .at(place)
                .why("one process at a time holds the state")
                .next(format!(
                    "highwater --state {} status, or another folder by --state",
                    dir.display()
                ))
        }
        StoreError::Unreachable { .. } => {
            CliError::new(ExitCode::NothingSelected, "there is no run")
                .at(place)
                .why(with_causes(error))
                .next("highwater run FILE, or name a folder with --state")
        }
        StoreError::Rejected { .. } | StoreError::Full { .. } | StoreError::Malformed { .. } => {
            CliError::new(ExitCode::Unexpected, "cannot use the state")
                .at(place)
                .why(with_causes(error))
        }
    }
}

fn from_coordinator(dir: &Path, error: &CoordinatorError) -> CliError {
    if let CoordinatorError::Store(error) = error {
        return from_store(dir, error);
    }
    CliError::new(ExitCode::Unexpected, "cannot use the state")
        .at(format!("embedded {}", dir.display()))
        .why(with_causes(error))
}
