//! Who may do what on a cluster: the roles, the calls that each may make, and the pipelines that it
//! may act on. Never learns by itself who calls: that is proved elsewhere.
//!
//! Whoever is not named may do nothing, and a call that is in no table is refused.

mod calls;
mod config;
mod grant;
mod principal;
mod role;
#[cfg(test)]
mod tests;
mod tokens;

pub use self::calls::{CALLS, Need, need_of};
pub use self::config::{CertificateGrant, CertificateRefused, LimitedGrant, RolesConfig};
pub use self::grant::{Grant, Pattern, PipelinePattern};
pub use self::principal::{Principal, Refusal};
pub use self::role::{Role, may};
pub use self::tokens::{Token, TokenFile, TokenFileError, TokenRefused};
