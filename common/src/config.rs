//! The configuration file of the programs: what it may say, and what is wrong with it. Reading it
//! is the programs' business.
//!
//! For every setting a flag beats the environment, the environment beats the file, and the file
//! beats the default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::id::PoolName;
use crate::roles::RolesConfig;
use crate::spec::parse_duration;

/// `highwater.config.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// Settings of `highwater-coordinator`.
    pub coordinator: CoordinatorConfig,
    /// Settings of `highwater-worker`.
    pub worker: WorkerConfig,
}

/// Settings of a coordinator; what is missing is left to the environment, the flags and the
/// defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorConfig {
    /// URLs of etcd's members.
    pub etcd: Option<Vec<String>>,
    /// Whose records in etcd: several clusters may share one.
    pub cluster: Option<String>,
    /// Address and port to listen on.
    pub listen: Option<String>,
    /// Address and port of health and metrics, or `off`.
    pub admin_listen: Option<String>,
    /// Address and port that others reach it by.
    pub advertise: Option<String>,
    /// Whether it may listen off loopback without TLS.
    pub insecure: Option<bool>,
    /// Who it is to those who call it, and whom it lets in.
    pub tls: ServerTlsConfig,
    /// Whom it trusts among etcd's members, and who it is to them.
    pub etcd_tls: ClientTlsConfig,
    /// A user of etcd; the password is in `etcd_password_file`, or in the environment.
    pub etcd_user: Option<String>,
    /// The file of that user's password.
    pub etcd_password_file: Option<PathBuf>,
    /// Who may do what; whoever is let in may do everything where nothing is said.
    #[serde(deserialize_with = "given")]
    pub roles: Option<RolesConfig>,
    /// Whether steps that move nothing may run.
    pub allow_noop: Option<bool>,
    /// Tasks at once over all runs, of the steps that name such a pool.
    pub pools: Option<BTreeMap<PoolName, u32>>,
    /// Time to live of the lead.
    pub leader_ttl: Option<ConfigDuration>,
    /// Time to live of a worker's session.
    pub session_ttl: Option<ConfigDuration>,
    /// How often a worker sends a heartbeat.
    pub heartbeat: Option<ConfigDuration>,
    /// How long before the end of its session a worker ends its attempts.
    pub stop_margin: Option<ConfigDuration>,
}

/// What is written, be it nothing: a key without a value is not one that is missing.
fn given<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(from).map(Some)
}

/// Settings of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// URLs of coordinators.
    pub coordinator: Option<Vec<String>>,
    /// Whether it may speak to coordinators off loopback without TLS.
    pub insecure: Option<bool>,
    /// Whom it trusts among coordinators, and who it is to them.
    pub tls: ClientTlsConfig,
    /// What it calls itself.
    pub id: Option<String>,
    /// Tasks at once.
    pub slots: Option<u32>,
    /// Address and port of health and metrics, or `off`.
    pub admin_listen: Option<String>,
    /// What it says of itself.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it holds no-op tasks.
    pub allow_noop: Option<bool>,
    /// The programs that it runs, and folders of such.
    pub allow_exec: Option<Vec<PathBuf>>,
    /// How long a drain waits for what runs.
    pub drain_timeout: Option<ConfigDuration>,
}

/// Files of TLS for whoever listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTlsConfig {
    /// Its certificate, and those that lead to its authority.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The authorities that have to have signed a caller's certificate.
    pub client_ca: Option<PathBuf>,
    /// The authorities that signed the other coordinators' certificates.
    pub ca: Option<PathBuf>,
    /// The name that those certificates are for, when it is not the host that is dialled.
    pub server_name: Option<String>,
}

/// Files of TLS for whoever dials.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTlsConfig {
    /// The authorities that signed the other end's certificate.
    pub ca: Option<PathBuf>,
    /// Its own certificate.
    pub cert: Option<PathBuf>,
    /// Its own key.
    pub key: Option<PathBuf>,
    /// The name that the other end's certificate is for, when it is not the host that is dialled.
    pub server_name: Option<String>,
}

/// A duration as people write it: `15s`, `1h30m`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ConfigDuration(pub Duration);

impl TryFrom<String> for ConfigDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for ConfigDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Self).ok_or_else(|| {
            format!("`{text}` is not a duration: write it as `500ms`, `15s`, `45m` or `1h30m`")
        })
    }
}

/// A user's file: clusters by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserConfig {
    contexts: BTreeMap<String, ContextConfig>,
}

/// A cluster as a user reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextConfig {
    /// URLs of its coordinators.
    pub coordinator: Vec<String>,
    /// Whom the user trusts among them, and who he is to them.
    #[serde(default)]
    pub tls: ClientTlsConfig,
    /// The file of the token that says who the user is to them.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// Reads a user's configuration file.
///
/// # Errors
/// What is wrong, and where: an unknown key, a value of the wrong kind, a cluster without an
/// address.
pub fn parse_contexts(text: &str) -> Result<BTreeMap<String, ContextConfig>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let file: UserConfig = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    match file
        .contexts
        .iter()
        .find(|(_, context)| context.coordinator.is_empty())
    {
        Some((name, _)) => Err(format!("context `{name}` names no coordinator")),
        None => Ok(file.contexts),
    }
}

/// Reads a configuration file.
///
/// # Errors
/// What is wrong, and where: an unknown key, a value of the wrong kind.
pub fn parse(text: &str) -> Result<FileConfig, String> {
    if text.trim().is_empty() {
        return Ok(FileConfig::default());
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_unknown_ones_refused() {
        let config = parse(
            "coordinator: {etcd: [http://127.0.0.1:2379], session_ttl: 15s}\nworker: {slots: 4}",
        )
        .expect("read");
        assert_eq!(
            config.coordinator.session_ttl,
            Some(ConfigDuration(Duration::from_secs(15)))
        );
        assert_eq!(config.worker.slots, Some(4));
        assert_eq!(parse("\n"), Ok(FileConfig::default()));
        let pools = parse("coordinator: {pools: {legacy_reads: 12}}")
            .expect("read")
            .coordinator
            .pools
            .expect("pools");
        assert_eq!(
            pools
                .into_iter()
                .map(|(name, max)| (name.to_string(), max))
                .collect::<Vec<_>>(),
            [("legacy_reads".to_owned(), 12)]
        );
        assert!(parse("coordinator: {pools: {Legacy: 12}}").is_err());
        let error = parse("worker: {slot: 4}").expect_err("no such key");
        assert!(error.contains("slot"), "{error}");
    }
}
