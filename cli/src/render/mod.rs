//! Turns documents into text for people. Never performs I/O and never reads a clock: what is shown
//! depends on the arguments alone, so that every page is a snapshot.

mod advise;
mod audit;
mod cluster;
mod connections;
mod contexts;
mod explanation;
mod fold;
mod graph;
mod graph_languages;
mod look;
mod plan;
mod run;
mod runs;
mod schedules;
mod settings;
mod summary;
mod tasks;
mod yaml;

pub(crate) use advise::advice;
pub(crate) use audit::audit;
pub(crate) use cluster::{cluster, workers};
pub(crate) use connections::{Tested, tested};
pub(crate) use contexts::contexts;
pub(crate) use explanation::explanation;
pub(crate) use fold::Steps;
pub(crate) use graph::graph;
pub(crate) use graph_languages::{dot, mermaid};
pub(crate) use look::Look;
pub(crate) use look::tame;
pub(crate) use plan::plan;
pub(crate) use run::{Moment, header, status, step_line};
pub(crate) use run::{failed_task, is_told_by, name_width};
pub(crate) use runs::runs;
pub(crate) use schedules::{schedule, schedules};
pub(crate) use settings::settings;
pub(crate) use summary::{next_command, summary};
pub(crate) use tasks::{events, tasks};
pub(crate) use yaml::yaml;

use comfy_table::{Cell, CellAlignment, Table, presets};

/// A table without borders; `right` names the columns that hold numbers.
fn borderless(look: &Look, header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied().map(Cell::new).collect::<Vec<_>>());
    table.add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if right.contains(&at) {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        });
    }
    let mut text = String::new();
    for (at, line) in table.trim_fmt().lines().enumerate() {
        let line = line.trim_end();
        text.push_str(&if at == 0 {
            look.dim(line)
        } else {
            line.to_owned()
        });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
