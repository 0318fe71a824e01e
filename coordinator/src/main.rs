//! The `highwater-coordinator` daemon: a coordinator over etcd, on a port.

mod etcd_settings;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use highwater_common::config::{self, ConfigDuration, CoordinatorConfig};
use highwater_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use highwater_coordinator::{
    Coordinator, CoordinatorOptions, Role, SessionOptions, control_service, limited_server, worker_service,
};
use highwater_net::{Dialer, ServerTls, ServerTlsArgs};
use highwater_proto::DESCRIPTORS;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the process ends with when its arguments or its file are wrong.
const USAGE: u8 = 2;
/// What it ends with when etcd cannot be reached or refuses.
const UNREACHABLE: u8 = 5;
/// The file that is read when none is named.
const DEFAULT_CONFIG: &str = "highwater.config.yaml";
/// How long a stopping coordinator goes on answering after it gave up the lead.
const LINGER: Duration = Duration::from_millis(500);

/// Coordinates a cluster: keeps its tasks in etcd and hands them to workers.
///
/// Several may run; one leads, the others answer with the leader's address. For every setting a flag beats the environment,
/// the environment beats the configuration file, and the file beats the default.
#[derive(Debug, Parser)]
#[command(name = "highwater-coordinator", version)]
struct Args {
    /// URLs of etcd's members, with commas between them
    #[arg(long, env = "HIGHWATER_ETCD", value_delimiter = ',', value_name = "URL[,URL]")]
    etcd: Option<Vec<String>>,
    /// Name of the cluster: whose records in etcd
    #[arg(long, env = "HIGHWATER_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,
    /// Address and port to listen on [default: 127.0.0.1:7070]
    #[arg(long, env = "HIGHWATER_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// Address and port that workers and other coordinators reach it by [default: the one it listens on]
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
    /// The configuration file [default: highwater.config.yaml, if there is one]
    #[arg(long, env = "HIGHWATER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged: error, warn, info, debug
    #[arg(long, env = "HIGHWATER_LOG", default_value = "info", value_name = "LEVEL")]
    log: String,
}

/// Why the daemon ends.
#[derive(Debug)]
struct Ending {
    code: u8,
    message: String,
}

impl Ending {
    fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }
}

/// Every setting, settled.
#[derive(Debug)]
struct Settings {
    cluster: String,
    etcd: EtcdOptions,
    listen: SocketAddr,
    tls: Option<ServerTls>,
    options: CoordinatorOptions,
}

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::new(format!("{},h2=warn,hyper=warn,tonic=warn", args.log));
    let is_terminal = std::io::stderr().is_terminal(); // a file or a pipe gets no escape codes
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal).init();
    let ended = settle(args).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Ending { code: 1, message: format!("cannot start: {error}") })?;
        runtime.block_on(serve(settings))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            tracing::error!("{}", ending.message);
            ExitCode::from(ending.code)
        }
    }
}

/// Lays flags and environment over the file, and the file over the defaults.
fn settle(args: Args) -> Result<Settings, Ending> {
    let file = read_file(args.config)?;
    let (tls, peers) = args.tls.settle(file.tls.clone()).map_err(|error| Ending::usage(chain(&error)))?;
    let (etcd_tls, login) = args.to_etcd.settle(&file).map_err(Ending::usage)?;
    let etcd = args.etcd.or(file.etcd).filter(|urls| !urls.is_empty());
    let etcd = etcd.ok_or_else(|| Ending::usage("no etcd: name its members by --etcd http://HOST:2379"))?;
    let cluster = args.cluster.or(file.cluster);
    let cluster = cluster.ok_or_else(|| Ending::usage("no cluster: name it by --cluster NAME"))?;
    if !highwater_common::id::is_name(&cluster) {
        return Err(Ending::usage(format!(
            "`{cluster}` is no name of a cluster: a lower-case letter, then a-z, 0-9 and _"
        )));
    }
    let listen = args.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let listen: SocketAddr = listen.parse().map_err(|error| {
        Ending::usage(format!("`{listen}` is no address to listen on ({error}): write 0.0.0.0:7070"))
    })?;
    let is_trusted = listen.ip().is_loopback() || tls.is_some() || args.insecure || file.insecure.unwrap_or(false);
    if !is_trusted {
        return Err(Ending::usage(format!(
            "{listen} is not loopback, and nothing would be encrypted: use --tls-cert and --tls-key, or --insecure, which says \
             that the network is trusted"
        )));
    }
    let advertise = args.advertise.or(file.advertise);
    if advertise.is_none() && listen.ip().is_unspecified() {
        return Err(Ending::usage(format!(
            "nobody reaches {listen} from elsewhere: --advertise HOST:{} says where workers and other coordinators do",
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
        leader_ttl: pick(args.leader_ttl, file.leader_ttl, CoordinatorOptions::default().leader_ttl),
        sessions,
        allow_noop: args.allow_noop || file.allow_noop.unwrap_or(false),
        pools: file.pools.unwrap_or_default(),
        is_exclusive: false,
    };
    let etcd = EtcdOptions { tls: etcd_tls, login, ..EtcdOptions::new(etcd, &cluster) };
    Ok(Settings { cluster, etcd, listen, tls, options })
}

fn read_file(named: Option<PathBuf>) -> Result<CoordinatorConfig, Ending> {
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    match std::fs::read_to_string(&path) {
        Ok(text) => config::parse(&text)
            .map(|file| file.coordinator)
            .map_err(|error| Ending::usage(format!("{}: {error}", path.display()))),
        Err(error) if !is_named && error.kind() == std::io::ErrorKind::NotFound => Ok(CoordinatorConfig::default()),
        Err(error) => Err(Ending::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

async fn serve(settings: Settings) -> Result<(), Ending> {
    let place = settings.etcd.endpoints.join(", ");
    let store = EtcdStore::connect(settings.etcd).await.map_err(|error| Ending {
        code: UNREACHABLE,
        message: format!("cannot use etcd at {place}: {}", chain(&error)),
    })?;
    let cannot_listen =
        |why: String| Ending { code: 1, message: format!("cannot serve on {}: {why}", settings.listen) };
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| cannot_listen(error.to_string()))?;
    let callers = highwater_net::incoming(listener, settings.tls).map_err(|error| Ending::usage(chain(&error)))?;
    let neighbours = store.neighbours_of_a_new_one().await.unwrap_or_default();
    if !neighbours.is_empty() {
        tracing::warn!(
            "the cluster {} is new in this etcd, which has {}; if one of those was meant, stop and mend --cluster",
            settings.cluster,
            neighbours.join(", ")
        );
    }
    for warning in settings.options.warnings() {
        tracing::warn!("{warning}");
    }
    let (coordinator, handle) = Coordinator::new(Arc::new(store), settings.options)
        .map_err(|error| Ending::usage(format!("the settings contradict each other: {error}")))?;
    let stop = CancellationToken::new();
    let leading = stop.clone();
    let running = coordinator.run(leading);
    tokio::pin!(running);
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .map_err(|error| Ending { code: 1, message: format!("the descriptors cannot be read: {error}") })?;
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
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| Ending { code: 1, message: format!("cannot listen to signals: {error}") })?;
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| Ending { code: UNREACHABLE, message: chain(&error) }),
            served = &mut server => {
                let why = served.err().map_or_else(|| "it ended".to_owned(), |error| chain(&error));
                return Err(cannot_listen(why));
            }
            _ = role.changed() => {
                let status = match &*role.borrow() {
                    Role::Leading | Role::Following { .. } => tonic_health::ServingStatus::Serving,
                    Role::BetweenTerms | Role::OutOfSpace => tonic_health::ServingStatus::NotServing,
                };
                reporter.set_service_status("", status).await;
            }
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    tracing::info!("stopping: giving up the lead");
    stop.cancel();
    let ended = running.await.map_err(|error| Ending { code: UNREACHABLE, message: chain(&error) });
    // Whoever still asks hears who leads now.
    let _ = tokio::time::timeout(LINGER, &mut server).await;
    over.cancel();
    ended
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
