//! What a probe learns of a table: the facts that a plan is made of.

mod columns;
mod definition;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::columns::shown_type;
pub use self::columns::{CastFrom, ColumnFacts, ColumnKind, ColumnOrigin};
pub use self::definition::{
    ColumnDefinition, DefinedPart, Feeds, Generated, OwnedSequence, PartKind, TableDefinition,
    Uncarried, column_label,
};
use crate::cursor::{Cursor, CursorKind};
pub use crate::cursor_form::CursorForm;
pub use crate::engine::Engine;
use crate::errand::{StreamReceipts, Undone};
use crate::id::ClusterId;
use crate::left_out::LeftOut;
use crate::log::LogStanding;
use crate::placing::{KeyPlacing, Placing};
use crate::range::CursorRange;
use crate::shadow::Beside;
use crate::spec::TableName;
use crate::window::WindowFacts;

/// What the source says of the partition column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFacts {
    /// The column's name in the source; of a rule over several, all of them, for people.
    pub column: String,
    /// What its positions are.
    pub kind: CursorKind,
    /// How positions are written for this server.
    pub form: CursorForm,
    /// The rule by which the source places its rows, where no column's values do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placing: Option<Placing>,
    /// The smallest position, `None` for a table without one.
    pub min: Option<Cursor>,
    /// The largest position, `None` for a table without one.
    pub max: Option<Cursor>,
    /// Whether rows without a position can exist: false only when the server keeps all rows that a
    /// read sees to NOT NULL.
    pub nullable: bool,
    /// Rows without a position, when counted.
    pub null_rows: Option<u64>,
    /// Rows outside of the declared range, when the step declares one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Whether an index leads with the column.
    pub indexed: bool,
    /// Bounds that cut the table into parts of equally many rows, ascending; empty when the server
    /// keeps none. At most 200.
    pub histogram: Vec<Cursor>,
    /// Neighbouring positions between which the probe found no row, or next to none, ascending;
    /// looked for only where the rule would make very many partitions. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty: Vec<(Cursor, Cursor)>,
}

impl PartitionFacts {
    /// Of a table that nothing cuts: all of its rows are one part.
    #[must_use]
    pub fn in_one_piece() -> Self {
        let placing = Placing::Keys(KeyPlacing::default());
        Self {
            column: "its rows".to_owned(),
            kind: CursorKind::Placed(placing.id()),
            form: CursorForm::Native,
            placing: Some(placing),
            min: None,
            max: None,
            nullable: false,
            null_rows: Some(0),
            left_out: None,
            indexed: false,
            histogram: Vec::new(),
            empty: Vec::new(),
        }
    }
}

/// What a probe learns of a source table. Bounded as a part of [`StepFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// The database.
    pub engine: Engine,
    /// The columns to be read as they arrive, in the table's order, without the excluded ones.
    pub columns: Vec<ColumnFacts>,
    /// The columns of the primary key, or of the first unique key of NOT NULL columns, as they
    /// arrive; empty without one, and where one of them is cast: two values may be cast to one.
    pub key: Vec<String>,
    /// Rows: exact below a million, else the server's estimate.
    pub rows: u64,
    /// Whether `rows` was counted.
    pub rows_exact: bool,
    /// Bytes of the table, as the server estimates them.
    pub bytes: u64,
    /// Whether row level security hides rows from the role that reads, and only the visible ones
    /// are meant.
    pub filtered: bool,
    /// The partition column, when the step has one.
    pub partition: Option<PartitionFacts>,
    /// What the table is made of, where a table that is missing may be made like it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<TableDefinition>,
}

impl TableFacts {
    /// What arrives of a column of the source, by its name there.
    #[must_use]
    pub fn arrival_of(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns
            .iter()
            .find(|column| self.engine.is_same_name(column.source_name(), name))
    }

    /// The facts with columns under other names: name in the source → name in the target.
    #[must_use]
    pub fn renamed(mut self, renames: &BTreeMap<String, String>) -> Self {
        let engine = self.engine;
        let new_name = |name: &str| {
            let found = renames
                .iter()
                .find(|(old, _)| engine.is_same_name(old, name));
            found.map(|(_, new)| new.clone())
        };
        self.key = self
            .key
            .into_iter()
            .map(|name| new_name(&name).unwrap_or(name))
            .collect();
        self.columns = self
            .columns
            .into_iter()
            .map(|column| match new_name(&column.name) {
                Some(name) => column.renamed(&name),
                None => column,
            })
            .collect();
        self
    }
}

/// What a probe learns of a target. Bounded as a part of [`StepFacts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// The database.
    pub engine: Engine,
    /// Which server, and which life of it, this is.
    pub fingerprint: String,
    /// The table as it stands; `None` when it does not exist and will be created.
    pub table: Option<TargetTableFacts>,
    /// Columns that a created table would get in another type than the source's, because the target
    /// does not have that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created_as: Vec<CreatedAs>,
    /// What a table that is made like the source's would not get, because the target refuses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncarried: Vec<Uncarried>,
    /// The ranges of this step's stream that earlier runs committed, merged and in ascending order.
    pub covered: Vec<CursorRange>,
    /// Whether the NULL partition of this stream was committed.
    pub covered_null: bool,
}

/// A column that is created in another type than the source's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedAs {
    /// The column.
    pub column: String,
    /// The type that it gets.
    pub type_name: String,
    /// Why not the source's.
    pub reason: String,
}

impl CreatedAs {
    /// What a user is told.
    #[must_use]
    pub fn line(&self, table: &TableName) -> String {
        format!(
            "column {} of {table} is created as {}: {}",
            self.column, self.type_name, self.reason
        )
    }
}

/// A target table that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetTableFacts {
    /// Its columns, in the table's order, those included that it computes itself.
    pub columns: Vec<ColumnFacts>,
    /// Columns that it computes itself, so that no row can bring them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<String>,
    /// Columns that get a value when a row brings none: by a default, or as its identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaulted: Vec<String>,
    /// The columns of its primary key; empty without one.
    pub key: Vec<String>,
    /// The sets of columns that no two rows may share, by a key or an index that is checked at
    /// once and covers every row; the primary key is among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<Vec<String>>,
    /// How positions of the partition column are written for this server, when the step has one.
    pub partition_form: Option<CursorForm>,
    /// Whether an index leads with the partition column.
    pub partition_indexed: bool,
    /// Whether the table holds at least one row.
    pub has_rows: bool,
    /// Whether the stream has made it, and has not built all of it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
    /// Triggers and rules that answer to rows written or deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// What another table would have to take over with its place, when that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<ExchangeFacts>,
    /// Foreign keys of other tables that point to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referenced_by: Vec<ForeignKey>,
}

/// A foreign key of another table that points to a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that has it.
    pub table: String,
    /// What becomes of its rows when those that they point to are deleted.
    pub on_delete: OnDelete,
}

/// What a foreign key does when the rows that it points to are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It deletes its own.
    Cascade,
    /// It sets its columns to NULL.
    SetNull,
    /// It sets its columns to their defaults.
    SetDefault,
    /// It refuses, at once.
    Refuse,
    /// It refuses at the end of the transaction, if the rows are not there again by then.
    RefuseAtCommit,
}

/// What a probe learns of a table that another one is to take the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeFacts {
    /// Which table it is, whatever its name.
    pub identity: String,
    /// Bytes that it takes, its indexes included: another one like it takes as many.
    pub bytes: u64,
    /// What hangs on it, at most 500; those that would not go along come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependants: Vec<Dependant>,
}

/// Something of a database that hangs on a table, or a trait of the table itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependant {
    /// What it is.
    pub kind: DependantKind,
    /// Its name, or what the server says of it.
    pub name: String,
    /// Whose it is, where the role that loads may not change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_owner: Option<String>,
}

/// The kinds of [`Dependant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependantKind {
    /// The table itself.
    Table,
    /// A view that reads it.
    View,
    /// A function whose body the server holds parsed.
    Function,
    /// A trigger of it.
    Trigger,
    /// A row level security policy of it.
    Policy,
    /// A sequence that belongs to a column.
    Sequence,
    /// A foreign key of it.
    ForeignKey,
    /// Another table's foreign key that leads to it.
    ReferencingKey,
    /// Extended statistics.
    Statistics,
    /// A publication that it is in.
    Publication,
    /// It is no ordinary table.
    NotOrdinary,
    /// It is a partition of another table.
    Partition,
    /// It inherits from another table, or another one from it.
    Inheritance,
    /// A materialized view that reads it.
    MaterializedView,
    /// A view of one session.
    TemporaryView,
    /// A rule of it, or one that names it.
    Rule,
    /// A column, function, view or type that is made of the table's row type.
    RowType,
    /// A foreign key of a partitioned table: it cannot be checked later.
    PartitionedKey,
    /// A subscription that writes into it.
    Subscription,
    /// An extension that it is a part of.
    Extension,
    /// A security label.
    SecurityLabel,
    /// Anything else.
    Other,
}

/// What a target does of its own when rows of a table are written or deleted: a trigger, or a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Its name.
    pub name: String,
    /// The table that it belongs to: the target's, or a part of it that gets or loses the rows.
    pub table: String,
    /// How many more parts have one of the same name that acts alike.
    pub alike: u64,
    /// Which of the two.
    pub kind: ReactionKind,
    /// When it acts: `before insert or update, each row`.
    pub when: String,
    /// It acts when rows are inserted.
    pub on_insert: bool,
    /// It acts when rows are updated.
    #[serde(default)]
    pub on_update: bool,
    /// It acts when rows are deleted.
    pub on_delete: bool,
    /// It acts in a session that fires triggers.
    pub fires: bool,
    /// It acts in a session that skips them all the same.
    pub fires_if_skipped: bool,
}

/// The kinds of [`Reaction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReactionKind {
    /// A trigger.
    Trigger,
    /// A rule that does something besides what the statement says.
    RuleAlso,
    /// A rule that does something in place of what the statement says.
    RuleInstead,
}

/// What one probe task brings home: both sides of a step. At most 2 MiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFacts {
    /// The read side.
    pub source: TableFacts,
    /// The write side.
    pub target: TargetFacts,
    /// Where the step's last run ended and how far it may go on, of one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowFacts>,
    /// What became of the target's mark, when the run adopts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
    /// What the target's ledger holds of the step, when that was all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<StreamReceipts>,
    /// The exchange that was undone, when that was all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Undone>,
    /// What stands beside the table that is read, when that was all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Vec<Beside>>,
    /// Where the step stands in the log that it follows, when that was all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogStanding>,
}

impl StepFacts {
    /// The answer of a probe that looked at no table, without what it did.
    #[must_use]
    pub fn of_errand(engine: Engine) -> Self {
        let source = TableFacts {
            engine,
            columns: Vec::new(),
            key: Vec::new(),
            rows: 0,
            rows_exact: false,
            bytes: 0,
            filtered: false,
            partition: None,
            definition: None,
        };
        let target = TargetFacts {
            engine,
            fingerprint: String::new(),
            table: None,
            created_as: Vec::new(),
            uncarried: Vec::new(),
            covered: Vec::new(),
            covered_null: false,
        };
        Self {
            source,
            target,
            window: None,
            adopted: None,
            receipts: None,
            undone: None,
            beside: None,
            log: None,
        }
    }
}

/// A target that is the cluster's now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Whose it was; `None` when it was nobody's.
    pub former: Option<ClusterId>,
}
