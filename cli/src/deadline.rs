//! How long the command waits for an answer: a little longer than the coordinator lets a call take,
//! so that its word comes first. Nothing says that what was asked for was not done; every command
//! may be given again.

use std::time::Duration;

use tonic::Status;

/// How long a call may take.
pub(crate) const CALL_WAIT_MAX: Duration = Duration::from_secs(40);
/// How long a cancel may wait for its fences.
pub(crate) const CANCEL_WAIT_MAX: Duration = Duration::from_secs(10 * 60 + 10);

/// The answer to a call, within `limit`.
///
/// # Errors
/// The call's own; or, when there was no answer in time, that there was none.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answered) => answered,
        Err(_) => {
            let why = format!(
                "no answer within {} s; it may have been done nonetheless",
                limit.as_secs()
            );
            Err(Status::deadline_exceeded(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CliError;
    use crate::exit::ExitCode;

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_never_answers_is_unreachable_and_says_how_long_it_was_waited_for() {
        let silent = std::future::pending::<Result<(), Status>>();
        let status = within(CALL_WAIT_MAX, silent).await.expect_err("no answer");
        let error = CliError::from_status("cannot start the run", &status);
        assert_eq!(error.exit(), ExitCode::Unreachable);
        assert!(
            status.message().contains("no answer within 40 s"),
            "{status}"
        );
    }
}
