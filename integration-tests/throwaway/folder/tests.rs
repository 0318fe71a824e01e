//! The contract of sources and targets, on folders of each case's own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use highwater_common::commit::LedgerState;
use highwater_common::facts::{ColumnFacts, ColumnKind, Engine};
use highwater_common::spec::TableName;
use highwater_worker::connector::contract::{
    Row, SourceFixture, TableChange, TargetFixture, Writers,
};
use highwater_worker::connector::folder::{DOCUMENT, FolderSource, FolderTarget, Place};
use highwater_worker::connector::{Source, Target};
use highwater_worker::supervisor::Supervisor;
use highwater_worker::{source_contract, target_contract};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const ITEMS: &str = "items";
const AWAY: &str = "away";

struct Folder(TempDir);

impl Folder {
    fn place(&self) -> Place {
        Place::new(self.0.path().to_owned(), "box".parse().unwrap())
    }

    fn document(&self) -> PathBuf {
        self.0.path().join(DOCUMENT)
    }

    fn read(&self) -> Value {
        match fs::read(self.document()) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => json!({"ledger": null, "tables": {}, "tables_made": 0}),
        }
    }

    /// Somebody else's change: nobody writes meanwhile.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut data = self.read();
        edit(&mut data);
        fs::write(self.document(), data.to_string()).unwrap();
    }

    /// The claims whose range begins at `start`.
    fn edit_claims(&self, start: i64, edit: impl Fn(&mut Value)) {
        self.edit(|data| {
            let tasks = data["ledger"]["tasks"].as_array_mut().unwrap();
            let begins = |task: &Value| task["slice"]["range"][0]["integer"] == start;
            let is_meant = |task: &&mut Value| begins(task) && task["is_part"] == false;
            tasks.iter_mut().filter(is_meant).for_each(edit);
        });
    }
}

fn empty_table(made: &mut Value) -> Value {
    *made = json!(made.as_u64().unwrap() + 1);
    let columns = serde_json::to_value(columns()).unwrap();
    json!({"id": made, "columns": columns, "key": ["id"], "rows": []})
}

fn columns() -> Vec<ColumnFacts> {
    let column = |name: &str, type_name: &str, kind, nullable| ColumnFacts {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        kind,
        nullable,
        binary_portable: false,
        definition: None,
        origin: None,
    };
    vec![
        column("id", "integer", ColumnKind::Int64, false),
        column("pos", "integer", ColumnKind::Int64, true),
        column("note", "text", ColumnKind::Text, true),
    ]
}

#[async_trait]
impl TargetFixture for Folder {
    const WRITERS: Writers = Writers::One;

    async fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn target(&self) -> Arc<dyn Target> {
        let supervisor = Supervisor::new(CancellationToken::new());
        Arc::new(FolderTarget::new(self.place(), supervisor))
    }

    fn source_engine(&self) -> Engine {
        Engine::Folder
    }

    fn table(&self) -> TableName {
        TableName {
            schema: None,
            name: ITEMS.to_owned(),
        }
    }

    fn columns(&self) -> Vec<ColumnFacts> {
        columns()
    }

    async fn change(&self, change: &TableChange) {
        self.edit(|data| {
            let made = empty_table(&mut data["tables_made"]);
            let tables = data["tables"].as_object_mut().unwrap();
            match change {
                TableChange::Make => {
                    tables.insert(ITEMS.to_owned(), made);
                }
                TableChange::Insert(Row { id, pos, note }) => {
                    let rows = tables[ITEMS]["rows"].as_array_mut().unwrap();
                    rows.push(json!([id, pos, note]));
                }
                TableChange::AddColumn => {
                    let mut more = serde_json::to_value(columns()).unwrap()[2].take();
                    more["name"] = json!("more");
                    tables[ITEMS]["columns"].as_array_mut().unwrap().push(more);
                    for row in tables[ITEMS]["rows"].as_array_mut().unwrap() {
                        row.as_array_mut().unwrap().push(Value::Null);
                    }
                }
                TableChange::Tidy => {}
                TableChange::RenameAway => {
                    let table = tables.remove(ITEMS).unwrap();
                    tables.insert(AWAY.to_owned(), table);
                }
                TableChange::RenameBack => {
                    let table = tables.remove(AWAY).unwrap();
                    tables.insert(ITEMS.to_owned(), table);
                }
                TableChange::FillFromAway => tables[ITEMS]["rows"] = tables[AWAY]["rows"].clone(),
                TableChange::Empty => tables[ITEMS]["rows"] = json!([]),
                TableChange::Drop => {
                    tables.remove(ITEMS).unwrap();
                }
            }
        });
    }

    async fn rows(&self, from: Option<i64>) -> Vec<Row> {
        let data = self.read();
        let rows = data["tables"][ITEMS]["rows"].as_array().unwrap();
        let row = |row: &Value| Row {
            id: row[0].as_i64().unwrap(),
            pos: row[1].as_i64(),
            note: row[2].as_str().map(str::to_owned),
        };
        let is_meant = |row: &Row| from.is_none() || row.pos >= from;
        rows.iter().map(row).filter(is_meant).collect()
    }

    async fn swallow(&self, id: i64) {
        self.edit(|data| data["tables"][ITEMS]["swallows"] = json!([id]));
    }

    async fn forget_claims(&self) {
        self.edit(|data| data["ledger"]["tasks"] = json!([]));
    }

    async fn alter_claim(&self, start: i64, state: LedgerState, later: i64, renewed: bool) {
        self.edit_claims(start, |task| {
            task["state"] = json!(state.letter());
            let fence = &mut task["fence"];
            fence["token"] = json!(fence["token"].as_i64().unwrap() + later);
            if renewed {
                fence["nonce"] = json!(fence["nonce"].as_u64().unwrap() + 1_000_000);
            }
        });
    }

    async fn count_a_chunk(&self, start: i64) {
        self.edit_claims(start, |task| {
            task["chunks"] = json!(task["chunks"].as_u64().unwrap() + 1);
        });
    }
}

#[async_trait]
impl SourceFixture for Folder {
    async fn fresh(rows: i64) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.edit(|data| {
            let mut table = empty_table(&mut data["tables_made"]);
            let row = |id: i64| {
                let pos = (id % 7 != 0).then_some(id * 10);
                let note = (id % 5 != 0).then(|| format!("note {id}"));
                json!([id, pos, note])
            };
            table["rows"] = (1..=rows).map(row).collect();
            data["tables"][ITEMS] = table;
        });
        folder
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(FolderSource(self.place()))
    }
}

target_contract!(target, Folder);
source_contract!(source, Folder);
