//! Named places where a test can end the process, make it wait, or make a step fail. Without the feature `failpoints` they
//! are nothing.

use highwater_common::assignment::AttemptError;

/// Does what the environment variable `FAILPOINTS` says of `name`: nothing, end the process (`return(abort)`), fail
/// (`return`), or wait, for ever or for so many milliseconds (`return(stall)`, `return(stall 4000)`). Waiting holds up its
/// caller alone and not the thread, as fail's own `pause` and `sleep` would. Whatever strikes is told in the log.
///
/// # Errors
/// A transient error that names the place, when the place is told to fail.
#[cfg(feature = "failpoints")]
pub(crate) async fn hit(name: &str) -> Result<(), AttemptError> {
    use highwater_common::assignment::ErrorClass;

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
        _ => {
            let message = format!("the failpoint {name} was told to fail");
            Err(AttemptError::new(ErrorClass::Transient, "failpoint", message))
        }
    }
}

/// Like [`hit`], for a place that a single worker can be made to stumble over by the name `name@worker`.
///
/// # Errors
/// As [`hit`].
#[cfg(feature = "failpoints")]
pub(crate) async fn hit_on(name: &str, worker: &str) -> Result<(), AttemptError> {
    hit(name).await?;
    hit(&format!("{name}@{worker}")).await
}

#[cfg(feature = "failpoints")]
fn told(name: &str) -> Option<String> {
    fail::fail_point!(name, |told: Option<String>| Some(told.unwrap_or_default()));
    None
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hit(_name: &str) -> std::future::Ready<Result<(), AttemptError>> {
    std::future::ready(Ok(()))
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hit_on(_name: &str, _worker: &str) -> std::future::Ready<Result<(), AttemptError>> {
    std::future::ready(Ok(()))
}
