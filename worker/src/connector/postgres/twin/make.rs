//! Makes a table like another server's, as far as its rows need it: columns, defaults, sequences,
//! checks, and the keys and indexes that the load finds rows by.

use highwater_common::facts::{
    ColumnDefinition, ColumnFacts, DefinedPart, Engine, Feeds, OwnedSequence, PartKind,
    TableDefinition, Uncarried, column_label,
};
use highwater_common::plan::{SETTINGS, is_built_later};
use highwater_common::spec::TableName;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Executor, PgConnection};

use super::super::created::created_type;
use super::mark::mark;
use super::names::{part_name, sequence_name};
use crate::connector::sql_text::{Dialect, Sql, quoted_table};

/// What a table is made of, and for whom.
pub(in super::super) struct Making<'a> {
    pub(in super::super) table: &'a TableName,
    pub(in super::super) twin: &'a TableDefinition,
    /// The columns that rows bring.
    pub(in super::super) columns: &'a [ColumnFacts],
    pub(in super::super) partition_column: Option<&'a str>,
    pub(in super::super) stream: &'a str,
}

/// A statement, and what a person calls that which it makes.
pub(super) struct Step {
    what: String,
    pub(super) sql: Sql,
}

impl Step {
    fn of(what: impl Into<String>, sql: Sql) -> Self {
        Self {
            what: what.into(),
            sql,
        }
    }
}

/// Runs one statement of text that another server wrote: prepared, so that it is but one.
pub(super) async fn run(conn: &mut PgConnection, sql: Sql) -> Result<(), sqlx::Error> {
    let statement = sqlx::query(sql.into_statement()).persistent(false);
    statement.execute(conn).await.map(drop)
}

/// Makes the table, in the caller's transaction; tells which columns are of another type than the
/// source's.
pub(in super::super) async fn make(
    conn: &mut PgConnection,
    making: &Making<'_>,
) -> Result<Vec<String>, sqlx::Error> {
    let Create { sql, warnings, .. } = making.create(conn).await?;
    run(conn, sql).await?;
    for step in making.steps(conn).await? {
        run(conn, step.sql).await?;
    }
    for part in making.twin.parts.iter().filter(|part| part.is_early) {
        make_part(conn, making.table, part, making.twin).await?;
    }
    if is_built_later(making.twin) {
        run(conn, mark(making.table, making.stream)).await?;
    }
    Ok(warnings)
}

/// The statement that makes a table.
struct Create {
    sql: Sql,
    /// Which columns are of another type than the source's.
    warnings: Vec<String>,
    /// What it does not say, because the target does not have it.
    uncarried: Vec<Uncarried>,
}

/// Makes the table with all of its parts in a transaction that is taken back; tells what the server
/// refused.
pub(in super::super) async fn try_making(
    conn: &mut PgConnection,
    making: &Making<'_>,
) -> Result<Vec<Uncarried>, sqlx::Error> {
    let begun = conn
        .execute("begin isolation level read committed, read write")
        .await;
    match begun {
        Ok(_) => (),
        // A standby: the run waits until it is none.
        Err(error) if error.as_database_error().is_some() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    conn.execute("set local lock_timeout = '2s'").await?;
    let tried = try_all(conn, making).await;
    conn.execute("rollback").await?;
    tried
}

async fn try_all(
    conn: &mut PgConnection,
    making: &Making<'_>,
) -> Result<Vec<Uncarried>, sqlx::Error> {
    let mut refused = Vec::new();
    let made = async {
        make_schema(conn, making.table).await?;
        let create = making.create(conn).await?;
        run(conn, create.sql).await?;
        Ok(create.uncarried)
    };
    match made.await.map_err(|error| refusal("", error)) {
        Ok(uncarried) => refused.extend(uncarried),
        // Nobody knows what else would be refused.
        Err(Ok(told)) => return Ok(told.into_iter().collect()),
        Err(Err(error)) => return Err(error),
    }
    for step in making.steps(conn).await? {
        conn.execute("savepoint tried").await?;
        if let Err(error) = run(conn, step.sql).await {
            refused.extend(refusal(&step.what, error)?);
            conn.execute("rollback to savepoint tried").await?;
        }
    }
    for part in &making.twin.parts {
        conn.execute("savepoint tried").await?;
        if let Err(error) = make_part(conn, making.table, part, making.twin).await {
            refused.extend(refusal(&part.label(), error)?);
            conn.execute("rollback to savepoint tried").await?;
        }
    }
    Ok(refused)
}

/// What the server refuses of a definition; `None` where it refuses for another reason, which the run
/// will meet.
fn refusal(what: &str, error: sqlx::Error) -> Result<Option<Uncarried>, sqlx::Error> {
    const MISSING_RIGHT: &str = "42501";
    let Some(server) = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        return Err(error);
    };
    let state = server.code();
    let is_of_definition = matches!(state.get(..2), Some("42" | "0A" | "22" | "54" | "3F"));
    Ok(
        (is_of_definition && state != MISSING_RIGHT).then(|| Uncarried {
            what: what.to_owned(),
            reason: server.message().to_owned(),
        }),
    )
}

/// Makes the table's schema where it is missing.
pub(in super::super) async fn make_schema(
    conn: &mut PgConnection,
    table: &TableName,
) -> Result<(), sqlx::Error> {
    let Some(schema) = &table.schema else {
        return Ok(());
    };
    let there = sqlx::query_scalar::<_, bool>(
        "select exists (select from pg_namespace where nspname = $1)",
    );
    if !there.bind(schema).fetch_one(&mut *conn).await? {
        let create = Sql::new(Dialect::Postgres, "create schema ").name(schema);
        conn.execute(sqlx::raw_sql(create.into_statement())).await?;
    }
    Ok(())
}

async fn is_collation(conn: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let found = sqlx::query_scalar("select to_regcollation($1) is not null");
    found.bind(name).fetch_one(conn).await
}

impl Making<'_> {
    async fn create(&self, conn: &mut PgConnection) -> Result<Create, sqlx::Error> {
        let (mut warnings, mut uncarried) = (Vec::new(), Vec::new());
        let mut create = Sql::new(Dialect::Postgres, "create table ")
            .table(self.table)
            .text(" (");
        let mut separator = "";
        for column in &self.twin.columns {
            let generated = column.generated.as_ref();
            let brought = self.columns.iter().find(|one| one.name == column.name);
            let Some(facts) = generated.map(|how| &how.column).or(brought) else {
                continue;
            };
            let made = created_type(conn, Engine::Postgres, facts, self.partition_column).await?;
            warnings.extend(made.told().map(|told| told.line(self.table)));
            create = made.write(create.text(separator).name(&column.name).text(" "));
            if let Some(collation) = column.collation.as_ref().filter(|_| made.told().is_none()) {
                if is_collation(conn, collation).await? {
                    create = create.text(" collate ").definition(collation);
                } else {
                    uncarried.push(Uncarried {
                        what: column_label("the collation", &column.name),
                        reason: format!("the target has no collation {collation}"),
                    });
                }
            }
            if let Some(how) = generated {
                create = create
                    .text(" generated always as (")
                    .definition(&how.expression);
                create = create.text(if how.stored { ") stored" } else { ")" });
            }
            if let Some(sequence) = &column.sequence {
                create = self.identity(conn, create, sequence).await?;
            }
            create = match facts.nullable {
                true => create,
                false => create.text(" not null"),
            };
            separator = ", ";
        }
        // Columns that the definition has no room for.
        let is_told = |name: &String| self.twin.columns.iter().any(|one| one.name == *name);
        for column in self.columns.iter().filter(|one| !is_told(&one.name)) {
            let made = created_type(conn, Engine::Postgres, column, self.partition_column).await?;
            warnings.extend(made.told().map(|told| told.line(self.table)));
            create = made.write(create.text(separator).name(&column.name).text(" "));
            create = create.text(if column.nullable { "" } else { " not null" });
            separator = ", ";
        }
        Ok(Create {
            sql: create.text(")"),
            warnings,
            uncarried,
        })
    }

    async fn identity(
        &self,
        conn: &mut PgConnection,
        create: Sql,
        sequence: &OwnedSequence,
    ) -> Result<Sql, sqlx::Error> {
        let how = match sequence.feeds {
            Feeds::IdentityAlways => " generated always as identity (sequence name ",
            Feeds::IdentityByDefault => " generated by default as identity (sequence name ",
            Feeds::Default | Feeds::Nothing => return Ok(create),
        };
        let name = sequence_name(conn, self.table, &sequence.name).await?;
        let create = create.text(how).table(&name).text(" ");
        Ok(create.definition(&sequence.options).text(")"))
    }

    /// What is said of the table once it is there, but for its parts.
    async fn steps(&self, conn: &mut PgConnection) -> Result<Vec<Step>, sqlx::Error> {
        let mut steps = Vec::new();
        for column in &self.twin.columns {
            if let Some(sequence) = &column.sequence {
                self.sequence(conn, column, sequence, &mut steps).await?;
            }
            if let Some(default) = &column.default {
                let set = self.alter(column).text(" set default ").definition(default);
                steps.push(Step::of(column_label("the default", &column.name), set));
            }
            for setting in &column.settings {
                let set = self.alter(column).text(" ").definition(setting);
                steps.push(Step::of(column_label("the settings", &column.name), set));
            }
            if let Some(comment) = &column.comment {
                let on = Sql::new(Dialect::Postgres, "comment on column ").table(self.table);
                let on = on.text(".").name(&column.name).text(" is ");
                let what = column_label("the comment", &column.name);
                steps.push(Step::of(what, on.literal(comment)));
            }
        }
        for setting in &self.twin.settings {
            let set = Sql::new(Dialect::Postgres, "alter table ").table(self.table);
            steps.push(Step::of(SETTINGS, set.text(" ").definition(setting)));
        }
        Ok(steps)
    }

    fn alter(&self, column: &ColumnDefinition) -> Sql {
        let alter = Sql::new(Dialect::Postgres, "alter table ").table(self.table);
        alter.text(" alter column ").name(&column.name)
    }

    /// A sequence that is no identity's.
    async fn sequence(
        &self,
        conn: &mut PgConnection,
        column: &ColumnDefinition,
        sequence: &OwnedSequence,
        steps: &mut Vec<Step>,
    ) -> Result<(), sqlx::Error> {
        if matches!(
            sequence.feeds,
            Feeds::IdentityAlways | Feeds::IdentityByDefault
        ) {
            return Ok(());
        }
        let what = column_label("the sequence", &column.name);
        let name = sequence_name(conn, self.table, &sequence.name).await?;
        let create = Sql::new(Dialect::Postgres, "create sequence ")
            .table(&name)
            .text(" as ")
            .type_name(&sequence.type_name)
            .text(" ")
            .definition(&sequence.options)
            .text(" owned by ")
            .table(self.table)
            .text(".")
            .name(&column.name);
        steps.push(Step::of(&what, create));
        if sequence.feeds == Feeds::Default {
            let set = self.alter(column).text(" set default nextval(");
            let set = set.literal(&quoted_table(&name)).text("::regclass)");
            steps.push(Step::of(what, set));
        }
        Ok(())
    }
}

/// Makes a part of a table, or what is missing of it.
pub(super) async fn make_part(
    conn: &mut PgConnection,
    table: &TableName,
    part: &DefinedPart,
    twin: &TableDefinition,
) -> Result<(), sqlx::Error> {
    let placed = part_name(conn, table, part, twin).await?;
    if placed.is_whole {
        return Ok(());
    }
    if placed.is_another {
        let part = part.label();
        tracing::warn!(%table, "the {part} is left out: another index has its name");
        return Ok(());
    }
    if !placed.is_there {
        run_all(conn, index_statement(table, part, &placed.name)).await?;
    }
    run_all(conn, part_statements(table, part, &placed.name)).await
}

/// Whether the index of a part is there.
pub(super) async fn has_index(
    conn: &mut PgConnection,
    table: &TableName,
    part: &DefinedPart,
    twin: &TableDefinition,
) -> Result<bool, sqlx::Error> {
    part_name(conn, table, part, twin)
        .await
        .map(|placed| placed.is_there)
}

/// Makes the index of a part, unless it is there; what the part says of it only where that is no
/// key, which needs the table for itself.
pub(super) async fn make_index(
    conn: &mut PgConnection,
    table: &TableName,
    part: &DefinedPart,
    twin: &TableDefinition,
) -> Result<(), sqlx::Error> {
    let placed = part_name(conn, table, part, twin).await?;
    if placed.is_there {
        return Ok(());
    }
    run_all(conn, index_statement(table, part, &placed.name)).await?;
    match part.kind {
        PartKind::PrimaryKey | PartKind::Unique => Ok(()),
        _ => run_all(conn, part_statements(table, part, &placed.name)).await,
    }
}

async fn run_all(
    conn: &mut PgConnection,
    statements: impl IntoIterator<Item = Sql>,
) -> Result<(), sqlx::Error> {
    for sql in statements {
        run(conn, sql).await?;
    }
    Ok(())
}

/// The index that a part is, or is made of: a key is built as an index first, for only that takes the
/// index's own settings.
fn index_statement(table: &TableName, part: &DefinedPart, name: &str) -> Option<Sql> {
    let unique = match part.kind {
        PartKind::PrimaryKey | PartKind::Unique | PartKind::UniqueIndex => "unique ",
        PartKind::Index => "",
        PartKind::Check | PartKind::Exclusion => return None,
    };
    let index = Sql::new(Dialect::Postgres, "create ").text(unique);
    let index = index.text("index ").name(name).text(" on ").table(table);
    Some(index.definition(&part.definition))
}

/// What makes the part, its index being there.
fn part_statements(table: &TableName, part: &DefinedPart, name: &str) -> Vec<Sql> {
    let add = || {
        let add = Sql::new(Dialect::Postgres, "alter table ").table(table);
        add.text(" add constraint ").name(name).text(" ")
    };
    let using = |key: &'static str| {
        let add = add().text(key).text(" using index ").name(name);
        add.definition(&part.deferring)
    };
    let mut made = match part.kind {
        PartKind::Check | PartKind::Exclusion => vec![add().definition(&part.definition)],
        PartKind::PrimaryKey => vec![using("primary key")],
        PartKind::Unique => vec![using("unique")],
        PartKind::Index | PartKind::UniqueIndex => Vec::new(),
    };
    let alter = |what: &'static str| {
        let alter = Sql::new(Dialect::Postgres, "alter table ").table(table);
        alter.text(what).name(name)
    };
    if part.is_replica_identity {
        made.push(alter(" replica identity using index "));
    }
    if part.is_clustered {
        made.push(alter(" cluster on "));
    }
    if let Some(comment) = &part.index_comment {
        let own = TableName {
            schema: table.schema.clone(),
            name: name.to_owned(),
        };
        let on = Sql::new(Dialect::Postgres, "comment on index ").table(&own);
        made.push(on.text(" is ").literal(comment));
    }
    if let Some(comment) = &part.constraint_comment {
        let on = Sql::new(Dialect::Postgres, "comment on constraint ").name(name);
        let on = on.text(" on ").table(table).text(" is ");
        made.push(on.literal(comment));
    }
    made
}
