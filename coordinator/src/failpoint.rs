//! Named places around the store's transactions where a test can end the process, make it wait, or end the term. Without the
//! feature `failpoints` they are nothing.

use crate::leader::Fallen;

/// Does what the environment variable `FAILPOINTS` says of `name`: nothing, end the process (`return(abort)`), end the term
/// (`return`), or wait, for ever or for so many milliseconds (`return(stall)`, `return(stall 4000)`). Waiting holds up its
/// caller alone and not the thread, as fail's own `pause` and `sleep` would. Whatever strikes is told in the log.
///
/// # Errors
/// [`Fallen::Unresolved`], when the place is told to fail: as if the store's answer had been lost for good.
#[cfg(feature = "failpoints")]
pub(crate) async fn hit(name: &str) -> Result<(), Fallen> {
    let Some(told) = told(name) else { return Ok(()) };
    tracing::error!("failpoint {name} struck: {told}");
    match told.split_once(' ').unwrap_or((&told, "")) {
        ("abort", _) => std::process::abort(),
        ("stall", "") => std::future::pending().await,
        ("stall", millis) => {
            let millis = millis.parse().unwrap_or(u64::MAX);
            tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
            Ok(())
        }
        _ => Err(Fallen::Unresolved),
    }
}

#[cfg(feature = "failpoints")]
fn told(name: &str) -> Option<String> {
    fail::fail_point!(name, |told: Option<String>| Some(told.unwrap_or_default()));
    None
}

/// Panics when `FAILPOINTS` says so of `name` (`return`): a place within pure work, of one pipeline.
#[cfg(feature = "failpoints")]
pub(crate) fn panic_at(place: &str, pipeline: &impl std::fmt::Display) {
    if told(&format!("{place}::{pipeline}")).is_some() {
        panic!("failpoint {place}::{pipeline} struck");
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn panic_at(_place: &str, _pipeline: &impl std::fmt::Display) {}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hit(_name: &str) -> std::future::Ready<Result<(), Fallen>> {
    std::future::ready(Ok(()))
}
