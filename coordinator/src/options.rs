//! What a coordinator is started with.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_common::id::PoolName;
use highwater_common::roles::RolesConfig;
use highwater_net::Dialer;

/// Times of worker sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// A session ends when no heartbeat came for so long.
    pub ttl: Duration,
    /// How often a worker sends one.
    pub heartbeat: Duration,
    /// A worker ends its own attempts so long before `ttl` has passed since its last acknowledged
    /// heartbeat was sent.
    pub stop_margin: Duration,
    /// How long a pull waits for work.
    pub pull_wait: Duration,
}

impl SessionOptions {
    /// Sessions that live for `ttl`, with the other times in the proportion that the defaults have.
    #[must_use]
    pub fn of_ttl(ttl: Duration) -> Self {
        Self {
            ttl,
            heartbeat: ttl / 5,
            stop_margin: ttl / 5,
            ..Self::default()
        }
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            heartbeat: Duration::from_secs(3),
            stop_margin: Duration::from_secs(3),
            pull_wait: Duration::from_secs(20),
        }
    }
}

/// What a coordinator is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// Where other processes reach it; empty in one process.
    pub address: String,
    /// How it reaches the other coordinators.
    pub dialer: Dialer,
    /// Time to live of the leadership.
    pub leader_ttl: Duration,
    /// Times of worker sessions.
    pub sessions: SessionOptions,
    /// Whether steps that move nothing may run.
    pub allow_noop: bool,
    /// Tasks at once over all runs, of the steps that name such a pool.
    pub pools: BTreeMap<PoolName, u32>,
    /// Who may do what; `None` lets whoever reaches the services do everything.
    pub roles: Option<RolesConfig>,
    /// Whether the store admits one process: then whoever held a lease before this one started is
    /// gone for certain, and the workers of that process, being all there are, count as carrying
    /// every label.
    pub is_exclusive: bool,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            address: String::new(),
            dialer: Dialer::new(None),
            leader_ttl: Duration::from_secs(5),
            sessions: SessionOptions::default(),
            allow_noop: false,
            pools: BTreeMap::new(),
            roles: None,
            is_exclusive: false,
        }
    }
}

impl CoordinatorOptions {
    /// What the options cost, although they do not contradict each other.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let SessionOptions {
            ttl,
            heartbeat,
            stop_margin,
            ..
        } = self.sessions;
        // The leadership falls free a time to live after its holder died, a second later at the
        // most by etcd's own clock; a worker that was heard last just before then asks every
        // fraction of a heartbeat.
        let takes = self.leader_ttl + Duration::from_secs(1) + heartbeat.mul_f64(1.5);
        let patience = ttl.saturating_sub(stop_margin);
        if takes > patience {
            return vec![format!(
                "when a leader dies its successor may come after {takes:?}, and workers stop what \
                 they do after {patience:?} without an answer: a shorter leader ttl, or a longer \
                 session ttl, lets running attempts survive"
            )];
        }
        Vec::new()
    }

    /// What is wrong with the options, all of it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let SessionOptions {
            ttl,
            heartbeat,
            stop_margin,
            ..
        } = self.sessions;
        let mut problems = Vec::new();
        if heartbeat * 3 + stop_margin > ttl {
            problems.push(format!(
                "session ttl {ttl:?} leaves no room for three heartbeats of {heartbeat:?} and a \
                 stop margin of {stop_margin:?}"
            ));
        }
        if heartbeat.is_zero() {
            problems.push("a heartbeat every 0 s never ends".to_owned());
        }
        for (name, _) in self.pools.iter().filter(|(_, tasks)| **tasks == 0) {
            problems.push(format!(
                "the pool {name} of 0 tasks lets none of its steps run: 1 is the least"
            ));
        }
        problems.extend(self.roles.iter().flat_map(RolesConfig::problems));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_times_let_attempts_survive_their_leader_and_shorter_lives_are_warned_of() {
        let options = CoordinatorOptions::default();
        assert_eq!(
            (options.problems(), options.warnings()),
            (Vec::new(), Vec::new())
        );
        let short = CoordinatorOptions {
            leader_ttl: Duration::from_secs(10),
            ..options
        };
        assert!(
            short.problems().is_empty() && short.warnings()[0].contains("shorter leader ttl"),
            "{short:?}"
        );
    }
}
