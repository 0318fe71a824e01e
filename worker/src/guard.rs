//! A process between a worker and a program that it runs, so that the program never outlives the
//! worker: it waits on a pipe whose other end only the worker holds, and which the kernel closes with
//! it, whatever happens. Then, and when the program has ended, all of the program's process group
//! is killed.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process_group};

/// The first argument by which a program of ours is told to be such a process. What follows is the
/// program's path and its arguments.
const WORD: &str = "guard-a-program";
/// What a shell answers for a program that cannot be started.
const NOT_STARTED: u8 = 126;
/// What a shell adds to the signal that a program has ended by.
const BY_SIGNAL: i32 = 128;

/// Runs a program to its end if the arguments say so; `None` when they do not.
#[must_use]
pub fn of_arguments() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == *WORD).then(|| run(arguments.collect()))
}

/// The command that runs a program under a guard. What it writes is the program's; its standard input
/// is the pipe that keeps it alive.
pub(crate) fn command(program: &Path, arguments: &[String]) -> Command {
    // Our own program, also when another version has taken its place.
    let mut command = Command::new("/proc/self/exe");
    command.arg(WORD).arg(program).args(arguments);
    // Ctrl-C on a terminal is the worker's: it drains.
    command.process_group(0).env_clear();
    command
}

fn run(mut arguments: Vec<OsString>) -> ExitCode {
    if arguments.is_empty() {
        return ExitCode::from(NOT_STARTED);
    }
    let program = arguments.remove(0);
    // Before the program is there, so that there is none without it.
    let (tell, told) = mpsc::channel();
    let watching = std::thread::Builder::new().spawn(move || {
        let mut nothing = [0; 64];
        let mut worker = std::io::stdin();
        while matches!(worker.read(&mut nothing), Ok(read) if read > 0) {}
        kill(told.recv().ok().flatten());
    });
    let started = watching.and_then(|_| {
        Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            let path = Path::new(&program).display();
            #[expect(clippy::print_stderr, reason = "the worker reads it as the program's")]
            {
                eprintln!("{path} cannot be started: {error}");
            }
            return ExitCode::from(NOT_STARTED);
        }
    };
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = tell.send(group);
    let ended = child.wait();
    // What it has left behind.
    kill(group);
    ended.map_or(ExitCode::FAILURE, |status| code(status).into())
}

/// Ends all of a process group; one that is gone is no error.
fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn code(status: ExitStatus) -> u8 {
    let signal = status
        .signal()
        .map(|signal| BY_SIGNAL.saturating_add(signal));
    let code = status.code().or(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(u8::MAX)
}
