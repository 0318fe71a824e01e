//! Coordinators and workers of one cluster as child processes, over an etcd and databases that
//! others may share.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::daemon::{Daemon, Program};
use crate::certificates::Authority;
use crate::folders::{free_port, scratch_folder};
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
    /// How many bytes etcd's database may take; else etcd's own limit. Not over TLS.
    pub etcd_quota: Option<u64>,
    /// Who signs the certificates of all parts, which then speak TLS only and let in nobody without
    /// one; else all is in the clear.
    pub authority: Option<Arc<Authority>>,
    /// The name that the coordinators' certificates are for, when it is not their address.
    pub server_name: Option<String>,
    /// The coordinators' `roles`, as YAML. The command shows the certificate `client` then, a worker
    /// that of `worker`.
    pub roles: Option<String>,
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
            etcd_quota: None,
            authority: None,
            server_name: None,
            roles: None,
        }
    }
}

/// The daemons of a cluster, each running or not. Dropping them kills them.
#[derive(Debug)]
pub struct Daemons {
    pub(super) addresses: Vec<String>,
    options: ClusterOptions,
    /// Where etcd's member is.
    etcd: String,
    coordinators: Vec<Daemon>,
    workers: BTreeMap<String, Daemon>,
    folder: TempDir,
}

impl Daemons {
    /// No daemon yet; the coordinators will keep their records in this etcd.
    ///
    /// # Errors
    /// There is no room for a folder.
    pub fn new(options: ClusterOptions, etcd: String) -> Result<Self> {
        let folder = scratch_folder("cluster")?;
        let (addresses, coordinators, workers) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self {
            addresses,
            options,
            etcd,
            coordinators,
            workers,
            folder,
        })
    }

    /// How they are set.
    #[must_use]
    pub const fn options(&self) -> &ClusterOptions {
        &self.options
    }

    /// A coordinator of the cluster of this name, not yet started. Returns its number.
    ///
    /// # Errors
    /// There is no free port.
    pub fn prepare_coordinator(&mut self, cluster: &str) -> Result<usize> {
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut etcd = self.etcd.clone();
        if self.options.dead_endpoint {
            etcd = format!("http://127.0.0.1:{},{etcd}", free_port()?);
        }
        let mut daemon = Daemon::new(Program::Coordinator);
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        daemon.args([
            "--etcd",
            &etcd,
            "--cluster",
            cluster,
            "--listen",
            &address,
            "--allow-noop",
        ]);
        daemon.args(["--session-ttl", &millis(self.options.session_ttl)]);
        daemon.args(["--heartbeat", &millis(self.options.heartbeat)]);
        daemon.args(["--stop-margin", &millis(self.options.stop_margin)]);
        daemon.args(["--leader-ttl", &millis(self.options.leader_ttl)]);
        if let Some(authority) = &self.options.authority {
            let (certificate, key) = authority.sign("127.0.0.1")?;
            let (ca, certificate, key) = (authority.file(), certificate.as_path(), key.as_path());
            daemon.args([
                OsStr::new("--tls-cert"),
                certificate.as_ref(),
                OsStr::new("--tls-key"),
                key.as_ref(),
            ]);
            daemon.args([
                OsStr::new("--tls-client-ca"),
                ca.as_ref(),
                OsStr::new("--etcd-ca"),
                ca.as_ref(),
            ]);
            daemon.args([
                OsStr::new("--etcd-cert"),
                certificate.as_ref(),
                OsStr::new("--etcd-key"),
                key.as_ref(),
            ]);
        }
        if let Some(roles) = &self.options.roles {
            let config = self.file(
                "roles.config.yaml",
                &format!("coordinator: {{roles: {roles}}}\n"),
            )?;
            daemon.args([OsStr::new("--config"), config.as_ref()]);
        }
        self.coordinators.push(daemon);
        self.addresses.push(address);
        Ok(self.coordinators.len() - 1)
    }

    /// Starts one more coordinator, of the cluster of this name, and waits until it listens.
    /// Returns its number.
    ///
    /// # Errors
    /// It does not start.
    pub async fn add_coordinator(&mut self, cluster: &str) -> Result<usize> {
        let no = self.prepare_coordinator(cluster)?;
        self.restart_coordinator(no).await?;
        Ok(no)
    }

    /// The flags that a worker or the command needs to be let in and to trust who answers.
    #[must_use]
    pub fn tls_flags(&self) -> Vec<OsString> {
        self.tls_flags_of("client")
    }

    /// The same, for whoever shows the certificate of this name.
    #[must_use]
    pub fn tls_flags_of(&self, name: &str) -> Vec<OsString> {
        let Some((authority, (certificate, key))) = self
            .options
            .authority
            .as_ref()
            .and_then(|authority| Some((authority, authority.sign(name).ok()?)))
        else {
            return Vec::new();
        };
        let flags = [
            ("--tls-ca", authority.file()),
            ("--tls-cert", certificate),
            ("--tls-key", key),
        ];
        let name = self.options.server_name.iter();
        let name = name.map(|name| OsString::from(format!("--tls-server-name={name}")));
        flags
            .into_iter()
            .flat_map(|(flag, file)| [OsString::from(flag), file.into_os_string()])
            .chain(name)
            .collect()
    }

    /// Coordinators that somebody else runs are reached there.
    pub fn reach_by(&mut self, address: String) {
        self.addresses.push(address);
    }

    /// Where coordinator `no` listens.
    #[must_use]
    pub fn address(&self, no: usize) -> &str {
        &self.addresses[no]
    }

    /// Where all coordinators listen.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Coordinator `no`, counted from 0.
    pub fn coordinator(&mut self, no: usize) -> &mut Daemon {
        &mut self.coordinators[no]
    }

    /// Starts a coordinator that does not run, at its address, and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart_coordinator(&mut self, no: usize) -> Result<()> {
        let daemon = &mut self.coordinators[no];
        daemon.start().await?;
        daemon.until_logged("listening", READY_LIMIT).await
    }

    /// A worker, not yet started, that knows these coordinators and has this environment.
    pub fn prepare(
        &mut self,
        id: &str,
        slots: u32,
        coordinators: &str,
        env: &[(&str, &str)],
    ) -> &mut Daemon {
        let mut daemon = Daemon::new(Program::Worker);
        daemon.args([
            "--coordinator",
            coordinators,
            "--id",
            id,
            "--slots",
            &slots.to_string(),
            "--allow-noop",
        ]);
        daemon.args(match self.options.roles {
            Some(_) => self.tls_flags_of("worker"),
            None => self.tls_flags(),
        });
        for (name, value) in env {
            daemon.env(name, value);
        }
        self.workers
            .entry(id.to_owned())
            .insert_entry(daemon)
            .into_mut()
    }

    /// The worker of this name.
    ///
    /// # Panics
    /// There is none.
    pub fn worker(&mut self, id: &str) -> &mut Daemon {
        self.workers
            .get_mut(id)
            .unwrap_or_else(|| panic!("there is no worker {id}"))
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
            let Ok(status) = self.cluster_status().await else {
                return Ok(None);
            };
            let leader = self
                .addresses
                .iter()
                .position(|address| status["leader"] == address.as_str());
            Ok(leader.filter(|no| !former.contains(no)))
        })
        .await
        .map_err(|error| error.context(self.logs()))
    }

    /// What every daemon has logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let coordinators = self
            .coordinators
            .iter()
            .enumerate()
            .map(|(no, daemon)| (format!("coordinator {no}"), daemon));
        let workers = self.workers.iter().map(|(id, daemon)| (id.clone(), daemon));
        coordinators
            .chain(workers)
            .map(|(name, daemon)| format!("--- {name}\n{}", daemon.log()))
            .collect()
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
