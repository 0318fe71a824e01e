//! A single-member etcd of its own for a test: killed, frozen, restarted, and put back to an
//! earlier snapshot.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::certificates::Authority;
use crate::folders::{free_port, scratch_folder};
use crate::process::{Process, Signal};
use crate::wait::until;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// A start fails when another process took one of the ports.
const START_ATTEMPTS: u32 = 5;
const MEMBER: &str = "test";
/// What the keys begin with that fill it, and how many bytes a value of them has: as much as an
/// argument of a command may.
const JUNK: &str = "junk/";
const JUNK_BYTES: usize = 100 * 1024;

/// A running member. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    port: u16,
    peer_port: u16,
    /// Where its health is told when its clients have to come over TLS.
    health_port: Option<u16>,
    tls: Option<Tls>,
    /// How many bytes its database may take; else etcd's own limit.
    quota: Option<u64>,
    /// Counts the data folders: a restored snapshot gets a new one.
    data: u32,
    // Dropped after the process.
    folder: TempDir,
}

/// Files of TLS.
#[derive(Debug)]
struct Tls {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Etcd {
    /// Starts a member without data.
    ///
    /// # Errors
    /// etcd is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(None, None).await
    }

    /// Starts a member without data whose database may take so many bytes.
    ///
    /// # Errors
    /// etcd is not installed, or does not start.
    pub async fn start_small(quota: u64) -> Result<Self> {
        Self::start_with(None, Some(quota)).await
    }

    /// Starts a member without data that speaks TLS only, and lets in who has a certificate of this
    /// authority.
    ///
    /// # Errors
    /// etcd is not installed, or does not start.
    pub async fn start_secure(authority: &Authority) -> Result<Self> {
        let (certificate, key) = authority.sign("127.0.0.1")?;
        Self::start_with(
            Some(Tls {
                authority: authority.file(),
                certificate,
                key,
            }),
            None,
        )
        .await
    }

    async fn start_with(tls: Option<Tls>, quota: Option<u64>) -> Result<Self> {
        let folder = scratch_folder("etcd")?;
        let mut server = Self {
            process: None,
            port: 0,
            peer_port: 0,
            health_port: None,
            tls,
            quota,
            data: 0,
            folder,
        };
        for _ in 0..START_ATTEMPTS {
            (server.port, server.peer_port) = (free_port()?, free_port()?);
            server.health_port = server.tls.as_ref().map(|_| free_port()).transpose()?;
            if server.port != server.peer_port && server.launch().await? {
                return Ok(server);
            }
        }
        bail!("etcd did not start: {}", server.log()?)
    }

    /// Where clients connect, such as `http://127.0.0.1:2379`; a restart keeps it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!(
            "{}://127.0.0.1:{}",
            if self.tls.is_some() { "https" } else { "http" },
            self.port
        )
    }

    /// Ends it in good order; its data stays.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.signal(Signal::Cont)?;
        process.signal(Signal::Term)?;
        process.wait(STOP_LIMIT).await?;
        self.process = None;
        Ok(())
    }

    /// Kills it; its data stays.
    ///
    /// # Errors
    /// There is no shell to send the signal.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again on the same data and ports, having stopped it if it runs.
    ///
    /// # Errors
    /// It does not end or does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        ensure!(
            self.launch().await?,
            "etcd did not start again: {}",
            self.log()?
        );
        Ok(())
    }

    /// Freezes it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// There is no shell to send the signal.
    pub fn freeze(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .map_or(Ok(()), |process| process.signal(Signal::Stop))
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// There is no shell to send the signal.
    pub fn thaw(&mut self) -> Result<()> {
        self.process
            .as_mut()
            .map_or(Ok(()), |process| process.signal(Signal::Cont))
    }

    /// Writes all that it holds to a file.
    ///
    /// # Errors
    /// `etcdctl` says why.
    pub async fn save_snapshot(&self, file: &Path) -> Result<()> {
        let mut command = self.etcdctl();
        command.args(["snapshot", "save"]).arg(file);
        run(command).await.map(drop)
    }

    /// Puts it back to a snapshot: what was written since is lost, and revisions are given out
    /// anew.
    ///
    /// # Errors
    /// It does not end or does not start, or `etcdctl` refuses the file.
    pub async fn restore_snapshot(&mut self, file: &Path) -> Result<()> {
        self.stop().await?;
        self.data += 1;
        let mut command = self.etcdctl();
        command
            .args(["snapshot", "restore"])
            .arg(file)
            .args(["--name", MEMBER])
            .arg("--data-dir")
            .arg(self.data_folder());
        command.args([
            "--initial-cluster",
            &self.cluster(),
            "--initial-advertise-peer-urls",
            &self.peer(),
        ]);
        run(command).await?;
        self.restart().await
    }

    /// Writes until it has no room for more: the alarm NOSPACE is raised, and stays.
    ///
    /// # Errors
    /// It takes more than it may, or refuses for another reason.
    pub async fn fill(&self) -> Result<()> {
        let value = "x".repeat(JUNK_BYTES);
        // It counts what it has committed, now and then: some more than it may.
        for no in 0..2 * self.quota.unwrap_or_default() / JUNK_BYTES as u64 + 2 {
            match self.ctl(&["put", &format!("{JUNK}{no}"), &value]).await {
                Ok(_) => {}
                Err(error) if format!("{error:#}").contains("database space exceeded") => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        bail!("it took more than it may: {:?}", self.quota)
    }

    /// Makes room again, as an operator does: removes what filled it, compacts, defragments,
    /// disarms the alarm.
    ///
    /// # Errors
    /// `etcdctl` says why.
    pub async fn make_room(&self) -> Result<()> {
        let deleted = self.ctl(&["del", JUNK, "--prefix", "-w", "json"]).await?;
        let deleted: serde_json::Value =
            serde_json::from_str(&deleted).context("read what `del` printed")?;
        let revision = deleted["header"]["revision"]
            .as_i64()
            .context("a deletion has a revision")?;
        self.ctl(&["compact", &revision.to_string()]).await?;
        self.ctl(&["defrag"]).await?;
        self.ctl(&["alarm", "disarm"]).await.map(drop)
    }

    /// Runs `etcdctl` against it and returns what it printed.
    ///
    /// # Errors
    /// `etcdctl` says why.
    pub async fn ctl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.etcdctl();
        command.args(args);
        run(command).await
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join("log")).context("read etcd's log")
    }

    fn etcdctl(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoint());
        if let Some(tls) = &self.tls {
            command.env("ETCDCTL_CACERT", &tls.authority);
            command
                .env("ETCDCTL_CERT", &tls.certificate)
                .env("ETCDCTL_KEY", &tls.key);
        }
        command
    }

    fn data_folder(&self) -> PathBuf {
        self.folder.path().join(format!("data-{}", self.data))
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn cluster(&self) -> String {
        format!("{MEMBER}={}", self.peer())
    }

    /// Starts the process and waits until it serves; `false` when it ended instead.
    async fn launch(&mut self) -> Result<bool> {
        let mut process = self.spawn()?;
        let port = self.health_port.unwrap_or(self.port);
        let ready = until("etcd to serve", START_LIMIT, || {
            let ended = process.ended();
            async move {
                match ended? {
                    Some(_) => Ok(Some(false)),
                    None => Ok(is_healthy(port).await.then_some(true)),
                }
            }
        });
        let ready = ready.await?;
        if ready {
            self.process = Some(process);
        }
        Ok(ready)
    }

    fn spawn(&self) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .context("open etcd's log")?;
        let mut command = Command::new("etcd");
        command
            .current_dir(self.folder.path())
            .arg("--data-dir")
            .arg(self.data_folder());
        let (client, peer) = (self.endpoint(), self.peer());
        command.args([
            "--name",
            MEMBER,
            "--logger",
            "zap",
            "--log-outputs",
            "stderr",
        ]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args(["--initial-cluster", &self.cluster()]);
        if let (Some(tls), Some(port)) = (&self.tls, self.health_port) {
            command
                .arg("--cert-file")
                .arg(&tls.certificate)
                .arg("--key-file")
                .arg(&tls.key);
            command
                .arg("--client-cert-auth")
                .arg("--trusted-ca-file")
                .arg(&tls.authority);
            command.args(["--listen-metrics-urls", &format!("http://127.0.0.1:{port}")]);
        }
        if let Some(quota) = self.quota {
            command.args(["--quota-backend-bytes", &quota.to_string()]);
        }
        // One member needs no patience to elect itself.
        command.args(["--heartbeat-interval", "20", "--election-timeout", "200"]);
        let stdout = log.try_clone().context("open etcd's log twice")?;
        Process::start(command, stdout, log, Some(self.folder.path()))
            .context("is etcd installed? `make setup` installs it")
    }
}

/// Whether a member at this port has a leader and serves.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.contains(r#""health":"true""#))
    };
    matches!(tokio::time::timeout(ANSWER_LIMIT, ask).await, Ok(Ok(true)))
}

async fn run(mut command: Command) -> Result<String> {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .context("wait for etcdctl")?;
    let output = output.context("run etcdctl")?;
    ensure!(
        output.status.success(),
        "etcdctl failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
