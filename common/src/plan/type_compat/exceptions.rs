//! Where the verdict is another one than the sets of values give, and why.

use crate::type_definition::TypeDefinition;

/// Pairs of built-in types that the rule leaves aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// The source's types; any when empty.
    pub from: &'static [&'static str],
    /// The target's.
    pub to: &'static [&'static str],
    /// Whether they are carried nonetheless, or refused nonetheless.
    pub is_carried: bool,
    /// Why.
    pub why: &'static str,
}

/// All of them, as they are between two servers of PostgreSQL.
pub const EXCEPTIONS: [Exception; 5] = [
    Exception {
        from: &["date"],
        to: &["timestamp without time zone"],
        is_carried: true,
        why: "a day beyond the year 294276 fails by its column, and nobody has one",
    },
    Exception {
        from: &["real"],
        to: &["double precision", "numeric"],
        is_carried: false,
        why: "the digits of a real are not all of its value, and name another double precision",
    },
    Exception {
        from: &["double precision"],
        to: &["numeric"],
        is_carried: false,
        why: "the digits of a double precision are not all of its value",
    },
    Exception {
        from: &["smallint", "integer", "bigint", "oid"],
        to: &["json", "jsonb"],
        is_carried: false,
        why: "a number reads as a document, and is not meant as one",
    },
    Exception {
        from: &[],
        to: &["name"],
        is_carried: false,
        why: "the target cuts a name to 63 bytes in silence, and a text is counted in letters",
    },
];

impl Exception {
    /// The one for a pair of types; of arrays and ranges for what is in them.
    #[must_use]
    pub fn of(from: &TypeDefinition, to: &TypeDefinition) -> Option<&'static Self> {
        use TypeDefinition as T;
        let (from, to) = (from.without_domains(), to.without_domains());
        match (from, to) {
            (T::Array(from), T::Array(to))
            | (T::Range { subtype: from, .. }, T::Range { subtype: to, .. }) => Self::of(from, to),
            (from, to) if from == to => None,
            (from, to) => {
                let to = to.built_in_name()?;
                let from = from.built_in_name();
                EXCEPTIONS.iter().find(|exception| {
                    let is_from = exception.from.is_empty()
                        || from.is_some_and(|from| exception.from.contains(&from));
                    is_from && exception.to.contains(&to)
                })
            }
        }
    }
}
