//! Named places where a test can end the process, make it wait, make a step fail, or panic. Without
//! the feature `failpoints` they are nothing.

use highwater_common::assignment::{AttemptError, ErrorClass};
use highwater_common::error_code::ErrorCode;

/// A place was told to fail. What that means is up to whoever stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the failpoint {name} was told to fail")]
pub struct Struck {
    name: String,
}

/// Places that fail do so as things that pass: the attempt is made again.
impl From<Struck> for AttemptError {
    fn from(struck: Struck) -> Self {
        Self::new(
            ErrorClass::Transient,
            ErrorCode::Failpoint,
            struck.to_string(),
        )
    }
}

pub use armed::{Armed, arm, hit, hit_on, number_at, panic_at};

#[cfg(feature = "failpoints")]
mod armed {
    use std::fmt::Display;
    use std::time::Duration;

    use fail::FailScenario;
    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::Struck;

    /// The places of this process, armed for as long as it lives.
    pub struct Armed {
        _scenario: FailScenario<'static>,
    }

    /// Reads the environment variable `FAILPOINTS`: `name=action;name=action`.
    #[must_use]
    pub fn arm() -> Armed {
        Armed {
            _scenario: FailScenario::setup(),
        }
    }

    /// Does what `FAILPOINTS` says of `name`: nothing, end the process (`return(abort)`), fail
    /// (`return`), or wait, for ever or for so many milliseconds (`return(stall)`, `return(stall
    /// 4000)`). Waiting holds up its caller alone and not the thread, as fail's own `pause` and
    /// `sleep` would. Whatever strikes is told in the log.
    ///
    /// # Errors
    /// [`Struck`], when the place is told to fail.
    pub async fn hit(name: &str) -> Result<(), Struck> {
        let Some(told) = told(name) else {
            return Ok(());
        };
        tracing::error!("failpoint {name} struck: {told}");
        match told.split_once(' ').unwrap_or((&told, "")) {
            ("abort", _) => std::process::abort(),
            ("stall", "") => std::future::pending().await,
            ("stall", millis) => {
                let millis = millis.parse().unwrap_or(u64::MAX);
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Ok(())
            }
            _ => Err(Struck {
                name: name.to_owned(),
            }),
        }
    }

    /// Like [`hit`], for a place that a single process can be made to stumble over by the name
    /// `name@whose`.
    ///
    /// # Errors
    /// As [`hit`].
    pub async fn hit_on(name: &str, whose: &str) -> Result<(), Struck> {
        hit(name).await?;
        hit(&format!("{name}@{whose}")).await
    }

    /// Panics when `FAILPOINTS` says so of `place::of` (`return`): a place within pure work, of one
    /// pipeline for instance.
    ///
    /// # Panics
    /// When told to.
    pub fn panic_at(place: &str, of: &impl Display) {
        if told(&format!("{place}::{of}")).is_some() {
            panic!("failpoint {place}::{of} struck");
        }
    }

    /// The number that `FAILPOINTS` gives a place (`return(4000)`), such as how far a clock is put
    /// forward; 0 when it gives none.
    #[must_use]
    pub fn number_at(place: &str) -> u64 {
        let number = told(place).and_then(|told| told.parse().ok());
        number.unwrap_or(0)
    }

    fn told(name: &str) -> Option<String> {
        let ask = || {
            fail::fail_point!(name, |told: Option<String>| Some(told.unwrap_or_default()));
            None
        };
        // A loop that sleeps or pauses here must not hold up the heartbeats, which a thread that
        // blocks may do.
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
            Ok(_) | Err(_) => ask(),
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod armed {
    use std::fmt::Display;
    use std::future::{Ready, ready};

    use super::Struck;

    /// Nothing.
    pub struct Armed;

    /// Nothing.
    #[must_use]
    pub const fn arm() -> Armed {
        Armed
    }

    /// Nothing.
    pub fn hit(_name: &str) -> Ready<Result<(), Struck>> {
        ready(Ok(()))
    }

    /// Nothing.
    pub fn hit_on(_name: &str, _whose: &str) -> Ready<Result<(), Struck>> {
        ready(Ok(()))
    }

    /// Nothing.
    #[must_use]
    pub const fn number_at(_place: &str) -> u64 {
        0
    }

    /// Nothing.
    pub const fn panic_at(_place: &str, _of: &impl Display) {}
}
