//! The cluster: who leads, where it keeps its records, who works.

use std::time::Duration;

use highwater_common::document::{ClusterDocument, WorkerDocument};
use highwater_common::number::{bytes, count, duration};

use super::borderless;
use super::look::{Look, tame};

/// The cluster and a row for each worker.
#[must_use]
pub(crate) fn cluster(document: &ClusterDocument, look: &Look) -> String {
    let leader = match (document.leader.as_str(), document.term.as_str()) {
        (_, "") => "nobody".to_owned(),
        ("", _) => "one process".to_owned(),
        (leader, _) => tame(leader),
    };
    let term = match document.term.as_str() {
        "" => String::new(),
        term => format!(
            ", term {}, tokens from {}",
            tame(term),
            count(document.token_hi)
        ),
    };
    let store_bytes = if document.store_bytes == 0 {
        String::new()
    } else {
        format!(", {}", bytes(document.store_bytes))
    };
    let mut text = format!(
        "{}  {}\n{}   {leader}{term}\n{}    {}{store_bytes}\n",
        look.bold("cluster"),
        document.cluster,
        look.bold("leader"),
        look.bold("store"),
        tame(&document.store)
    );
    if !document.trouble.is_empty() {
        text.push_str(&format!(
            "{}  {}\n",
            look.bold("trouble"),
            tame(&document.trouble)
        ));
    }
    text.push_str(&workers(document, look));
    text
}

/// A row for each worker.
#[must_use]
pub(crate) fn workers(document: &ClusterDocument, look: &Look) -> String {
    if document.workers.is_empty() {
        return "no worker is connected\n".to_owned();
    }
    let rows = document.workers.iter().map(row).collect();
    borderless(
        look,
        &["worker", "state", "version", "slots", "heartbeat"],
        &[3, 4],
        rows,
    )
}

fn row(worker: &WorkerDocument) -> Vec<String> {
    vec![
        tame(&worker.worker),
        tame(&worker.state),
        tame(&worker.version),
        format!("{}/{}", worker.busy, worker.slots),
        format!(
            "{} ago",
            duration(Duration::from_millis(worker.heartbeat_age_millis))
        ),
    ]
}
