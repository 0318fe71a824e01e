//! What is recommended for tables.

use std::time::Duration;

use highwater_common::advise::{Advice, Cost, Ranked};
use highwater_common::number::{about, bytes, count, duration, to_f64};

use super::look::{Look, tame};

/// For each table its facts, the ways that fit in their order, and those that do not.
#[must_use]
pub(crate) fn advice(tables: &[&Advice], look: &Look) -> String {
    let tables: Vec<String> = tables.iter().map(|one| table(one, look)).collect();
    tables.join("\n")
}

fn table(advice: &Advice, look: &Look) -> String {
    let rows = match advice.rows_exact {
        true => count(advice.rows),
        false => format!("~{}", about(to_f64(advice.rows))),
    };
    let key = match advice.key.as_slice() {
        [] => "no key".to_owned(),
        key => format!("key {}", key.join(", ")),
    };
    let mut facts = vec![format!("{rows} rows"), bytes(advice.bytes), key];
    facts.extend(advice.stamp.clone());
    let name = tame(&advice.table.to_string());
    let facts = tame(&facts.join(" · "));
    let mut text = format!("{}  {facts}\n", look.bold(&name));
    let names = advice.ranked.iter().map(|one| &one.name);
    let names = names.chain(advice.refused.iter().map(|one| &one.name));
    let name_width = names.map(|name| width(name)).max().unwrap_or(0);
    let brings = advice.ranked.iter().map(|one| width(&one.brings));
    let brings_width = brings.max().unwrap_or(0);
    let indent = " ".repeat(name_width + 7);
    for (at, way) in (1_usize..).zip(&advice.ranked) {
        let because = tame(&way.because.join(", "));
        text.push_str(&format!(
            "  {at}  {}  {}  {} {because}\n",
            padded(&way.name, name_width),
            padded(&tame(&way.brings), brings_width),
            look.good("ok:"),
        ));
        text.push_str(&format!("{indent}{}\n", look.dim(&costs(way))));
        if !way.runs_here {
            let later = "this version cannot run it yet";
            text.push_str(&format!("{indent}{} {later}\n", look.warn("mind:")));
        }
        for caution in &way.cautions {
            text.push_str(&format!(
                "{indent}{} {}\n",
                look.warn("mind:"),
                tame(caution)
            ));
        }
    }
    let dash = if look.is_ascii { "-" } else { "–" };
    for refused in &advice.refused {
        let mut name = format!("  {dash}  {}", padded(&refused.name, name_width));
        for why in &refused.because {
            let (word, why) = (look.bad("refused:"), tame(&why.to_string()));
            text.push_str(&format!("{name}  {word} {why}\n"));
            name = " ".repeat(width(&name));
        }
    }
    text
}

fn costs(way: &Ranked) -> String {
    let Cost {
        rows: _,
        bytes: _,
        seconds,
        slots,
        bytes_a_day,
        queries_a_day,
        space,
        locks,
        log,
    } = &way.cost;
    let first = duration(Duration::from_secs(*seconds));
    let mut parts = vec![
        tame(&way.cadence),
        format!("first load about {first} at {slots} {}", slots_word(*slots)),
    ];
    match (*bytes_a_day, *queries_a_day) {
        (0, _) => {}
        (of, 0) => parts.push(format!("then about {} a day", bytes(of))),
        (of, queries) => parts.push(format!(
            "then about {} in {} {} a day",
            bytes(of),
            count(queries),
            if queries == 1 { "load" } else { "loads" }
        )),
    }
    if *space > 0 {
        parts.push(format!("room {}", bytes(*space)));
    }
    parts.push(format!("locks {locks}"));
    parts.extend(log.as_ref().map(|log| format!("log: {log}")));
    parts.join(" · ")
}

const fn slots_word(slots: u32) -> &'static str {
    if slots == 1 { "slot" } else { "slots" }
}

fn padded(text: &str, to: usize) -> String {
    let missing = to.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use highwater_common::advise::{Assurance, Refusal, Refused, Way};
    use highwater_common::spec::TableName;

    use super::*;

    #[test]
    fn ways_that_fit_come_first_and_what_is_refused_says_why() {
        let cost = Cost {
            rows: 1_310_000_000,
            bytes: 246 << 30,
            seconds: 2_201,
            slots: 4,
            bytes_a_day: 1 << 30,
            queries_a_day: 288,
            space: 0,
            locks: "nothing".to_owned(),
            log: None,
        };
        let way = Ranked {
            way: Way::BackfillIncremental,
            name: "backfill + incremental".to_owned(),
            cadence: "every 5m".to_owned(),
            assurance: Assurance::Bounded,
            brings: "what was written".to_owned(),
            because: vec!["index on updated_at".to_owned()],
            cautions: vec!["deletes are\ninvisible".to_owned()],
            cost,
            runs_here: true,
        };
        let cdc = Ranked {
            name: "cdc".to_owned(),
            runs_here: false,
            cautions: Vec::new(),
            ..way.clone()
        };
        let why = |fact: &str| Refusal {
            fact: fact.to_owned(),
            threshold: "a key".to_owned(),
            remedy: "give it one".to_owned(),
        };
        let advice_of_orders = Advice {
            table: TableName {
                schema: Some("public".to_owned()),
                name: "orders".to_owned(),
            },
            rows: 1_310_000_000,
            rows_exact: false,
            bytes: 246 << 30,
            key: vec!["order_id".to_owned()],
            stamp: Some("updated_at set by the database".to_owned()),
            ranked: vec![way, cdc],
            refused: vec![Refused {
                way: Way::Swap,
                name: "swap".to_owned(),
                because: vec![why("no key"), why("no luck")],
            }],
        };
        let text = advice(&[&advice_of_orders], &Look::plain());
        insta::assert_snapshot!(text, @r"
        public.orders  ~1.31 B rows · 246 GiB · key order_id · updated_at set by the database
          1  backfill + incremental  what was written  ok: index on updated_at
                                     every 5m · first load about 36 m at 4 slots · then about 1 GiB in 288 loads a day · locks nothing
                                     mind: deletes are invisible
          2  cdc                     what was written  ok: index on updated_at
                                     every 5m · first load about 36 m at 4 slots · then about 1 GiB in 288 loads a day · locks nothing
                                     mind: this version cannot run it yet
          –  swap                    refused: no key; it needs a key: give it one
                                     refused: no luck; it needs a key: give it one
        ");
    }
}
