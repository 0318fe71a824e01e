//! How a source places rows by what only itself can compute: nobody else may guess where a row stands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::DocumentDigest;

/// A rule by which a source places its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placing {
    /// By a hash of some columns.
    Hash(HashPlacing),
    /// By a key, in the order in which the source compares it.
    Keys(KeyPlacing),
}

/// A hash, computed by the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashPlacing {
    /// The columns that it is of, by their names in the source.
    pub columns: Vec<String>,
    /// Their types: another one hashes the same value to another number.
    pub types: Vec<String>,
    /// The version of the server, as far as it may change what a hash comes to.
    pub server: u32,
}

/// A key in the source's own order, cut at bounds. A bound's number stands for it: of two numbers
/// the larger one stands for the key that the source puts behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPlacing {
    /// The key's columns; none of a table that nothing cuts, which is one part.
    pub columns: Vec<KeyColumn>,
    /// The bounds, ascending.
    pub bounds: Vec<KeyBound>,
}

/// A column of a key, with all that its order depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Its name in the source.
    pub name: String,
    /// Its type.
    pub type_name: String,
    /// Its collation and that one's version; empty without one.
    pub collation: String,
    /// Whether it may be NULL: then the row has no place in the order.
    pub nullable: bool,
}

/// A key that bounds a part: the first one behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBound {
    /// The number that stands for it.
    pub number: i64,
    /// Its values, one for each column, as the source writes them.
    pub values: Vec<String>,
}

impl KeyPlacing {
    /// The bound that a number stands for.
    #[must_use]
    pub fn bound(&self, number: i64) -> Option<&KeyBound> {
        let at = self
            .bounds
            .binary_search_by_key(&number, |bound| bound.number);
        at.ok().and_then(|at| self.bounds.get(at))
    }
}

impl Placing {
    /// Which rule it is: the same for rules that place every row alike, wherever they cut.
    ///
    /// # Panics
    /// Never: names and numbers always have a JSON form.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "names and numbers always have a JSON form, whatever they say"
    )]
    pub fn id(&self) -> PlacingId {
        let text = match self {
            Self::Hash(_) => serde_json::to_vec(self),
            Self::Keys(keys) => {
                let order = keys
                    .columns
                    .iter()
                    .map(|column| (&column.name, &column.type_name, &column.collation));
                serde_json::to_vec(&("keys", order.collect::<Vec<_>>()))
            }
        };
        let text = text.expect("it is made of names and numbers");
        let digest = DocumentDigest::of(&text);
        let bytes = digest.as_bytes().iter().take(8);
        let number = bytes.fold(0, |number, byte| (number << 8) | u64::from(*byte));
        PlacingId(match self {
            Self::Hash(_) => number & !1,
            Self::Keys(_) => number | 1,
        })
    }
}

/// Which rule placed a row: positions of two rules are never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlacingId(u64);

impl PlacingId {
    /// Whether its rule places the rows without a value, too, as a hash does; in the order of a key
    /// they have no place. Its last bit tells.
    #[must_use]
    pub const fn places_null(self) -> bool {
        self.0 & 1 == 0
    }
}

impl fmt::Display for PlacingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that names no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 16 hexadecimal digits")]
pub struct NoPlacingId(String);

impl FromStr for PlacingId {
    type Err = NoPlacingId;

    fn from_str(text: &str) -> Result<Self, NoPlacingId> {
        let is_written_so = text.len() == 16
            && text
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(text, 16).ok();
        number
            .filter(|_| is_written_so)
            .map(Self)
            .ok_or_else(|| NoPlacingId(text.to_owned()))
    }
}

impl TryFrom<String> for PlacingId {
    type Error = NoPlacingId;

    fn try_from(text: String) -> Result<Self, NoPlacingId> {
        text.parse()
    }
}

impl From<PlacingId> for String {
    fn from(id: PlacingId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(columns: &[&str], server: u32) -> Placing {
        Placing::Hash(HashPlacing {
            columns: columns.iter().map(ToString::to_string).collect(),
            types: vec!["bigint".to_owned(); columns.len()],
            server,
        })
    }

    #[test]
    fn rules_that_place_rows_otherwise_have_other_ids() {
        let id = hash(&["a", "b"], 16).id();
        assert_eq!(id, hash(&["a", "b"], 16).id());
        for other in [
            hash(&["b", "a"], 16),
            hash(&["a", "b"], 17),
            hash(&["a"], 16),
        ] {
            assert_ne!(id, other.id());
        }
    }

    #[test]
    fn an_id_reads_as_it_is_written() {
        let id = hash(&["a"], 16).id();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "+000000000000001", "000000000000000g", "1"] {
            assert!(text.parse::<PlacingId>().is_err(), "{text}");
        }
    }
}
