//! The graph of a pipeline's steps as a drawing of whole lines: each step once, below one of those
//! that it waits for; what no line shows is told in words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_common::document::EdgeDocument;
use highwater_common::graph::{GraphDocument, GraphStep};
use highwater_common::number::count;
use highwater_common::spec::When;

use super::look::{Look, tame};

/// A deeper step begins a drawing of its own at the left.
const DEPTH_MAX: usize = 8;
/// Names that a line lists before it only counts.
const NAMES_MAX: usize = 4;

/// Where a step stands in the drawing.
struct Drawn<'a> {
    step: &'a GraphStep,
    /// The lines that lead to it.
    lead: String,
    /// The step that it hangs below.
    below: Option<&'a str>,
}

/// The graph: a line of what it is of, then a line for each step.
#[must_use]
pub(crate) fn graph(graph: &GraphDocument, look: &Look) -> String {
    let drawn = draw(graph, look);
    let mut text = head(graph, look);
    let names = drawn
        .iter()
        .map(|one| one.lead.chars().count() + one.step.step.as_str().len());
    let width = names.max().unwrap_or(0);
    let strategies = drawn.iter().map(|one| one.step.strategy.len());
    let strategy_width = strategies.max().unwrap_or(0);
    let below: BTreeMap<&str, &str> = drawn
        .iter()
        .filter_map(|one| Some((one.step.step.as_str(), one.below?)))
        .collect();
    for one in &drawn {
        let name = one.step.step.as_str();
        let gap = " ".repeat(width.saturating_sub(one.lead.chars().count() + name.len()));
        let mut line = format!(
            "{}{name}{gap}  {:<strategy_width$}",
            look.dim(&one.lead),
            one.step.strategy
        );
        for remark in remarks(graph, one, &below, look) {
            line.push_str("  ");
            line.push_str(&remark);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn head(graph: &GraphDocument, look: &Look) -> String {
    let steps = match graph.steps.len() {
        1 => "1 step".to_owned(),
        steps => format!("{steps} steps"),
    };
    let pipeline = look.bold(graph.pipeline.as_str());
    match (&graph.short, graph.status) {
        (Some(short), Some(status)) => format!(
            "{} {pipeline} {} · {steps}\n",
            tame(short),
            look.run_status(status)
        ),
        _ => format!("{pipeline} · {steps}\n"),
    }
}

/// The steps in the order of their lines: each after all that it waits for.
fn draw<'a>(graph: &'a GraphDocument, look: &Look) -> Vec<Drawn<'a>> {
    let mut dependants: BTreeMap<&str, Vec<&GraphStep>> = BTreeMap::new();
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let known: BTreeSet<&str> = graph.steps.iter().map(|step| step.step.as_str()).collect();
    for step in &graph.steps {
        let on = step.depends_on.iter().map(|edge| edge.step.as_str());
        // A document of somebody else's may name what it does not have.
        let on: BTreeSet<&str> = on.filter(|on| known.contains(on)).collect();
        waiting.insert(step.step.as_str(), on.len());
        for on in on {
            dependants.entry(on).or_default().push(step);
        }
    }
    let is_root = |step: &&GraphStep| waiting.get(step.step.as_str()) == Some(&0);
    let roots: Vec<&GraphStep> = graph.steps.iter().filter(is_root).collect();
    let mut drawing = Drawing {
        drawn: Vec::with_capacity(graph.steps.len()),
        later: roots.into(),
        dependants,
        waiting,
        is_ascii: look.is_ascii,
    };
    while let Some(root) = drawing.later.pop_front() {
        drawing.add(root, String::new(), "", None);
    }
    drawing.drawn
}

struct Drawing<'a> {
    drawn: Vec<Drawn<'a>>,
    /// Steps that begin at the left.
    later: VecDeque<&'a GraphStep>,
    dependants: BTreeMap<&'a str, Vec<&'a GraphStep>>,
    /// How many of the steps that each waits for have no line yet.
    waiting: BTreeMap<&'a str, usize>,
    is_ascii: bool,
}

impl<'a> Drawing<'a> {
    /// Adds a step, and below it those that have waited for it last. `trunk` leads on below it.
    fn add(&mut self, step: &'a GraphStep, trunk: String, branch: &str, below: Option<&'a str>) {
        let name = step.step.as_str();
        let depth = trunk.chars().count() / 3 + usize::from(!branch.is_empty());
        let (fork, last, through) = match self.is_ascii {
            true => ("|- ", "`- ", "|  "),
            false => ("├─ ", "└─ ", "│  "),
        };
        self.drawn.push(Drawn {
            step,
            lead: format!("{trunk}{branch}"),
            below,
        });
        let mut next = Vec::new();
        for dependant in self.dependants.get(name).into_iter().flatten() {
            if let Some(waiting) = self.waiting.get_mut(dependant.step.as_str()) {
                *waiting = waiting.saturating_sub(1);
                if *waiting == 0 {
                    next.push(*dependant);
                }
            }
        }
        if depth >= DEPTH_MAX {
            self.later.extend(next);
            return;
        }
        let trunk = match branch {
            "" => trunk,
            branch if branch == last => trunk + "   ",
            _ => trunk + through,
        };
        let count = next.len();
        for (at, dependant) in next.into_iter().enumerate() {
            let branch = if at + 1 == count { last } else { fork };
            self.add(dependant, trunk.clone(), branch, Some(name));
        }
    }
}

/// What the line says beside name and strategy.
fn remarks(
    graph: &GraphDocument,
    one: &Drawn<'_>,
    below: &BTreeMap<&str, &str>,
    look: &Look,
) -> Vec<String> {
    let step = one.step;
    let mut remarks = Vec::new();
    if let Some(status) = step.status {
        remarks.push(match &step.tasks {
            Some(tasks) if tasks.planned() > 0 => format!(
                "{} {}/{}",
                look.step_status(status),
                count(tasks.done),
                count(tasks.planned())
            ),
            Some(_) | None => look.step_status(status),
        });
    }
    if !step.enabled {
        remarks.push(look.warn("not enabled"));
    }
    let (continued, waited): (Vec<&EdgeDocument>, Vec<&EdgeDocument>) =
        step.depends_on.iter().partition(|edge| edge.continues);
    remarks.extend(
        continued
            .iter()
            .map(|edge| format!("continues {}", edge.step)),
    );
    // One line that says it all needs no words.
    let is_plain =
        |edge: &EdgeDocument| edge.when == When::Success && one.below == Some(edge.step.as_str());
    let is_shown = match (continued.as_slice(), waited.as_slice()) {
        ([], [only]) => is_plain(only),
        _ => waited.is_empty(),
    };
    if !is_shown {
        let names = waited.iter().map(|edge| match edge.when {
            When::Success => edge.step.to_string(),
            When::Done => format!("{} (done)", edge.step),
        });
        remarks.push(format!("after {}", listed(names.collect())));
    }
    // Those that wait for it, and hang below another one.
    let elsewhere = graph.steps.iter().filter(|other| {
        let mut edges = other.depends_on.iter();
        edges.any(|edge| edge.step == step.step)
            && below.get(other.step.as_str()) != Some(&step.step.as_str())
    });
    let elsewhere: Vec<String> = elsewhere.map(|other| other.step.to_string()).collect();
    if !elsewhere.is_empty() {
        let arrow = if look.is_ascii { "->" } else { "→" };
        remarks.push(look.dim(&format!("{arrow} {}", listed(elsewhere))));
    }
    if !step.reason.is_empty() {
        remarks.push(format!("({})", tame(&step.reason)));
    }
    remarks
}

/// The first of many names, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    // A name takes no more room than the words that would stand for it.
    if more > 1 {
        names.truncate(NAMES_MAX);
        return format!("{} and {more} more", names.join(", "));
    }
    names.join(", ")
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
