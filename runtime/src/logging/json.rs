//! A log line as a JSON object: `ts`, `level`, `target`, `msg`, what the event and its spans say, and
//! `trace_id` and `span_id` where it belongs to a trace.

use std::fmt;

use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events so.
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (mut line, metadata) = (Map::new(), event.metadata());
        let mut now = String::new();
        SystemTime.format_time(&mut Writer::new(&mut now))?;
        line.insert("ts".to_owned(), now.into());
        let level = metadata.level().as_str().to_lowercase();
        line.insert("level".to_owned(), level.into());
        line.insert("target".to_owned(), metadata.target().into());
        line.insert("msg".to_owned(), Value::Null); // its place, before it is known
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|of| of.from_root())
        {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let fields = fields.and_then(|fields| serde_json::from_str(&fields.fields).ok());
            let fields: Map<String, Value> = fields.unwrap_or_default();
            for (name, value) in fields {
                if let Some(name) = name.strip_prefix("highwater.") {
                    line.insert(name.to_owned(), value);
                }
            }
        }
        event.record(&mut Fields(&mut line));
        let current = opentelemetry::Context::current();
        let of = current.span().span_context().clone();
        if of.is_valid() {
            line.insert("trace_id".to_owned(), of.trace_id().to_string().into());
            line.insert("span_id".to_owned(), of.span_id().to_string().into());
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields of an event on their way into a line.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => "msg",
            name => name,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::with_causes(value).into());
    }
}
