//! Waits for something outside this process, which sends no event: asks again and again, and gives
//! up.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long to wait between two questions.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, and returns it.
///
/// # Errors
/// The question's own error, at once; or that `limit` has passed, naming `what` was waited for.
pub async fn until<T, F, A>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> A,
    A: Future<Output = Result<Option<T>>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
    };
    tokio::time::timeout(limit, asking)
        .await
        .with_context(|| format!("waited {limit:?} for {what}"))?
}
