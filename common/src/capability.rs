//! What a worker can run: words that it tells when it registers, and what a step needs of them.
//! Never says where a step should run, which is a matter of labels, nor what it may use, which is a
//! matter of limits.
//!
//! A word means the same for ever. A worker that knows more than its coordinator tells words that
//! this one does not know; they are kept and shown, and nothing needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::facts::Engine;
use crate::id::ConnectionName;
use crate::spec::{Connection, Partition, PartitionBy, Step};

/// A set of what can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

impl Partition {
    /// What moving its partitions takes beyond moving any.
    #[must_use]
    pub const fn needs(&self) -> Capabilities {
        match self.by {
            PartitionBy::Calendar { .. } | PartitionBy::Integer { .. } => Capabilities::NONE,
            PartitionBy::Hash { .. } => Capabilities::HASH,
            PartitionBy::Keyset { .. } => Capabilities::KEYSET,
            PartitionBy::Auto { .. } => Capabilities::KEYSET.and(Capabilities::HASH),
        }
    }
}

/// What is known beside the databases, and the word for each.
const WORDS: [(Capabilities, &str); 14] = [
    (Capabilities::BACKFILL, "backfill"),
    (Capabilities::FULL_REFRESH, "full_refresh"),
    (Capabilities::SWAP, "swap"),
    (Capabilities::INCREMENTAL, "incremental"),
    (Capabilities::SQL, "sql"),
    (Capabilities::PERIODS, "sql_periods"),
    (Capabilities::EXEC, "exec"),
    (Capabilities::CDC, "cdc"),
    (Capabilities::FOLLOW, "follow"),
    (Capabilities::NOOP, "noop"),
    (Capabilities::CHECKS, "checks"),
    (Capabilities::HASH, "hash"),
    (Capabilities::KEYSET, "keyset"),
    (Capabilities::RECONCILE, "reconcile"),
];

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// To move partitions.
    pub const BACKFILL: Self = Self(1);
    /// To hold slots.
    pub const NOOP: Self = Self(1 << 1);
    /// To put a whole table in the place of another's rows.
    pub const FULL_REFRESH: Self = Self(1 << 2);
    /// To let a table take the place of another.
    pub const SWAP: Self = Self(1 << 3);

    /// To ask a table what a step's checks say.
    pub const CHECKS: Self = Self(1 << 4);

    /// To go on where the last run ended.
    pub const INCREMENTAL: Self = Self(1 << 5);

    /// To run the statements of a step.
    pub const SQL: Self = Self(1 << 6);

    /// To run programs, of those that the worker allows.
    pub const EXEC: Self = Self(1 << 7);

    /// To follow a table through its database's log.
    pub const CDC: Self = Self(1 << 8);

    /// To follow a log for as long as a run lasts, and to mark rows that the source deletes.
    pub const FOLLOW: Self = Self(1 << 9);

    /// To run the statements of a step for single periods.
    pub const PERIODS: Self = Self(1 << 10);

    /// To remove what the source has no more.
    pub const RECONCILE: Self = Self(1 << 29);

    /// To move partitions that the source tells by a hash.
    pub const HASH: Self = Self(1 << 31);

    /// To move partitions that the source tells by the order of a key.
    pub const KEYSET: Self = Self(1 << 30);

    /// To reach databases of this kind.
    #[must_use]
    pub const fn of_engine(engine: Engine) -> Self {
        Self(1 << 11 << engine as u32)
    }

    /// What programs of this version can do; no-op tasks only where they are allowed.
    #[must_use]
    pub fn of_program(allow_noop: bool) -> Self {
        let engines = Engine::ALL.iter().copied().map(Self::of_engine);
        let whole = Self::FULL_REFRESH.and(Self::SWAP);
        let strategies = Self::BACKFILL
            .and(Self::INCREMENTAL)
            .and(Self::SQL)
            .and(Self::PERIODS)
            .and(Self::CDC)
            .and(Self::FOLLOW)
            .and(Self::HASH)
            .and(Self::KEYSET)
            .and(Self::RECONCILE)
            .and(whole);
        let moving = engines.fold(strategies.and(Self::CHECKS).and(Self::EXEC), Self::and);
        if allow_noop {
            moving.and(Self::NOOP)
        } else {
            moving
        }
    }

    /// What a worker has told. One that told nothing is of a version before these words, which
    /// could do all that moves rows.
    #[must_use]
    pub fn of_worker(told: &BTreeSet<String>, allow_noop: bool) -> Self {
        if told.is_empty() {
            return Self::of_program(allow_noop);
        }
        words()
            .filter(|(_, word)| told.contains(*word))
            .fold(Self::NONE, |all, (one, _)| all.and(one))
    }

    /// What each task of a step needs.
    #[must_use]
    pub fn of_step(step: &Step, connections: &BTreeMap<ConnectionName, Connection>) -> Self {
        let load = step.strategy.load();
        let engines = load
            .sides()
            .connections()
            .filter_map(|name| connections.get(name));
        let engines = engines.map(|connection| Self::of_engine(connection.engine()));
        let checks = if step.checks.is_empty() {
            Self::NONE
        } else {
            Self::CHECKS
        };
        engines.fold(load.needs().and(checks), Self::and)
    }

    /// What is not of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// All of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True when nothing of `needed` is missing.
    #[must_use]
    pub const fn hold(self, needed: Self) -> bool {
        needed.0 & !self.0 == 0
    }

    /// The words.
    #[must_use]
    pub fn words(self) -> BTreeSet<String> {
        words()
            .filter(|(one, _)| self.hold(*one))
            .map(|(_, word)| word.to_owned())
            .collect()
    }
}

/// All that is known, and the word for each.
fn words() -> impl Iterator<Item = (Capabilities, &'static str)> {
    let engines = Engine::ALL.iter().copied();
    let engines = engines.map(|engine| (Capabilities::of_engine(engine), engine.word()));
    WORDS.into_iter().chain(engines)
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words().into_iter().collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POSTGRES: Capabilities = Capabilities::of_engine(Engine::Postgres);
    const SQLITE: Capabilities = Capabilities::of_engine(Engine::Sqlite);

    fn told(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_worker_can_do_what_it_has_told_and_nothing_else() {
        let worker = Capabilities::of_worker(&told(&["backfill", "postgres"]), true);
        assert!(worker.hold(POSTGRES) && worker.hold(Capabilities::BACKFILL.and(POSTGRES)));
        assert!(
            !worker.hold(SQLITE)
                && !worker.hold(Capabilities::BACKFILL.and(SQLITE))
                && !worker.hold(Capabilities::NOOP)
        );
    }

    #[test]
    fn a_worker_of_before_these_words_moves_rows_and_holds_noops_as_it_says() {
        assert_eq!(
            Capabilities::of_worker(&told(&[]), false),
            Capabilities::of_program(false)
        );
        assert!(!Capabilities::of_worker(&told(&[]), false).hold(Capabilities::NOOP));
        assert!(Capabilities::of_worker(&told(&[]), true).hold(Capabilities::NOOP));
    }

    #[test]
    fn a_word_that_is_not_known_is_no_hindrance() {
        let worker = Capabilities::of_worker(&told(&["backfill", "mirror", "sqlite"]), false);
        assert_eq!(worker.to_string(), "backfill, sqlite");
    }

    proptest! {
        #[test]
        fn the_words_of_a_set_are_the_set(picked in proptest::collection::btree_set(0..words().count(), 1..5)) {
            let picked = words().enumerate().filter(|(at, _)| picked.contains(at));
            let set = picked.fold(Capabilities(0), |set, (_, (one, _))| set.and(one));
            prop_assert_eq!(Capabilities::of_worker(&set.words(), false), set);
        }

        #[test]
        fn a_set_holds_another_just_when_it_loses_nothing_to_it(one in 0_u32..256, other in 0_u32..256) {
            let (one, other) = (Capabilities(one), Capabilities(other));
            prop_assert_eq!(one.hold(other), one.and(other) == one);
        }
    }
}
