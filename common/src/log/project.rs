//! Follows one table through the log: of all that a slot tells, what happened to its rows in the
//! columns that are copied.

use std::collections::BTreeMap;

use super::change::{Field, RowChange};
use super::lsn::Lsn;
use super::pgoutput::{Message, OldTuple, RelationDefinition};

use crate::spec::TableName;

/// What the log says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// Something happened to a row.
    Change(RowChange),
    /// The transaction of the changes before is whole.
    Commit {
        /// Where it ends.
        end: Lsn,
        /// When it committed, in microseconds since 1970.
        at: i64,
    },
}

/// Why a table cannot be followed any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfollowed {
    /// Its columns in the log are not those that are copied.
    #[error("in the log the table {table} has the columns {found}, and {wanted} are copied")]
    Columns {
        /// The table.
        table: String,
        /// What the log has.
        found: String,
        /// What is copied.
        wanted: String,
    },
    /// A row is told of without what tells it from others.
    #[error(
        "the log tells of a row of {table} without its key: is its `replica identity` another \
             one than it was?"
    )]
    NoKey {
        /// The table.
        table: String,
    },
    /// A change comes before what its table is made of.
    #[error("the log tells of a row before it tells what its table is made of")]
    NoRelation,
}

/// Whom it follows, and where it is.
#[derive(Debug, Clone)]
pub struct Follower {
    table: TableName,
    /// The copied columns by their names in the source.
    columns: Vec<String>,
    /// Columns that are not copied, by those names.
    left_out: Vec<String>,
    /// Where among the copied columns the key's are.
    key: Vec<usize>,
    /// What ends at or before it is applied already.
    after: Lsn,
    /// For each relation of the log, where each copied column stands in its rows; `None` of other
    /// tables.
    relations: BTreeMap<u32, Option<Vec<usize>>>,
    /// Whether the transaction under way is applied already.
    is_known: bool,
    /// When that committed, in microseconds since 1970.
    at: i64,
}

impl Follower {
    /// Of a table with its schema, for what comes `after` a position.
    #[must_use]
    pub fn new(
        table: TableName,
        columns: Vec<String>,
        left_out: Vec<String>,
        key: Vec<usize>,
        after: Lsn,
    ) -> Self {
        Self {
            table,
            columns,
            left_out,
            key,
            after,
            relations: BTreeMap::new(),
            is_known: false,
            at: 0,
        }
    }

    /// What a message means for the table, if anything.
    ///
    /// # Errors
    /// [`Unfollowed`] when nobody can tell any more what happens to its rows.
    pub fn take(&mut self, message: Message) -> Result<Option<LogEvent>, Unfollowed> {
        let change = match message {
            Message::Begin { commit, micros, .. } => {
                self.is_known = commit < self.after;
                self.at = since_1970(micros);
                None
            }
            Message::Commit { end, micros, .. } => {
                let at = since_1970(micros);
                return Ok((!self.is_known).then_some(LogEvent::Commit { end, at }));
            }
            Message::Relation(of) => {
                let places = self.places(&of)?;
                self.relations.insert(of.id, places);
                None
            }
            Message::Insert { relation, new } => self
                .places_of(relation)?
                .map(|places| RowChange::Put(project(new, places))),
            Message::Update { relation, old, new } => match self.places_of(relation)? {
                Some(places) => Some(self.updated(places, old.as_ref(), new)?),
                None => None,
            },
            Message::Delete { relation, old } => match self.places_of(relation)? {
                Some(places) => Some(RowChange::Delete {
                    key: self.old_key(places, &old)?,
                    at: self.at,
                }),
                None => None,
            },
            Message::Truncate { relations } => {
                let mut is_meant = false;
                for relation in relations {
                    is_meant |= self.places_of(relation)?.is_some();
                }
                is_meant.then_some(RowChange::Truncate { at: self.at })
            }
            Message::Origin | Message::Type | Message::Application => None,
        };
        Ok(change.filter(|_| !self.is_known).map(LogEvent::Change))
    }

    /// Where the copied columns stand in the rows of a relation; `None` of another table.
    fn places(&self, of: &RelationDefinition) -> Result<Option<Vec<usize>>, Unfollowed> {
        if of.name != self.table.name || Some(&of.schema) != self.table.schema.as_ref() {
            return Ok(None);
        }
        let place = |name: &String| of.columns.iter().position(|column| column.name == *name);
        let places: Option<Vec<usize>> = self.columns.iter().map(place).collect();
        let is_expected =
            |name: &String| self.columns.contains(name) || self.left_out.contains(name);
        match places {
            Some(places) if of.columns.iter().all(|column| is_expected(&column.name)) => {
                Ok(Some(places))
            }
            Some(_) | None => {
                let found: Vec<&str> = of.columns.iter().map(|of| of.name.as_str()).collect();
                Err(Unfollowed::Columns {
                    table: self.table.to_string(),
                    found: found.join(", "),
                    wanted: self.columns.join(", "),
                })
            }
        }
    }

    fn places_of(&self, relation: u32) -> Result<Option<&Vec<usize>>, Unfollowed> {
        let known = self.relations.get(&relation);
        known.map(Option::as_ref).ok_or(Unfollowed::NoRelation)
    }

    fn updated(
        &self,
        places: &[usize],
        old: Option<&OldTuple>,
        new: Vec<Field>,
    ) -> Result<RowChange, Unfollowed> {
        let mut row = project(new, places);
        let Some(old) = old else {
            return Ok(RowChange::Put(row));
        };
        if let OldTuple::Whole(was) = old {
            for (field, place) in row.iter_mut().zip(places) {
                if *field == Field::Unchanged {
                    *field = was.get(*place).cloned().unwrap_or(Field::Unchanged);
                }
            }
        }
        let from = self.old_key(places, old)?;
        let is_same = self
            .key
            .iter()
            .zip(&from)
            .all(|(at, was)| row.get(*at) == Some(was));
        Ok(match is_same {
            true => RowChange::Put(row),
            false => RowChange::Move { from, row },
        })
    }

    fn old_key(&self, places: &[usize], old: &OldTuple) -> Result<Vec<Field>, Unfollowed> {
        let key = self.key.iter().map(|at| {
            let place = places.get(*at)?;
            match old.fields().get(*place)? {
                Field::Text(text) => Some(Field::Text(text.clone())),
                Field::Null | Field::Unchanged => None,
            }
        });
        let key: Option<Vec<Field>> = key.collect();
        key.ok_or_else(|| Unfollowed::NoKey {
            table: self.table.to_string(),
        })
    }
}

/// An instant that the server counts from 2000.
const fn since_1970(micros: i64) -> i64 {
    const YEAR_2000: i64 = 946_684_800_000_000;
    micros.saturating_add(YEAR_2000)
}

/// The fields at these places; one that is missing is not in the log.
fn project(row: Vec<Field>, places: &[usize]) -> Vec<Field> {
    let mut row: Vec<Option<Field>> = row.into_iter().map(Some).collect();
    let taken = places.iter().map(|place| {
        let field = row.get_mut(*place).and_then(Option::take);
        field.unwrap_or(Field::Unchanged)
    });
    taken.collect()
}

#[cfg(test)]
mod tests;
