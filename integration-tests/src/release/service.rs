//! A Service: one address, behind which are the pods that are ready.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Takes connections and forwards each to one of its endpoints, in turn. Dropping it closes them
/// all.
#[derive(Debug)]
pub(super) struct Service {
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Service {
    #[expect(
        clippy::disallowed_methods,
        reason = "the value owns the loop, and ends it when it is dropped"
    )]
    pub(super) async fn at(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}"))?;
        let endpoints = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&endpoints)));
        Ok(Self {
            endpoints,
            accepting,
        })
    }

    /// From now on these are behind it. Connections that are there already stay.
    pub(super) fn lead_to(&self, endpoints: Vec<SocketAddr>) {
        *self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = endpoints;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>) {
    // The connections end with this loop.
    let mut lines = JoinSet::new();
    let mut turn = 0;
    while let Ok((mut client, _)) = listener.accept().await {
        let known = endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        turn += 1;
        let Some(endpoint) = known.get(turn % known.len().max(1)).copied() else {
            continue;
        };
        lines.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(endpoint).await {
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok();
            }
        });
    }
}
