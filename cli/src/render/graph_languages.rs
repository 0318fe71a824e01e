//! The graph of a pipeline's steps in the words of programs that draw: Mermaid and Graphviz. A
//! step's name is a letter with letters, digits and `_`, and so is its strategy's: nothing has to be
//! escaped but reasons, which stay away.

use highwater_common::document::EdgeDocument;
use highwater_common::graph::{GraphDocument, GraphStep};
use highwater_common::spec::When;
use highwater_common::status::StepStatus;

/// The graph as a Mermaid flowchart. Steps have a prefix there: `end` alone would be a word of the
/// language.
#[must_use]
pub(crate) fn mermaid(graph: &GraphDocument) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for step in &graph.steps {
        let class = step
            .status
            .map_or_else(String::new, |status| format!(":::{}", status.as_str()));
        let label = label(step, "<br/>");
        text.push_str(&format!("  step_{}[\"{label}\"]{class}\n", step.step));
    }
    for (step, edge) in edges(graph) {
        let arrow = match words(edge) {
            Some(words) if edge.when == When::Done => format!("-. {words} .->"),
            Some(words) => format!("-- {words} -->"),
            None => "-->".to_owned(),
        };
        text.push_str(&format!(
            "  step_{} {arrow} step_{}\n",
            edge.step, step.step
        ));
    }
    let mut known: Vec<StepStatus> = Vec::new();
    for status in graph.steps.iter().filter_map(|step| step.status) {
        if !known.contains(&status) {
            known.push(status);
            text.push_str(&format!(
                "  classDef {} stroke:{},stroke-width:2px\n",
                status.as_str(),
                color(status)
            ));
        }
    }
    text
}

/// The graph in Graphviz's DOT.
#[must_use]
pub(crate) fn dot(graph: &GraphDocument) -> String {
    let mut text = format!(
        "digraph \"{}\" {{\n  rankdir=LR\n  node [shape=box]\n",
        graph.pipeline
    );
    for step in &graph.steps {
        let color = step
            .status
            .map_or_else(String::new, |status| format!(", color={}", color(status)));
        let label = label(step, "\\n");
        text.push_str(&format!("  \"{}\" [label=\"{label}\"{color}]\n", step.step));
    }
    for (step, edge) in edges(graph) {
        let words = words(edge).map_or_else(String::new, |words| {
            let style = match edge.when {
                When::Success => "solid",
                When::Done => "dashed",
            };
            format!(" [label=\"{words}\", style={style}]")
        });
        text.push_str(&format!(
            "  \"{}\" -> \"{}\"{words}\n",
            edge.step, step.step
        ));
    }
    text.push_str("}\n");
    text
}

fn edges(graph: &GraphDocument) -> impl Iterator<Item = (&GraphStep, &EdgeDocument)> {
    graph
        .steps
        .iter()
        .flat_map(|step| step.depends_on.iter().map(move |edge| (step, edge)))
}

fn label(step: &GraphStep, line: &str) -> String {
    let status = match step.status {
        Some(status) => format!("{line}{}", status.as_str()),
        None if !step.enabled => format!("{line}not enabled"),
        None => String::new(),
    };
    // A newer coordinator may know other strategies, and words with other characters.
    let strategy: String = step
        .strategy
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    format!("{}{line}{strategy}{status}", step.step)
}

fn words(edge: &EdgeDocument) -> Option<&'static str> {
    match (edge.continues, edge.when) {
        (true, When::Success) => Some("continues"),
        (true, When::Done) => Some("continues, done"),
        (false, When::Success) => None,
        (false, When::Done) => Some("done"),
    }
}

const fn color(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Success => "green",
        StepStatus::Failed => "red",
        StepStatus::Skipped | StepStatus::Cancelled => "orange",
        StepStatus::Running => "blue",
        StepStatus::Pending => "gray",
    }
}
