//! What each verb does.

mod advise;
mod backfill;
mod cancel;
mod cdc;
mod cluster;
mod config_view;
mod connections;
mod context;
mod coverage;
mod graph;
mod hands;
mod list;
mod logs;
pub(crate) mod plan;
mod retry;
pub(crate) mod run;
mod run_named;
mod schedules;
mod shell;
mod status;
mod swap;
mod tasks;
mod validate;
mod version;
mod wait;
mod watermarks;
mod workers;

use std::io::IsTerminal;

use highwater_common::document::RunDocument;
use highwater_proto::OPERATOR_METADATA;
use highwater_runtime::Interrupts;
use serde_json::Value;
use tonic::Request;

use crate::args::{
    Cli, ClusterCommand, Command, ConfigCommand, ConnectionsCommand, CoverageCommand, FileArgs,
    Given, Global, OutputForm, SwapCommand,
};
use crate::connect::{self, Connection, Fetched, Need, Where};
use crate::contexts::Contexts;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::found_tables;
use crate::output::Output;
use crate::pipeline_file::{self, PipelineFile};
use crate::render;

/// Does what the command line says, and tells of an error.
pub async fn execute(
    cli: &Cli,
    contexts: &Contexts,
    output: &mut Output,
    interrupts: &mut Interrupts,
) -> ExitCode {
    let mut context = Context {
        global: &cli.global,
        given: &cli.given,
        contexts,
        output,
        interrupts,
    };
    match dispatch(&cli.command, &mut context).await {
        Ok(exit) => exit,
        Err(error) => {
            let text = error.render(&context.output.talk_look);
            context.output.tell(&text);
            error.exit()
        }
    }
}

async fn dispatch(command: &Command, context: &mut Context<'_>) -> Result<ExitCode, CliError> {
    if context.global.output.draws() && !matches!(command, Command::Graph(_)) {
        return Err(CliError::new(
            ExitCode::Usage,
            "only `graph` can be drawn by another program",
        )
        .next("-o table, json or name"));
    }
    match command {
        Command::Validate(args) => validate::validate(context, args),
        Command::Init(args) => advise::init(context, args).await,
        Command::Advise(args) => advise::advise(context, args).await,
        Command::Connections {
            command: ConnectionsCommand::Test(args),
        } => connections::test(context, args).await,
        Command::Graph(args) => graph::graph(context, args).await,
        Command::Plan(args) => plan::plan(context, args).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Backfill(args) => backfill::backfill(context, args).await,
        Command::Status { run, all } => status::status(context, run.as_deref(), *all).await,
        Command::Ls { pipeline, limit } => list::list(context, pipeline.as_deref(), *limit).await,
        Command::Tasks(args) => tasks::tasks(context, args).await,
        Command::Logs(args) => logs::logs(context, args).await,
        Command::Wait(args) => wait::wait(context, args).await,
        Command::Workers { command } => workers::workers(context, command).await,
        Command::Retry(args) => retry::retry(context, args).await,
        Command::Resolve(args) => retry::resolve(context, args).await,
        Command::Accept(args) => retry::accept(context, args).await,
        Command::Pause(args) => hands::pause(context, args).await,
        Command::Resume(args) => hands::resume(context, args).await,
        Command::Limits(args) => hands::limits(context, args).await,
        Command::Skip(args) => hands::skip(context, args).await,
        Command::Cancel(args) => cancel::cancel(context, args).await,
        Command::Coverage(args) => match &args.command {
            None => coverage::show(context, args).await,
            Some(CoverageCommand::Forget(args)) => coverage::forget(context, args).await,
        },
        Command::Watermarks { command } => watermarks::watermarks(context, command).await,
        Command::Cdc { command } => Box::pin(cdc::cdc(context, command)).await,
        Command::Swap {
            command: SwapCommand::Undo(args),
        } => swap::undo(context, args).await,
        Command::Swap {
            command: SwapCommand::Clean(args),
        } => swap::clean(context, args).await,
        Command::Schedules { command } => schedules::schedules(context, command).await,
        Command::Cluster {
            command: ClusterCommand::Status,
        } => cluster::status(context).await,
        Command::Cluster {
            command: ClusterCommand::Adopt(args),
        } => cluster::adopt(context, args).await,
        Command::Cluster {
            command: ClusterCommand::Audit(args),
        } => hands::audit(context, args).await,
        Command::Context { command } => context::context(context, command),
        Command::Config {
            command: ConfigCommand::View(args),
        } => config_view::view(context, args),
        Command::Completions(args) => shell::completions(context, args),
        Command::Man(args) => shell::man(context, args),
        Command::Schema { explain: None } => validate::schema(context),
        Command::Schema { explain: Some(key) } => validate::explain(context, key),
        Command::Version => version::version(context),
    }
}

/// What every verb works with.
pub(crate) struct Context<'a> {
    pub(crate) global: &'a Global,
    pub(crate) given: &'a Given,
    pub(crate) contexts: &'a Contexts,
    pub(crate) output: &'a mut Output,
    pub(crate) interrupts: &'a mut Interrupts,
}

impl Context<'_> {
    /// Opens the way to the coordinator and says where it leads.
    pub(crate) async fn open(&mut self, place: &Where, need: Need) -> Result<Connection, CliError> {
        let connection = self.unless_interrupted(connect::open(place, need)).await?;
        self.output.say(connection.banner());
        Ok(connection)
    }

    /// Reads a pipeline file, with a step for each table that it means.
    pub(crate) async fn read(&mut self, args: &FileArgs) -> Result<PipelineFile, CliError> {
        let found = self.unless_interrupted(found_tables::found(args)).await?;
        pipeline_file::read_with(args, &found)
    }

    /// A request that says who asks it.
    pub(crate) fn signed<T>(&self, request: T) -> Request<T> {
        let mut request = Request::new(request);
        let global = self.global;
        let operator = global.operator.as_ref().or(global.user.as_ref());
        // A name that no metadata can hold is left out; somebody asked then.
        let name = operator.and_then(|name| name.parse().ok());
        if let Some(name) = name {
            request.metadata_mut().insert(OPERATOR_METADATA, name);
        }
        request
    }

    /// Waits for work that may be given up at any time.
    pub(crate) async fn unless_interrupted<T>(
        &mut self,
        work: impl Future<Output = Result<T, CliError>>,
    ) -> Result<T, CliError> {
        tokio::select! {
            biased;
            () = self.interrupts.next() => Err(CliError::new(ExitCode::Interrupted, "interrupted")),
            done = work => done,
        }
    }

    /// Writes the data of a verb in the form that was asked for. `name` gives one name a line.
    pub(crate) fn print(
        &mut self,
        json: &Value,
        table: impl FnOnce(&render::Look) -> String,
        names: impl FnOnce() -> Vec<String>,
    ) -> Result<(), CliError> {
        let text = match self.global.output {
            OutputForm::Table | OutputForm::Mermaid | OutputForm::Dot => {
                table(&self.output.data_look)
            }
            OutputForm::Json => format!("{json:#}\n"),
            OutputForm::Name => names()
                .into_iter()
                .map(|name| format!("{name}\n"))
                .collect(),
        };
        self.output.data(&text)
    }

    /// Says what was laid over a pipeline file, and what that leaves out.
    pub(crate) fn remark(&mut self, pipeline: &PipelineFile) {
        if let Some(remark) = pipeline.remark() {
            self.output.say(&remark);
        }
    }

    /// Writes how a run ended.
    pub(crate) fn print_summary(&mut self, run: &Fetched<RunDocument>) -> Result<(), CliError> {
        let now = jiff::Timestamp::now();
        self.print(
            &run.json,
            |look| render::summary(&run.view, now, look),
            || vec![run.view.run.to_string()],
        )
    }

    /// Ends what runs in this process. What was asked for is done by now, so a failure is only
    /// told.
    pub(crate) async fn close(&mut self, connection: Connection) {
        if let Err(error) = connection.close().await {
            let text = error.render(&self.output.talk_look);
            self.output.tell(&text);
        }
    }

    /// Asks whether to do what `reach` says.
    ///
    /// # Errors
    /// Code 6 without a yes, and without anybody to ask.
    pub(crate) async fn confirm(&mut self, reach: &str) -> Result<(), CliError> {
        self.output.say(reach);
        if self.global.yes {
            return Ok(());
        }
        let refused = |why: &str| {
            CliError::new(ExitCode::Refused, "not done")
                .why(why)
                .next("the same with -y")
        };
        if self.global.no_input || !std::io::stdin().is_terminal() {
            return Err(refused("it needs a yes, and there is nobody to ask"));
        }
        self.output.tell("Go on? [y/N] ");
        let answer = self
            .unless_interrupted(async { Ok(tokio::task::spawn_blocking(read_line).await) })
            .await?;
        match answer.unwrap_or_default().trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(refused("the answer was not yes")),
        }
    }
}

/// A line from stdin; a failure is no yes.
fn read_line() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok();
    line
}
