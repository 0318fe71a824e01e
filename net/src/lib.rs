//! Connections between processes: dialled and accepted, in the clear or over TLS.
//!
//! Certificates and keys are files, and are read again when they change: what is dialled or
//! accepted from then on uses the new ones, and no process has to be started anew. Never decides
//! what travels over them.

mod caller;
mod dial;
mod files;
mod listen;
mod settings;
#[cfg(test)]
mod tests;
pub mod trace;

pub use caller::Caller;
pub use dial::{AddressError, ConnectError, ConnectFailure, Connection, Dialer};
pub use files::{ClientTls, Identity, IncompleteTls, ServerTls, TlsFileError};
pub use listen::{Accepted, incoming};
pub use settings::{ClientTlsArgs, ServerTlsArgs, TlsSettingsError};

/// What both ends speak inside TLS.
const ALPN: &[u8] = b"h2";

/// Lets whoever opens TLS in this process find a provider of its cryptography: drivers and clients
/// look for one, too.
pub fn install_tls_provider() {
    // Only a second installation fails, and then the first one holds.
    tokio_rustls::rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
}
