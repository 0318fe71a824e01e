//! Single fields of a mapping: read from a tree that has been checked, and put into a document.

use std::time::Duration;

use serde::Serialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::Value as Json;

use super::node::{Node, Scalar, ScalarKind, Value};
use super::value;

/// What a key holds, of a mapping that may not be there.
pub(super) fn under<'a>(node: Option<&'a Node>, key: &str) -> Option<&'a Node> {
    node?.get(key)
}

/// The default of a key that is not there, or what can be made of its value.
pub(super) fn or<T>(
    node: Option<&Node>,
    default: T,
    read: impl Fn(&Node) -> Option<T>,
) -> Option<T> {
    node.map_or(Some(default), read)
}

/// A word as the model spells it.
pub(super) fn word<T: DeserializeOwned>(node: &Node) -> Option<T> {
    let word: StrDeserializer<'_, WordError> = node.as_text()?.into_deserializer();
    T::deserialize(word).ok()
}

pub(super) fn whole<T: TryFrom<i128>>(node: &Node) -> Option<T> {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(value),
            ..
        }) => T::try_from(*value).ok(),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
    }
}

pub(super) fn boolean(node: &Node) -> Option<bool> {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Bool(value),
            ..
        }) => Some(*value),
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => None,
    }
}

pub(super) fn duration(node: &Node) -> Option<Duration> {
    value::duration(node.as_text()?)
}

/// Puts a value that is there into an object. Everything that comes here has a JSON form.
pub(super) fn insert(object: &mut Json, key: &str, value: Option<impl Serialize>) {
    if let (Some(object), Some(Ok(value))) =
        (object.as_object_mut(), value.map(serde_json::to_value))
    {
        object.insert(key.to_owned(), value);
    }
}
