//! An authority of a test's own, and certificates that it signs, as files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::folders::scratch_folder;

/// Who signs. Dropping it removes all its files.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// An authority of this name, which nobody knows yet.
    ///
    /// # Errors
    /// There is no room for its files.
    pub fn new(name: &str) -> Result<Self> {
        let mut params =
            CertificateParams::new(Vec::new()).context("a certificate without a host")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().context("make a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("sign an authority")?;
        let authority = Self {
            issuer,
            folder: scratch_folder("authority")?,
        };
        std::fs::write(authority.file(), authority.issuer.pem()).context("write an authority")?;
        Ok(authority)
    }

    /// Its own certificate: what those who trust it are given.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The files of a certificate for `host` and of its key, made when they are first asked for.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn sign(&self, host: &str) -> Result<(PathBuf, PathBuf)> {
        let path = |end: &str| self.folder.path().join(format!("{host}{end}"));
        let (certificate, key) = (path(".pem"), path(".key"));
        if !key.exists() {
            self.sign_into(host, &certificate, &key)?;
        }
        Ok((certificate, key))
    }

    /// The same, into files that somebody reads already.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn sign_into(&self, host: &str, certificate: &Path, key: &Path) -> Result<()> {
        let mut params = CertificateParams::new(vec![host.to_owned()])
            .with_context(|| format!("{host} as a name"))?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, host);
        let own = KeyPair::generate().context("make a key")?;
        let signed = params
            .signed_by(&own, &self.issuer)
            .context("sign a certificate")?;
        std::fs::write(certificate, signed.pem()).context("write a certificate")?;
        std::fs::write(key, own.serialize_pem()).context("write a key")
    }
}
