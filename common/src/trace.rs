//! Which trace something belongs to, as it goes from process to process and lies in the store: W3C's
//! `traceparent`. Never makes an id, and never decides what is recorded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A span of a trace, for those that come after it. Both ids are never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

/// What is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no traceparent: it is VERSION-TRACE-SPAN-FLAGS in lower-case hexadecimal digits")]
pub struct NoTraceParent;

impl TraceParent {
    /// The bit that says that somebody records the trace.
    const SAMPLED: u8 = 1;

    /// A span of a trace; `None` where one of the ids is zero, which stands for no span.
    #[must_use]
    pub const fn new(trace: u128, span: u64, is_sampled: bool) -> Option<Self> {
        if trace == 0 || span == 0 {
            return None;
        }
        let flags = if is_sampled { Self::SAMPLED } else { 0 };
        Some(Self { trace, span, flags })
    }

    /// The same span, for what comes after it and is not to be recorded.
    #[must_use]
    pub const fn unsampled(self) -> Self {
        Self { flags: 0, ..self }
    }

    /// The trace.
    #[must_use]
    pub const fn trace(&self) -> u128 {
        self.trace
    }

    /// The span in it.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// Whether somebody records it.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// Reads what W3C's recommendation says, also of a version to come: that one may go on behind a
    /// further `-`.
    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits: usize| {
            let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            let part = parts.next().ok_or(NoTraceParent)?;
            match part.len() == digits && part.chars().all(is_hex) {
                true => Ok(part),
                false => Err(NoTraceParent),
            }
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(NoTraceParent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NoTraceParent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| NoTraceParent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTraceParent)?;
        Self::new(trace, span, flags & Self::SAMPLED != 0).ok_or(NoTraceParent)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NoTraceParent;

    fn try_from(text: String) -> Result<Self, NoTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let read: TraceParent = GIVEN.parse().expect("its own example");
        assert_eq!(read.trace(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(read.span(), 0x00f0_67aa_0ba9_02b7);
        assert!(read.is_sampled());
        // a version to come may say more, this one may not
        let later = GIVEN.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(later.parse(), Ok(read));
        for wrong in [
            "",
            "00",
            &format!("{GIVEN}-more"),
            &GIVEN.to_uppercase(),
            &GIVEN.replacen("00", "ff", 1),
            &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GIVEN.replace("4bf9", "+bf9"),
            &GIVEN.replace("4bf9", "äbf9"),
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(NoTraceParent), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_nothing_that_is_read_panics(
            trace in 1_u128.., span in 1_u64.., is_sampled: bool, noise in ".{0,80}",
        ) {
            let parent = TraceParent::new(trace, span, is_sampled).expect("neither is zero");
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            let _ = noise.parse::<TraceParent>();
        }
    }
}
