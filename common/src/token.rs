//! Fencing tokens and nonces: what makes a commit safe, however late the attempt behind it wakes
//! up.
//!
//! Idea: fencing tokens, as in M. Kleppmann, "How to do distributed locking" (2016). The nonce is
//! ours, for stores that were restored from a backup and hand out the same tokens again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits of the part of a token that counts within one reign of `hi`.
pub const LO_BITS: u32 = 24;

/// `hi << 24 | lo`, strictly growing per task: the larger wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken(i64);

impl FencingToken {
    /// The largest `lo`; a leader that has used it up raises `hi`.
    pub const LO_MAX: u32 = (1 << LO_BITS) - 1;
    /// The largest `hi` that leaves the token a positive `i64`.
    pub const HI_MAX: u64 = (1 << (63 - LO_BITS)) - 1;

    /// The token of `hi` and `lo`, or `None` when either is past its end.
    #[must_use]
    pub fn new(hi: u64, lo: u32) -> Option<Self> {
        if hi > Self::HI_MAX || lo > Self::LO_MAX {
            return None;
        }
        i64::try_from(hi << LO_BITS | u64::from(lo)).ok().map(Self)
    }

    /// The token that a ledger or a record holds as `raw`.
    #[must_use]
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// The token as the ledger stores it.
    #[must_use]
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// The high part: the counter in the store that each term raises.
    #[must_use]
    pub fn hi(self) -> u64 {
        u64::try_from(self.0 >> LO_BITS).unwrap_or(0)
    }

    /// The low part: the count within the term.
    #[must_use]
    pub fn lo(self) -> u32 {
        u32::try_from(self.0 & i64::from(Self::LO_MAX)).unwrap_or(0)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.hi(), self.lo())
    }
}

/// 128 random bits, unique to an attempt. Deliberately without order: two nonces are the same
/// attempt, or they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(u128);

impl Nonce {
    /// The nonce of these random bits.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The bits, most significant byte first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The nonce of [`Nonce::to_bytes`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// What a claim writes into the ledger and a guard demands of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Which of two attempts is the later one.
    pub token: FencingToken,
    /// Whether it is this attempt at all.
    pub nonce: Nonce,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_hi_beats_every_lo() {
        let old = FencingToken::new(7, FencingToken::LO_MAX).expect("in range");
        let new = FencingToken::new(8, 0).expect("in range");
        assert!(old < new);
        assert_eq!((old.hi(), old.lo()), (7, FencingToken::LO_MAX));
        assert_eq!(FencingToken::new(7, FencingToken::LO_MAX + 1), None);
        assert_eq!(FencingToken::new(FencingToken::HI_MAX + 1, 0), None);
    }

    #[test]
    fn a_token_is_kept_as_one_number_whose_parts_come_back() {
        // Ledgers and records hold these numbers: another layout would take an old token for a
        // small one.
        let token = FencingToken::new(5, 3).expect("in range");
        assert_eq!(
            (token.raw(), token.to_string().as_str()),
            (5 * 16_777_216 + 3, "5.3")
        );
        assert_eq!(FencingToken::from_raw(token.raw()), token);
        let largest = FencingToken::new(549_755_813_887, 16_777_215).expect("in range");
        assert_eq!(
            (largest.raw(), largest.hi(), largest.lo()),
            (i64::MAX, FencingToken::HI_MAX, FencingToken::LO_MAX)
        );
        let damaged = FencingToken::from_raw(-1);
        assert_eq!(
            damaged.hi(),
            0,
            "a number that no version has written is no large token"
        );
    }

    #[test]
    fn a_nonce_comes_back_from_its_bytes_the_most_significant_first() {
        let nonce = Nonce::new(0x0102);
        assert_eq!(
            (nonce.bits(), nonce.to_bytes()[14..].to_vec()),
            (0x0102, vec![1, 2])
        );
        assert_eq!(Nonce::from_bytes(nonce.to_bytes()), nonce);
    }
}
