//! A PostgreSQL server of its own for a test.
//!
//! `initdb` runs once and its result is kept; each server starts on a copy. As root the server runs
//! as the user `postgres`, since it refuses root. `fsync` is off unless asked for: killing the
//! server's processes loses nothing that the kernel has.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::folders::{free_port, kept_folder, lock, scratch_folder};
use crate::process::{Process, Signal, send};
use crate::wait::until;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// A start fails when another process took the port, or while a killed server's memory is not yet
/// given back.
const START_ATTEMPTS: u32 = 8;

/// How a server is set.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether commits reach the disk. Off by default: tests kill processes, not machines.
    pub fsync: bool,
    /// More settings by name, such as `("wal_level", "minimal")`.
    pub settings: Vec<(String, String)>,
}

/// A running server. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    pub(crate) programs: PathBuf,
    port: u16,
    options: PostgresOptions,
    // Dropped after the process.
    folder: TempDir,
}

impl Postgres {
    /// Starts a server with the default options.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(PostgresOptions::default()).await
    }

    /// Starts a server.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start_with(options: PostgresOptions) -> Result<Self> {
        let (programs, folder) = tokio::task::spawn_blocking(new_data_folder)
            .await
            .context("make a data folder")??;
        let mut server = Self {
            process: None,
            programs,
            port: 0,
            options,
            folder,
        };
        server.launch(None).await?;
        Ok(server)
    }

    /// The URL of one of its databases; `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port it listens on; a restart keeps it.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// A new connection to one of its databases.
    ///
    /// # Errors
    /// The server does not answer, or has no such database.
    pub async fn connect(&self, database: &str) -> Result<PgConnection> {
        PgConnection::connect(&self.url(database))
            .await
            .with_context(|| format!("connect to {database}"))
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// The name is taken, or holds anything but `a-z`, `0-9` and `_`.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ensure!(
            !name.is_empty() && name.bytes().all(plain),
            "{name:?} needs quoting"
        );
        let mut conn = self.connect("postgres").await?;
        let create = AssertSqlSafe(format!("create database {name}"));
        sqlx::raw_sql(create)
            .execute(&mut conn)
            .await
            .with_context(|| {
                format!(
                    "create database \
            {name}"
                )
            })?;
        Ok(self.url(name))
    }

    /// Shuts it down in good order, ending its sessions; its data stays.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        // To the first process only: the others are told by it, and take a signal of their own for
        // a cancelled statement.
        send(Signal::Int, i64::from(process.id()))?;
        process.wait(STOP_LIMIT).await?;
        self.process = None;
        Ok(())
    }

    /// Kills it with all its sessions in the midst of whatever they do; its data stays.
    ///
    /// # Errors
    /// There is no shell to send the signals.
    pub fn kill(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        // Each session leads a group of its own.
        let sessions = children(process.id());
        process.kill()?;
        for session in sessions {
            send(Signal::Kill, session)?;
        }
        self.process = None;
        Ok(())
    }

    /// Starts it again on the same data and port, having stopped it if it runs.
    ///
    /// # Errors
    /// It does not end or does not start.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.launch(Some(self.port)).await
    }

    /// Stops it and keeps a copy of its data folder beside it, as an administrator does; it is left
    /// stopped.
    ///
    /// # Errors
    /// It does not end, or its data cannot be copied.
    pub async fn save(&mut self) -> Result<()> {
        self.stop().await?;
        let (data, saved) = (
            self.folder.path().join("data"),
            self.folder.path().join("saved"),
        );
        tokio::task::spawn_blocking(move || copy(&data, &saved))
            .await
            .context(
                "copy the data \
            folder",
            )?
    }

    /// Stops it, puts the copy that [`Postgres::save`] has kept in the place of its data, and
    /// starts it again.
    ///
    /// # Errors
    /// There is no copy, or the server does not end or start.
    pub async fn put_back(&mut self) -> Result<()> {
        self.stop().await?;
        let (data, saved) = (
            self.folder.path().join("data"),
            self.folder.path().join("saved"),
        );
        std::fs::remove_dir_all(&data).context("remove the data folder")?;
        std::fs::rename(saved, data).context("put the copy in its place")?;
        self.restart().await
    }

    /// A standby of it, which has what it has now, and then follows it.
    ///
    /// # Errors
    /// `pg_basebackup` fails, or the standby does not start.
    pub async fn standby(&self) -> Result<Self> {
        let folder = server_folder()?;
        let mut backup = Command::new(self.programs.join("pg_basebackup"));
        as_server_account(&mut backup)?;
        backup
            .current_dir(folder.path())
            .arg("-D")
            .arg(folder.path().join("data"));
        backup.args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
        ]);
        backup.arg(self.port.to_string());
        let output = tokio::task::spawn_blocking(move || backup.output())
            .await
            .context("wait for pg_basebackup")?;
        let output = output.context("run pg_basebackup")?;
        ensure!(
            output.status.success(),
            "pg_basebackup failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (programs, options) = (self.programs.clone(), self.options.clone());
        let mut standby = Self {
            process: None,
            programs,
            port: 0,
            options,
            folder,
        };
        standby.launch(None).await?;
        Ok(standby)
    }

    /// Cuts a standby off from what it follows: it has what it has received until now, and gets
    /// nothing more.
    ///
    /// # Errors
    /// It does not answer, or goes on following.
    pub async fn cut_off(&self) -> Result<()> {
        let mut conn = self.connect("postgres").await?;
        sqlx::raw_sql("alter system set primary_conninfo = ''")
            .execute(&mut conn)
            .await
            .context("cut the line")?;
        sqlx::raw_sql("select pg_reload_conf()")
            .execute(&mut conn)
            .await
            .context("read the settings again")?;
        until("the standby to be cut off", START_LIMIT, async || {
            let mut conn = self.connect("postgres").await?;
            let following: i64 = sqlx::query_scalar("select count(*) from pg_stat_wal_receiver")
                .fetch_one(&mut conn)
                .await?;
            Ok((following == 0).then_some(()))
        })
        .await
    }

    /// Makes a standby a server of its own: the same one, on a timeline of its own.
    ///
    /// # Errors
    /// It does not come out of its recovery.
    pub async fn promote(&self) -> Result<()> {
        let mut conn = self.connect("postgres").await?;
        let is_promoted: bool = sqlx::query_scalar("select pg_promote(true, 60)")
            .fetch_one(&mut conn)
            .await
            .context("promote the standby")?;
        ensure!(is_promoted, "the standby was not promoted within a minute");
        Ok(())
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join("log")).context("read the server's log")
    }

    async fn launch(&mut self, keep: Option<u16>) -> Result<()> {
        for _ in 0..START_ATTEMPTS {
            self.port = match keep {
                Some(port) => port,
                None => free_port()?,
            };
            let mut process = self.spawn()?;
            let url = self.url("postgres");
            let ready = until("PostgreSQL to accept connections", START_LIMIT, || {
                let ended = process.ended();
                let url = url.as_str();
                async move {
                    match PgConnection::connect(url).await {
                        // A server that has ended leaves the port to others: theirs is not the one
                        // we want.
                        _ if ended.as_ref().is_ok_and(Option::is_some) => Ok(Some(false)),
                        Ok(conn) => conn
                            .close()
                            .await
                            .map(|()| Some(true))
                            .context("close the first connection"),
                        Err(_) => ended.map(|_| None),
                    }
                }
            });
            if ready.await? {
                self.process = Some(process);
                return Ok(());
            }
            drop(process);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("PostgreSQL did not start: {}", self.log()?)
    }

    fn spawn(&self) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let log = log.context("open the server's log")?;
        let mut command = Command::new(self.programs.join("postgres"));
        as_server_account(&mut command)?;
        command
            .current_dir(self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"));
        let switch = if self.options.fsync { "on" } else { "off" };
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &self.port.to_string()),
            ("unix_socket_directories", ""),
            ("shared_buffers", "64MB"),
            ("fsync", switch),
            ("full_page_writes", switch),
            ("max_prepared_transactions", "20"),
            ("wal_level", "logical"),
        ];
        let asked = self
            .options
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(asked) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let stdout = log.try_clone().context("open the server's log twice")?;
        Process::start(command, stdout, log, Some(self.folder.path()))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Before the folder goes.
        self.kill().ok();
    }
}

/// The numbers of a process's children, as far as the system tells.
fn children(of: u32) -> Vec<i64> {
    let listed =
        std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    listed
        .split_ascii_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// The newest installed version's programs.
fn installed() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: run `make setup`")?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
        .context("no PostgreSQL server under /usr/lib/postgresql: run `make setup`")
}

/// The user and group that a server runs as, when this process is root's.
fn server_account() -> Result<Option<(u32, u32)>> {
    if number("id", &["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((
        number("id", &["-u", "postgres"])?,
        number("id", &["-g", "postgres"])?,
    )))
}

fn number(program: &str, args: &[&str]) -> Result<u32> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("{program} {args:?} said {text:?}"))
}

fn as_server_account(command: &mut Command) -> Result<()> {
    if let Some((user, group)) = server_account()? {
        command.uid(user).gid(group);
    }
    Ok(())
}

/// A folder with a fresh server's `data` in it, copied from what `initdb` made once.
fn new_data_folder() -> Result<(PathBuf, TempDir)> {
    let programs = installed()?;
    let template = template(&programs)?;
    let folder = server_folder()?;
    copy(&template, &folder.path().join("data"))?;
    Ok((programs, folder))
}

/// What `initdb` made; it is run when the kept folder has none for this version.
fn template(programs: &Path) -> Result<PathBuf> {
    let folder = kept_folder("tmp")?;
    let _lock = lock(&folder.join("postgres.lock"))?;
    let version = Command::new(programs.join("postgres"))
        .arg("--version")
        .output()
        .context("run postgres --version")?;
    let version = String::from_utf8_lossy(&version.stdout)
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "_");
    let kept = folder.join(version.trim_matches('_'));
    if kept.exists() {
        return Ok(kept);
    }
    let made = server_folder()?;
    let data = made.path().join("data");
    let mut initdb = Command::new(programs.join("initdb"));
    as_server_account(&mut initdb)?;
    initdb.current_dir(made.path()).arg("-D").arg(&data);
    initdb.args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "--wal-segsize=4",
    ]);
    let output = initdb.output().context("run initdb")?;
    ensure!(
        output.status.success(),
        "initdb failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Copied beside its place and then renamed: what has the name is whole.
    let copied = tempfile::Builder::new()
        .prefix("postgres-new-")
        .tempdir_in(&folder)
        .context("make a folder")?;
    copy(&data, &copied.path().join("data"))?;
    std::fs::rename(copied.path().join("data"), &kept).context("put the template in its place")?;
    Ok(kept)
}

/// An empty folder that the server may write to.
fn server_folder() -> Result<TempDir> {
    let folder = scratch_folder("postgres")?;
    if let Some((user, group)) = server_account()? {
        chown(folder.path(), Some(user), Some(group)).context("give a folder to the server")?;
    }
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .context("run cp")?;
    ensure!(
        status.success(),
        "cp -a {} {} failed",
        from.display(),
        to.display()
    );
    Ok(())
}
