//! Settings of TLS: flags and environment over the configuration file, and the files that they
//! name, read once to be sure.

use std::path::PathBuf;

use clap::Args;
use highwater_common::config::{ClientTlsConfig, ServerTlsConfig};

use crate::files::{ClientTls, Identity, IncompleteTls, ServerTls, TlsFileError};

/// Flags of a program that dials coordinators.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientTlsArgs {
    /// The authorities that signed the coordinators' certificates, for https
    #[arg(
        long = "tls-ca",
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_TLS_CA",
        hide_env_values = true
    )]
    pub ca: Option<PathBuf>,
    /// A certificate of our own, where coordinators ask for one
    #[arg(
        long = "tls-cert",
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_TLS_CERT",
        hide_env_values = true
    )]
    pub cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(
        long = "tls-key",
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_TLS_KEY",
        hide_env_values = true
    )]
    pub key: Option<PathBuf>,
    /// The name that the coordinators' certificates are for, if not the host
    #[arg(
        long = "tls-server-name",
        global = true,
        value_name = "NAME",
        env = "HIGHWATER_TLS_SERVER_NAME",
        hide_env_values = true
    )]
    pub server_name: Option<String>,
}

/// Flags of a program that listens, and dials its like.
#[derive(Debug, Args)]
pub struct ServerTlsArgs {
    /// Its certificate; with it everything it listens to is encrypted
    #[arg(long = "tls-cert", env = "HIGHWATER_TLS_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long = "tls-key", env = "HIGHWATER_TLS_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Lets in only who has a certificate that these authorities signed
    #[arg(
        long = "tls-client-ca",
        env = "HIGHWATER_TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    client_ca: Option<PathBuf>,
    /// The authorities that signed the other coordinators' certificates [default: those of
    /// --tls-client-ca]
    #[arg(long = "tls-ca", env = "HIGHWATER_TLS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the other coordinators' certificates are for [default: the host that is
    /// dialled]
    #[arg(
        long = "tls-server-name",
        env = "HIGHWATER_TLS_SERVER_NAME",
        value_name = "NAME"
    )]
    server_name: Option<String>,
}

/// Settings that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum TlsSettingsError {
    /// Some are missing that belong to the others.
    #[error(transparent)]
    Incomplete(#[from] IncompleteTls),
    /// A file that is named cannot be used.
    #[error(transparent)]
    File(#[from] TlsFileError),
}

impl ClientTlsArgs {
    /// These flags, and for those that are not given what the file says.
    #[must_use]
    pub fn over(self, file: ClientTlsConfig) -> Self {
        Self {
            ca: self.ca.or(file.ca),
            cert: self.cert.or(file.cert),
            key: self.key.or(file.key),
            server_name: self.server_name.or(file.server_name),
        }
    }

    /// What the settings say; `None` when none of them says anything. The files are not looked at.
    ///
    /// # Errors
    /// [`IncompleteTls`] when some are missing that belong to the others.
    pub fn settle(self) -> Result<Option<ClientTls>, IncompleteTls> {
        let Self {
            ca,
            cert,
            key,
            server_name,
        } = self;
        let identity = Identity::of(cert, key)?;
        match ca {
            Some(authority) => Ok(Some(ClientTls {
                authority,
                identity,
                server_name,
            })),
            None if identity.is_some() || server_name.is_some() => Err(IncompleteTls::Authority),
            None => Ok(None),
        }
    }

    /// Like [`settle`](Self::settle), and reads the files once.
    ///
    /// # Errors
    /// What is incomplete, or a file that cannot be used.
    pub fn settle_and_read(self) -> Result<Option<ClientTls>, TlsSettingsError> {
        let tls = self.settle()?;
        if let Some(tls) = &tls {
            tls.read()?;
        }
        Ok(tls)
    }
}

impl ServerTlsArgs {
    /// What these flags say, and for those that are not given the file: TLS for those who call, and
    /// TLS to the other coordinators. The files are read once.
    ///
    /// # Errors
    /// What is incomplete, or a file that cannot be used.
    pub fn settle(
        self,
        file: ServerTlsConfig,
    ) -> Result<(Option<ServerTls>, Option<ClientTls>), TlsSettingsError> {
        let identity = Identity::of(self.cert.or(file.cert), self.key.or(file.key))?;
        let client_authority = self.client_ca.or(file.client_ca);
        let authority = self.ca.or(file.ca).or_else(|| client_authority.clone());
        let server_name = self.server_name.or(file.server_name);
        let server = match identity.clone() {
            Some(identity) => Some(ServerTls {
                identity,
                client_authority,
                is_certificate_optional: false,
            }),
            None if authority.is_some() => return Err(IncompleteTls::Certificate.into()),
            None => None,
        };
        if let Some(server) = &server {
            server.read()?;
        }
        let peers = authority.map(|authority| ClientTls {
            authority,
            identity,
            server_name,
        });
        if let Some(peers) = &peers {
            peers.read()?;
        }
        Ok((server, peers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(ca: Option<&str>, cert: Option<&str>, key: Option<&str>) -> ClientTlsArgs {
        let path = |name: &str| PathBuf::from(name);
        ClientTlsArgs {
            ca: ca.map(path),
            cert: cert.map(path),
            key: key.map(path),
            server_name: None,
        }
    }

    #[test]
    fn a_flag_beats_the_file_and_what_is_incomplete_is_told() {
        let file = ClientTlsConfig {
            ca: Some("file.pem".into()),
            server_name: Some("c".to_owned()),
            ..Default::default()
        };
        let load_order = args(Some("flag.pem"), None, None).over(file).settle();
        let expected = ClientTls {
            authority: "flag.pem".into(),
            identity: None,
            server_name: Some("c".to_owned()),
        };
        assert_eq!(load_order, Ok(Some(expected)));
        assert_eq!(args(None, None, None).settle(), Ok(None));
        assert_eq!(
            args(Some("ca"), Some("cert"), None).settle(),
            Err(IncompleteTls::Identity)
        );
        assert_eq!(
            args(None, Some("cert"), Some("key")).settle(),
            Err(IncompleteTls::Authority)
        );
        let nowhere = args(Some("/nowhere/ca.pem"), None, None)
            .settle_and_read()
            .expect_err("no such file");
        assert!(nowhere.to_string().contains("/nowhere/ca.pem"), "{nowhere}");
    }

    #[test]
    fn a_program_that_listens_needs_a_certificate_before_it_asks_others_for_theirs() {
        let args = ServerTlsArgs {
            cert: None,
            key: None,
            client_ca: Some("ca".into()),
            ca: None,
            server_name: None,
        };
        let error = args
            .settle(ServerTlsConfig::default())
            .expect_err("no certificate");
        assert!(
            matches!(
                error,
                TlsSettingsError::Incomplete(IncompleteTls::Certificate)
            ),
            "{error}"
        );
    }
}
