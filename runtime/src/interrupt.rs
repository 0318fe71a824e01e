//! Ctrl-C and SIGTERM, one after the other.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What asks the command to end.
pub struct Interrupts {
    source: Source,
    came: bool,
}

enum Source {
    Signals {
        interrupt: Signal,
        terminate: Signal,
    },
    Channel(mpsc::Receiver<()>),
}

impl Interrupts {
    /// Those of the process. From now on a signal no longer ends it by itself.
    ///
    /// # Errors
    /// When the system does not let this process listen.
    pub fn of_process() -> std::io::Result<Self> {
        let (interrupt, terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        Ok(Self {
            source: Source::Signals {
                interrupt,
                terminate,
            },
            came: false,
        })
    }

    /// Those that a caller sends.
    #[must_use]
    pub const fn from_channel(receiver: mpsc::Receiver<()>) -> Self {
        Self {
            source: Source::Channel(receiver),
            came: false,
        }
    }

    /// Waits for the next one. Dropping the wait loses none.
    pub async fn next(&mut self) {
        let came = match &mut self.source {
            Source::Signals {
                interrupt,
                terminate,
            } => tokio::select! {
                biased;
                came = interrupt.recv() => came,
                came = terminate.recv() => came,
            },
            Source::Channel(receiver) => receiver.recv().await,
        };
        if came.is_none() {
            std::future::pending::<()>().await;
        }
        self.came = true;
    }

    /// Whether one has come yet.
    #[must_use]
    pub const fn have_come(&self) -> bool {
        self.came
    }
}
