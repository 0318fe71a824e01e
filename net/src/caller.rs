//! Who calls, as far as the connection proves it.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What a connection proves of its caller. Among a call's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The name in the caller's certificate, which was checked: its common name, or else the first
    /// other name that it is made out to. `None` for a caller without one.
    pub certificate: Option<String>,
}

impl Caller {
    pub(crate) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let certificate = certificates.and_then(<[_]>::first).and_then(name);
        Self { certificate }
    }
}

fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut common = certificate.subject().iter_common_name();
    let common = common.next().and_then(|name| name.as_str().ok());
    if let Some(common) = common.filter(|common| !common.is_empty()) {
        return Some(common.to_owned());
    }
    let others = certificate.subject_alternative_name().ok()??;
    others
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        })
}
