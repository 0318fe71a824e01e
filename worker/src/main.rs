//! The `highwater-worker` daemon: pulls tasks from a cluster and moves their rows.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use highwater_common::config::ConfigDuration;
use highwater_net::ClientTlsArgs;
use highwater_runtime::admin::{self, AdminArgs, AdminListen};
use highwater_runtime::daemon::{self, DaemonArgs, Ending, host_and_process};
use highwater_runtime::metrics::Metrics;
use highwater_runtime::telemetry::{Program, Telemetry};
use highwater_runtime::{ExitCode as Exit, Interrupts, with_causes};
use highwater_worker::{
    AllowedPrograms, ClusterCoordinator, Worker, WorkerError, WorkerMetrics, WorkerOptions, guard,
};
use tokio_util::sync::CancellationToken;

/// How long a drain waits for what runs, unless told otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(570);

/// Works for a cluster: pulls tasks, moves their rows, commits them exactly once.
///
/// SIGTERM drains: what runs comes to its end, nothing new begins. A second one ends at once; what
/// was open goes to others.
#[derive(Debug, Parser)]
#[command(name = "highwater-worker", version)]
struct Args {
    /// URLs of coordinators, with commas between them [default: http://127.0.0.1:7070]
    #[arg(
        long,
        env = "HIGHWATER_COORDINATOR",
        value_delimiter = ',',
        value_name = "URL[,URL]"
    )]
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
    #[arg(
        long,
        env = "HIGHWATER_LABELS",
        value_delimiter = ',',
        value_name = "KEY=VALUE"
    )]
    labels: Option<Vec<String>>,
    /// Hold tasks of steps that move nothing
    #[arg(long, env = "HIGHWATER_ALLOW_NOOP")]
    allow_noop: bool,
    /// A program that steps may run, or a folder of such; may be given several times
    #[arg(
        long,
        env = "HIGHWATER_ALLOW_EXEC",
        value_delimiter = ':',
        value_name = "PATH"
    )]
    allow_exec: Option<Vec<PathBuf>>,
    /// How long a drain waits for what runs [default: 9m30s]
    #[arg(long, env = "HIGHWATER_DRAIN_TIMEOUT", value_name = "DURATION")]
    drain_timeout: Option<ConfigDuration>,
    /// Where health and metrics are told.
    #[command(flatten)]
    admin: AdminArgs,
    /// What every daemon is told.
    #[command(flatten)]
    daemon: DaemonArgs,
}

/// Every setting, settled.
struct Settings {
    coordinator: ClusterCoordinator,
    options: WorkerOptions,
    drain_timeout: Duration,
    admin: AdminListen,
}

fn main() -> ExitCode {
    if let Some(ended) = guard::of_arguments() {
        return ended;
    }
    highwater_net::install_tls_provider();
    let program = Program {
        name: "highwater-worker",
        version: env!("CARGO_PKG_VERSION"),
        is_command: false,
    };
    daemon::run(
        program,
        |args: &Args| &args.daemon,
        |args, telemetry| async move { work(settle(args)?, &telemetry).await },
    )
}

/// Lays flags and environment over the file, and the file over the defaults.
fn settle(args: Args) -> Result<Settings, Ending> {
    let file = args.daemon.read_config()?.worker;
    let urls = args
        .coordinator
        .or(file.coordinator)
        .filter(|urls| !urls.is_empty());
    let urls = urls.unwrap_or_else(|| vec!["http://127.0.0.1:7070".to_owned()]);
    let tls = args
        .tls
        .over(file.tls)
        .settle_and_read()
        .map_err(|error| Ending::usage(with_causes(&error)))?;
    let coordinator = ClusterCoordinator::new(&urls, tls).map_err(|error| {
        Ending::usage(format!(
            "{error}: name a coordinator by --coordinator http://HOST:7070"
        ))
    })?;
    let is_trusted = coordinator.is_secure() || args.insecure || file.insecure.unwrap_or(false);
    if let Some(url) = urls.iter().find(|url| !is_trusted && !is_loopback(url)) {
        return Err(Ending::usage(format!(
            "{url} is not loopback, and nothing would be encrypted: use https and --tls-ca FILE, \
             or --insecure, which says that the network is trusted"
        )));
    }
    let id = args.id.or(file.id).unwrap_or_else(host_and_process);
    let id = id
        .parse()
        .map_err(|error| Ending::usage(format!("--id: {error}")))?;
    let labels = match args.labels {
        Some(labels) => labels
            .iter()
            .map(|label| read_label(label))
            .collect::<Result<_, _>>()?,
        None => file.labels.unwrap_or_default(),
    };
    let slots = args.slots.or(file.slots).unwrap_or(4);
    if slots == 0 {
        return Err(Ending::usage(
            "a worker of 0 slots does nothing: --slots 1 is the least",
        ));
    }
    let allow_noop = args.allow_noop || file.allow_noop.unwrap_or(false);
    let allowed = args.allow_exec.or(file.allow_exec).unwrap_or_default();
    let programs = AllowedPrograms::new(&allowed)
        .map_err(|error| Ending::usage(format!("--allow-exec {error}")))?;
    let drain_timeout = args
        .drain_timeout
        .or(file.drain_timeout)
        .map_or(DRAIN_TIMEOUT, |timeout| timeout.0);
    let admin = args.admin.settle(file.admin_listen)?;
    Ok(Settings {
        admin,
        coordinator,
        options: WorkerOptions {
            id,
            slots,
            labels,
            allow_noop,
            programs,
        },
        drain_timeout,
    })
}

/// Whether an address stays on this host.
fn is_loopback(url: &str) -> bool {
    let address = url
        .rsplit("://")
        .next()
        .unwrap_or(url)
        .trim_end_matches('/');
    let host = address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn read_label(label: &str) -> Result<(String, String), Ending> {
    label
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| Ending::usage(format!("`{label}` is no label: write KEY=VALUE")))
}

async fn work(settings: Settings, telemetry: &Telemetry) -> Result<(), Ending> {
    let mut interrupts =
        Interrupts::of_process().map_err(|error| Ending::cannot("listen to signals", &error))?;
    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    tracing::info!(worker = %settings.options.id, slots = settings.options.slots, "working");
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), telemetry)
        .map_err(|error| Ending::defect(&error))?;
    let worker = Worker::new(settings.options, Arc::new(settings.coordinator))
        .counted_by(WorkerMetrics::new(&metrics.meter()));
    let _admin = admin::open(settings.admin, Arc::new(worker.has_session()), metrics).await?;
    let running = worker.run(drain.clone(), stop.clone());
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = interrupts.next() => {
            tracing::info!("draining: what runs comes to its end, nothing new begins");
            drain.cancel();
            tokio::select! {
                ended = &mut running => ended,
                () = tokio::time::sleep(settings.drain_timeout) => { stop.cancel(); running.await }
                () = interrupts.next() => { stop.cancel(); running.await }
            }
        }
    };
    ended.map_err(|error| {
        let exit = match error {
            WorkerError::Refused { .. } => Exit::Refused,
            WorkerError::Distrust { .. } => Exit::Unreachable,
        };
        Ending::new(exit, with_causes(&error))
    })
}
