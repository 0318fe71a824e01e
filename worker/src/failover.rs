//! The coordinator of a cluster: several addresses, one leader. Asks the one that led last, goes
//! where a refusal points, and tries the others when nobody answers.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use highwater_common::assignment::Outcome;
use highwater_common::id::{DocumentDigest, SessionId, TaskId};
use highwater_common::token::Fence;
use highwater_net::{AddressError, ClientTls, Dialer};

use crate::coordinator_api::WorkerOptions;
use crate::coordinator_api::{
    ApiError, AttemptReport, CoordinatorApi, GrpcCoordinator, HeartbeatAnswer, Pulled, Registered,
};

/// The coordinator of a cluster.
#[derive(Debug)]
pub struct ClusterCoordinator {
    dialer: Dialer,
    state: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Those that were named at the start, and behind them at most one that a follower named as the
    /// leader.
    clients: Vec<(String, GrpcCoordinator)>,
    named: usize,
    current: usize,
}

impl ClusterCoordinator {
    /// A cluster whose coordinators listen at `urls`, which are `https` when they are to be reached
    /// over TLS. Nothing is dialled yet.
    ///
    /// # Errors
    /// The first address that cannot be dialled; and when there is none at all.
    pub fn new(urls: &[String], tls: Option<ClientTls>) -> Result<Self, AddressError> {
        let (dialer, addresses) = Dialer::for_addresses(urls, tls)?;
        let client = |address: String| {
            Ok((
                address.clone(),
                GrpcCoordinator::over(dialer.connect_lazy(&address)?),
            ))
        };
        let clients = addresses
            .into_iter()
            .map(client)
            .collect::<Result<Vec<_>, AddressError>>()?;
        let named = clients.len();
        Ok(Self {
            dialer,
            state: Mutex::new(Known {
                clients,
                named,
                current: 0,
            }),
        })
    }

    /// Whether what is said to the coordinators is encrypted.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.dialer.is_secure()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn current(&self) -> (usize, GrpcCoordinator) {
        self.with(|known| (known.current, known.clients[known.current].1.clone()))
    }

    /// How many may be asked for one call: each once, and the leader that one of them names.
    fn tries(&self) -> usize {
        self.with(|known| known.clients.len() + 1)
    }

    /// Chooses who is asked next, after `asked` did not do it.
    fn move_on(&self, asked: usize, error: &ApiError) {
        self.with(|known| {
            if known.current != asked {
                return; // another call has moved on already
            }
            if let ApiError::NotLeader { leader } = error {
                let at = known
                    .clients
                    .iter()
                    .position(|(address, _)| address == leader);
                let at = at.or_else(|| {
                    let connection = self.dialer.connect_lazy(leader).ok()?;
                    // A former leader elsewhere is of no use any more: addresses come and go.
                    known.clients.truncate(known.named);
                    known
                        .clients
                        .push((leader.clone(), GrpcCoordinator::over(connection)));
                    Some(known.clients.len() - 1)
                });
                if let Some(at) = at {
                    known.current = at;
                    return;
                }
            }
            known.current = (asked + 1) % known.clients.len();
        });
    }

    /// Asks one after the other until one does it, or refuses for good.
    async fn ask<'a, T>(
        &self,
        call: impl Fn(GrpcCoordinator) -> BoxFuture<'a, Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut silent = None;
        let mut distrust = None;
        for _ in 0..self.tries() {
            let (asked, client) = self.current();
            match call(client).await {
                Err(error @ (ApiError::Unavailable(_) | ApiError::NotLeader { .. })) => {
                    self.move_on(asked, &error);
                    silent = Some(error);
                }
                Err(error @ ApiError::Distrust { .. }) => {
                    self.move_on(asked, &error);
                    distrust = Some(error);
                }
                answered => return answered,
            }
        }
        // One that is silent may come back, and trust us; what is wrong with the others is told all
        // the same.
        Err(match (silent, distrust) {
            (Some(error), None) | (None, Some(error)) => error,
            (Some(silent), Some(distrust)) => {
                ApiError::Unavailable(format!("{silent}; {distrust}"))
            }
            (None, None) => ApiError::Unavailable("nobody was asked".to_owned()),
        })
    }
}

#[async_trait]
impl CoordinatorApi for ClusterCoordinator {
    async fn register(&self, options: &WorkerOptions) -> Result<Registered, ApiError> {
        self.ask(|client| Box::pin(async move { client.register(options).await }))
            .await
    }

    async fn pull(
        &self,
        session: SessionId,
        free: u32,
        known: &[DocumentDigest],
    ) -> Result<Pulled, ApiError> {
        self.ask(|client| Box::pin(async move { client.pull(session, free, known).await }))
            .await
    }

    async fn heartbeat(
        &self,
        session: SessionId,
        attempts: &[AttemptReport],
        draining: bool,
    ) -> Result<HeartbeatAnswer, ApiError> {
        self.ask(|client| {
            Box::pin(async move { client.heartbeat(session, attempts, draining).await })
        })
        .await
    }

    async fn complete(
        &self,
        session: SessionId,
        task: TaskId,
        fence: Fence,
        outcome: Outcome,
        millis: u64,
    ) -> Result<bool, ApiError> {
        self.ask(|client| {
            let outcome = outcome.clone();
            Box::pin(async move { client.complete(session, task, fence, outcome, millis).await })
        })
        .await
    }

    async fn leave(&self, session: SessionId) -> Result<(), ApiError> {
        self.ask(|client| Box::pin(async move { client.leave(session).await }))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(cluster: &ClusterCoordinator) -> String {
        cluster.with(|known| known.clients[known.current].0.clone())
    }

    #[tokio::test]
    async fn a_refusal_that_names_the_leader_leads_there() {
        let urls = [
            "http://127.0.0.1:7070".to_owned(),
            "127.0.0.1:7071".to_owned(),
        ];
        let cluster = ClusterCoordinator::new(&urls, None).expect("addresses");
        // WHEN the first one names a third, THEN that one is asked next
        cluster.move_on(
            0,
            &ApiError::NotLeader {
                leader: "127.0.0.1:7072".to_owned(),
            },
        );
        assert_eq!(current(&cluster), "127.0.0.1:7072");
        // AND a late refusal of the first changes nothing
        cluster.move_on(0, &ApiError::Unavailable(String::new()));
        assert_eq!(current(&cluster), "127.0.0.1:7072");
        // AND another leader takes the third's place
        cluster.move_on(
            2,
            &ApiError::NotLeader {
                leader: "127.0.0.1:7073".to_owned(),
            },
        );
        assert_eq!(
            (current(&cluster).as_str(), cluster.tries()),
            ("127.0.0.1:7073", 4)
        );
        // AND when that one falls silent, the next in the circle is asked
        cluster.move_on(2, &ApiError::Unavailable(String::new()));
        assert_eq!(current(&cluster), "127.0.0.1:7070");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        assert!(ClusterCoordinator::new(&[], None).is_err());
        assert!(ClusterCoordinator::new(&["postgres://db".to_owned()], None).is_err());
    }
}
