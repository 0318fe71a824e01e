//! What plans are told apart by.

use serde::Serialize;

use crate::coverage::Coverage;
use crate::facts::PartitionFacts;
use crate::id::DocumentDigest;
use crate::partition::Partitioning;
use crate::placing::Placing;

/// Which cuts a plan's tasks are of: numbers alone do not say it of the bounds of a key.
pub(super) fn cut_digest(
    partitioning: &Partitioning,
    covered: &Coverage,
    column: &PartitionFacts,
) -> DocumentDigest {
    match &column.placing {
        Some(Placing::Keys(keys)) => digest(&(partitioning, covered, keys)),
        Some(Placing::Hash(_)) | None => digest(&(partitioning, covered)),
    }
}

/// The plan covers its facts by their digest: the facts themselves are stored beside it.
#[expect(
    clippy::expect_used,
    reason = "names, numbers and lists always have a JSON form, whatever they say"
)]
pub(crate) fn digest(of: &impl Serialize) -> DocumentDigest {
    let text = serde_json::to_vec(of)
        .expect("it is made of names, numbers and lists, which JSON can hold");
    DocumentDigest::of(&text)
}
