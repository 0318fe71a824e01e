//! The `highwater` command.

use std::process::ExitCode as ProcessExit;
use std::time::Duration;

use highwater_cli::{Cli, Contexts, Environment, ExitCode, Output, execute};
use highwater_runtime::telemetry::{Program, Telemetry};
use highwater_runtime::{Interrupts, failpoint};

/// What background work gets to end in once the command is over.
const SHUTDOWN_MAX: Duration = Duration::from_millis(200);
/// What the last spans and log lines get to be sent in, where anybody receives them.
const CLOSE_WAIT_MAX: Duration = Duration::from_millis(500);
/// What a receiver of them knows it by.
const PROGRAM: Program = Program {
    name: "highwater",
    version: env!("CARGO_PKG_VERSION"),
    is_command: true,
};

fn main() -> ProcessExit {
    if let Some(ended) = highwater_worker::guard::of_arguments() {
        return ended;
    }
    highwater_net::install_tls_provider();
    // Tests name places in the environment where the process is to end, wait or fail.
    let _armed = failpoint::arm();
    let mut cli = match Cli::of_process() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() {
                ExitCode::Usage.into()
            } else {
                ExitCode::Success.into()
            };
        }
    };
    let environment = Environment::read();
    let contexts = Contexts::of(&environment);
    // A verb that asks nobody does not care where a cluster would be.
    let load_order = if cli.command.asks_a_coordinator() {
        contexts.settle(&mut cli.global, &environment)
    } else {
        Ok(())
    };
    let mut output = Output::of_process(&cli.global, &environment);
    if let Err(error) = load_order {
        output.tell(&error.render(&output.talk_look));
        return error.exit().into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output.tell(&format!("error: cannot start\n  why: {error}\n"));
            return ExitCode::Unexpected.into();
        }
    };
    let telemetry = {
        let _carries = runtime.enter();
        Telemetry::of_environment(PROGRAM, false)
    };
    highwater_cli::log_to_stderr(cli.global.verbose, &telemetry);
    highwater_cli::continue_trace(telemetry.parent());
    let exit = runtime.block_on(async {
        match Interrupts::of_process() {
            Ok(mut interrupts) => {
                Box::pin(execute(&cli, &contexts, &mut output, &mut interrupts)).await
            }
            Err(error) => {
                output.tell(&format!(
                    "error: cannot listen to signals\n  why: {error}\n"
                ));
                ExitCode::Unexpected
            }
        }
    });
    telemetry.close(CLOSE_WAIT_MAX);
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    exit.into()
}
