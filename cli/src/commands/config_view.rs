//! `config view`: every setting of the command, what it is, and where that comes from.

use std::path::PathBuf;

use highwater_common::spec::masked;
use serde_json::json;

use super::Context;
use crate::args::{GivenBy, GivenFlag, ViewArgs};
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::render;
use crate::setting::{Setting, Whence};

pub(super) fn view(context: &mut Context<'_>, args: &ViewArgs) -> Result<ExitCode, CliError> {
    let settings = settings(context)?;
    let rows: Vec<_> = settings
        .iter()
        .map(|setting| {
            let mut row = json!({"setting": setting.name, "value": setting.value});
            if args.show_origin {
                row["origin"] = json!(setting.whence.kind());
                row["where"] = json!(setting.whence.place());
            }
            row
        })
        .collect();
    context.print(
        &json!({"schema": "config/v1", "settings": rows}),
        |look| render::settings(&settings, args.show_origin, look),
        || {
            settings
                .iter()
                .map(|setting| setting.name.clone())
                .collect()
        },
    )?;
    Ok(ExitCode::Success)
}

/// Every setting, as the next verb would have it.
fn settings(context: &Context<'_>) -> Result<Vec<Setting>, CliError> {
    let environment = context.contexts.environment();
    let destination = context.contexts.destination(context.global, environment)?;
    let mut settings = Vec::new();
    for flag in &context.given.0 {
        let mut setting = of_flag(flag);
        let is_silent = flag.by == GivenBy::Default;
        match setting.name.as_str() {
            "coordinator" => {
                let (value, whence) = destination.coordinator.clone();
                (setting.value, setting.whence) = (value, whence);
            }
            "context" => {
                let (value, whence) = destination.context.clone();
                (setting.value, setting.whence) = (value, whence);
            }
            "color" if is_silent => {
                let said = [
                    (environment.no_color, "never", "NO_COLOR"),
                    (environment.force_color, "always", "CLICOLOR_FORCE"),
                    (environment.is_dumb, "never", "TERM"),
                ];
                if let Some((_, value, name)) = said.iter().find(|(is_set, _, _)| *is_set) {
                    setting.value = Some((*value).to_owned());
                    setting.whence = Whence::Variable((*name).to_owned());
                }
            }
            // The file that names a cluster says how to reach it.
            "tls-ca" | "tls-cert" | "tls-key" | "tls-server-name" if is_silent => {
                let tls = &destination.tls;
                let path =
                    |path: &Option<PathBuf>| path.as_ref().map(|of| of.display().to_string());
                let value = match setting.name.as_str() {
                    "tls-ca" => path(&tls.ca),
                    "tls-cert" => path(&tls.cert),
                    "tls-key" => path(&tls.key),
                    _ => tls.server_name.clone(),
                };
                if value.is_some() {
                    setting.value = value;
                    setting.whence = destination.coordinator.1.clone();
                }
            }
            "token-file" if is_silent && destination.token_file.is_some() => {
                let file = destination.token_file.as_ref();
                setting.value = file.map(|file| file.display().to_string());
                setting.whence = destination.coordinator.1.clone();
            }
            _ => {}
        }
        // A person's name is taken from the machine where nobody says another one.
        if setting.name == "user" {
            let operator = settings
                .iter_mut()
                .find(|of: &&mut Setting| of.name == "operator");
            if let Some(operator) = operator.filter(|operator| operator.value.is_none()) {
                (operator.value, operator.whence) = (setting.value, setting.whence);
            }
            continue;
        }
        settings.push(setting);
    }
    // What it is, is nobody's business but the cluster's; a file beats it.
    let has_file = |of: &Setting| of.name == "token-file" && of.value.is_some();
    if environment.token.is_there() && !settings.iter().any(has_file) {
        settings.push(Setting {
            name: "token".to_owned(),
            value: Some("(not shown)".to_owned()),
            whence: Whence::Variable("HIGHWATER_TOKEN".to_owned()),
        });
    }
    settings.push(Setting {
        name: "env".to_owned(),
        value: environment.pipeline_environment.clone(),
        whence: match environment.pipeline_environment {
            Some(_) => Whence::Variable("HIGHWATER_ENV".to_owned()),
            None => Whence::Default,
        },
    });
    let file = context.contexts.file();
    settings.push(Setting {
        name: "contexts-file".to_owned(),
        whence: match &file {
            Some(_) => Whence::Variable(environment.config_home_by.to_owned()),
            None => Whence::Default,
        },
        value: file.map(|file: PathBuf| file.display().to_string()),
    });
    for setting in &mut settings {
        // An address may hold a password, and what is shown is copied into tickets.
        setting.value = setting.value.take().map(|value| masked(&value, &[]));
    }
    Ok(settings)
}

fn of_flag(flag: &GivenFlag) -> Setting {
    let GivenFlag { name, value, by } = flag;
    Setting {
        name: name.clone(),
        value: value.clone(),
        whence: match by {
            GivenBy::Flag => Whence::Flag(name.clone()),
            GivenBy::Variable(variable) => Whence::Variable(variable.clone()),
            GivenBy::Default => Whence::Default,
        },
    }
}
