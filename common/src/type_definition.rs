//! What a PostgreSQL type is made of. Two types of one name may differ in it, so it is compared and
//! not the name. Never asks a server: the catalog's answers become a definition, or a built-in
//! type's name is read as one.

use serde::{Deserialize, Serialize};

/// The name of a type, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TypeName {
    /// The schema; `pg_catalog` for what the server brings.
    pub schema: String,
    /// The name, unquoted; for a built-in type as SQL writes it, `timestamp with time zone`.
    pub name: String,
    /// The extension that brings it. An extension lives in whatever schema it was put into, and
    /// means the same there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

impl TypeName {
    /// The schema of built-in types.
    pub const BUILT_IN: &str = "pg_catalog";

    /// A type that every server has.
    #[must_use]
    pub fn built_in(name: &str) -> Self {
        Self {
            schema: Self::BUILT_IN.to_owned(),
            name: name.to_owned(),
            extension: None,
        }
    }

    /// Whether both are the same type where types are known by their name alone.
    #[must_use]
    pub fn is_same_base(&self, other: &Self) -> bool {
        let same_home = match (&self.extension, &other.extension) {
            (Some(one), Some(two)) => one == two,
            (None, None) => self.schema == other.schema,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_home && self.name == other.name
    }

    /// Whether the server itself brings it.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.schema == Self::BUILT_IN && self.extension.is_none()
    }
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypeDefinition {
    /// A type that is made of nothing else.
    Base {
        /// Which.
        name: TypeName,
        /// What stands in the brackets behind it, `12,2`; of an interval also its fields. Empty
        /// when nothing limits it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        modifiers: String,
    },
    /// An array.
    Array(Box<TypeDefinition>),
    /// A domain. Its checks are the server's business: it makes them for each value.
    Domain {
        /// Which.
        name: TypeName,
        /// The type that it limits.
        over: Box<TypeDefinition>,
    },
    /// An enumeration.
    Enum {
        /// Which.
        name: TypeName,
        /// Its labels, in their order.
        labels: Vec<String>,
    },
    /// A composite type.
    Composite {
        /// Which.
        name: TypeName,
        /// Its fields, in their order: their text form has no names.
        fields: Vec<(String, TypeDefinition)>,
    },
    /// A range, or a multirange.
    Range {
        /// Which.
        name: TypeName,
        /// What lies in it.
        subtype: Box<TypeDefinition>,
        /// The function that gives equal ranges one form, and the subtype's order, where either is
        /// not the ordinary one.
        rules: String,
        /// Whether it holds several ranges.
        multi: bool,
    },
    /// A definition that is too large or too deep to be told.
    TooLarge {
        /// Whose.
        name: TypeName,
    },
}

impl TypeDefinition {
    /// The rules of the built-in ranges over whole numbers and days.
    pub const COUNTED: &str = "counted";

    /// The definition of a built-in type, by its name as a catalog writes it: `numeric(12,2)[]`.
    #[must_use]
    pub fn built_in(written: &str) -> Self {
        let written = written.trim().to_ascii_lowercase();
        if let Some(element) = written.strip_suffix("[]") {
            return Self::Array(Box::new(Self::built_in_scalar(
                element.trim_end_matches("[]"),
            )));
        }
        Self::built_in_scalar(&written)
    }

    fn built_in_scalar(written: &str) -> Self {
        let written = written.trim();
        let base = |name: &str, modifiers: &str| {
            let modifiers: String = modifiers
                .split(',')
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(",");
            Self::Base {
                name: TypeName::built_in(alias(name)),
                modifiers,
            }
        };
        // The fields of an interval stand outside of its brackets, and limit it as they do.
        if let Some(rest) = written
            .strip_prefix("interval")
            .filter(|rest| rest.starts_with([' ', '(']))
        {
            return base("interval", rest.trim());
        }
        let Some((before, rest)) = written.split_once('(') else {
            return range_of(written).unwrap_or_else(|| base(written, ""));
        };
        match rest.rsplit_once(')') {
            Some((modifiers, after)) => base(&format!("{}{after}", before.trim_end()), modifiers),
            None => base(written, ""),
        }
    }

    /// The type without the domains around it.
    #[must_use]
    pub fn without_domains(&self) -> &Self {
        let mut inner = self;
        while let Self::Domain { over, .. } = inner {
            inner = over;
        }
        inner
    }

    /// The name of a built-in type that is made of nothing else, domains left aside.
    #[must_use]
    pub fn built_in_name(&self) -> Option<&str> {
        match self.without_domains() {
            Self::Base { name, .. } if name.is_built_in() => Some(&name.name),
            Self::Base { .. }
            | Self::Array(_)
            | Self::Domain { .. }
            | Self::Enum { .. }
            | Self::Composite { .. }
            | Self::Range { .. }
            | Self::TooLarge { .. } => None,
        }
    }

    /// The numbers behind a base type, as far as they are numbers.
    #[must_use]
    pub fn numbers(&self) -> Vec<i64> {
        match self.without_domains() {
            Self::Base { modifiers, .. } => modifiers
                .split(',')
                .map_while(|number| number.parse().ok())
                .collect(),
            Self::Array(_)
            | Self::Domain { .. }
            | Self::Enum { .. }
            | Self::Composite { .. }
            | Self::Range { .. }
            | Self::TooLarge { .. } => Vec::new(),
        }
    }
}

/// One name for each type that has several.
fn alias(name: &str) -> &str {
    match name {
        "int2" => "smallint",
        "int4" | "int" => "integer",
        "int8" => "bigint",
        "decimal" => "numeric",
        "varchar" => "character varying",
        "bpchar" | "char" => "character",
        "bool" => "boolean",
        "float4" => "real",
        "float8" => "double precision",
        "timestamptz" => "timestamp with time zone",
        "timestamp" => "timestamp without time zone",
        "timetz" => "time with time zone",
        "time" => "time without time zone",
        "varbit" => "bit varying",
        // What the catalog calls a `bit` without a length, which the word alone would limit to
        // one.
        "\"bit\"" => "bit",
        other => other,
    }
}

/// The ranges that every server has.
fn range_of(name: &str) -> Option<TypeDefinition> {
    let (range, multi) = match name.strip_suffix("multirange") {
        Some(start) => (start, true),
        None => (name.strip_suffix("range")?, false),
    };
    // Ranges of what can be counted have one form, `[1,5)`; the others stay as they are written.
    let (subtype, rules) = match range {
        "int4" => ("integer", TypeDefinition::COUNTED),
        "int8" => ("bigint", TypeDefinition::COUNTED),
        "date" => ("date", TypeDefinition::COUNTED),
        "num" => ("numeric", ""),
        "ts" => ("timestamp without time zone", ""),
        "tstz" => ("timestamp with time zone", ""),
        _ => return None,
    };
    let subtype = Box::new(TypeDefinition::built_in(subtype));
    Some(TypeDefinition::Range {
        name: TypeName::built_in(name),
        subtype,
        rules: rules.to_owned(),
        multi,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str, modifiers: &str) -> TypeDefinition {
        TypeDefinition::Base {
            name: TypeName::built_in(name),
            modifiers: modifiers.to_owned(),
        }
    }

    #[test]
    fn a_built_in_types_name_says_all_of_it() {
        for (written, expected) in [
            ("int4", base("integer", "")),
            ("decimal(12, 2)", base("numeric", "12,2")),
            ("numeric(3,-2)", base("numeric", "3,-2")),
            (
                "timestamp(3) with time zone",
                base("timestamp with time zone", "3"),
            ),
            (
                "interval day to second(2)",
                base("interval", "day to second(2)"),
            ),
            ("interval(0)", base("interval", "(0)")),
            ("interval", base("interval", "")),
            ("\"char\"", base("\"char\"", "")),
            ("bpchar", base("character", "")),
            ("\"bit\"", base("bit", "")),
            (
                "numeric(10,0)[]",
                TypeDefinition::Array(Box::new(base("numeric", "10,0"))),
            ),
            ("strange(", base("strange(", "")),
        ] {
            assert_eq!(TypeDefinition::built_in(written), expected, "{written}");
        }
        let TypeDefinition::Range { subtype, multi, .. } =
            TypeDefinition::built_in("int4multirange")
        else {
            panic!("a range")
        };
        assert_eq!((*subtype, multi), (base("integer", ""), true));
    }
}
