//! Puts the values of parameters in. `${param:name}` is all there is: no templates.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Node, Scalar, ScalarKind, Value, join, scalar, shortened};
use super::problem::{Location, Problems};
use super::script::{LiteralKind, literal};
use super::suggest::nearest;
use super::value::ParamType;
use crate::error_code::ErrorCode;

/// A declared parameter. Without a usable value it has been reported.
struct Param {
    of: ParamType,
    value: Option<String>,
}

/// Replaces every `${param:name}` below `file`, and refuses references where none may stand.
pub(super) fn substitute(
    file: &mut Node,
    given: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    let mut params = declared(file, given, problems);
    let mut used = BTreeSet::new();
    if let Value::Map(entries) = &mut file.value {
        for entry in entries {
            // A pipeline's name is its history's: it does not vary. And a default is a literal.
            let is_fixed = matches!(entry.key.as_str(), "version" | "name" | "params");
            let params = if is_fixed { &BTreeMap::new() } else { &params };
            let mut walk = Walk {
                params,
                is_fixed,
                used: &mut used,
                problems,
            };
            walk.node(&mut entry.node, &entry.key);
        }
    }
    let location = file
        .get("params")
        .map_or(Location::START, |node| node.location);
    params.retain(|name, _| !used.contains(name));
    for name in given.keys() {
        if params.contains_key(name) {
            let message =
                format!("the parameter `{name}` is given, but nothing in the file refers to it");
            problems.add(
                ErrorCode::SpecUnusedParam,
                &join("params", name),
                location,
                message,
            );
        }
    }
}

fn declared(
    file: &Node,
    given: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> BTreeMap<String, Param> {
    let mut params = BTreeMap::new();
    let node = file.get("params");
    for entry in node.map_or(&[][..], Node::entries) {
        // A type that is missing or unknown is reported with the other keys; the value is then
        // anything.
        let of = entry
            .node
            .get("type")
            .and_then(Node::as_text)
            .and_then(ParamType::named)
            .unwrap_or(ParamType::Text);
        let path = join("params", &entry.key);
        let default = entry
            .node
            .get("default")
            .and_then(|node| Some((written(node)?, node.location)));
        let value = match (given.get(&entry.key), default) {
            (Some(value), _) => Some((value.clone(), entry.location, path.clone())),
            (None, Some((value, location))) => Some((value, location, join(&path, "default"))),
            (None, None) => {
                if entry.node.get("default").is_none() {
                    problems
                        .add(
                            ErrorCode::SpecMissingParam,
                            &path,
                            entry.location,
                            format!("the parameter `{}` has no value", entry.key),
                        )
                        .hint(format!(
                            "give it a default, or a value: --param {}=…",
                            entry.key
                        ));
                }
                None
            }
        };
        let value = value.and_then(|(value, location, path)| {
            let fault = if value.contains("${") {
                "holds a reference".to_owned()
            } else if of.admits(&value) {
                return Some(value);
            } else {
                format!("is not {}", of.described())
            };
            let message = format!(
                "the value `{}` of the parameter `{}` {fault}",
                shortened(&value),
                entry.key
            );
            problems.add(ErrorCode::SpecBadParam, &path, location, message);
            None
        });
        params.insert(entry.key.clone(), Param { of, value });
    }
    let location = node.map_or(Location::START, |node| node.location);
    for name in given.keys().filter(|name| !params.contains_key(*name)) {
        let message = format!(
            "the parameter `{}` is given, but the file declares none of that name",
            shortened(name)
        );
        let problem = problems.add(
            ErrorCode::SpecUnknownParam,
            &join("params", name),
            location,
            message,
        );
        if let Some(meant) = nearest(name, params.keys().map(String::as_str)) {
            problem.hint(format!("did you mean `{meant}`?"));
        }
    }
    params
}

/// Whether the text of `path` is a script: that of `steps.<step>.sql`, or what is laid under it.
fn is_script(path: &str) -> bool {
    let path = path.strip_suffix(".text").unwrap_or(path);
    let of_step = path.starts_with("steps.") && path.matches('.').count() == 2;
    path == "defaults.sql" || (of_step && path.ends_with(".sql"))
}

/// Whether the text of `path` is a variable's value: that of `steps.<step>.env.<variable>`, or what is
/// laid under it.
fn is_variable(path: &str) -> bool {
    let of_step = path.starts_with("steps.") && path.matches('.').count() == 3;
    let laid = path.starts_with("defaults.env.") && path.matches('.').count() == 2;
    laid || (of_step && path.contains(".env."))
}

fn as_literal(of: ParamType, value: &str) -> String {
    let of = match of {
        ParamType::Text => LiteralKind::Text,
        ParamType::Integer => LiteralKind::Integer,
        ParamType::Date => LiteralKind::Date,
        ParamType::Timestamp => LiteralKind::Timestamp,
    };
    literal(value, of)
}

/// The text of a scalar, as a parameter's value.
fn written(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar(Scalar {
            kind: ScalarKind::Null | ScalarKind::Broken,
            ..
        })
        | Value::List(_)
        | Value::Map(_) => None,
        Value::Scalar(Scalar {
            kind: ScalarKind::Whole(value),
            ..
        }) => Some(value.to_string()),
        Value::Scalar(Scalar {
            kind: ScalarKind::Bool(_) | ScalarKind::Real | ScalarKind::Text,
            written,
        }) => Some(written.clone()),
    }
}

/// One walk over the tree.
struct Walk<'a> {
    params: &'a BTreeMap<String, Param>,
    is_fixed: bool,
    used: &'a mut BTreeSet<String>,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, path: &str) {
        let location = node.location;
        match &mut node.value {
            Value::Map(entries) => {
                for entry in entries {
                    self.node(&mut entry.node, &join(path, &entry.key));
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.node(item, &format!("{path}[{at}]"));
                }
            }
            Value::Scalar(Scalar {
                kind: ScalarKind::Text,
                written,
            }) if written.contains("${") => {
                let written = std::mem::take(written);
                *node = self
                    .text(&written, location, path)
                    .unwrap_or_else(|| scalar(ScalarKind::Broken, written, location));
            }
            Value::Scalar(_) => {}
        }
    }

    /// The text with its parameters put in. A whole number that is the whole text stays one.
    fn text(&mut self, text: &str, location: Location, path: &str) -> Option<Node> {
        let (mut out, mut rest, mut is_sound) = (String::new(), text, true);
        while let Some((before, from)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inner, after)) = from.split_once('}') else {
                out.push_str("${");
                out.push_str(from);
                is_sound &= self.reference("", location, path);
                rest = "";
                break;
            };
            let whole = format!("${{{inner}}}");
            match inner.strip_prefix("param:") {
                Some(name) => match self.param(name, location, path) {
                    // A value never becomes text of a statement.
                    Some((of, value)) if is_script(path) => out.push_str(&as_literal(of, &value)),
                    Some((ParamType::Integer, value)) if whole == text => {
                        return Some(scalar(
                            ScalarKind::Whole(value.parse().ok()?),
                            value,
                            location,
                        ));
                    }
                    Some((_, value)) => out.push_str(&value),
                    None => is_sound = false,
                },
                None => {
                    is_sound &= self.reference(inner, location, path);
                    out.push_str(&whole);
                }
            }
            rest = after;
        }
        out.push_str(rest);
        is_sound.then(|| Node::text(out, location))
    }

    fn param(&mut self, name: &str, location: Location, path: &str) -> Option<(ParamType, String)> {
        if self.is_fixed {
            self.problems.add(
                ErrorCode::SpecBadReference,
                path,
                location,
                "no reference may stand here",
            );
            return None;
        }
        if let Some(param) = self.params.get(name) {
            self.used.insert(name.to_owned());
            return Some((param.of, param.value.clone()?));
        }
        let message = format!("`{}` is no declared parameter", shortened(name));
        let problem = self
            .problems
            .add(ErrorCode::SpecUnknownParam, path, location, message);
        match nearest(name, self.params.keys().map(String::as_str)) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None => problem.hint("declare it under `params`"),
        }
        None
    }

    /// Whether any other reference may stand here. Those of a connection's URL are looked at where
    /// that is checked.
    fn reference(&mut self, inner: &str, location: Location, path: &str) -> bool {
        let is_url = path.starts_with("connections.")
            && path.ends_with(".url")
            && path.matches('.').count() == 2;
        if is_url || is_variable(path) {
            return true;
        }
        if inner.starts_with("env:") || inner.starts_with("file:") {
            let message = "a reference to a secret may stand in the `url` of a connection, and in `env`, only";
            self.problems
                .add(ErrorCode::SpecMisplacedSecret, path, location, message);
        } else {
            self.problems
                .add(
                    ErrorCode::SpecBadReference,
                    path,
                    location,
                    "a reference that cannot be read",
                )
                .hint("write ${param:name}, the name declared under `params`");
        }
        false
    }
}
