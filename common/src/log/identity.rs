//! Of which table, of which server, a position in a log is: so that a log that has not told all is
//! known as such.
//!
//! A log tells what happens to rows, by the names of tables and columns. A column that was dropped
//! and added again, a table that was made anew, a server that was put back to a backup: none of it is
//! in a log, and under the same names the rows before it are others. So whoever stores a position
//! stores this beside it, and compares when it goes on.

use serde::{Deserialize, Serialize};

/// What a position in a log stands and falls with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// The server, by the number that it got when it was made; `None` where the role may not read
    /// it.
    pub system: Option<String>,
    /// Which life of it: a standby that takes over, and a backup that is put back, begin another.
    pub timeline: String,
    /// The table, whatever its name.
    pub table: u32,
    /// The publication, whatever its name.
    pub publication: u32,
    /// What makes the table one of the publication's: taken out and put in again, it is another; 0
    /// where all tables are.
    pub membership: u32,
    /// What the log tells of a row before it was changed. It may change: what is told says itself
    /// what it is.
    pub replica_identity: String,
    /// The columns.
    pub columns: Vec<LogColumn>,
}

/// A column of a table that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogColumn {
    /// Its name.
    pub name: String,
    /// Its number: one that is dropped and added again has another.
    pub number: i16,
    /// Its type.
    pub type_id: u32,
    /// What the type is restricted to; -1 for nothing.
    pub modifier: i32,
    /// The type as the server writes it.
    pub type_name: String,
}

impl LogIdentity {
    /// The same, with these columns alone.
    #[must_use]
    pub fn of_columns(mut self, names: &[&str]) -> Self {
        self.columns
            .retain(|column| names.contains(&column.name.as_str()));
        self
    }

    /// What has happened since a position was stored with this that no log tells, for people; `now`
    /// has the columns that are copied. Empty when nothing has.
    #[must_use]
    pub fn untold(&self, now: &Self) -> Vec<String> {
        let mut untold = Vec::new();
        let is_other_server = match (&self.system, &now.system) {
            (Some(was), Some(is)) => was != is,
            (None, _) | (_, None) => false,
        };
        if is_other_server {
            untold.push("it is another server".to_owned());
        } else if self.timeline != now.timeline {
            untold.push(format!(
                "the server was put back to a backup, or a standby has taken its place (timeline \
                 {} is {} now)",
                self.timeline, now.timeline
            ));
        }
        if self.table != now.table {
            untold.push("the table is another one under its name".to_owned());
        }
        if self.publication != now.publication {
            untold.push("the publication was made anew".to_owned());
        } else if self.membership != now.membership {
            untold.push("the publication has not had the table all the time".to_owned());
        }
        for column in &now.columns {
            let name = &column.name;
            match self.columns.iter().find(|was| was.name == *name) {
                None => untold.push(format!("column {name} is copied, and was not")),
                Some(was) if was.number != column.number => {
                    untold.push(format!("column {name} is another one under its name"));
                }
                Some(was) if !was.keeps_values(column) => untold.push(format!(
                    "column {name} was {} and is {}",
                    was.type_name, column.type_name
                )),
                Some(_) => {}
            }
        }
        untold
    }
}

/// `character varying` and `numeric`, by the numbers that they have on every server.
const VARCHAR: u32 = 1_043;
const NUMERIC: u32 = 1_700;

impl LogColumn {
    /// Whether a column that is altered to be like `now` keeps the values that it has: one that only
    /// gets more room does.
    fn keeps_values(&self, now: &Self) -> bool {
        if self.type_id != now.type_id {
            return false;
        }
        let (was, is) = (self.modifier, now.modifier);
        was == is
            || match self.type_id {
                VARCHAR => is == -1 || (was != -1 && is >= was),
                // The high half is the precision, and the low half the scale.
                NUMERIC => is == -1 || (was != -1 && is >= was && is & 0xFFFF == was & 0xFFFF),
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, number: i16, type_id: u32, modifier: i32) -> LogColumn {
        LogColumn {
            name: name.to_owned(),
            number,
            type_id,
            modifier,
            type_name: format!("{type_id}({modifier})"),
        }
    }

    fn identity() -> LogIdentity {
        LogIdentity {
            system: Some("7".to_owned()),
            timeline: "00000001".to_owned(),
            table: 1,
            publication: 2,
            membership: 3,
            replica_identity: "d".to_owned(),
            columns: vec![column("id", 1, 20, -1), column("name", 2, VARCHAR, 14)],
        }
    }

    #[test]
    fn what_no_log_tells_is_told() {
        type Change = fn(&mut LogIdentity);
        let changes: [(Change, &str); 9] = [
            (|of| of.system = Some("8".to_owned()), "another server"),
            (|of| of.timeline = "00000002".to_owned(), "00000002"),
            (|of| of.table = 9, "the table"),
            (|of| of.publication = 9, "made anew"),
            (|of| of.membership = 9, "all the time"),
            (|of| of.columns[1].number = 3, "column name is another"),
            (|of| of.columns[1].type_id = 25, "column name was"),
            (|of| of.columns[1].modifier = 10, "column name was"),
            (
                |of| of.columns.push(column("more", 3, 25, -1)),
                "column more",
            ),
        ];
        for (change, says) in changes {
            let mut now = identity();
            change(&mut now);
            let untold = identity().untold(&now);
            assert_eq!(untold.len(), 1, "{untold:?}");
            assert!(untold[0].contains(says), "{untold:?}");
        }
    }

    #[test]
    fn what_changes_no_value_is_no_gap() {
        let changes: [fn(&mut LogIdentity); 6] = [
            |_| {},
            |of| of.system = None,
            |of| of.replica_identity = "f".to_owned(),
            |of| of.columns[1].modifier = 24,
            |of| of.columns[1].modifier = -1,
            |of| drop(of.columns.pop()),
        ];
        for change in changes {
            let mut now = identity();
            change(&mut now);
            assert_eq!(identity().untold(&now), [""; 0]);
        }
        let numeric = |precision: i32, scale: i32| {
            column("amount", 1, NUMERIC, ((precision << 16) | scale) + 4)
        };
        assert!(numeric(12, 2).keeps_values(&numeric(14, 2)));
        assert!(!numeric(12, 2).keeps_values(&numeric(14, 3)));
        assert!(!numeric(12, 2).keeps_values(&numeric(10, 2)));
    }

    #[test]
    fn it_is_read_as_it_was_stored() {
        let text = serde_json::to_string(&identity()).expect("JSON");
        let read: LogIdentity = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read.of_columns(&["id"]).columns, [column("id", 1, 20, -1)]);
    }
}
