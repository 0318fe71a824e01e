//! One cell of a cluster: etcd, one or two coordinators, two workers. Something strikes one of the
//! daemons; it comes back, or another one takes over. The run comes to its end, every row and the
//! ledger are exact, and a daemon that woke up late has changed nothing.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use highwater_integration_tests::{Binary, ClusterOptions, Daemon, Daemons, Finished};

use super::bench::{ClusterBench, NeverStruck, Strike};
use super::cell::{Action, CONVERGED_MAX, SIGABRT, UNREACHABLE, ended_well};
use super::place::Place;
use super::table::{Engine, Mode, Table};

/// How long a daemon may take to do what it is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest that the command may follow a run, from before the strike.
const FOLLOW_MAX: Duration = Duration::from_secs(60);
/// How long the command waits before it is given again.
const BETWEEN_COMMANDS: Duration = Duration::from_millis(200);
/// How much longer than its lease a daemon is frozen.
const PAST_THE_LEASE: Duration = Duration::from_secs(1);
/// Tasks at once of each worker.
const SLOTS: u32 = 2;
/// What a place that shall go on is told: to wait until the daemon is frozen. It has waited long
/// enough when it is thawed.
const UNTIL_FROZEN: &str = "return(stall 2500)";

/// Who is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The first of two workers. One that ended comes back as another process of the same name.
    Worker,
    /// The same. One that ended stays away.
    WorkerForGood,
    /// The only coordinator. One that ended is started again.
    OnlyCoordinator,
    /// The coordinator that leads, beside one that stands by. One that ended stays away.
    LeaderOfTwo,
}

/// A cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterCell {
    pub(super) place: Place,
    pub(super) action: Action,
    pub(super) victim: Victim,
    pub(super) mode: Mode,
}

impl fmt::Display for ClusterCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            action,
            victim,
            mode,
        } = self;
        write!(
            f,
            "cluster: {} (after {}) {action:?} {victim:?} {mode:?}",
            place.name,
            self.passed()
        )
    }
}

impl Strike for ClusterCell {
    type Bench = ClusterBench;

    async fn run(self, bench: &ClusterBench, no: usize) -> Result<()> {
        let databases = &bench.databases;
        let folder = databases.folder(&format!("cell-{no}"))?;
        let table = Table::make(databases, (Engine::Postgres, self.mode), &folder, no).await?;
        let file = folder.join("pipeline.yaml");
        std::fs::write(&file, table.pipeline(databases, self.mode))
            .context("write the pipeline")?;
        let mut daemons = Daemons::new(ClusterOptions::default(), bench.etcd.endpoint())?;
        let struck = self
            .strike(&mut daemons, &format!("cell_{no}"), &file)
            .await;
        struck.with_context(|| daemons.logs())?;
        let checked = table.check(databases, self.mode).await;
        checked.with_context(|| daemons.logs())
    }
}

impl ClusterCell {
    /// Brings a cluster and a run about, and sees them through the strike.
    async fn strike(self, daemons: &mut Daemons, cluster: &str, file: &Path) -> Result<()> {
        let asked = self.start(daemons, cluster).await?;
        let followed = async {
            follow(&asked, file).await?;
            Ok(Instant::now())
        };
        let (ended, struck) = tokio::try_join!(followed, self.see_it_strike(daemons))?;
        let took = ended.saturating_duration_since(struck);
        ensure!(
            took < CONVERGED_MAX,
            "the run came to its end {took:?} after the strike"
        );
        if self.action == Action::Resume {
            self.let_the_zombie_act(daemons).await?;
        }
        Ok(())
    }

    /// Starts coordinators and the first worker, the one that is to be struck under arms. Returns
    /// what the command is to ask: the only coordinator; or, in turns, the one that stands by, and
    /// both of them, the leader first.
    async fn start(self, daemons: &mut Daemons, cluster: &str) -> Result<String> {
        let first = daemons.prepare_coordinator(cluster)?;
        let (coordinator, worker) = match self.victim {
            Victim::Worker | Victim::WorkerForGood => (
                String::new(),
                [self.failpoints(), self.elsewhere()].join(";"),
            ),
            Victim::OnlyCoordinator | Victim::LeaderOfTwo => (self.failpoints(), self.elsewhere()),
        };
        daemons.coordinator(first).env("FAILPOINTS", &coordinator);
        daemons.restart_coordinator(first).await?;
        let leads = if self.is_before_the_term() {
            self.struck()
        } else {
            "leading".to_owned()
        };
        daemons
            .coordinator(first)
            .until_logged(&leads, LIMIT)
            .await?;
        let mut addresses = daemons.address(first).to_owned();
        let mut asked = addresses.clone();
        if self.victim == Victim::LeaderOfTwo {
            let second = daemons.add_coordinator(cluster).await?;
            addresses = format!("{addresses},{}", daemons.address(second));
            asked = if self.mode == Mode::Append {
                daemons.address(second).to_owned()
            } else {
                addresses.clone()
            };
        }
        daemons
            .prepare("w1", SLOTS, &addresses, &[("FAILPOINTS", &worker)])
            .start()
            .await?;
        daemons.prepare("w2", SLOTS, &addresses, &[]);
        Ok(asked)
    }

    /// Waits for the strike, does what belongs to it, and returns when it was. The second worker
    /// comes afterwards, where the first one has to be alone to be sure to come to the place.
    async fn see_it_strike(self, daemons: &mut Daemons) -> Result<Instant> {
        let is_alone = self.place.is_single || !self.place.with.is_empty();
        if !is_alone {
            daemons.worker("w2").start().await?;
        }
        self.victim(daemons)
            .until_logged(&self.struck(), LIMIT)
            .await
            .context(NeverStruck)?;
        let struck = Instant::now();
        if is_alone {
            daemons.worker("w2").start().await?;
        }
        match self.action {
            Action::Fail => {}
            Action::Abort => {
                let status = self.victim(daemons).ended(LIMIT).await?;
                ensure!(
                    status.signal() == Some(SIGABRT),
                    "it ended otherwise: {status}"
                );
                self.come_back(daemons).await?;
            }
            Action::Kill => {
                self.victim(daemons).kill()?;
                self.come_back(daemons).await?;
            }
            Action::Resume => {
                self.victim(daemons).freeze()?;
                self.outlast_the_lease(daemons).await?;
                self.victim(daemons).thaw()?;
            }
        }
        Ok(struck)
    }

    fn victim(self, daemons: &mut Daemons) -> &mut Daemon {
        match self.victim {
            Victim::Worker | Victim::WorkerForGood => daemons.worker("w1"),
            Victim::OnlyCoordinator | Victim::LeaderOfTwo => daemons.coordinator(0),
        }
    }

    /// Starts what has ended, with nothing in its way, unless another one stands by.
    async fn come_back(self, daemons: &mut Daemons) -> Result<()> {
        self.victim(daemons).env("FAILPOINTS", "");
        match self.victim {
            Victim::Worker => daemons.worker("w1").start().await,
            Victim::OnlyCoordinator => daemons.restart_coordinator(0).await,
            Victim::WorkerForGood | Victim::LeaderOfTwo => Ok(()),
        }
    }

    /// Waits until others have what the frozen daemon held.
    async fn outlast_the_lease(self, daemons: &mut Daemons) -> Result<()> {
        let ClusterOptions {
            session_ttl,
            leader_ttl,
            ..
        } = *daemons.options();
        match self.victim {
            Victim::Worker | Victim::WorkerForGood if self.place.is_for_zombies => daemons
                .coordinator(0)
                .until_logged("worker lost", LIMIT)
                .await
                .context(
                    "the lease \
                    was not lost",
                ),
            Victim::Worker | Victim::WorkerForGood => {
                tokio::time::sleep(session_ttl + PAST_THE_LEASE).await;
                Ok(())
            }
            Victim::OnlyCoordinator => {
                tokio::time::sleep(leader_ttl + PAST_THE_LEASE).await;
                Ok(())
            }
            Victim::LeaderOfTwo => daemons.coordinator(1).until_logged("leading", LIMIT).await,
        }
    }

    /// Waits until the daemon that was frozen has done whatever it wanted to, which must change
    /// nothing.
    async fn let_the_zombie_act(self, daemons: &mut Daemons) -> Result<()> {
        match self.victim {
            Victim::Worker | Victim::WorkerForGood => {
                // What it has in hand comes to its end first.
                daemons.worker("w1").terminate()?;
                let status = daemons.worker("w1").ended(LIMIT).await?;
                ensure!(
                    status.success(),
                    "the worker that woke up ended otherwise: {status}"
                );
            }
            // Its term had not begun.
            Victim::OnlyCoordinator | Victim::LeaderOfTwo if self.is_before_the_term() => {}
            Victim::OnlyCoordinator | Victim::LeaderOfTwo => {
                daemons
                    .coordinator(0)
                    .until_logged("the term is over", LIMIT)
                    .await?;
            }
        }
        let run = daemons.status().await?;
        ensure!(
            run["status"] == "success",
            "the run has changed after its end: {run:#}"
        );
        Ok(())
    }

    /// What the victim's log says when the place has struck.
    fn struck(self) -> String {
        format!("failpoint {} struck", self.place.name)
    }

    /// The coordinator does not lead yet when it comes to the place.
    fn is_before_the_term(self) -> bool {
        self.place.name.starts_with("t0::")
    }

    /// How often the place lets pass: a worker comes to what is a worker's half as often as both
    /// workers do.
    fn passed(self) -> u32 {
        match self.victim {
            Victim::Worker | Victim::WorkerForGood => self.place.passed / 2,
            Victim::OnlyCoordinator | Victim::LeaderOfTwo => self.place.passed,
        }
    }

    fn failpoints(self) -> String {
        let told = if self.action == Action::Resume {
            UNTIL_FROZEN
        } else {
            self.action.told()
        };
        self.place.armed(self.passed(), told)
    }

    /// What has to strike the first worker, for the place to be come to at all.
    fn elsewhere(self) -> String {
        self.place.with.replace("@embedded-1", "@w1")
    }
}

/// Runs the pipeline to its end, as a user does: the command is given again when it could not reach
/// anybody who leads.
async fn follow(coordinator: &str, file: &Path) -> Result<()> {
    let began = Instant::now();
    loop {
        let highwater = Binary::highwater()
            .await?
            .args(["--coordinator", coordinator, "run"])
            .args([file]);
        let highwater = highwater
            .args(["-o", "json", "--progress", "none"])
            .env("NO_COLOR", "1");
        let Finished {
            status,
            stdout,
            stderr,
        } = highwater.run(FOLLOW_MAX).await?;
        match status.code() {
            Some(0) => return ended_well(&stdout),
            Some(UNREACHABLE) if began.elapsed() < FOLLOW_MAX => {
                tokio::time::sleep(BETWEEN_COMMANDS).await
            }
            _ => bail!("the run did not end well ({status}): {stdout}\n{stderr}"),
        }
    }
}
