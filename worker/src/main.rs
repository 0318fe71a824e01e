//! The `highwater-worker` daemon: pulls tasks from a cluster and moves their rows.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use highwater_common::config::{self, ConfigDuration, WorkerConfig};
use highwater_net::ClientTlsArgs;
use highwater_worker::{ClusterCoordinator, Worker, WorkerError, WorkerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the process ends with when its arguments or its file are wrong.
const USAGE: u8 = 2;
/// What it ends with when it and the coordinators do not trust each other.
const UNREACHABLE: u8 = 5;
/// What it ends with when the coordinator will not have it.
const REFUSED: u8 = 6;
/// The file that is read when none is named.
const DEFAULT_CONFIG: &str = "highwater.config.yaml";
/// How long a drain waits for what runs, unless told otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(570);

/// Works for a cluster: pulls tasks, moves their rows, commits them exactly once.
///
/// SIGTERM drains: what runs comes to its end, nothing new begins. A second one ends at once; what was open goes to others.
#[derive(Debug, Parser)]
#[command(name = "highwater-worker", version)]
struct Args {
    /// URLs of coordinators, with commas between them [default: http://127.0.0.1:7070]
    #[arg(long, env = "HIGHWATER_COORDINATOR", value_delimiter = ',', value_name = "URL[,URL]")]
    coordinator: Option<Vec<String>>,
    /// Speak to coordinators off loopback although nothing is encrypted
    #[arg(long, env = "HIGHWATER_INSECURE")]
    insecure: bool,
    /// Whom it trusts among coordinators, and who it is to them.
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// What it calls itself; unique in the cluster [default: host name and process number]
    #[arg(long, env = "HIGHWATER_WORKER_ID", value_name = "ID")]
    id: Option<String>,
    /// Tasks at once [default: 4]
    #[arg(long, env = "HIGHWATER_SLOTS", value_name = "N")]
    slots: Option<u32>,
    /// What it says of itself, with commas between: disk=fast,zone=a
    #[arg(long, env = "HIGHWATER_LABELS", value_delimiter = ',', value_name = "KEY=VALUE")]
    labels: Option<Vec<String>>,
    /// Hold tasks of steps that move nothing
    #[arg(long, env = "HIGHWATER_ALLOW_NOOP")]
    allow_noop: bool,
    /// How long a drain waits for what runs [default: 9m30s]
    #[arg(long, env = "HIGHWATER_DRAIN_TIMEOUT", value_name = "DURATION")]
    drain_timeout: Option<ConfigDuration>,
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
struct Settings {
    coordinator: ClusterCoordinator,
    options: WorkerOptions,
    drain_timeout: Duration,
}

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::new(format!("{},h2=warn,hyper=warn,tonic=warn", args.log));
    let is_terminal = std::io::stderr().is_terminal(); // a file or a pipe gets no escape codes
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime
        .map_err(|error| Ending { code: 1, message: format!("cannot start: {error}") })
        .and_then(|runtime| runtime.block_on(async { work(settle(args)?).await }));
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
    let urls = args.coordinator.or(file.coordinator).filter(|urls| !urls.is_empty());
    let urls = urls.unwrap_or_else(|| vec!["http://127.0.0.1:7070".to_owned()]);
    let tls = args.tls.over(file.tls).settle_and_read().map_err(|error| Ending::usage(chain(&error)))?;
    let coordinator = ClusterCoordinator::new(&urls, tls)
        .map_err(|error| Ending::usage(format!("{error}: name a coordinator by --coordinator http://HOST:7070")))?;
    let is_trusted = coordinator.is_secure() || args.insecure || file.insecure.unwrap_or(false);
    if let Some(url) = urls.iter().find(|url| !is_trusted && !is_loopback(url)) {
        return Err(Ending::usage(format!(
            "{url} is not loopback, and nothing would be encrypted: use https and --tls-ca FILE, or --insecure, which says that \
             the network is trusted"
        )));
    }
    let id = args.id.or(file.id).unwrap_or_else(own_name);
    let id = id.parse().map_err(|error| Ending::usage(format!("--id: {error}")))?;
    let labels = match args.labels {
        Some(labels) => labels.iter().map(|label| read_label(label)).collect::<Result<_, _>>()?,
        None => file.labels.unwrap_or_default(),
    };
    let slots = args.slots.or(file.slots).unwrap_or(4);
    if slots == 0 {
        return Err(Ending::usage("a worker of 0 slots does nothing: --slots 1 is the least"));
    }
    let allow_noop = args.allow_noop || file.allow_noop.unwrap_or(false);
    let drain_timeout = args.drain_timeout.or(file.drain_timeout).map_or(DRAIN_TIMEOUT, |timeout| timeout.0);
    Ok(Settings { coordinator, options: WorkerOptions { id, slots, labels, allow_noop }, drain_timeout })
}

/// Whether an address stays on this host.
fn is_loopback(url: &str) -> bool {
    let address = url.rsplit("://").next().unwrap_or(url).trim_end_matches('/');
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn read_label(label: &str) -> Result<(String, String), Ending> {
    label
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| Ending::usage(format!("`{label}` is no label: write KEY=VALUE")))
}

/// The host's name and the process's number: unique, and told to people.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')).collect();
    let host = if host.is_empty() { "worker".to_owned() } else { host };
    format!("{host}.{}", std::process::id())
}

fn read_file(named: Option<PathBuf>) -> Result<WorkerConfig, Ending> {
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
    match std::fs::read_to_string(&path) {
        Ok(text) => config::parse(&text)
            .map(|file| file.worker)
            .map_err(|error| Ending::usage(format!("{}: {error}", path.display()))),
        Err(error) if !is_named && error.kind() == std::io::ErrorKind::NotFound => Ok(WorkerConfig::default()),
        Err(error) => Err(Ending::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

async fn work(settings: Settings) -> Result<(), Ending> {
    let cannot = |error: std::io::Error| Ending { code: 1, message: format!("cannot listen to signals: {error}") };
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    tracing::info!(worker = %settings.options.id, slots = settings.options.slots, "working");
    let running = Worker::new(settings.options, Arc::new(settings.coordinator)).run(drain.clone(), stop.clone());
    tokio::pin!(running);
    let asked = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = asked => {
            tracing::info!("draining: what runs comes to its end, nothing new begins");
            drain.cancel();
            tokio::select! {
                ended = &mut running => ended,
                () = tokio::time::sleep(settings.drain_timeout) => { stop.cancel(); running.await }
                _ = terminate.recv() => { stop.cancel(); running.await }
                _ = interrupt.recv() => { stop.cancel(); running.await }
            }
        }
    };
    ended.map_err(|error| {
        let code = match error {
            WorkerError::Refused { .. } => REFUSED,
            WorkerError::Distrust { .. } => UNREACHABLE,
        };
        Ending { code, message: chain(&error) }
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
