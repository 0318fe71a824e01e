//! Where an etcd is, and how to speak to it.

use std::fmt;
use std::time::Duration;

use highwater_net::ClientTls;

/// What the keys of all clusters begin with.
pub(super) const CLUSTERS: &str = "/highwater/v1/";

/// Where an etcd is, and how to speak to it.
#[derive(Clone)]
pub struct EtcdOptions {
    /// URLs of members: `http://10.0.0.1:2379`. Never with a user or a password in them.
    pub endpoints: Vec<String>,
    /// What every key of the cluster begins with; ends in `/`.
    pub prefix: String,
    /// A user and password, if etcd asks for them.
    pub login: Option<EtcdLogin>,
    /// What `https` endpoints are checked against, and what they check. The files are read whenever
    /// a member is dialled anew.
    pub tls: Option<ClientTls>,
    /// How long one member has for its answer.
    pub request_timeout: Duration,
    /// How often an idle connection is probed, and how long the probe may take: what finds a member
    /// that fell silent.
    pub keep_alive: Duration,
}

/// A user of etcd.
#[derive(Clone)]
pub struct EtcdLogin {
    /// The user's name.
    pub user: String,
    /// The password; never printed.
    pub password: String,
}

impl EtcdOptions {
    /// Options for the records of `cluster`, with a request timeout of 2 s.
    #[must_use]
    pub fn new(endpoints: Vec<String>, cluster: &str) -> Self {
        Self {
            endpoints,
            prefix: format!("{CLUSTERS}{cluster}/"),
            login: None,
            tls: None,
            request_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("EtcdOptions");
        options
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix);
        options
            .field("user", &self.login.as_ref().map(|login| &login.user))
            .field("tls", &self.tls.is_some());
        options
            .field("request_timeout", &self.request_timeout)
            .field("keep_alive", &self.keep_alive)
            .finish()
    }
}
