//! A Prometheus of a test's own, which reads the daemons' metrics each second.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::binary::{Binary, Running};
use crate::folders::{free_port, scratch_folder};
use crate::http;
use crate::wait::until;

/// How long it may take to begin.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running server. Dropping it kills it and removes what it has read.
#[derive(Debug)]
pub struct Prometheus {
    address: String,
    _running: Running,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts a server that reads these addresses, as a ServiceMonitor would have it: with the
    /// labels of a namespace, of a Service, and of a pod, which is the address.
    ///
    /// # Errors
    /// Prometheus is not installed, or does not start.
    pub async fn reading(targets: &[&str], namespace: &str, service: &str) -> Result<Self> {
        let folder = scratch_folder("prometheus")?;
        let pods = targets.iter().map(|target| {
            json!({
                "targets": [target],
                "labels": {"namespace": namespace, "service": service, "pod": target},
            })
        });
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{
                "job_name": "highwater",
                "static_configs": pods.collect::<Vec<_>>(),
            }],
        });
        // JSON is YAML
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).context("write its configuration")?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let running = Binary::at("prometheus")
            .args([
                format!("--config.file={}", file.display()),
                format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ),
                format!("--web.listen-address={address}"),
            ])
            .start()?;
        let ready = async || {
            let answer = http::get(&address, "/-/ready").await;
            Ok(answer.is_ok_and(|(status, _)| status == 200).then_some(()))
        };
        let is_ready = until("Prometheus to be ready", START_LIMIT, ready).await;
        is_ready.with_context(|| running.stderr().unwrap_or_default())?;
        Ok(Self {
            address,
            _running: running,
            _folder: folder,
        })
    }

    /// What an expression comes to now: its series.
    ///
    /// # Errors
    /// Prometheus refuses it.
    pub async fn query(&self, expression: &str) -> Result<Vec<Json>> {
        let encoded: String = expression
            .bytes()
            .map(|byte| match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let path = format!("/api/v1/query?query={encoded}");
        let (status, body) = http::get(&self.address, &path).await?;
        ensure!(status == 200, "{expression}: {body}");
        let answer: Json = serde_json::from_str(&body).context("read its answer")?;
        let found = answer["data"]["result"].as_array().cloned();
        found.context("an answer has a result")
    }
}
