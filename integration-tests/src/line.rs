//! A line to a server that can fall silent: nothing comes through any more, in either direction,
//! and nobody is told.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Takes connections on a port of its own and forwards each to a server. Dropping it closes them
/// all.
#[derive(Debug)]
pub struct Line {
    port: u16,
    /// Connections of an earlier age than this one are silent.
    age: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

impl Line {
    /// A line to the server on `port` of 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    #[expect(
        clippy::disallowed_methods,
        reason = "the value owns the loop, and ends it when it is dropped"
    )]
    pub async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("take a free port")?;
        let own = listener.local_addr().context("learn the port")?.port();
        let (age, ages) = watch::channel(0);
        let accepting = tokio::spawn(accept(
            listener,
            SocketAddr::from(([127, 0, 0, 1], port)),
            ages,
        ));
        Ok(Self {
            port: own,
            age,
            accepting,
        })
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing comes through on any connection that is open. Their ends stay open. New
    /// ones are forwarded.
    pub fn silence(&self) {
        self.age.send_modify(|age| *age += 1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, ages: watch::Receiver<u64>) {
    // The connections end with this loop.
    let mut lines = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(server).await else {
            continue;
        };
        let born = *ages.borrow();
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        lines.spawn(forward(from_client, to_server, born, ages.clone()));
        lines.spawn(forward(from_server, to_client, born, ages.clone()));
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    born: u64,
    mut ages: watch::Receiver<u64>,
) {
    let copying = async {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(length) if to.write_all(&chunk[..length]).await.is_err() => return,
                Ok(_) => {}
            }
        }
    };
    tokio::select! {
        biased;
        silenced = ages.wait_for(|age| *age > born) => drop(silenced),
        () = copying => return,
    }
    // Both ends stay open, and what they send is not taken.
    std::future::pending::<()>().await;
}
