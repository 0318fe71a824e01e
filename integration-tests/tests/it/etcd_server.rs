//! A real etcd on free loopback ports, with its data in a temporary folder. It dies with its value.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to start; a busy machine is slow.
const START_WAIT_MAX: Duration = Duration::from_secs(30);
/// Somebody else may take a free port before the server does.
const START_ATTEMPTS_MAX: u32 = 5;

pub(crate) struct EtcdServer {
    process: Child,
    client_port: u16,
    peer_port: u16,
    data: TempDir,
}

impl EtcdServer {
    pub(crate) fn start() -> Self {
        let data = TempDir::new().unwrap();
        for _ in 0..START_ATTEMPTS_MAX {
            let (client_port, peer_port) = (free_port(), free_port());
            if let Some(process) = spawn(&data, client_port, peer_port) {
                return Self {
                    process,
                    client_port,
                    peer_port,
                    data,
                };
            }
        }
        panic!("etcd did not start");
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Stops it in the middle of whatever it does; its sockets stay open.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on as if nothing had been.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again after a kill, where it was, with the data it had.
    pub(crate) fn start_again(&mut self) {
        self.process =
            spawn(&self.data, self.client_port, self.peer_port).expect("etcd starts again");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.process.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A port that nobody listens on, just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[allow(
    clippy::disallowed_methods,
    reason = "tests take the path of their servers from the environment"
)]
fn spawn(data: &TempDir, client_port: u16, peer_port: u16) -> Option<Child> {
    let (client, peer) = (
        format!("http://127.0.0.1:{client_port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let mut process = Command::new(std::env::var("ETCD").unwrap_or_else(|_| "etcd".to_owned()))
        .arg("--data-dir")
        .arg(data.path())
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("default={peer}")])
        // Short, so that a start and a lease of a few seconds are quick.
        .args(["--heartbeat-interval", "100", "--election-timeout", "600"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcd is installed, or $ETCD names it");
    let log = BufReader::new(process.stderr.take().expect("it was piped"));
    let (tell_ready, ready) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if line.contains("ready to serve client requests") {
                tell_ready.try_send(()).ok();
            }
        }
    });
    match ready.recv_timeout(START_WAIT_MAX) {
        Ok(()) => Some(process),
        Err(_) => {
            process.kill().ok();
            process.wait().ok();
            None
        }
    }
}
