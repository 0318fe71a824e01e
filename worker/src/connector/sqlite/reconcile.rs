//! Removing rows in a data transaction of SQLite: the keys that the source has come into a temporary
//! table, and the rows that none of them names go.

use async_trait::async_trait;
use sqlx::Row;

use super::transaction::SqliteTx;
use super::{position, sql};
use crate::connector::{Compared, ConnectorError, ReconcileTx, RowStream, WriteRequest};

/// Where keys wait.
const KEYS: &str = "temp.highwater_keys";

#[async_trait]
impl ReconcileTx for SqliteTx {
    async fn remove_missing(
        &mut self,
        request: &WriteRequest,
        keys: &mut dyn RowStream,
    ) -> Result<Compared, ConnectorError> {
        let table = self.held()?.sql.clone();
        let by = &request.merge_by;
        let names = sql::idents(by.key.iter().map(String::as_str));
        let what = format!("remove from {} what the source has no more", request.table);
        let make = format!("create table {KEYS} as select {names} from {table} where 0");
        self.run(&what, make).await?;
        let came = self.insert_into(KEYS, request, keys).await?;
        let compared = self.compared_keys(request).await?;
        let index = format!(
            "create index temp.highwater_keys_found on highwater_keys ({})",
            compared.join(", ")
        );
        self.run(&what, index).await?;
        let only = position::of_rows(&request.rows);
        let living = match &by.marks {
            None => String::new(),
            Some(marks) => format!(" and {} is null", sql::ident(marks)),
        };
        let count = format!("select count(*) from {table} where {}{living}", only.text);
        let counted = sql::bound(count, &only)
            .fetch_one(self.session.conn())
            .await;
        let held: i64 = counted
            .map_err(self.attempt.place.failed(what.clone()))?
            .get(0);
        let same = by
            .key
            .iter()
            .zip(&compared)
            .map(|(name, compared)| format!("came.{compared} = held.{}", sql::ident(name)));
        let same = same.collect::<Vec<String>>().join(" and ");
        let known = by
            .key
            .iter()
            .map(|name| format!(" and held.{} is not null", sql::ident(name)));
        let known: String = known.collect();
        let remove = match &by.marks {
            None => format!("delete from {table} as held"),
            Some(marks) => format!(
                "update {table} as held set {} = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
                sql::ident(marks)
            ),
        };
        let remove = format!(
            "{remove} where {}{living}{known} and not exists (select 1 from {KEYS} as came where {same})",
            only.text,
        );
        let removed = sql::run(self.session.conn(), sql::bound(remove, &only)).await;
        let gone = removed.map_err(self.attempt.place.failed(what.clone()))?;
        // What came back with a cursor value that no window brings.
        if let Some(marks) = by.marks.as_deref().map(sql::ident) {
            let unmark = format!(
                "update {table} as held set {marks} = null where {} and {marks} is not null and \
                 exists (select 1 from {KEYS} as came where {same})",
                only.text,
            );
            let unmarked = sql::run(self.session.conn(), sql::bound(unmark, &only)).await;
            unmarked.map_err(self.attempt.place.failed(what))?;
        }
        self.run("drop the compared keys", format!("drop table {KEYS}"))
            .await?;
        Ok(Compared {
            came,
            held: u64::try_from(held).unwrap_or(0),
            gone,
        })
    }
}
