//! What could be made of a file, part by part, so that what is right can be judged although
//! something is wrong.

use std::collections::BTreeMap;

use super::connection::Connection;
use super::model::{Dependency, Spec, Step};
use super::node::shortened;
use super::problem::Location;
use super::value::TableName;
use crate::id::{ConnectionName, PoolName, StepName};

/// A part of the file, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) path: String,
    pub(super) location: Location,
}

/// What could be made of a file.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) connections: Vec<(Located<String>, Option<Connection>)>,
    /// The names of the pools.
    pub(super) pools: Vec<String>,
    pub(super) steps: Vec<DraftStep>,
    /// The whole, when every part could be read, without the steps that are not enabled.
    pub(super) spec: Option<Spec>,
    /// Every step, when all of them could be read.
    pub(super) read: Option<BTreeMap<StepName, Step>>,
}

/// What could be made of a step.
#[derive(Debug)]
pub(super) struct DraftStep {
    pub(super) name: Located<String>,
    /// Whether it is one of the pipeline's.
    pub(super) is_enabled: bool,
    pub(super) depends_on: Vec<Located<Dependency>>,
    pub(super) pools: Vec<Located<PoolName>>,
    pub(super) from: Option<Side>,
    pub(super) to: Option<Side>,
    /// The statements of a step that says itself what its target does.
    pub(super) script: Option<DraftScript>,
    /// The column that it is cut by, of a backfill that another one can continue.
    pub(super) ends_now: Option<String>,
    /// The column that tells what is new.
    pub(super) cursor: Option<String>,
    /// The step that it continues.
    pub(super) continues: Option<Located<StepName>>,
    /// The slot that it reads the log by.
    pub(super) slot: Option<Located<String>>,
}

/// The statements of a step.
#[derive(Debug)]
pub(super) struct DraftScript {
    pub(super) text: Located<String>,
    /// The file that they were read from, as it is written.
    pub(super) file: Option<String>,
}

impl DraftScript {
    /// Where one of their lines is.
    pub(super) fn line(&self, line: usize) -> String {
        match &self.file {
            Some(file) => format!("line {line} of {}", shortened(file)),
            None => format!("line {line} of the statements"),
        }
    }
}

/// One side of a step.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) connection: Option<Located<ConnectionName>>,
    pub(super) table: Option<Located<TableName>>,
}
