//! A pod as a process: its command, arguments and environment, its probes, and its grace, all as
//! they stand in a manifest.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;

use crate::binary::{Binary, Running};
use crate::http;
use crate::process::Signal;
use crate::wait::until;

/// What a pod finds in its cluster, and no manifest says.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// Folders of secrets and ConfigMaps, by name.
    pub(super) folders: BTreeMap<String, PathBuf>,
    /// What stands in the manifests for an address, and the address.
    pub(super) hosts: BTreeMap<String, String>,
    /// What the user's secrets put into the environment of the workers.
    pub(super) env: BTreeMap<String, String>,
}

/// A pod that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Pod {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    /// The template that it was made of.
    pub(super) template: Json,
    running: Running,
}

/// How a pod ended.
#[derive(Debug)]
pub struct End {
    /// Which pod.
    pub pod: String,
    /// How its process ended.
    pub status: ExitStatus,
    /// What it had logged.
    pub log: String,
}

impl Pod {
    /// Starts a pod of this template.
    pub(super) async fn start(
        name: String,
        address: Ipv4Addr,
        template: &Json,
        around: &Surroundings,
    ) -> Result<Self> {
        let spec = &template["spec"];
        let binary = container(spec, &name, address, around).await?;
        Ok(Self {
            name,
            address,
            template: template.clone(),
            running: binary.start()?,
        })
    }

    fn container(&self) -> &Json {
        &self.template["spec"]["containers"][0]
    }

    /// What a probe of its manifest answers now.
    async fn probe(&self, which: &str) -> Result<u16> {
        let probe = &self.container()[which]["httpGet"];
        let ports = self.container()["ports"].as_array();
        let port = ports
            .into_iter()
            .flatten()
            .find(|port| port["name"] == probe["port"])
            .context("a probe of a port that is there")?;
        let address = format!("{}:{}", self.address, port["containerPort"]);
        let path = probe["path"].as_str().context("a path")?;
        Ok(http::get(&address, path).await?.0)
    }

    /// Waits as a kubelet does: until it has started, within what its startup probe allows, and is
    /// ready.
    pub(super) async fn until_ready(&mut self) -> Result<()> {
        let startup = &self.container()["startupProbe"];
        let seconds = startup["periodSeconds"].as_u64().unwrap_or(10)
            * startup["failureThreshold"].as_u64().unwrap_or(3);
        let limit = Duration::from_secs(seconds.min(60));
        for which in ["startupProbe", "readinessProbe"] {
            let what = format!("the {which} of {}", self.name);
            let asked = until(&what, limit, async || {
                Ok(matches!(self.probe(which).await, Ok(200)).then_some(()))
            });
            let asked = asked.await;
            asked.with_context(|| self.running.stderr().unwrap_or_default())?;
        }
        self.check_alive().await
    }

    /// Demands that a kubelet would not start it again.
    pub(super) async fn check_alive(&mut self) -> Result<()> {
        ensure!(self.running.ended()?.is_none(), "{} ended", self.name);
        let answer = self.probe("livenessProbe").await?;
        ensure!(answer == 200, "{} does not live: {answer}", self.name);
        Ok(())
    }

    /// Asks it to end.
    pub(super) fn terminate(&mut self) -> Result<()> {
        self.running.signal(Signal::Term)
    }

    /// Waits for its end, which has to come within its grace.
    pub(super) async fn ended(mut self) -> Result<End> {
        let grace = self.template["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30);
        let status = self.running.wait(Duration::from_secs(grace)).await;
        let log = self.running.stderr()?;
        let status = status.with_context(|| format!("{} would be killed: {log}", self.name))?;
        Ok(End {
            pod: self.name,
            status,
            log,
        })
    }

    pub(super) fn log(&self) -> String {
        self.running.stderr().unwrap_or_default()
    }
}

/// The program of a pod's one container, with all that its manifest gives it.
pub(super) async fn container(
    spec: &Json,
    name: &str,
    address: Ipv4Addr,
    around: &Surroundings,
) -> Result<Binary> {
    let container = &spec["containers"][0];
    let program = container["command"][0].as_str().context("a command")?;
    let binary = match program {
        "highwater" => Binary::highwater().await?,
        "highwater-coordinator" => Binary::coordinator().await?,
        "highwater-worker" => Binary::worker().await?,
        other => anyhow::bail!("the image has no {other}"),
    };
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
        let value = match (variable["value"].as_str(), field.as_str()) {
            (Some(value), _) => value.to_owned(),
            (None, Some("metadata.name")) => name.to_owned(),
            (None, Some("status.podIP")) => address.to_string(),
            (None, _) => anyhow::bail!("nobody knows the value of {variable}"),
        };
        env.insert(
            variable["name"].as_str().context("a name")?.to_owned(),
            value,
        );
    }
    let mounts = mounts(spec, container, &around.folders)?;
    let args = container["args"].as_array().into_iter().flatten();
    let args = args.filter_map(Json::as_str).map(|arg| {
        let mut arg = arg.replace("0.0.0.0", &address.to_string());
        for (name, value) in &env {
            arg = arg.replace(&format!("$({name})"), value);
        }
        for (path, folder) in &mounts {
            arg = arg.replace(path, &folder.display().to_string());
        }
        for (host, address) in &around.hosts {
            arg = arg.replace(host, address);
        }
        arg
    });
    let binary = binary.args(args).current_folder(std::env::temp_dir());
    // The users' secrets stand where the chart lets them in by `envFrom`, of which each shape has
    // its own.
    let env = env.iter().chain(&around.env);
    Ok(env.fold(binary, |binary, (name, value)| binary.env(name, value)))
}

/// Where the paths of a container's mounts are here. A longer path comes first.
fn mounts(
    spec: &Json,
    container: &Json,
    folders: &BTreeMap<String, PathBuf>,
) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let volumes = spec["volumes"].as_array();
        let volume = volumes
            .into_iter()
            .flatten()
            .find(|volume| volume["name"] == mount["name"])
            .context("a volume of this name")?;
        let named = volume["secret"]["secretName"]
            .as_str()
            .or(volume["configMap"]["name"].as_str());
        let folder = match named {
            Some(named) => folders
                .get(named)
                .with_context(|| format!("nobody made {named}"))?,
            None => Path::new("/tmp"), // what is empty at first, or a claim
        };
        let path = mount["mountPath"].as_str().context("a path")?;
        found.push((path.to_owned(), folder.to_owned()));
    }
    found.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    Ok(found)
}
