//! Settings of TLS and of etcd's login: flags and environment over the file, and the files that they name, read once to be sure.

use std::path::{Path, PathBuf};

use clap::Args;
use highwater_common::config::CoordinatorConfig;
use highwater_coordinator::store::etcd::EtcdLogin;
use highwater_net::{ClientTls, Dialer, Identity, ServerTls};

use super::chain;

/// Flags of TLS and of etcd's login.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// Its certificate; with it everything it listens to is encrypted
    #[arg(long, env = "HIGHWATER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "HIGHWATER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Lets in only who has a certificate that these authorities signed
    #[arg(long, env = "HIGHWATER_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// The authorities that signed the other coordinators' certificates [default: those of --tls-client-ca]
    #[arg(long, env = "HIGHWATER_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name that the other coordinators' certificates are for [default: the host that is dialled]
    #[arg(long, env = "HIGHWATER_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,
    /// The authorities that signed the certificates of etcd's members, for https
    #[arg(long, env = "HIGHWATER_ETCD_CA", value_name = "FILE")]
    etcd_ca: Option<PathBuf>,
    /// Its certificate for etcd, where etcd asks for one
    #[arg(long, env = "HIGHWATER_ETCD_CERT", value_name = "FILE")]
    etcd_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, env = "HIGHWATER_ETCD_KEY", value_name = "FILE")]
    etcd_key: Option<PathBuf>,
    /// The name that the certificates of etcd's members are for [default: the host that is dialled]
    #[arg(long, env = "HIGHWATER_ETCD_SERVER_NAME", value_name = "NAME")]
    etcd_server_name: Option<String>,
    /// A user of etcd
    #[arg(long, env = "HIGHWATER_ETCD_USER", value_name = "USER")]
    etcd_user: Option<String>,
    /// The file of that user's password, without its last line break
    #[arg(long, env = "HIGHWATER_ETCD_PASSWORD_FILE", value_name = "FILE")]
    etcd_password_file: Option<PathBuf>,
}

/// TLS, settled.
pub(super) struct TlsSettings {
    /// For those who call.
    pub server: Option<ServerTls>,
    /// To other coordinators.
    pub dialer: Dialer,
    /// To etcd.
    pub etcd: Option<ClientTls>,
    /// To etcd, too.
    pub login: Option<EtcdLogin>,
}

impl TlsArgs {
    /// Lays the flags over the file.
    ///
    /// # Errors
    /// What is half said, or a file that cannot be used.
    pub(super) fn settle(self, file: &CoordinatorConfig) -> Result<TlsSettings, String> {
        let (own, etcd) = (file.tls.clone(), file.etcd_tls.clone());
        let identity =
            Identity::of(self.tls_cert.or(own.cert), self.tls_key.or(own.key)).map_err(|error| error.to_string())?;
        let client_authority = self.tls_client_ca.or(own.client_ca);
        let authority = self.tls_ca.or(own.ca).or_else(|| client_authority.clone());
        let server_name = self.tls_server_name.or(own.server_name);
        let server = match identity.clone() {
            Some(identity) => Some(ServerTls { identity, client_authority }),
            None if authority.is_some() => {
                return Err(
                    "TLS needs a certificate of this coordinator: --tls-cert FILE and --tls-key FILE".to_owned()
                );
            }
            None => None,
        };
        if let Some(server) = &server {
            server.read().map_err(|error| chain(&error))?;
        }
        let peers = authority.map(|authority| ClientTls { authority, identity, server_name });
        let etcd = ClientTls::of(
            self.etcd_ca.or(etcd.ca),
            self.etcd_cert.or(etcd.cert),
            self.etcd_key.or(etcd.key),
            self.etcd_server_name.or(etcd.server_name),
        );
        let etcd = etcd.map_err(|error| format!("etcd: {}", error.to_string().replace("--tls-", "--etcd-")))?;
        for tls in peers.iter().chain(&etcd) {
            tls.read().map_err(|error| chain(&error))?;
        }
        let user = self.etcd_user.or_else(|| file.etcd_user.clone());
        let password = self.etcd_password_file.or_else(|| file.etcd_password_file.clone());
        let login = match (user, password) {
            (Some(user), Some(path)) => Some(EtcdLogin { user, password: read_password(&path)? }),
            (None, None) => None,
            (Some(_), None) => return Err("etcd's user has no password: --etcd-password-file FILE".to_owned()),
            (None, Some(_)) => return Err("etcd's password is nobody's: --etcd-user USER".to_owned()),
        };
        Ok(TlsSettings { server, dialer: Dialer::new(peers), etcd, login })
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned())
}
