//! `advise` and `init`: which way to load which table, and why. Reads the databases from here, whatever
//! cluster there is: a recommendation needs no run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_common::advise::{
    Advice, Draft, DraftTable, TableAsFound, TargetSide, TargetTable, Wishes, pipeline_file, rank,
};
use highwater_common::id::{ConnectionName, PipelineName};
use highwater_common::spec::{
    self, ColumnRules, Connection, SecretText, SourceRows, SourceTable, Spec, TableName,
    parse_table,
};
use highwater_worker::connector::{ConnectorError, Source, open_source};
use highwater_worker::supervisor::Supervisor;
use highwater_worker::survey;
use jiff::Timestamp;
use serde_json::json;

use super::Context;
use crate::args::{AdviseArgs, FileArgs, InitArgs};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::pipeline_file;
use crate::render;

/// What the file that is written calls the databases of a URL.
const SOURCE: &str = "source";
const TARGET: &str = "target";
const TARGET_URL: &str = "${env:TARGET_URL}";
/// In the place of a file: stdout.
const STDOUT: &str = "-";

/// The databases that are meant, and the tables.
struct Asked {
    name: PipelineName,
    connections: BTreeMap<ConnectionName, Connection>,
    /// The folder that relative paths mean; absolute.
    base_dir: PathBuf,
    /// Empty of a database whose tables have not been listed yet.
    tables: Vec<Wanted>,
    /// Whether a database was named, and no file that says how it may be used.
    is_database: bool,
}

/// A table that is asked about.
struct Wanted {
    from: ConnectionName,
    rows: SourceRows,
    table: TableName,
    /// `None` where nobody has said.
    to: Option<(ConnectionName, TableName)>,
    step: String,
    /// Why a person has to write its step, if that is so.
    by_hand: Option<String>,
}

/// A table and what is recommended for it.
struct Looked {
    wanted: Wanted,
    found: TableAsFound,
    advice: Advice,
}

/// A table that could not be looked at.
struct Failed {
    table: TableName,
    why: String,
}

pub(super) async fn advise(
    context: &mut Context<'_>,
    args: &AdviseArgs,
) -> Result<ExitCode, CliError> {
    let only = args.tables.iter().map(|text| table_of(text));
    let only = only.collect::<Result<Vec<TableName>, CliError>>()?;
    let mut asked = match is_file(&args.of) {
        true => of_file(args, &only)?,
        false => of_url(&args.of, name("advised")?, &only)?,
    };
    let databases = Databases::default();
    if asked.tables.is_empty() {
        let listed = databases.all_tables(&asked, None);
        asked.tables = context.unless_interrupted(listed).await?;
    }
    let wishes = Wishes {
        fresh: args.fresh.map(|fresh| fresh.0),
        once: args.once,
        critical: args.critical,
        deletes_matter: args.deletes_matter,
        slots: args.slots,
        bytes_per_second: None,
    };
    let (looked, failed) = look_at_all(context, &databases, &mut asked, &wishes).await?;
    let to_stdout = args.write.as_deref() == Some(Path::new(STDOUT));
    match to_stdout {
        true => tell_failed(context, &failed),
        false => print(context, &looked, &failed)?,
    }
    if let Some(path) = &args.write {
        let text = written(&asked, &looked, &wishes, path)?;
        write(context, path, &text).await?;
    }
    Ok(ExitCode::Success)
}

/// Writes what comes first for every table, without a wish.
pub(super) async fn init(context: &mut Context<'_>, args: &InitArgs) -> Result<ExitCode, CliError> {
    let stem = args.file.file_stem().and_then(|stem| stem.to_str());
    let own = stem.and_then(|stem| stem.parse().ok());
    let own = own.map_or_else(|| name("pipeline"), Ok)?;
    let mut asked = of_url(&args.from, own, &[])?;
    let databases = Databases::default();
    let listed = databases.all_tables(&asked, args.schema.as_deref());
    asked.tables = context.unless_interrupted(listed).await?;
    let wishes = Wishes::default();
    let (looked, failed) = look_at_all(context, &databases, &mut asked, &wishes).await?;
    tell_failed(context, &failed);
    let text = written(&asked, &looked, &wishes, &args.file)?;
    write(context, &args.file, &text).await?;
    Ok(ExitCode::Success)
}

/// Looks at one table after the other.
///
/// # Errors
/// Code 5 where none of them can be looked at.
async fn look_at_all(
    context: &mut Context<'_>,
    databases: &Databases,
    asked: &mut Asked,
    wishes: &Wishes,
) -> Result<(Vec<Looked>, Vec<Failed>), CliError> {
    let (mut looked, mut failed) = (Vec::new(), Vec::new());
    for wanted in std::mem::take(&mut asked.tables) {
        let found = context
            .unless_interrupted(async { Ok(databases.look_at(asked, &wanted).await) })
            .await?;
        match found {
            Ok(found) => looked.push(Looked {
                advice: rank(&found, wishes),
                wanted,
                found,
            }),
            Err(why) => failed.push(Failed {
                table: wanted.table,
                why,
            }),
        }
    }
    match failed.first() {
        Some(first) if looked.is_empty() => {
            let what = format!("cannot look at {}", first.table);
            Err(CliError::new(ExitCode::Unreachable, what).why(first.why.clone()))
        }
        Some(_) | None => Ok((looked, failed)),
    }
}

fn tell_failed(context: &mut Context<'_>, failed: &[Failed]) {
    for one in failed {
        let line = format!("{} was not looked at: {}", one.table, one.why);
        context.output.say(&line);
    }
}

fn print(context: &mut Context<'_>, looked: &[Looked], failed: &[Failed]) -> Result<(), CliError> {
    let tables: Vec<&Advice> = looked.iter().map(|one| &one.advice).collect();
    let unseen = failed
        .iter()
        .map(|one| json!({"table": one.table, "why": one.why}));
    let document = json!({
        "schema": "advice/v1",
        "tables": tables,
        "not_looked_at": unseen.collect::<Vec<_>>(),
    });
    context.print(
        &document,
        |look| render::advice(&tables, look),
        || tables.iter().map(|one| one.table.to_string()).collect(),
    )?;
    tell_failed(context, failed);
    Ok(())
}

/// The file of what comes first; paths that would mean something else beside it are written out.
fn written(
    asked: &Asked,
    looked: &[Looked],
    wishes: &Wishes,
    path: &Path,
) -> Result<String, CliError> {
    let beside = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = beside.unwrap_or(Path::new(".")).canonicalize().ok();
    let is_beside = folder.as_deref() == Some(&asked.base_dir);
    let mut connections = asked.connections.clone();
    for connection in connections.values_mut() {
        if let (Connection::Sqlite { path, .. }, false) = (connection, is_beside) {
            *path = asked.base_dir.join(&*path).display().to_string();
        }
    }
    // Following a log makes a slot and a publication in the source.
    let follows = |one: &Looked| {
        let first = one.advice.ranked.iter().find(|way| way.runs_here);
        asked.is_database && first.is_some_and(|way| way.way.follows_log())
    };
    for one in looked.iter().filter(|one| follows(one)) {
        if let Some(Connection::Postgres { read_only, .. }) = connections.get_mut(&one.wanted.from)
        {
            *read_only = false;
        }
    }
    let target: ConnectionName = name(TARGET)?;
    if looked.iter().any(|one| one.wanted.to.is_none()) {
        connections
            .entry(target.clone())
            .or_insert_with(|| Connection::Postgres {
                url: SecretText::new(TARGET_URL),
                max_connections: None,
                read_only: false,
            });
    }
    let tables = looked.iter().map(|one| {
        let to = one.wanted.to.clone();
        let (to, as_table) = to.unwrap_or((target.clone(), one.found.table.clone()));
        DraftTable {
            found: &one.found,
            advice: &one.advice,
            from: one.wanted.from.clone(),
            to,
            as_table,
            step: one.wanted.step.clone(),
            by_hand: one.wanted.by_hand.clone(),
        }
    });
    let draft = Draft {
        name: asked.name.clone(),
        connections,
        wishes,
        tables: tables.collect(),
    };
    pipeline_file(&draft).ok_or_else(|| {
        CliError::new(ExitCode::NothingSelected, "there is nothing to write")
            .why("no way that this version runs fits any of the tables")
            .next("read why, in what `advise` says without --write")
    })
}

async fn write(context: &mut Context<'_>, path: &Path, text: &str) -> Result<(), CliError> {
    if path == Path::new(STDOUT) {
        return context.output.data(text);
    }
    if path.exists() {
        let reach = format!("{} is there already, and will be replaced", path.display());
        context.confirm(&reach).await?;
    }
    let failed =
        |error| CliError::from_io(ExitCode::Unexpected, "cannot write the file", path, &error);
    std::fs::write(path, text).map_err(failed)?;
    let program = context.output.talk_look.program.clone();
    let (path, next) = (path.display(), "look at it, then");
    context
        .output
        .say(&format!("wrote {path}: {next} {program} plan {path}"));
    Ok(())
}

/// Whether a pipeline file is meant: one that is there, or nothing that names a database.
fn is_file(of: &str) -> bool {
    let is_url = of.starts_with("sqlite:") || of.contains("://") || of.contains(['$', '=', ' ']);
    Path::new(of).is_file() || !is_url
}

/// A database, with these tables.
fn of_url(url: &str, pipeline: PipelineName, only: &[TableName]) -> Result<Asked, CliError> {
    let connection = Connection::of_text(url).map_err(|why| {
        let what = "the database cannot be read from the command line";
        CliError::new(ExitCode::Usage, what).why(why)
    })?;
    let here = Path::new(".");
    let base_dir = here.canonicalize().map_err(|error| {
        CliError::from_io(ExitCode::Unexpected, "cannot find the folder", here, &error)
    })?;
    let from: ConnectionName = name(SOURCE)?;
    let tables = only.iter().map(|table| of_database(&from, table.clone()));
    Ok(Asked {
        name: pipeline,
        tables: tables.collect(),
        connections: BTreeMap::from([(from, connection)]),
        base_dir,
        is_database: true,
    })
}

fn of_database(from: &ConnectionName, table: TableName) -> Wanted {
    Wanted {
        from: from.clone(),
        rows: SourceRows::All,
        to: None,
        step: table.name.clone(),
        by_hand: None,
        table,
    }
}

/// The tables that the steps of a file read, each once.
fn of_file(args: &AdviseArgs, only: &[TableName]) -> Result<Asked, CliError> {
    let file = pipeline_file::read(&FileArgs {
        file: PathBuf::from(&args.of),
        over: args.over.clone(),
    })?;
    let spec: Spec = spec::from_canonical(&file.spec).map_err(|_| {
        CliError::new(ExitCode::Unexpected, "the spec cannot be read back")
            .why("this is a defect of Highwater")
    })?;
    let mut tables: Vec<Wanted> = Vec::new();
    for (step, of) in &spec.steps {
        let sides = of.strategy.load().sides();
        let Some((from, table)) = sides
            .source
            .and_then(|from| Some((from, from.relation.table()?)))
        else {
            continue;
        };
        let is_told = |one: &Wanted| one.from == from.connection && one.table == *table;
        if tables.iter().any(is_told) || !(only.is_empty() || only.contains(table)) {
            continue;
        }
        tables.push(Wanted {
            from: from.connection.clone(),
            rows: from.rows,
            table: table.clone(),
            to: sides
                .target
                .map(|to| (to.connection.clone(), to.table.clone())),
            step: step.to_string(),
            by_hand: says_more(from).then(|| {
                format!(
                    "the step {step} says more of what it reads (`columns`, `rows`): take that over by hand"
                )
            }),
        });
    }
    let is_read = |table: &&TableName| tables.iter().any(|one| one.table == **table);
    if let Some(unread) = only.iter().find(|table| !is_read(table)) {
        let what = format!("no step of {} reads {unread}", args.of);
        return Err(CliError::new(ExitCode::NothingSelected, what)
            .next("name the database in the place of the file, such as `${env:SHOP_URL}`"));
    }
    if tables.is_empty() {
        let what = format!("no step of {} reads a table", args.of);
        return Err(CliError::new(ExitCode::NothingSelected, what));
    }
    let own: String = file.name.chars().take(54).collect();
    Ok(Asked {
        name: name(&format!("{own}_advised"))?,
        connections: spec.connections,
        base_dir: file.base_dir,
        is_database: false,
        tables,
    })
}

/// Whether a step says more of what it reads than which table.
fn says_more(from: &SourceTable) -> bool {
    from.columns != ColumnRules::default() || from.rows != SourceRows::All
}

fn table_of(text: &str) -> Result<TableName, CliError> {
    parse_table(text).map_err(|why| {
        CliError::new(ExitCode::Usage, format!("`{text}` is no name of a table")).why(why)
    })
}

fn name<T: std::str::FromStr>(text: &str) -> Result<T, CliError> {
    text.parse().map_err(|_| {
        CliError::new(ExitCode::Unexpected, format!("`{text}` is no name"))
            .why("this is a defect of Highwater")
    })
}

/// Opens databases to look at them. Writes through none, the targets included.
#[derive(Default)]
struct Databases {
    supervisor: Supervisor,
}

impl Databases {
    fn open(
        &self,
        asked: &Asked,
        name: &ConnectionName,
        rows: SourceRows,
    ) -> Result<Box<dyn Source>, String> {
        let connection = asked.connections.get(name);
        let connection = connection.ok_or_else(|| format!("there is no connection {name}"))?;
        let dir = &asked.base_dir;
        let of_this = "of this process";
        open_source(connection, name, rows, dir, of_this, &self.supervisor, None)
            .map_err(|error| error.message)
    }

    /// The tables of the databases, of one schema or of all.
    async fn all_tables(
        &self,
        asked: &Asked,
        schema: Option<&str>,
    ) -> Result<Vec<Wanted>, CliError> {
        let cannot = |why| CliError::new(ExitCode::Unreachable, "cannot list the tables").why(why);
        let mut wanted = Vec::new();
        for name in asked.connections.keys() {
            let source = self.open(asked, name, SourceRows::All).map_err(cannot)?;
            let tables = survey::tables(source.as_ref()).await;
            let tables = tables.map_err(|error| cannot(why(&error)))?;
            let is_meant =
                |table: &TableName| schema.is_none_or(|of| table.schema.as_deref() == Some(of));
            let tables = tables.into_iter().filter(is_meant);
            wanted.extend(tables.map(|table| of_database(name, table)));
        }
        if wanted.is_empty() {
            let of = schema.map_or_else(String::new, |of| format!(" in schema {of}"));
            let what = format!("the database has no table{of} that the role may see");
            return Err(CliError::new(ExitCode::NothingSelected, what));
        }
        Ok(wanted)
    }

    async fn look_at(&self, asked: &Asked, wanted: &Wanted) -> Result<TableAsFound, String> {
        let source = self.open(asked, &wanted.from, wanted.rows)?;
        let found = survey::survey(source.as_ref(), &wanted.table, Timestamp::now()).await;
        let mut found = found.map_err(|error| why(&error))?;
        if let Some((to, table)) = &wanted.to {
            found.target = self.target(asked, to, table).await;
        }
        Ok(found)
    }

    /// A target that cannot be looked at is no reason to say nothing of the source.
    async fn target(
        &self,
        asked: &Asked,
        name: &ConnectionName,
        table: &TableName,
    ) -> Option<TargetSide> {
        let engine = asked.connections.get(name)?.engine();
        let seen = match self.open(asked, name, SourceRows::Visible) {
            Ok(target) => survey::survey_target(target.as_ref(), engine, table)
                .await
                .map_err(|error| why(&error)),
            Err(why) => Err(why),
        };
        Some(seen.unwrap_or_else(|why| TargetSide {
            engine,
            name: table.clone(),
            table: TargetTable::Unseen(why),
        }))
    }
}

fn why(error: &ConnectorError) -> String {
    error.report.message.clone()
}
