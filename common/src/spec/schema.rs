//! JSON Schema 2020-12 of a pipeline file, made from the table that the decoder reads by.

use serde_json::{Map, Value as Json, json};

use super::keys::FILE;
use super::scalars::{AUTO, TABLES_MAX};
use super::shape::{Fields, Form, Key, Shape};
use crate::id::NAME_BYTES_MAX;

/// The JSON Schema of a pipeline file: all that works, and nothing that does not work yet.
#[must_use]
pub fn json_schema() -> Json {
    let mut schema = fields_schema(&FILE, false);
    let head = [
        (
            "$schema",
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("Highwater pipeline")),
        (
            "$defs",
            json!({"param": {"type": "string", "pattern": "^\\$\\{param:[a-z][a-z0-9_]{0,62}\\}$"}}),
        ),
    ];
    if let Some(object) = schema.as_object_mut() {
        for (key, value) in head {
            object.insert(key.to_owned(), value);
        }
    }
    schema
}

#[expect(
    clippy::indexing_slicing,
    reason = "a schema is an object, and takes a key that it does not have"
)]
fn shape_schema(shape: &Shape) -> Json {
    match shape {
        Shape::Text
        | Shape::File
        | Shape::Table
        | Shape::Target
        | Shape::Type
        | Shape::Query
        | Shape::Script
        | Shape::Zone => {
            json!({"type": "string", "minLength": 1})
        }
        Shape::Tables => json!({"anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "maxItems": TABLES_MAX,
             "items": {"type": "string", "minLength": 1}},
        ]}),
        Shape::Url => {
            json!({"type": "string", "pattern": "^(\\$\\{|[Pp][Oo][Ss][Tt][Gg][Rr][Ee][Ss])", "writeOnly": true})
        }
        Shape::Name => or_param(&json!({"type": "string", "pattern": name_pattern()})),
        Shape::Bound => json!({"type": ["string", "integer"]}),
        Shape::Written => json!({"type": ["string", "number", "boolean"]}),
        Shape::Whole(min, max) if min == max => json!({"const": min}),
        Shape::Whole(min, max) => {
            or_param(&json!({"type": "integer", "minimum": min, "maximum": max}))
        }
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Duration => or_param(&json!({"type": "string", "pattern": DURATION})),
        Shape::Lag => {
            or_param(&json!({"anyOf": [{"const": AUTO}, {"type": "string", "pattern": DURATION}]}))
        }
        Shape::Bytes => or_param(&json!({"type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)?$"})),
        Shape::Words(words) => {
            let words: Vec<&str> = words
                .iter()
                .filter(|word| word.later.is_none())
                .map(|word| word.text)
                .collect();
            or_param(&json!({"enum": words}))
        }
        Shape::Fields(fields) => fields_schema(fields, fields.is_merged),
        Shape::Partial(fields) => fields_schema(fields, true),
        Shape::Named(named) => {
            let mut schema = json!({
                "type": "object",
                "minProperties": named.entries_min,
                "maxProperties": named.entries_max,
                "additionalProperties": shape_schema(&named.each),
            });
            if !named.is_any_text {
                schema["propertyNames"] = json!({"pattern": name_pattern()});
            }
            schema
        }
        Shape::List(list) => {
            let items = json!({
                "type": "array", "minItems": list.items_min, "maxItems": list.items_max,
                "items": shape_schema(&list.each),
            });
            match list.word {
                Some(word) => json!({"anyOf": [{"const": word}, items]}),
                None => items,
            }
        }
    }
}

const DURATION: &str = "^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

fn name_pattern() -> String {
    format!("^[a-z][a-z0-9_]{{0,{}}}$", NAME_BYTES_MAX - 1)
}

/// A value, or a parameter that stands for it.
fn or_param(schema: &Json) -> Json {
    json!({"anyOf": [schema, {"$ref": "#/$defs/param"}]})
}

/// A map. Where a word says which keys are legal there is one object for each word; where
/// `defaults` may give that word, the file alone cannot tell, and every key is legal.
fn fields_schema(fields: &'static Fields, is_merged: bool) -> Json {
    let variants = fields.variants();
    let mut forms: Vec<Json> = match fields.tag {
        Some(tag) if !is_merged => variants
            .iter()
            .map(|word| object(fields, Some((tag, word)), is_merged))
            .collect(),
        Some(_) | None => vec![object(fields, None, is_merged)],
    };
    if let Some(short) = fields.shorthand.and_then(|key| fields.key(key))
        && let Form::Now(shape) = &short.form
    {
        forms.insert(0, shape_schema(shape));
    }
    match <[Json; 1]>::try_from(forms) {
        Ok([only]) => only,
        Err(forms) => json!({"anyOf": forms}),
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "a schema is an object, and takes a key that it does not have"
)]
fn object(fields: &'static Fields, tag: Option<(&str, &str)>, is_merged: bool) -> Json {
    let word = tag.map(|(_, word)| word);
    let legal: Vec<&Key> = fields
        .keys
        .iter()
        .filter(|key| key.goes_with(word))
        .collect();
    let mut properties = Map::new();
    for key in &legal {
        let Form::Now(shape) = &key.form else {
            continue;
        };
        let mut schema = match tag {
            Some((tag, word)) if tag == key.name => json!({"const": word}),
            Some(_) | None => shape_schema(shape),
        };
        schema["description"] = json!(key.doc);
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = legal
        .iter()
        .filter(|key| key.is_required && !is_merged)
        .map(|key| key.name)
        .collect();
    let mut schema =
        json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}
