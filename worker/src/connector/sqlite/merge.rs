//! Merging rows in a data transaction of SQLite: into a temporary table, and from there, the newest
//! of each key, into the table.

use async_trait::async_trait;
use sqlx::Row;

use super::sql;
use super::transaction::SqliteTx;
use crate::connector::{ConnectorError, MergeBy, MergeTx, Merged, RowStream, WriteRequest};

/// Where rows wait.
const STAGE: &str = "temp.highwater_stage";

#[async_trait]
impl MergeTx for SqliteTx {
    async fn merge(
        &mut self,
        request: &WriteRequest,
        rows: &mut dyn RowStream,
    ) -> Result<Merged, ConnectorError> {
        let table = self.held()?.sql.clone();
        let by = &request.merge_by;
        let columns: Vec<&str> = request
            .columns
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let names = sql::idents(columns.iter().copied());
        let make = format!("create table {STAGE} as select {names} from {table} where 0");
        self.run("make room for the rows to merge", make).await?;
        let came = self.insert_into(STAGE, request, rows).await?;
        let keys = self.compared_keys(request).await?;
        let what = format!("merge {} into {}", request.rows, request.table);
        let written = self.run(&what, upsert(&table, &columns, &keys, by)).await?;
        self.run("drop the merged rows", format!("drop table {STAGE}"))
            .await?;
        // Without a cursor every key that came is written; rows that are nothing but their key say
        // nothing that another could contradict.
        let is_each_written = by.cursor.is_none() && columns.len() > by.key.len();
        Ok(Merged {
            came,
            repeated: match is_each_written {
                true => came.saturating_sub(written),
                false => 0,
            },
        })
    }
}

impl SqliteTx {
    pub(super) async fn run(&mut self, what: &str, text: String) -> Result<u64, ConnectorError> {
        let failed = self.attempt.place.failed(what);
        let ran = sql::run(self.session.conn(), sql::once(text)).await;
        ran.map_err(failed)
    }

    /// The columns of the key, each with the collation by which the table's own index tells its
    /// values apart: the temporary table knows none.
    pub(super) async fn compared_keys(
        &mut self,
        request: &WriteRequest,
    ) -> Result<Vec<String>, ConnectorError> {
        let failed = self.attempt.place.failed("read the collations of the key");
        let key = &request.merge_by.key;
        let found = sqlx::query(
            "select i.name, x.name, x.coll from pragma_index_list(?1, ?2) i \
             join pragma_index_xinfo(i.name, ?2) x on x.key = 1 \
             where i.\"unique\" = 1 and i.partial = 0 order by i.seq, x.seqno",
        )
        .bind(&request.table.name)
        .bind(sql::schema(&request.table))
        .fetch_all(self.session.conn())
        .await
        .map_err(failed)?;
        let is_of_index = |index: &str, column: &str| {
            let of_index = found
                .iter()
                .filter(|row| row.get::<String, _>(0) == index)
                .filter_map(|row| row.get::<Option<String>, _>(1));
            let names: Vec<String> = of_index.collect();
            names.len() == key.len()
                && names
                    .iter()
                    .all(|name| key.iter().any(|key| key.eq_ignore_ascii_case(name)))
                && names.iter().any(|name| name.eq_ignore_ascii_case(column))
        };
        let collation = |column: &str| {
            found.iter().find_map(|row| {
                let name: Option<String> = row.get(1);
                let is_it = name.is_some_and(|name| name.eq_ignore_ascii_case(column))
                    && is_of_index(&row.get::<String, _>(0), column);
                is_it.then(|| row.get::<Option<String>, _>(2)).flatten()
            })
        };
        Ok(key
            .iter()
            .map(|column| match collation(column) {
                Some(collation) => {
                    format!("{} collate {}", sql::ident(column), sql::ident(&collation))
                }
                None => sql::ident(column),
            })
            .collect())
    }
}

/// The newest staged row of each key, into the table, unless the one that is there is newer.
fn upsert(table: &str, columns: &[&str], keys: &[String], by: &MergeBy) -> String {
    let names = sql::idents(columns.iter().copied());
    let keys = keys.join(", ");
    let newest = by
        .cursor
        .as_ref()
        .map(|cursor| format!(" order by {} desc", sql::ident(cursor)))
        .unwrap_or_default();
    let is_key = |column: &&&str| by.key.iter().any(|key| key.eq_ignore_ascii_case(column));
    let others = columns
        .iter()
        .filter(|column| !is_key(column))
        .map(|column| format!("{0} = excluded.{0}", sql::ident(column)));
    let marks = by.marks.iter();
    let marks = marks.map(|marks| format!("{} = null", sql::ident(marks)));
    let others: Vec<String> = others.chain(marks).collect();
    let what = if others.is_empty() {
        "nothing".to_owned()
    } else {
        let unless_newer = by.cursor.as_ref().map(|cursor| {
            let cursor = sql::ident(cursor);
            format!(" where held.{cursor} is null or held.{cursor} <= excluded.{cursor}")
        });
        format!(
            "update set {}{}",
            others.join(", "),
            unless_newer.unwrap_or_default()
        )
    };
    let conflict = sql::idents(by.key.iter().map(String::as_str));
    format!(
        "insert into {table} as held ({names}) select {names} from (select {names}, row_number() \
         over (partition by {keys}{newest}) as highwater_rank from {STAGE}) \
         where highwater_rank = 1 order by {keys} on conflict ({conflict}) do {what}"
    )
}
