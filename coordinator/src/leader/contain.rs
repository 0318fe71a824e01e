//! Where a run's own data is turned into decisions, a panic is that run's damage and nobody else's:
//! its facts come from tables, and its records may be of any age. Nothing here holds a lock or
//! performs I/O, so nothing is left half done.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `pure` makes, or in words what it panicked of while `doing`.
pub(super) fn contained<T>(doing: &str, pure: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(pure)).map_err(|panic| {
        let text = told(panic.as_ref());
        tracing::error!("{doing} panicked: {text}");
        format!(
            "{doing} panicked: {text} (this is a defect of the coordinator; other runs are not \
                 touched)"
        )
    })
}

fn told(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "no reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let numbers = [1, 2, 3];
        let at = std::hint::black_box(7);
        let found = contained("planning", || numbers[at]).expect_err("a panic");
        assert!(
            found.contains(
                "planning panicked: index out of bounds: the len is 3 but the index is 7"
            ),
            "{found}"
        );
        assert_eq!(contained("planning", || numbers[2]), Ok(3));
    }
}
