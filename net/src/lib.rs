//! The line between two processes: who dials whom, in the clear or over TLS.
//!
//! Certificates and keys are files, and are read again when they change: what is dialled or accepted from then on uses the new
//! ones, and no process has to be started anew. Never decides what travels over a line.

mod dial;
mod files;
mod listen;
#[cfg(test)]
mod tests;

pub use dial::{AddressError, Dialer, Line, OpenError, Trouble};
pub use files::{ClientTls, HalfSaid, Identity, ServerTls, TlsFileError};
pub use listen::{Accepted, incoming};

/// What both ends speak inside TLS.
const ALPN: &[u8] = b"h2";
