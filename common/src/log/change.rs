//! What happens to the rows of a table, as a log tells it.

/// A value of a row in the log, as its server writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// NULL.
    Null,
    /// Not in the log, because the change left it as it was.
    Unchanged,
    /// The server's text.
    Text(Vec<u8>),
}

/// What happened to a row of a table, in the columns that are copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange {
    /// It was inserted, or updated and kept its key.
    Put(Vec<Field>),
    /// It was updated, and has another key since.
    Move {
        /// The key that it had.
        from: Vec<Field>,
        /// The row since.
        row: Vec<Field>,
    },
    /// It was deleted.
    Delete {
        /// The key that it had.
        key: Vec<Field>,
        /// When its transaction committed, in microseconds since 1970.
        at: i64,
    },
    /// All rows were.
    Truncate {
        /// When its transaction committed, in microseconds since 1970.
        at: i64,
    },
}

impl RowChange {
    /// About how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of = |row: &[Field]| {
            row.iter()
                .map(|field| match field {
                    Field::Null | Field::Unchanged => size_of::<Field>(),
                    Field::Text(text) => text.len().saturating_add(size_of::<Field>()),
                })
                .fold(size_of::<Self>(), usize::saturating_add)
        };
        match self {
            Self::Put(row) => of(row),
            Self::Move { from, row } => of(from).saturating_add(of(row)),
            Self::Delete { key, .. } => of(key),
            Self::Truncate { .. } => of(&[]),
        }
    }
}
