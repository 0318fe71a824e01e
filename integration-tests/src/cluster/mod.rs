//! A whole cluster for a test: etcd, a source and a target PostgreSQL, coordinators and workers as child processes.
//!
//! Each worker connects to the target as a user of its own, so that the target tells whose rows it holds. What happened is asked
//! from outside: of the command, and of the databases themselves.

mod daemon;
mod looks;
mod orders;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

pub use daemon::Daemon;
use daemon::Program;
pub use looks::Ledger;
pub use orders::Orders;

use crate::etcd::Etcd;
use crate::folders::{free_port, scratch_folder};
use crate::postgres::Postgres;
use crate::wait::until;

/// How long a daemon may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How a cluster is set.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// How many coordinators are started.
    pub coordinators: usize,
    /// Time to live of a worker's session.
    pub session_ttl: Duration,
    /// How often a worker sends a heartbeat.
    pub heartbeat: Duration,
    /// How long before the end of its session a worker ends its attempts.
    pub stop_margin: Duration,
    /// Time to live of the lead.
    pub leader_ttl: Duration,
    /// Whether an endpoint that nobody listens on stands before the real one.
    pub dead_endpoint: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            coordinators: 1,
            session_ttl: Duration::from_secs(3),
            heartbeat: Duration::from_millis(400),
            stop_margin: Duration::from_secs(1),
            leader_ttl: Duration::from_secs(2),
            dead_endpoint: false,
        }
    }
}

/// A cluster with its databases. Dropping it ends everything.
#[derive(Debug)]
pub struct Cluster {
    /// Where it keeps its records.
    pub etcd: Etcd,
    /// Where rows come from.
    pub source: Postgres,
    /// Where rows go to.
    pub target: Postgres,
    options: ClusterOptions,
    addresses: Vec<String>,
    coordinators: Vec<Daemon>,
    workers: BTreeMap<String, Daemon>,
    folder: TempDir,
}

impl Cluster {
    /// Starts servers and coordinators, and waits until one of these leads. There is no worker yet.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let (etcd, source, target) = tokio::try_join!(Etcd::start(), Postgres::start(), Postgres::start())?;
        let folder = scratch_folder("cluster")?;
        let (addresses, coordinators, workers) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut cluster = Self { etcd, source, target, options, addresses, coordinators, workers, folder };
        for _ in 0..cluster.options.coordinators {
            cluster.add_coordinator("test").await?;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Starts one more coordinator, of the cluster of this name in the same etcd, and waits until it listens. Returns its number.
    ///
    /// # Errors
    /// It does not start.
    pub async fn add_coordinator(&mut self, cluster: &str) -> Result<usize> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut etcd = self.etcd.endpoint();
        if self.options.dead_endpoint {
            etcd = format!("http://127.0.0.1:{},{etcd}", free_port()?);
        }
        let mut daemon = Daemon::new(Program::Coordinator);
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        daemon.args(["--etcd", &etcd, "--cluster", cluster, "--listen", &address, "--allow-noop"]);
        daemon.args(["--session-ttl", &millis(self.options.session_ttl)]);
        daemon.args(["--heartbeat", &millis(self.options.heartbeat)]);
        daemon.args(["--stop-margin", &millis(self.options.stop_margin)]);
        daemon.args(["--leader-ttl", &millis(self.options.leader_ttl)]);
        daemon.start().await?;
        daemon.until_logged("listening", READY_LIMIT).await?;
        self.coordinators.push(daemon);
        self.addresses.push(address);
        Ok(self.coordinators.len() - 1)
    }

    /// Where coordinator `no` listens.
    #[must_use]
    pub fn address(&self, no: usize) -> &str {
        &self.addresses[no]
    }

    /// Coordinator `no`, counted from 0.
    pub fn coordinator(&mut self, no: usize) -> &mut Daemon {
        &mut self.coordinators[no]
    }

    /// Starts a coordinator that has ended, at its old address, and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart_coordinator(&mut self, no: usize) -> Result<()> {
        let daemon = &mut self.coordinators[no];
        daemon.start().await?;
        daemon.until_logged("listening", READY_LIMIT).await
    }

    /// Starts a worker of this name that knows every coordinator, and waits until it is registered.
    ///
    /// # Errors
    /// It does not start.
    pub async fn add_worker(&mut self, id: &str, slots: u32, failpoints: &str) -> Result<()> {
        let daemon = self.prepare_worker(id, slots, &self.addresses.clone().join(",")).await?;
        if !failpoints.is_empty() {
            daemon.env("FAILPOINTS", failpoints);
        }
        daemon.start().await?;
        self.until_worker(id, "ready", READY_LIMIT).await
    }

    /// A worker, not yet started, that connects to the target as a user of its own name and knows these coordinators.
    ///
    /// # Errors
    /// The target does not take the user.
    pub async fn prepare_worker(&mut self, id: &str, slots: u32, coordinators: &str) -> Result<&mut Daemon> {
        let mut conn = self.target.connect("postgres").await?;
        // A superuser, as a worker of another name has to end its sessions.
        let create = AssertSqlSafe(format!("create role {id} login superuser"));
        sqlx::raw_sql(create).execute(&mut conn).await.with_context(|| format!("make the user {id}"))?;
        let target = self.target.url("postgres").replace("postgres@", &format!("{id}@"));
        let mut daemon = Daemon::new(Program::Worker);
        daemon.args(["--coordinator", coordinators, "--id", id, "--slots", &slots.to_string(), "--allow-noop"]);
        daemon.env("SOURCE_URL", &self.source.url("postgres")).env("TARGET_URL", &target);
        Ok(self.workers.entry(id.to_owned()).insert_entry(daemon).into_mut())
    }

    /// The worker of this name.
    ///
    /// # Panics
    /// There is none.
    pub fn worker(&mut self, id: &str) -> &mut Daemon {
        self.workers.get_mut(id).unwrap_or_else(|| panic!("there is no worker {id}"))
    }

    /// Which coordinator leads, as soon as one does.
    ///
    /// # Errors
    /// None leads in time.
    pub async fn leader(&mut self) -> Result<usize> {
        self.next_leader(&[]).await
    }

    /// Which coordinator leads, as soon as one does that is not among `former`.
    ///
    /// # Errors
    /// None leads in time.
    pub async fn next_leader(&mut self, former: &[usize]) -> Result<usize> {
        until("a coordinator to lead", READY_LIMIT, async || {
            let Ok(status) = self.cluster_status().await else { return Ok(None) };
            let leader = self.addresses.iter().position(|address| status["leader"] == address.as_str());
            Ok(leader.filter(|no| !former.contains(no)))
        })
        .await
        .map_err(|error| error.context(self.logs()))
    }

    /// What every daemon has logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let coordinators =
            self.coordinators.iter().enumerate().map(|(no, daemon)| (format!("coordinator {no}"), daemon));
        let workers = self.workers.iter().map(|(id, daemon)| (id.clone(), daemon));
        coordinators.chain(workers).map(|(name, daemon)| format!("--- {name}\n{}", daemon.log())).collect()
    }

    /// Writes a file that the command can be given.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
