//! Into a folder, whose columns hold whole numbers and texts: a column of its own types keeps its
//! values there.

use super::Compat;
use crate::facts::{ColumnFacts, ColumnKind};

pub(super) fn of_whole_numbers_and_texts(from: &ColumnFacts, to: &ColumnFacts) -> Compat {
    use ColumnKind as K;
    match (from.kind, to.kind) {
        (K::Int16 | K::Int32 | K::Int64, K::Int64) | (K::Text, K::Text) => Compat::Carried,
        _ => Compat::Refused("a folder keeps whole numbers and texts".to_owned()),
    }
}
