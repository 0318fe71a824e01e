//! The messages of PostgreSQL's output plugin `pgoutput`, protocol version 1. Bytes are input: none
//! of them end a process.

use super::change::Field;
use super::lsn::Lsn;

/// A message of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins. Only those that committed are told of, one after the other, in the
    /// order of their commits.
    Begin {
        /// Where its commit begins.
        commit: Lsn,
        /// When it committed, in microseconds since 2000.
        micros: i64,
        /// Its number.
        xid: u32,
    },
    /// The transaction ends.
    Commit {
        /// Where its commit begins.
        commit: Lsn,
        /// Where its commit ends: whoever has applied it is here.
        end: Lsn,
        /// When it committed, in microseconds since 2000.
        micros: i64,
    },
    /// The transaction came from another server.
    Origin,
    /// What the rows of a table are made of from here on.
    Relation(RelationDefinition),
    /// What a type is called.
    Type,
    /// A row was inserted.
    Insert {
        /// Into this table.
        relation: u32,
        /// The row.
        new: ReplicaTuple,
    },
    /// A row was updated.
    Update {
        /// In this table.
        relation: u32,
        /// What it was, where its key changed or the table tells all of it.
        old: Option<OldTuple>,
        /// What it is.
        new: ReplicaTuple,
    },
    /// A row was deleted.
    Delete {
        /// From this table.
        relation: u32,
        /// What is told of it.
        old: OldTuple,
    },
    /// Tables were emptied.
    Truncate {
        /// These.
        relations: Vec<u32>,
    },
    /// Something that an application wrote into the log.
    Application,
}

/// The values of a row, in the order of its table's columns.
pub type ReplicaTuple = Vec<Field>;

/// What is told of a row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// Its replica identity; all other values are NULL.
    Key(ReplicaTuple),
    /// All of it.
    Whole(ReplicaTuple),
}

impl OldTuple {
    /// The values.
    #[must_use]
    pub const fn fields(&self) -> &ReplicaTuple {
        match self {
            Self::Key(fields) | Self::Whole(fields) => fields,
        }
    }
}

/// What the rows of a table are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationDefinition {
    /// The number by which later messages mean it.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What of a row is told when it changes: `d`efault, `n`othing, `f`ull or an `i`ndex.
    pub identity: u8,
    /// Its columns, but for those that the server computes.
    pub columns: Vec<ColumnDefinition>,
}

/// A column in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDefinition {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: String,
    /// The number of its type.
    pub type_id: u32,
    /// What modifies its type; -1 for nothing.
    pub modifier: i32,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// It ends too early.
    #[error("a message of the log ends too early")]
    Short,
    /// It goes on behind its end.
    #[error("a message of the log goes on behind its end")]
    Long,
    /// Its first byte is none that is known.
    #[error("the log has a message of the unknown kind {0:#04x}")]
    Kind(u8),
    /// A part of it has a kind that is not known.
    #[error("a message of the log has a part of the unknown kind {0:#04x}")]
    Part(u8),
    /// A name is no UTF-8.
    #[error("a name in the log is no UTF-8")]
    Name,
}

/// Reads a message.
///
/// # Errors
/// A [`LogFault`] for bytes that are none, whichever they are.
pub fn decode(bytes: &[u8]) -> Result<Message, LogFault> {
    let mut rest = Rest(bytes);
    let message = match rest.byte()? {
        b'B' => Message::Begin {
            commit: rest.lsn()?,
            micros: rest.i64()?,
            xid: rest.u32()?,
        },
        b'C' => {
            rest.byte()?;
            Message::Commit {
                commit: rest.lsn()?,
                end: rest.lsn()?,
                micros: rest.i64()?,
            }
        }
        b'O' => {
            rest.lsn()?;
            rest.name()?;
            Message::Origin
        }
        b'R' => Message::Relation(rest.relation()?),
        b'Y' => {
            rest.u32()?;
            rest.name()?;
            rest.name()?;
            Message::Type
        }
        b'I' => {
            let relation = rest.u32()?;
            match rest.byte()? {
                b'N' => Message::Insert {
                    relation,
                    new: rest.tuple()?,
                },
                other => return Err(LogFault::Part(other)),
            }
        }
        b'U' => rest.update()?,
        b'D' => {
            let relation = rest.u32()?;
            let kind = rest.byte()?;
            Message::Delete {
                relation,
                old: rest.old(kind)?,
            }
        }
        b'T' => {
            let count = rest.u32()?;
            rest.byte()?;
            let relations = (0..count).map(|_| rest.u32());
            Message::Truncate {
                relations: relations.collect::<Result<_, _>>()?,
            }
        }
        b'M' => {
            rest.byte()?;
            rest.lsn()?;
            rest.name()?;
            rest.value()?;
            Message::Application
        }
        other => return Err(LogFault::Kind(other)),
    };
    match rest.0 {
        [] => Ok(message),
        [..] => Err(LogFault::Long),
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], LogFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(LogFault::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LogFault> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(LogFault::Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, LogFault> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, LogFault> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, LogFault> {
        self.array().map(i64::from_be_bytes)
    }

    fn lsn(&mut self) -> Result<Lsn, LogFault> {
        self.array().map(u64::from_be_bytes).map(Lsn::new)
    }

    /// A text up to its zero byte.
    fn name(&mut self) -> Result<String, LogFault> {
        let length = self.0.iter().position(|byte| *byte == 0);
        let name = self.take(length.ok_or(LogFault::Short)?)?;
        self.byte()?;
        let name = std::str::from_utf8(name).map_err(|_| LogFault::Name)?;
        Ok(name.to_owned())
    }

    /// Bytes behind their number.
    fn value(&mut self) -> Result<&'a [u8], LogFault> {
        let length = usize::try_from(self.u32()?).map_err(|_| LogFault::Short)?;
        self.take(length)
    }

    fn relation(&mut self) -> Result<RelationDefinition, LogFault> {
        let (id, schema, name, identity) = (self.u32()?, self.name()?, self.name()?, self.byte()?);
        let count = u16::from_be_bytes(self.array()?);
        let columns = (0..count).map(|_| {
            Ok(ColumnDefinition {
                is_key: self.byte()? & 1 == 1,
                name: self.name()?,
                type_id: self.u32()?,
                modifier: i32::from_be_bytes(self.array()?),
            })
        });
        let columns = columns.collect::<Result<_, LogFault>>()?;
        Ok(RelationDefinition {
            id,
            // The server leaves out the name of its own schema.
            schema: match schema.is_empty() {
                true => "pg_catalog".to_owned(),
                false => schema,
            },
            name,
            identity,
            columns,
        })
    }

    fn update(&mut self) -> Result<Message, LogFault> {
        let relation = self.u32()?;
        let old = match self.byte()? {
            b'N' => None,
            kind => {
                let old = self.old(kind)?;
                match self.byte()? {
                    b'N' => Some(old),
                    other => return Err(LogFault::Part(other)),
                }
            }
        };
        Ok(Message::Update {
            relation,
            old,
            new: self.tuple()?,
        })
    }

    fn old(&mut self, kind: u8) -> Result<OldTuple, LogFault> {
        match kind {
            b'K' => self.tuple().map(OldTuple::Key),
            b'O' => self.tuple().map(OldTuple::Whole),
            other => Err(LogFault::Part(other)),
        }
    }

    fn tuple(&mut self) -> Result<ReplicaTuple, LogFault> {
        let count = u16::from_be_bytes(self.array()?);
        let fields = (0..count).map(|_| match self.byte()? {
            b'n' => Ok(Field::Null),
            b'u' => Ok(Field::Unchanged),
            b't' => self.value().map(|text| Field::Text(text.to_vec())),
            other => Err(LogFault::Part(other)),
        });
        fields.collect()
    }
}

#[cfg(test)]
mod tests;
