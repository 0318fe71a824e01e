//! A whole cluster for a test: etcd, a source and a target PostgreSQL, coordinators and workers as
//! child processes.
//!
//! Each worker connects to the target as a user of its own, so that the target tells whose rows it
//! holds. What happened is asked from outside: of the command, and of the databases themselves.

mod daemon;
mod daemons;
mod observe;
mod orders;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AssertSqlSafe;

pub use daemon::Daemon;
pub use daemons::{ClusterOptions, Daemons};
pub use observe::Ledger;
pub use orders::Orders;

use crate::etcd::Etcd;
use crate::postgres::Postgres;

/// How long a worker may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Daemons with an etcd and with databases of their own. Dropping it ends everything.
#[derive(Debug)]
pub struct Cluster {
    /// Where it keeps its records.
    pub etcd: Etcd,
    /// Where rows come from.
    pub source: Postgres,
    /// Where rows go to.
    pub target: Postgres,
    daemons: Daemons,
}

impl Deref for Cluster {
    type Target = Daemons;

    fn deref(&self) -> &Daemons {
        &self.daemons
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Daemons {
        &mut self.daemons
    }
}

impl Cluster {
    /// Starts servers and coordinators, and waits until one of these leads, if there is to be any.
    /// There is no worker yet.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let etcd = async {
            match (&options.authority, options.etcd_quota) {
                (Some(authority), _) => Etcd::start_secure(authority).await,
                (None, Some(quota)) => Etcd::start_small(quota).await,
                (None, None) => Etcd::start().await,
            }
        };
        let (etcd, source, target) = tokio::try_join!(etcd, Postgres::start(), Postgres::start())?;
        let daemons = Daemons::new(options, etcd.endpoint())?;
        let mut cluster = Self {
            etcd,
            source,
            target,
            daemons,
        };
        for _ in 0..cluster.options().coordinators {
            cluster.add_coordinator("test").await?;
        }
        if cluster.options().coordinators > 0 {
            cluster.leader().await?;
        }
        Ok(cluster)
    }

    /// Starts a worker of this name that knows every coordinator, and waits until it is registered.
    ///
    /// # Errors
    /// It does not start.
    pub async fn add_worker(&mut self, id: &str, slots: u32, failpoints: &str) -> Result<()> {
        let daemon = self
            .prepare_worker(id, slots, &self.addresses.clone().join(","))
            .await?;
        if !failpoints.is_empty() {
            daemon.env("FAILPOINTS", failpoints);
        }
        daemon.start().await?;
        self.until_worker(id, "ready", READY_LIMIT).await
    }

    /// A worker, not yet started, that connects to the target as a user of its own name and knows
    /// these coordinators.
    ///
    /// # Errors
    /// The target does not take the user.
    pub async fn prepare_worker(
        &mut self,
        id: &str,
        slots: u32,
        coordinators: &str,
    ) -> Result<&mut Daemon> {
        let mut conn = self.target.connect("postgres").await?;
        // A superuser, as a worker of another name has to end its sessions.
        let create = AssertSqlSafe(format!("create role {id} login superuser"));
        sqlx::raw_sql(create)
            .execute(&mut conn)
            .await
            .with_context(|| format!("make the user {id}"))?;
        let source = self.source.url("postgres");
        let target = self
            .target
            .url("postgres")
            .replace("postgres@", &format!("{id}@"));
        let env = [
            ("SOURCE_URL", source.as_str()),
            ("TARGET_URL", target.as_str()),
        ];
        Ok(self.daemons.prepare(id, slots, coordinators, &env))
    }
}
