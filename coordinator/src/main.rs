//! The `highwater-coordinator` daemon: a coordinator over etcd, on a port.

mod etcd_settings;
mod roles_settings;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use highwater_common::config::ConfigDuration;
use highwater_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use highwater_coordinator::{
    Coordinator, CoordinatorOptions, LoadError, Role, SessionOptions, control_service,
    limited_server, worker_service,
};
use highwater_net::{Dialer, ServerTls, ServerTlsArgs};
use highwater_proto::DESCRIPTORS;
use highwater_runtime::admin::{self, AdminArgs, AdminListen};
use highwater_runtime::daemon::{self, DaemonArgs, Ending};
use highwater_runtime::metrics::Metrics;
use highwater_runtime::telemetry::{Program, Telemetry};
use highwater_runtime::{ExitCode as Exit, Interrupts, with_causes};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a stopping coordinator goes on answering after it gave up the lead.
const LINGER: Duration = Duration::from_millis(500);

/// Coordinates a cluster: keeps its tasks in etcd and hands them to workers.
///
/// Several may run; one leads, the others answer with the leader's address. For every setting a
/// flag beats the environment, the environment beats the configuration file, and the file beats the
/// default.
#[derive(Debug, Parser)]
#[command(name = "highwater-coordinator", version)]
struct Args {
    /// URLs of etcd's members, with commas between them
    #[arg(
        long,
        env = "HIGHWATER_ETCD",
        value_delimiter = ',',
        value_name = "URL[,URL]"
    )]
    etcd: Option<Vec<String>>,
    /// Name of the cluster: whose records in etcd
    #[arg(long, env = "HIGHWATER_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:7070]
    #[arg(long, env = "HIGHWATER_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// Address and port that workers and other coordinators reach it by [default: the one it
    /// listens on]
    #[arg(long, env = "HIGHWATER_ADVERTISE", value_name = "ADDR")]
    advertise: Option<String>,
    /// Listen off loopback although nothing is encrypted
    #[arg(long, env = "HIGHWATER_INSECURE")]
    insecure: bool,
    /// Its certificate, and whom it lets in.
    #[command(flatten)]
    tls: ServerTlsArgs,
    /// TLS to etcd, and etcd's login.
    #[command(flatten)]
    to_etcd: etcd_settings::EtcdArgs,
    /// Run steps that hold slots and move nothing
    #[arg(long, env = "HIGHWATER_ALLOW_NOOP")]
    allow_noop: bool,
    /// Time to live of the lead [default: 5s]
    #[arg(long, env = "HIGHWATER_LEADER_TTL", value_name = "DURATION")]
    leader_ttl: Option<ConfigDuration>,
    /// Time to live of a worker's session [default: 15s]
    #[arg(long, env = "HIGHWATER_SESSION_TTL", value_name = "DURATION")]
    session_ttl: Option<ConfigDuration>,
    /// How often a worker sends a heartbeat [default: 3s]
    #[arg(long, env = "HIGHWATER_HEARTBEAT", value_name = "DURATION")]
    heartbeat: Option<ConfigDuration>,
    /// How long before the end of its session a worker ends its attempts [default: 3s]
    #[arg(long, env = "HIGHWATER_STOP_MARGIN", value_name = "DURATION")]
    stop_margin: Option<ConfigDuration>,
    /// Where health and metrics are told.
    #[command(flatten)]
    admin: AdminArgs,
    /// What it does instead of coordinating.
    #[command(subcommand)]
    command: Option<Command>,
    /// What every daemon is told.
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// What a coordinator does instead of coordinating.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Look after the store
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum StoreCommand {
    /// Read everything that the store holds, and change nothing: whether this version can lead it
    Check,
}

/// Every setting, settled.
#[derive(Debug)]
struct Settings {
    cluster: String,
    etcd: EtcdOptions,
    listen: SocketAddr,
    admin: AdminListen,
    tls: Option<ServerTls>,
    options: CoordinatorOptions,
}

fn main() -> ExitCode {
    highwater_net::install_tls_provider();
    let program = Program {
        name: "highwater-coordinator",
        version: env!("CARGO_PKG_VERSION"),
        is_command: false,
    };
    daemon::run(
        program,
        |args: &Args| &args.daemon,
        |args, telemetry| async move {
            match args.command {
                None => Box::pin(serve(settle(args)?, &telemetry)).await,
                Some(Command::Store(StoreCommand::Check)) => check_store(settle(args)?).await,
            }
        },
    )
}

/// Lays flags and environment over the file, and the file over the defaults.
fn settle(args: Args) -> Result<Settings, Ending> {
    let file = args.daemon.read_config()?.coordinator;
    let (mut tls, peers) = args
        .tls
        .settle(file.tls.clone())
        .map_err(|error| Ending::usage(with_causes(&error)))?;
    let roles = file.roles.clone();
    if let Some(roles) = &roles {
        roles_settings::check(roles, tls.as_mut())?;
        tracing::info!("roles hold");
    } else if tls
        .as_ref()
        .is_some_and(|tls| tls.client_authority.is_some())
    {
        tracing::warn!("no roles: whoever shows a certificate of the authority may do everything");
    }
    let (etcd_tls, login) = args.to_etcd.settle(&file).map_err(Ending::usage)?;
    let etcd = args.etcd.or(file.etcd).filter(|urls| !urls.is_empty());
    let etcd =
        etcd.ok_or_else(|| Ending::usage("no etcd: name its members by --etcd http://HOST:2379"))?;
    let cluster = args.cluster.or(file.cluster);
    let cluster = cluster.ok_or_else(|| Ending::usage("no cluster: name it by --cluster NAME"))?;
    if !highwater_common::id::is_name(&cluster) {
        return Err(Ending::usage(format!(
            "`{cluster}` is no name of a cluster: a lower-case letter, then a-z, 0-9 and _"
        )));
    }
    let listen = args
        .listen
        .or(file.listen)
        .unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let listen: SocketAddr = listen.parse().map_err(|error| {
        Ending::usage(format!(
            "`{listen}` is no address to listen on ({error}): write 0.0.0.0:7070"
        ))
    })?;
    let is_trusted = listen.ip().is_loopback()
        || tls.is_some()
        || args.insecure
        || file.insecure.unwrap_or(false);
    if !is_trusted {
        return Err(Ending::usage(format!(
            "{listen} is not loopback, and nothing would be encrypted: use --tls-cert and \
             --tls-key, or --insecure, which says that the network is trusted"
        )));
    }
    let advertise = args.advertise.or(file.advertise);
    if advertise.is_none() && listen.ip().is_unspecified() {
        return Err(Ending::usage(format!(
            "nobody reaches {listen} from elsewhere: --advertise HOST:{} says where workers and \
             other coordinators do",
            listen.port()
        )));
    }
    let defaults = SessionOptions::default();
    let pick = |flag: Option<ConfigDuration>, file: Option<ConfigDuration>, default: Duration| {
        flag.or(file).map_or(default, |duration| duration.0)
    };
    let sessions = SessionOptions {
        ttl: pick(args.session_ttl, file.session_ttl, defaults.ttl),
        heartbeat: pick(args.heartbeat, file.heartbeat, defaults.heartbeat),
        stop_margin: pick(args.stop_margin, file.stop_margin, defaults.stop_margin),
        pull_wait: defaults.pull_wait,
    };
    let options = CoordinatorOptions {
        address: advertise.unwrap_or_else(|| listen.to_string()),
        dialer: Dialer::new(peers),
        leader_ttl: pick(
            args.leader_ttl,
            file.leader_ttl,
            CoordinatorOptions::default().leader_ttl,
        ),
        sessions,
        allow_noop: args.allow_noop || file.allow_noop.unwrap_or(false),
        pools: file.pools.unwrap_or_default(),
        roles,
        is_exclusive: false,
    };
    let admin = args.admin.settle(file.admin_listen)?;
    let etcd = EtcdOptions {
        tls: etcd_tls,
        login,
        ..EtcdOptions::new(etcd, &cluster)
    };
    Ok(Settings {
        cluster,
        etcd,
        listen,
        admin,
        tls,
        options,
    })
}

async fn open_store(options: EtcdOptions) -> Result<EtcdStore, Ending> {
    let place = options.endpoints.join(", ");
    EtcdStore::connect(options).await.map_err(|error| {
        Ending::new(
            Exit::Unreachable,
            format!("cannot use etcd at {place}: {}", with_causes(&error)),
        )
    })
}

/// Whether this version can lead what the store holds.
async fn check_store(settings: Settings) -> Result<(), Ending> {
    let store = open_store(settings.etcd).await?;
    let found = highwater_coordinator::survey(&store).await;
    let found = found.map_err(|error| {
        let exit = match error {
            LoadError::Store(_) => Exit::Unreachable,
            LoadError::Record { .. } | LoadError::Key(_) => Exit::Refused,
        };
        Ending::new(exit, with_causes(&error))
    })?;
    for damaged in &found.damaged {
        tracing::warn!("{damaged}");
    }
    tracing::info!(cluster = settings.cluster, "the store can be led: {found}");
    Ok(())
}

async fn serve(settings: Settings, telemetry: &Telemetry) -> Result<(), Ending> {
    let store = open_store(settings.etcd).await?;
    let cannot_listen = |why: String| {
        Ending::new(
            Exit::Unexpected,
            format!("cannot serve on {}: {why}", settings.listen),
        )
    };
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|error| cannot_listen(error.to_string()))?;
    let callers = highwater_net::incoming(listener, settings.tls)
        .map_err(|error| Ending::usage(with_causes(&error)))?;
    let neighbours = store.neighbours_of_a_new_one().await.unwrap_or_default();
    if !neighbours.is_empty() {
        tracing::warn!(
            "the cluster {} is new in this etcd, which has {}; if one of those was meant, stop and \
             mend --cluster",
            settings.cluster,
            neighbours.join(", ")
        );
    }
    for warning in settings.options.warnings() {
        tracing::warn!("{warning}");
    }
    let (coordinator, handle) = Coordinator::new(Arc::new(store), settings.options)
        .map_err(|error| Ending::usage(format!("the settings contradict each other: {error}")))?;
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), telemetry)
        .map_err(|error| Ending::defect(&error))?;
    let watching = highwater_coordinator::observe(&metrics.meter(), &handle);
    tokio::pin!(watching);
    let _admin = admin::open(settings.admin, Arc::new(handle.clone()), metrics).await?;
    let stop = CancellationToken::new();
    let leading = stop.clone();
    let running = coordinator.run(leading);
    tokio::pin!(running);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .map_err(|error| {
            Ending::new(
                Exit::Unexpected,
                format!("the descriptors cannot be read: {error}"),
            )
        })?;
    let over = CancellationToken::new();
    let until = over.clone();
    let mut role = handle.role();
    let server = limited_server(&handle)
        .add_service(health)
        .add_service(reflection)
        .add_service(worker_service(handle.clone()))
        .add_service(control_service(handle))
        .serve_with_incoming_shutdown(callers, async move { until.cancelled().await });
    tokio::pin!(server);
    tracing::info!(listen = %settings.listen, "listening");
    let mut interrupts =
        Interrupts::of_process().map_err(|error| Ending::cannot("listen to signals", &error))?;
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| Ending::new(Exit::Unreachable, with_causes(&error))),
            served = &mut server => {
                let why = served.err().map_or_else(|| "it ended".to_owned(), |error| with_causes(&error));
                return Err(cannot_listen(why));
            }
            _ = role.changed() => {
                let status = match &*role.borrow() {
                    Role::Leading | Role::Following { .. } => tonic_health::ServingStatus::Serving,
                    Role::BetweenTerms | Role::OutOfSpace => tonic_health::ServingStatus::NotServing,
                };
                reporter.set_service_status("", status).await;
            }
            never = &mut watching => match never {},
            () = interrupts.next() => break,
        }
    }
    tracing::info!("stopping: giving up the lead");
    stop.cancel();
    let ended = running
        .await
        .map_err(|error| Ending::new(Exit::Unreachable, with_causes(&error)));
    // Whoever still asks hears who leads now.
    let _ = tokio::time::timeout(LINGER, &mut server).await;
    over.cancel();
    ended
}
