//! Settings of the way to etcd: TLS and a login. Flags and environment over the file, and the files
//! that they name, read once to be sure.

use std::path::{Path, PathBuf};

use clap::Args;
use highwater_common::config::CoordinatorConfig;
use highwater_coordinator::store::etcd::EtcdLogin;
use highwater_net::{ClientTls, ClientTlsArgs};
use highwater_runtime::with_causes;

/// Flags of the way to etcd.
#[derive(Debug, Args)]
pub(super) struct EtcdArgs {
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

impl EtcdArgs {
    /// Lays the flags over the file: TLS to etcd's members, and who the coordinator is to them.
    ///
    /// # Errors
    /// What is incomplete, or a file that cannot be used.
    pub(super) fn settle(
        self,
        file: &CoordinatorConfig,
    ) -> Result<(Option<ClientTls>, Option<EtcdLogin>), String> {
        let flags = ClientTlsArgs {
            ca: self.etcd_ca,
            cert: self.etcd_cert,
            key: self.etcd_key,
            server_name: self.etcd_server_name,
        };
        let tls = flags.over(file.etcd_tls.clone()).settle();
        let tls = tls
            .map_err(|error| format!("etcd: {}", error.to_string().replace("--tls-", "--etcd-")))?;
        if let Some(tls) = &tls {
            tls.read().map_err(|error| with_causes(&error))?;
        }
        let user = self.etcd_user.or_else(|| file.etcd_user.clone());
        let password = self
            .etcd_password_file
            .or_else(|| file.etcd_password_file.clone());
        let login = match (user, password) {
            (Some(user), Some(path)) => Some(EtcdLogin {
                user,
                password: read_password(&path)?,
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err("etcd's user has no password: --etcd-password-file FILE".to_owned());
            }
            (None, Some(_)) => {
                return Err("etcd's password is nobody's: --etcd-user USER".to_owned());
            }
        };
        Ok((tls, login))
    }
}

fn read_password(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.trim_end_matches('\r'))
        .to_owned())
}
