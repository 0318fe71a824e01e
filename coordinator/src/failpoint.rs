//! Named places around the store's transactions where a test can end the process, make it wait, or end the term. Without the
//! feature `failpoints` they are nothing.

use crate::leader::Fallen;

/// Does what the environment variable `FAILPOINTS` says of `name`: nothing, end the process (`return(abort)`), wait
/// (`pause`), or end the term (`return`).
///
/// # Errors
/// [`Fallen::Unresolved`], when the place is told to fail: as if the store's answer had been lost for good.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) -> Result<(), Fallen> {
    fail::fail_point!(name, |told: Option<String>| {
        if told.as_deref() == Some("abort") {
            std::process::abort();
        }
        Err(Fallen::Unresolved)
    });
    Ok(())
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it fails when told to")]
pub(crate) const fn hit(_name: &str) -> Result<(), Fallen> {
    Ok(())
}
