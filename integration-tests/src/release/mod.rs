//! A release of the chart, run without Kubernetes: the rendered containers are processes, each pod
//! with an address of its own in 127.0.0.0/8, and Deployments are brought to their size and their
//! template as Kubernetes does it.
//!
//! What is run stands in `helm/tests/golden`, which the chart's own tests compare with what helm
//! renders.

mod pod;
mod service;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;
use tempfile::TempDir;

pub use pod::{End, Pod};

use crate::binary::Finished;
use crate::certificates::Authority;
use crate::folders::{repository, scratch_folder};
use pod::Surroundings;
use service::Service;

/// The name that the coordinators' certificates are for.
pub const COORDINATOR_HOST: &str = "r-highwater-coordinator.ns.svc";
const COORDINATOR: &str = "Deployment/r-highwater-coordinator";

/// A release. Dropping it kills its pods.
#[derive(Debug)]
pub struct Release {
    objects: BTreeMap<String, Json>,
    around: Surroundings,
    service: Service,
    service_address: SocketAddr,
    pods: Vec<Pod>,
    /// Pods that were started, all in all.
    started: u8,
    network: [u8; 2],
    folder: TempDir,
}

impl Release {
    /// The objects of a shape of the chart, of which nothing runs yet. Its etcd is at `etcd`.
    ///
    /// # Errors
    /// There is no such shape, or no room for its files.
    pub async fn of_shape(shape: &str, etcd: &str, authority: &Authority) -> Result<Self> {
        let file = repository().join(format!("helm/tests/golden/{shape}.yaml"));
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let objects: BTreeMap<String, Json> =
            serde_saphyr::from_str(&text).context("read the manifests")?;
        let folder = scratch_folder("release")?;
        let mut around = Surroundings::default();
        for (secret, host) in [
            ("coordinator-tls", COORDINATOR_HOST),
            ("worker-tls", "worker"),
            ("client-tls", "client"),
            ("etcd-client", "client"),
        ] {
            let made = secret_of(folder.path(), secret, authority, host)?;
            around.folders.insert(secret.to_owned(), made);
        }
        for (name, object) in &objects {
            if let Some(name) = name.strip_prefix("ConfigMap/") {
                let made = folder.path().join(name);
                std::fs::create_dir(&made)?;
                for (file, text) in object["data"].as_object().into_iter().flatten() {
                    std::fs::write(made.join(file), text.as_str().unwrap_or_default())?;
                }
                around.folders.insert(name.to_owned(), made);
            }
        }
        let network = own_network();
        let service_address = SocketAddr::from(([127, network[0], network[1], 1], 7070));
        let hosts = [
            ("https://etcd:2379".to_owned(), etcd.to_owned()),
            (
                format!("{COORDINATOR_HOST}:7070"),
                service_address.to_string(),
            ),
        ];
        around.hosts.extend(hosts);
        Ok(Self {
            objects,
            around,
            service: Service::at(service_address).await?,
            service_address,
            pods: Vec::new(),
            started: 1,
            network,
            folder,
        })
    }

    /// Where the Service of the coordinators is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.service_address
    }

    /// What the user's secrets put into the workers' environment.
    pub fn env(&mut self, name: &str, value: &str) {
        self.around.env.insert(name.to_owned(), value.to_owned());
    }

    /// A Deployment, to be changed as `helm upgrade` does.
    ///
    /// # Panics
    /// There is none.
    pub fn deployment(&mut self, name: &str) -> &mut Json {
        let name = format!("Deployment/r-highwater-{name}");
        match self.objects.get_mut(&name) {
            Some(object) => object,
            None => panic!("there is no {name}"),
        }
    }

    /// The pods of a Deployment that run.
    #[must_use]
    pub fn pods(&self, deployment: &str) -> Vec<&str> {
        let of = format!("r-highwater-{deployment}-");
        let names = self.pods.iter().map(|pod| pod.name.as_str());
        names.filter(|name| name.starts_with(&of)).collect()
    }

    /// Brings every Deployment to its size and its template, one after the other, and returns how
    /// the pods ended that had to go.
    ///
    /// # Errors
    /// A pod does not become ready, or does not end within its grace.
    pub async fn reconcile(&mut self) -> Result<Vec<End>> {
        let names: Vec<String> = self.objects.keys().cloned().collect();
        let mut ends = Vec::new();
        for name in names.iter().filter(|name| name.starts_with("Deployment/")) {
            ends.extend(self.roll(name).await?);
        }
        for pod in &mut self.pods {
            pod.check_alive().await?;
        }
        Ok(ends)
    }

    /// Brings a Deployment to its size and its template: a new pod is ready before an old one goes.
    async fn roll(&mut self, name: &str) -> Result<Vec<End>> {
        let object = self.objects.get(name).context("a Deployment")?;
        let template = object["spec"]["template"].clone();
        let replicas = object["spec"]["replicas"].as_u64().context("replicas")?;
        let replicas = usize::try_from(replicas)?;
        let prefix = format!("{}-", name.trim_start_matches("Deployment/"));
        let (mut going, mut ends) = (Vec::new(), Vec::new());
        loop {
            let of = |pod: &&Pod| pod.name.starts_with(&prefix);
            let is_new = |pod: &&Pod| pod.template == template;
            let all = self.pods.iter().filter(of).count();
            let new = self.pods.iter().filter(of).filter(is_new).count();
            if new < replicas {
                self.start_pod(&prefix, &template).await?;
            }
            let old = self
                .pods
                .iter()
                .position(|pod| pod.name.starts_with(&prefix) && pod.template != template);
            let surplus = (new > replicas)
                .then(|| {
                    self.pods
                        .iter()
                        .rposition(|pod| pod.name.starts_with(&prefix))
                })
                .flatten();
            match old.or(surplus) {
                // those that go may take their grace, and the others do not wait for them
                Some(at) => going.push(self.let_go(at)?),
                None if new >= replicas && all == replicas => break,
                None => {}
            }
        }
        for pod in going {
            ends.push(pod.ended().await?);
        }
        Ok(ends)
    }

    async fn start_pod(&mut self, prefix: &str, template: &Json) -> Result<()> {
        self.started = self.started.checked_add(1).context("too many pods")?;
        let address = Ipv4Addr::new(127, self.network[0], self.network[1], self.started);
        let name = format!("{prefix}{}", self.started);
        let mut pod = Pod::start(name, address, template, &self.around).await?;
        // coordinators first: a worker is ready when one has let it in
        pod.until_ready().await?;
        self.pods.push(pod);
        self.lead();
        Ok(())
    }

    /// Takes a pod out of its Service, and tells it to end.
    fn let_go(&mut self, at: usize) -> Result<Pod> {
        let mut pod = self.pods.remove(at);
        self.lead();
        pod.terminate()?;
        Ok(pod)
    }

    fn lead(&self) {
        let prefix = COORDINATOR.trim_start_matches("Deployment/");
        let of = self.pods.iter().filter(|pod| pod.name.starts_with(prefix));
        let endpoints = of.map(|pod| SocketAddr::from((pod.address, 7070)));
        self.service.lead_to(endpoints.collect());
    }

    /// Evicts a pod, as the drain of its node does.
    ///
    /// # Errors
    /// There is no such pod, or it does not end within its grace.
    pub async fn evict(&mut self, name: &str) -> Result<End> {
        let at = self.pods.iter().position(|pod| pod.name == name);
        let pod = self.let_go(at.with_context(|| format!("there is no {name}"))?)?;
        pod.ended().await
    }

    /// Runs a pod or a Job to its end: `Pod/r-highwater-test` is that of `helm test`.
    ///
    /// # Errors
    /// There is none, or it does not end.
    pub async fn run(&self, name: &str) -> Result<Finished> {
        let object = self.objects.get(name);
        let object = object.with_context(|| format!("there is no {name}"))?;
        let spec = match name.starts_with("Job/") {
            true => &object["spec"]["template"]["spec"],
            false => &object["spec"],
        };
        let binary = pod::container(spec, name, Ipv4Addr::LOCALHOST, &self.around).await?;
        binary.run(Duration::from_secs(60)).await
    }

    /// Ends all pods, workers first or not: Kubernetes promises no order.
    ///
    /// # Errors
    /// One does not end within its grace.
    pub async fn uninstall(&mut self) -> Result<Vec<End>> {
        let mut going = Vec::new();
        while !self.pods.is_empty() {
            going.push(self.let_go(0)?);
        }
        let mut ends = Vec::new();
        for pod in going {
            ends.push(pod.ended().await?);
        }
        ensure!(self.pods.is_empty(), "{:?}", self.pods);
        Ok(ends)
    }

    /// What every pod has logged that runs.
    #[must_use]
    pub fn logs(&self) -> String {
        let logs = self.pods.iter();
        logs.map(|pod| format!("--- {}\n{}", pod.name, pod.log()))
            .collect()
    }

    /// The folder of its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A network that no other release has: many tests run at once, in processes of their own or in
/// one.
fn own_network() -> [u8; 2] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(16);
    let own = of_process.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed) % 16);
    let [.., high, low] = own.to_be_bytes();
    [high % 120 + 100, low]
}

/// A secret with a certificate for `host`, as cert-manager writes one.
fn secret_of(folder: &Path, name: &str, authority: &Authority, host: &str) -> Result<PathBuf> {
    let made = folder.join(name);
    std::fs::create_dir(&made)?;
    let (certificate, key) = authority.sign(host)?;
    std::fs::copy(authority.file(), made.join("ca.crt"))?;
    std::fs::copy(certificate, made.join("tls.crt"))?;
    std::fs::copy(key, made.join("tls.key"))?;
    Ok(made)
}
