//! What a key's value may look like. The decoder's checks and the JSON Schema are both made from
//! these shapes, so that neither can know a key that the other does not.

use super::node::Node;

/// What a value may be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Text of at least one character.
    Text,
    /// The path of a file, as text.
    File,
    /// A name that the user gives: `[a-z][a-z0-9_]{0,62}`.
    Name,
    /// A table.
    Table,
    /// A table whose name may hold the source's.
    Target,
    /// Tables by patterns: one, or a list of them.
    Tables,
    /// The name of a type, as a server writes it.
    Type,
    /// The text of one SELECT.
    Query,
    /// The text of statements.
    Script,
    /// The URL of a PostgreSQL server, with references to secrets.
    Url,
    /// A date, a time or a whole number, as written.
    Bound,
    /// Any scalar, as written: the default of a parameter.
    Written,
    /// A whole number between both, inclusive.
    Whole(u64, u64),
    /// `true` or `false`.
    Bool,
    /// A duration: `1h30m`.
    Duration,
    /// A duration, or `auto`.
    Lag,
    /// A number of bytes: `64MiB`.
    Bytes,
    /// The IANA name of a time zone.
    Zone,
    /// One of some words.
    Words(&'static [Word]),
    /// A map of known keys.
    Fields(&'static Fields),
    /// A map of known keys, any of which may be missing: it is laid under others.
    Partial(&'static Fields),
    /// A map from names of one's own.
    Named(&'static Named),
    /// A list.
    List(&'static List),
}

/// A word that may be written.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) text: &'static str,
    /// For a word whose meaning is not built: what to do instead.
    pub(super) later: Option<&'static str>,
}

/// A map of known keys.
#[derive(Debug)]
pub(super) struct Fields {
    /// What it describes: "a step".
    pub(super) what: &'static str,
    /// The key whose word says which other keys are legal.
    pub(super) tag: Option<&'static str>,
    /// The key that a text in place of the map stands for.
    pub(super) shorthand: Option<&'static str>,
    /// True when `defaults` may give some of the keys.
    pub(super) is_merged: bool,
    pub(super) keys: &'static [Key],
}

/// A known key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) form: Form,
    pub(super) is_required: bool,
    /// The words of the tag with which it is legal; all, when empty.
    pub(super) only: &'static [&'static str],
}

/// Whether a key works.
#[derive(Debug)]
pub(super) enum Form {
    /// It does, with values of this shape.
    Now(Shape),
    /// Its meaning is not built yet. The doc says what to do instead.
    Later,
}

/// A map from names of one's own.
#[derive(Debug)]
pub(super) struct Named {
    /// What a name stands for: "a step".
    pub(super) what: &'static str,
    /// Stands for a name in a path: `<step>`.
    pub(super) placeholder: &'static str,
    /// Whether the names are any text (the columns of a table) or obey the form of names.
    pub(super) is_any_text: bool,
    pub(super) entries_min: usize,
    pub(super) entries_max: usize,
    pub(super) each: Shape,
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) items_min: usize,
    pub(super) items_max: usize,
    pub(super) each: Shape,
    /// A word that may stand in the place of the list.
    pub(super) word: Option<&'static str>,
}

impl Key {
    /// A key that works.
    pub(super) const fn new(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self {
            name,
            doc,
            form: Form::Now(shape),
            is_required: false,
            only: &[],
        }
    }

    /// A key whose meaning is not built yet.
    pub(super) const fn later(name: &'static str, hint: &'static str) -> Self {
        Self {
            name,
            doc: hint,
            form: Form::Later,
            is_required: false,
            only: &[],
        }
    }

    pub(super) const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    pub(super) const fn only(mut self, words: &'static [&'static str]) -> Self {
        self.only = words;
        self
    }

    /// Whether a list may be its value.
    pub(super) const fn takes_list(&self) -> bool {
        matches!(self.form, Form::Now(Shape::Tables | Shape::List(_)))
    }

    pub(super) const fn is_now(&self) -> bool {
        matches!(self.form, Form::Now(_))
    }

    /// Whether it is legal when the tag says `word`; where no word is known, every key is.
    pub(super) fn goes_with(&self, word: Option<&str>) -> bool {
        self.only.is_empty() || word.is_none_or(|word| self.only.contains(&word))
    }
}

impl Word {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, later: None }
    }

    pub(super) const fn later(text: &'static str, hint: &'static str) -> Self {
        Self {
            text,
            later: Some(hint),
        }
    }
}

impl Fields {
    /// The words that its tag may say, in the order of the table. A tag that is a map says the word
    /// of its own tag.
    pub(super) fn variants(&self) -> Vec<&'static str> {
        match self.tag.and_then(|tag| self.key(tag)).map(|key| &key.form) {
            Some(Form::Now(Shape::Words(words))) => words
                .iter()
                .filter(|word| word.later.is_none())
                .map(|word| word.text)
                .collect(),
            Some(Form::Now(Shape::Fields(fields))) => fields.variants(),
            Some(Form::Now(_) | Form::Later) | None => Vec::new(),
        }
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The word of the tag, when it is one that says which keys are legal.
pub(super) fn tag_of<'a>(fields: &Fields, node: &'a Node) -> Option<&'a str> {
    let tag = node.get(fields.tag?)?;
    let word = tag.as_text().or_else(|| tag.get("type")?.as_text())?;
    fields.variants().contains(&word).then_some(word)
}
