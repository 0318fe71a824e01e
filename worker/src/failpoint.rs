//! Named places where a test can end the process, make it wait, or make a step fail. Without the feature `failpoints` they
//! are nothing.

use highwater_common::assignment::AttemptError;

/// Does what the environment variable `FAILPOINTS` says of `name`: nothing, end the process (`return(abort)`), wait
/// (`pause`), or fail (`return`).
///
/// # Errors
/// A transient error that names the place, when the place is told to fail.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) -> Result<(), AttemptError> {
    use highwater_common::assignment::ErrorClass;

    use tokio::runtime::{Handle, RuntimeFlavor};

    let ask = || {
        fail::fail_point!(name, |told: Option<String>| {
            if told.as_deref() == Some("abort") {
                std::process::abort();
            }
            let message = format!("the failpoint {name} was told to fail");
            Err(AttemptError::new(ErrorClass::Transient, "failpoint", message))
        });
        Ok(())
    };
    // An attempt that waits here must not hold up the heartbeats, which a thread that blocks may do.
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
        Ok(_) | Err(_) => ask(),
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it fails when told to")]
pub(crate) const fn hit(_name: &str) -> Result<(), AttemptError> {
    Ok(())
}
