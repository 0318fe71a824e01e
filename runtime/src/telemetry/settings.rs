//! Where traces, metrics and logs are sent, by OpenTelemetry's own environment variables. Never
//! reads the environment by itself.

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    /// As the environment's variables have it.
    const fn upper(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }

    /// As people read it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// Where one signal goes, and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) endpoint: String,
    /// Files: the authority that signed the receiver's certificate, and our own certificate and key.
    pub(super) authority: Option<String>,
    pub(super) identity: Option<(String, String)>,
}

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    pub(super) traces: Option<Way>,
    pub(super) metrics: Option<Way>,
    pub(super) logs: Option<Way>,
    /// What the process calls itself, where that was said.
    pub(super) service: Option<String>,
    /// The span that whoever started the process has begun.
    pub(super) parent: Option<String>,
    /// What is set and cannot be done, for people.
    pub(super) problems: Vec<String>,
}

impl Settings {
    /// Reads the variables by `variable`. Without an endpoint nothing is sent.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            let value = variable(name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let mut settings = Self {
            service: variable("OTEL_SERVICE_NAME"),
            parent: variable("TRACEPARENT"),
            ..Self::default()
        };
        let is_off = variable("OTEL_SDK_DISABLED");
        if is_off.is_some_and(|is_off| is_off.eq_ignore_ascii_case("true")) {
            return settings;
        }
        let mut way = |signal| way(signal, &variable, &mut settings.problems);
        let (traces, metrics, logs) =
            (way(Signal::Traces), way(Signal::Metrics), way(Signal::Logs));
        Self {
            traces,
            metrics,
            logs,
            ..settings
        }
    }

    pub(super) const fn sends_something(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some() || self.logs.is_some()
    }
}

fn way(
    signal: Signal,
    variable: &impl Fn(&str) -> Option<String>,
    problems: &mut Vec<String>,
) -> Option<Way> {
    let upper = signal.upper();
    // what is said of one signal beats what is said of all
    let said = |what: &str| {
        variable(&format!("OTEL_EXPORTER_OTLP_{upper}_{what}"))
            .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{what}")))
    };
    let endpoint = said("ENDPOINT")?;
    let exporter = format!("OTEL_{upper}_EXPORTER");
    match variable(&exporter).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return None,
        Some(other) => {
            problems.push(format!(
                "no {} are sent: {exporter} is `{other}`, and only otlp and none are known",
                signal.name()
            ));
            return None;
        }
    }
    if let Some(other) = said("PROTOCOL").filter(|protocol| protocol != "grpc") {
        problems.push(format!(
            "no {} are sent: OTEL_EXPORTER_OTLP_PROTOCOL is `{other}`, and only grpc is spoken \
             (port 4317 of most receivers)",
            signal.name()
        ));
        return None;
    }
    let authority = endpoint.split("://").last().unwrap_or_default();
    if authority
        .split('/')
        .next()
        .is_some_and(|host| host.contains('@'))
    {
        // Not repeated: it goes to the log.
        problems.push(format!(
            "no {} are sent: the endpoint holds a user or a password, which belong into \
             OTEL_EXPORTER_OTLP_HEADERS",
            signal.name()
        ));
        return None;
    }
    Some(Way {
        endpoint,
        authority: said("CERTIFICATE"),
        identity: said("CLIENT_CERTIFICATE").zip(said("CLIENT_KEY")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoints(settings: &Settings) -> [Option<&str>; 3] {
        [&settings.traces, &settings.metrics, &settings.logs]
            .map(|way| way.as_ref().map(|way| way.endpoint.as_str()))
    }

    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

    #[test]
    fn without_an_endpoint_nothing_is_sent_whatever_else_is_set() {
        for set in [
            vec![],
            vec![(ALL, " ")],
            vec![("OTEL_SERVICE_NAME", "w"), ("OTEL_TRACES_EXPORTER", "otlp")],
            vec![(ALL, "http://c:4317"), ("OTEL_SDK_DISABLED", "TRUE")],
        ] {
            let settings = read(&set);
            assert!(!settings.sends_something(), "{set:?}");
            assert!(settings.problems.is_empty(), "{set:?}");
        }
    }

    #[test]
    fn an_endpoint_with_a_password_is_refused_and_not_repeated() {
        let settings = read(&[(ALL, "https://user:hunter2@c:4317/x")]);
        assert!(!settings.sends_something());
        assert_eq!(settings.problems.len(), 3);
        let problems = settings.problems.concat();
        assert!(
            problems.contains("OTEL_EXPORTER_OTLP_HEADERS") && !problems.contains("hunter2"),
            "{problems}"
        );
        assert!(read(&[(ALL, "http://c:4317/a@b")]).sends_something());
    }

    #[test]
    fn one_endpoint_is_for_all_signals_and_what_is_said_of_one_beats_it() {
        let everywhere = read(&[(ALL, "http://c:4317")]);
        assert_eq!(endpoints(&everywhere), [Some("http://c:4317"); 3]);
        let mixed = read(&[
            (ALL, "http://c:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://m:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "ca.pem"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ]);
        assert_eq!(
            endpoints(&mixed),
            [Some("http://c:4317"), Some("https://m:4317"), None]
        );
        let authority = |way: &Option<Way>| way.as_ref().and_then(|way| way.authority.clone());
        assert_eq!(authority(&mixed.metrics).as_deref(), Some("ca.pem"));
        assert_eq!(authority(&mixed.traces), None);
        // one signal alone
        let traces = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317")]);
        assert_eq!(endpoints(&traces), [Some("http://t:4317"), None, None]);
    }

    #[test]
    fn what_cannot_be_done_is_told_and_sends_nothing() {
        let http = read(&[
            (ALL, "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ]);
        assert!(!http.sends_something());
        assert_eq!(http.problems.len(), 3);
        let other = read(&[(ALL, "http://c:4317"), ("OTEL_TRACES_EXPORTER", "zipkin")]);
        assert_eq!(
            other.problems,
            [
                "no traces are sent: OTEL_TRACES_EXPORTER is `zipkin`, and only otlp and none are known"
            ]
        );
        assert!(other.metrics.is_some() && other.logs.is_some());
    }
}
