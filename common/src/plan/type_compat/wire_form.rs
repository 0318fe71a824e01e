//! Which columns have the same bytes in a binary COPY.

use crate::facts::ColumnFacts;
use crate::type_definition::{TypeDefinition, TypeName};

/// Whether two columns have the same form in a binary COPY.
#[must_use]
pub fn has_same_wire_form(from: &ColumnFacts, to: &ColumnFacts) -> bool {
    // Both are sent as the letters themselves.
    let is_letters = |name: &TypeName| matches!(name.name.as_str(), "text" | "character varying");
    let is_same = |one: &TypeDefinition, two: &TypeDefinition, is_whole: bool| {
        let (TypeDefinition::Base { name: one, .. }, TypeDefinition::Base { name: two, .. }) =
            (one, two)
        else {
            return false;
        };
        one == two || (is_whole && is_letters(one) && is_letters(two))
    };
    if !from.binary_portable || !to.binary_portable {
        return false;
    }
    match (from.type_definition(), to.type_definition()) {
        // An array names the type of its elements.
        (TypeDefinition::Array(one), TypeDefinition::Array(two)) => is_same(&one, &two, false),
        (one, two) => one == two || is_same(&one, &two, true),
    }
}
