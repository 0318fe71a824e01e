//! The command line: verbs, flags and their help.

mod advise;
mod again;
mod backfill;
mod cdc;
mod connections;
mod file;
mod forms;
mod given;
mod graph;
mod hands;
mod plan;
mod run;
mod schedules;
mod shell;
mod targets;
mod validate;
mod watermarks;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use highwater_common::config::ConfigDuration;
use highwater_net::ClientTlsArgs;

pub(crate) use self::advise::{AdviseArgs, InitArgs};
pub(crate) use self::again::{CancelArgs, ResolveArgs, RetryArgs};
pub(crate) use self::backfill::BackfillArgs;
pub(crate) use self::cdc::{CdcCommand, ResyncArgs};
pub(crate) use self::connections::{ConnectionsCommand, TestArgs};
pub(crate) use self::file::{FileArgs, OverlayArgs, names_a_file, quoted};
pub(crate) use self::forms::{ColorWhen, OutputForm, ProgressForm};
pub(crate) use self::given::{Given, GivenBy, GivenFlag};
pub(crate) use self::graph::GraphArgs;
pub(crate) use self::hands::{AcceptArgs, AuditArgs, LimitsArgs, PauseArgs, ResumeArgs, SkipArgs};
pub(crate) use self::plan::PlanArgs;
pub(crate) use self::run::RunArgs;
pub(crate) use self::schedules::SchedulesCommand;
pub(crate) use self::shell::{CompletionsArgs, ConfigCommand, ManArgs, ShellName, ViewArgs};
pub(crate) use self::targets::{
    CleanArgs, CoverageArgs, CoverageCommand, ForgetArgs, SwapCommand, UndoArgs,
};
pub(crate) use self::validate::ValidateArgs;
pub(crate) use self::watermarks::WatermarksCommand;
use crate::token::Token;

/// The folder of the embedded mode's state when none is named.
pub(crate) const STATE_DIR: &str = ".highwater";

/// Copies large tables between databases, in parallel and exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  highwater advise '${env:SHOP_URL}'      which way to load which table? changes nothing
  highwater validate pipeline.yaml      is the file right?
  highwater plan pipeline.yaml          what would be done? changes nothing
  highwater run pipeline.yaml           runs it, or goes on with an unfinished run
  highwater status                      the latest run, and why it waits
  highwater retry r-71c                 tries again only what failed

Exit codes:
  0 success    2 usage, invalid file    3 failed, part committed    4 nothing selected    5 unreachable
  6 refused    7 failed, nothing committed    8 cancelled    9 in doubt    10 work to do    124 timed out    130 interrupted    1 unexpected"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// Who said what holds for every verb; only of a command line of a process.
    #[arg(skip)]
    pub(crate) given: Given,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Form of what goes to stdout
    #[arg(short, long, global = true, value_enum, default_value_t = OutputForm::Table)]
    pub output: OutputForm,
    /// Nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log to stderr; twice: more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Never ask
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Answer yes to the question whether to go on
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto)]
    pub color: ColorWhen,
    /// How a run that is followed tells of itself, on stderr
    #[arg(long, global = true, value_enum, default_value_t = ProgressForm::Auto)]
    pub progress: ProgressForm,
    /// Addresses of a cluster's coordinators, with commas between [env: HIGHWATER_COORDINATOR];
    /// without any, and without a context, everything happens in this process
    #[arg(
        long,
        global = true,
        value_name = "URL[,URL]",
        conflicts_with = "context"
    )]
    pub coordinator: Option<String>,
    /// A cluster by the name that the configuration file gives it [env: HIGHWATER_CONTEXT];
    /// `embedded` is this process
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Folder of the state, when everything happens in this process
    #[arg(long, global = true, value_name = "DIR", default_value = STATE_DIR)]
    pub state: PathBuf,
    /// A program that steps may run in this process, or a folder of such; may be given several times
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "HIGHWATER_ALLOW_EXEC",
        hide_env_values = true,
        value_delimiter = ':'
    )]
    pub allow_exec: Vec<PathBuf>,
    /// Who you are, as it is kept with what you do; a certificate says it better
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "HIGHWATER_OPERATOR",
        hide = true
    )]
    pub operator: Option<String>,
    /// Whom this machine takes you for.
    #[arg(long = "user", global = true, env = "USER", hide = true)]
    pub user: Option<String>,
    /// How long a silent worker of this process counts as alive, such as `15s`
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "HIGHWATER_SESSION_TTL",
        hide = true
    )]
    pub session_ttl: Option<ConfigDuration>,
    /// Whom to trust among coordinators, and who we are to them.
    #[command(flatten, next_help_heading = "To a cluster over TLS")]
    pub tls: ClientTlsArgs,
    /// The file of the token that says to a cluster who you are; HIGHWATER_TOKEN holds one itself
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HIGHWATER_TOKEN_FILE",
        hide_env_values = true,
        help_heading = "To a cluster over TLS"
    )]
    pub token_file: Option<PathBuf>,
    /// The token of the environment.
    #[arg(skip)]
    pub(crate) token: Token,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reads a pipeline file and reports everything that is wrong with it; needs no network
    #[command(
        after_help = "Example:\n  highwater validate --explain write.mode    what may stand there? needs no file"
    )]
    Validate(ValidateArgs),
    /// Writes a pipeline file of a database's tables, each loaded as it fits; `advise` says why
    Init(InitArgs),
    /// Looks at tables and says which way to load each, and why; changes nothing
    #[command(after_help = "\
Examples:
  highwater advise pipeline.yaml                              the tables that its steps read
  highwater advise '${env:SHOP_URL}' --table public.orders    one table of a database
  highwater advise sqlite:shop.db --fresh 5m --deletes-matter
  highwater advise '${env:SHOP_URL}' --write shop.yaml        and a pipeline file of what comes first

Reads from this machine, also where a cluster is named: references are resolved here.")]
    Advise(AdviseArgs),
    /// The databases of a pipeline file
    #[command(after_help = "\
Examples:
  highwater connections test pipeline.yaml           all of them
  highwater connections test pipeline.yaml legacy    one

Asks from this machine, also where a cluster is named: references are resolved here.")]
    Connections {
        /// What to do with them.
        #[command(subcommand)]
        command: ConnectionsCommand,
    },
    /// Draws the steps of a pipeline file or of a run, and what each waits for
    #[command(after_help = "\
Examples:
  highwater graph pipeline.yaml                   needs no network
  highwater graph r-71c                           and where each step stands, and why
  highwater graph pipeline.yaml -o mermaid        for a page; `-o dot` for Graphviz, `-o json` for programs")]
    Graph(GraphArgs),
    /// Probes the sources and shows what a run would do; changes nothing
    #[command(after_help = "\
Examples:
  highwater plan pipeline.yaml --out plan.json    then: highwater run plan.json
  highwater plan pipeline.yaml --exit-code        10: there is something to do
  highwater plan pipeline.yaml --env dev --set limits.tasks=2 --resolved")]
    Plan(PlanArgs),
    /// Runs a pipeline, or goes on with its unfinished run, and follows it to its end
    #[command(after_help = "\
Examples:
  highwater run pipeline.yaml --param since=2024-01-01
  highwater run pipeline.yaml orders+                    only `orders` and what waits for it
  highwater run pipeline.yaml --workers 8
  highwater run plan.json                                what `plan --out` saved: as it was shown, or not at all
  highwater run pipeline.yaml --every 5m                 again and again, until Ctrl-C
  highwater run pipeline.yaml --new                      the file has changed: cancel the unfinished run first
  highwater run pipeline.yaml --coordinator http://127.0.0.1:7070 --detach")]
    Run(RunArgs),
    /// Plans and runs a range of one step: what is missing of it, or all of it once more
    #[command(after_help = backfill::EXAMPLES)]
    Backfill(BackfillArgs),
    /// Shows a run: counts by state, why tasks wait, what failed
    Status {
        /// A run id or a unique prefix of it (`r-71c`), or a pipeline's latest run; the latest of
        /// all when left out
        run: Option<String>,
        /// Every step on a line of its own, of however many there are
        #[arg(long)]
        all: bool,
    },
    /// Lists runs, newest first
    Ls {
        /// Only runs of this pipeline
        pipeline: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
    /// Lists the tasks of a run
    #[command(after_help = "\
Examples:
  highwater tasks r-71c --in-state dead
  highwater tasks r-71c 'orders[2024-01..2024-03]'")]
    Tasks(TasksArgs),
    /// Shows what happened to a run's tasks lately
    Logs(LogsArgs),
    /// Blocks until a run has ended, then ends with the run's own code
    #[command(after_help = "Example:\n  highwater wait r-71c --timeout 30m")]
    Wait(WaitArgs),
    /// The workers of a cluster
    Workers {
        /// What to do with them.
        #[command(subcommand)]
        command: WorkersCommand,
    },
    /// Tries dead tasks of a run again, and the steps skipped after them
    #[command(after_help = "\
Examples:
  highwater retry                       the latest run
  highwater retry r-71c orders          only the dead tasks of one step
  highwater retry r-71c 'orders[2024-01..2024-03]'")]
    Retry(RetryArgs),
    /// Lets a run go on without tasks that are dead: what they would have loaded stays missing
    #[command(after_help = "\
Example:
  highwater accept r-71c 'orders[2023-05-07]' --reason 'that day was never delivered'")]
    Accept(AcceptArgs),
    /// Says whether a task that is in doubt was done, and lets its run go on
    #[command(after_help = "\
Examples:
  highwater resolve r-71c features --applied --reason 'its rows are there'
  highwater resolve r-71c features --not-applied --reason 'nothing arrived'    it runs again")]
    Resolve(ResolveArgs),
    /// Holds a run back, or some of it: what runs may end, and nothing more begins
    #[command(after_help = "\
Examples:
  highwater pause r-71c --reason 'the nightly backup'
  highwater pause r-71c orders 'raw_*' --reason 'the source is slow'
  highwater pause r-71c --connection legacy --reason 'maintenance'")]
    Pause(PauseArgs),
    /// Lets a run go on that was held back
    Resume(ResumeArgs),
    /// Shows or changes how much of a run may be under way at once
    #[command(after_help = "\
Examples:
  highwater limits r-71c
  highwater limits r-71c --tasks 8 --step orders=4
  highwater limits r-71c --tasks default")]
    Limits(LimitsArgs),
    /// Leaves out steps that have not begun; what needs them is skipped with them
    #[command(after_help = "Example:\n  highwater skip r-71c features --reason 'not today'")]
    Skip(SkipArgs),
    /// Cancels a run, and answers once its targets are fenced: nothing of it commits afterwards
    #[command(after_help = "Example:\n  highwater cancel r-71c --reason 'wrong source' -y")]
    Cancel(CancelArgs),
    /// Shows what the targets' ledgers hold of a pipeline's steps, and voids what is no longer true
    #[command(after_help = "\
Examples:
  highwater coverage pipeline.yaml            every step
  highwater coverage pipeline.yaml orders     one step
  highwater coverage forget pipeline.yaml orders --reason 'the table was dropped'")]
    Coverage(CoverageArgs),
    /// Where the steps' watermarks stand in their targets
    Watermarks {
        /// What to do with them.
        #[command(subcommand)]
        command: WatermarksCommand,
    },
    /// The steps that follow a log
    Cdc {
        /// What to do with them.
        #[command(subcommand)]
        command: CdcCommand,
    },
    /// The tables that swaps have exchanged
    Swap {
        /// What to do with them.
        #[command(subcommand)]
        command: SwapCommand,
    },
    /// The pipelines that a cluster runs by itself
    #[command(after_help = schedules::EXAMPLES)]
    Schedules {
        /// What to do with them.
        #[command(subcommand)]
        command: SchedulesCommand,
    },
    /// The cluster itself
    Cluster {
        /// What to do with it.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// The clusters that the configuration file names
    Context {
        /// What to do with them.
        #[command(subcommand)]
        command: ContextCommand,
    },
    /// The settings of the command
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints a script by which a shell completes command lines, also with runs and steps
    #[command(after_help = "\
Examples:
  source <(highwater completions bash)                               in ~/.bashrc
  highwater completions zsh > ~/.zfunc/_highwater                    a folder of $fpath
  highwater completions fish > ~/.config/fish/completions/highwater.fish")]
    Completions(CompletionsArgs),
    /// Prints the page of the manual, or writes those of all verbs to a folder
    #[command(after_help = "\
Examples:
  highwater man | man -l -
  highwater man ~/.local/share/man/man1    then: man highwater-run")]
    Man(ManArgs),
    /// Prints the JSON Schema of the pipeline file
    Schema {
        /// What a key means instead, such as `steps.write.mode`, or the end of its path
        #[arg(long, value_name = "KEY")]
        explain: Option<String>,
    },
    /// Prints the version
    Version,
}

impl Command {
    /// Whether the verb needs to know where the coordinator is.
    #[must_use]
    pub fn asks_a_coordinator(&self) -> bool {
        match self {
            Self::Graph(args) => !args.of.as_deref().is_some_and(names_a_file),
            other => !matches!(
                other,
                Self::Validate(_)
                    | Self::Init(_)
                    | Self::Advise(_)
                    | Self::Connections { .. }
                    | Self::Context { .. }
                    | Self::Config { .. }
                    | Self::Completions(_)
                    | Self::Man(_)
                    | Self::Schema { .. }
                    | Self::Version
            ),
        }
    }
}

/// What `tasks` takes.
#[derive(Debug, Clone, Args)]
pub struct TasksArgs {
    /// A run id or a unique prefix of it, or a pipeline; the latest run of all when left out
    pub run: Option<String>,
    /// Which: `orders`, `'raw_*'`, `orders+`, `orders[2024-01..2024-03]`; all when left out
    #[arg(value_name = "SELECTION")]
    pub selections: Vec<String>,
    /// Only this step
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Only tasks in this state: pending, open, done, retry_wait, dead, in_doubt, covered,
    /// superseded
    #[arg(long = "in-state", value_name = "STATE")]
    pub task_state: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: u32,
}

/// What `logs` takes.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// A run id or a unique prefix of it, or a pipeline; the latest run of all when left out
    pub run: Option<String>,
    /// Only this step
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Goes on until the run has ended
    #[arg(short, long)]
    pub follow: bool,
}

/// What `wait` takes.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// A run id or a unique prefix of it, or a pipeline; the latest run of all when left out
    pub run: Option<String>,
    /// Ends with code 124 when the run takes longer: 90s, 30m, 2h
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<ConfigDuration>,
}

/// Verbs of `workers`.
#[derive(Debug, Clone, Subcommand)]
pub enum WorkersCommand {
    /// Lists them: state, slots, age of the last heartbeat
    Ls,
    /// Gives a worker no new tasks
    Cordon {
        /// What the worker calls itself
        worker: String,
    },
    /// Gives a cordoned worker tasks again
    Uncordon {
        /// What the worker calls itself
        worker: String,
    },
    /// Lets a worker finish what it has, and end
    Drain {
        /// What the worker calls itself
        worker: String,
    },
}

/// Verbs of `cluster`.
#[derive(Debug, Clone, Subcommand)]
pub enum ClusterCommand {
    /// Leader, term, store and workers
    Status,
    /// Takes over the targets of a pipeline that belong to another cluster, or to one whose state
    /// was deleted
    Adopt(FileArgs),
    /// Lists what operators did, newest first: who, when, what and why
    Audit(AuditArgs),
}

/// Verbs of `context`.
#[derive(Debug, Clone, Subcommand)]
pub enum ContextCommand {
    /// Lists them, and where commands go when nothing else is said
    Ls,
    /// From now on commands go there; `embedded` is this process
    Use {
        /// The name that the configuration file gives it
        name: String,
    },
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
