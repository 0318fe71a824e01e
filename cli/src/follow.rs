//! Follows a run until it ends or somebody leaves. Never changes the run: leaving a cluster's run
//! lets it go on, leaving a run of this process drains it.

use std::time::Duration;

use highwater_common::document::RunDocument;
use highwater_common::status::RunStatus;
use highwater_proto::v1::{Document, GetRunRequest};
use highwater_runtime::Interrupts;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status, Streaming};

use crate::connect::{Connection, Destination, Fetched};
use crate::deadline::{CALL_WAIT_MAX, within};
use crate::embedded::Embedded;
use crate::error::CliError;
use crate::exit::{self, ExitCode};
use crate::output::Output;
use crate::progress::Reporter;

/// How often the drawing moves, and a lost cluster is asked again.
const TICK: Duration = Duration::from_secs(1);
/// How long a cluster may be away: a new leader needs less.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// How long a coordinator has for its answer when a stream broke, before another one is asked.
const AGAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How far a run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// To the end of its planning.
    Planned,
    /// To its end.
    Ended,
}

impl Until {
    const fn is_reached(self, status: RunStatus) -> bool {
        match self {
            Self::Planned => !matches!(status, RunStatus::Planning),
            Self::Ended => status.has_ended(),
        }
    }
}

/// How the following ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The run came as far as wanted.
    Reached(Box<Fetched<RunDocument>>),
    /// Somebody left first.
    Left,
}

/// What came.
enum Wake {
    Interrupted,
    Message(Result<Option<Document>, Status>),
    ProcessEnded(Result<(), CliError>),
    Tick,
}

/// A run that is followed.
pub(crate) struct Follower<'a> {
    pub(crate) connection: &'a mut Connection,
    /// The run's id.
    pub(crate) run: String,
    pub(crate) until: Until,
    /// The command that leads back to the run.
    pub(crate) come_back: String,
    pub(crate) output: &'a mut Output,
    pub(crate) interrupts: &'a mut Interrupts,
}

impl Follower<'_> {
    /// Follows.
    ///
    /// # Errors
    /// When the coordinator refuses, or is away for longer than a change of leaders takes.
    pub(crate) async fn follow(mut self, mut reporter: Reporter) -> Result<Followed, CliError> {
        let followed = self.follow_with(&mut reporter).await;
        reporter.finish();
        followed
    }

    async fn follow_with(&mut self, reporter: &mut Reporter) -> Result<Followed, CliError> {
        let began = Instant::now();
        let mut stream = Some(self.watch().await.map_err(|status| self.lost(&status))?);
        let mut away_since: Option<Instant> = None;
        let mut is_draining = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let wake = tokio::select! {
                biased;
                () = self.interrupts.next() => Wake::Interrupted,
                message = next_message(&mut stream) => Wake::Message(message),
                ended = process_end(self.connection.embedded.as_mut()) => Wake::ProcessEnded(ended),
                _ = tick.tick() => Wake::Tick,
            };
            match wake {
                Wake::Interrupted => {
                    if self.leave(is_draining, reporter) {
                        return Ok(Followed::Left);
                    }
                    is_draining = true;
                }
                Wake::Message(Ok(Some(document))) => {
                    away_since = None;
                    let fetched = Fetched::try_from(document)?;
                    reporter.document(began.elapsed(), &fetched, self.output);
                    if self.until.is_reached(fetched.view.status) {
                        return Ok(Followed::Reached(Box::new(fetched)));
                    }
                }
                Wake::Message(Ok(None)) => {
                    stream = None;
                    let status = Status::unavailable("the coordinator ended the stream");
                    self.endure(
                        &status,
                        is_draining,
                        *away_since.get_or_insert_with(Instant::now),
                    )?;
                }
                Wake::Message(Err(status)) => {
                    stream = None;
                    let status = broken_off(status);
                    self.endure(
                        &status,
                        is_draining,
                        *away_since.get_or_insert_with(Instant::now),
                    )?;
                }
                Wake::ProcessEnded(ended) => {
                    self.connection.embedded = None;
                    return self.process_ended(ended, is_draining);
                }
                Wake::Tick => {
                    reporter.tick(began.elapsed(), self.output);
                    if stream.is_none() && !is_draining {
                        // Whoever wants to leave does not wait for somebody who is silent.
                        let tried = tokio::select! {
                            biased;
                            () = self.interrupts.next() => None,
                            tried = look_again(self.connection, &self.run) => Some(tried),
                        };
                        match tried {
                            Some(Ok(again)) => stream = Some(again),
                            Some(Err(status)) => {
                                let status = broken_off(status);
                                self.endure(
                                    &status,
                                    is_draining,
                                    *away_since.get_or_insert_with(Instant::now),
                                )?;
                            }
                            None if self.leave(is_draining, reporter) => return Ok(Followed::Left),
                            None => is_draining = true,
                        }
                    }
                }
            }
        }
    }

    async fn watch(&mut self) -> Result<Streaming<Document>, Status> {
        watch(self.connection, &self.run, CALL_WAIT_MAX).await
    }

    /// Answers an interrupt; true when nothing more is to be waited for.
    fn leave(&mut self, is_draining: bool, reporter: &Reporter) -> bool {
        let come_back = &self.come_back;
        match &self.connection.embedded {
            Some(embedded) if is_draining => {
                embedded.stop.cancel();
                reporter.say(&format!("stopped; go on with: {come_back}"), self.output);
                true
            }
            Some(embedded) => {
                embedded.drain.cancel();
                let line =
                    format!("draining, Ctrl-C again stops at once; go on later with: {come_back}");
                reporter.say(&line, self.output);
                false
            }
            None => {
                reporter.say(
                    &format!("detached, the run goes on; come back with: {come_back}"),
                    self.output,
                );
                true
            }
        }
    }

    /// Decides whether a broken stream is waited for: a cluster may change its leader, the
    /// coordinator of this process may begin a new term, and while draining the stream has to
    /// break.
    fn endure(&self, status: &Status, is_draining: bool, since: Instant) -> Result<(), CliError> {
        let is_away =
            exit::of_code(status.code()) == ExitCode::Unreachable && since.elapsed() < AWAY_MAX;
        let may_return = match self.connection.place {
            Destination::Remote(_) => is_away,
            // The coordinator of this process begins another term; one of another process has gone
            // for good.
            Destination::Embedded => is_draining || (is_away && self.connection.embedded.is_some()),
        };
        if may_return {
            Ok(())
        } else {
            Err(self.lost(status))
        }
    }

    fn lost(&self, status: &Status) -> CliError {
        CliError::from_status("cannot follow the run", status)
            .at(self.connection.banner())
            .next(&self.come_back)
    }

    fn process_ended(
        &self,
        ended: Result<(), CliError>,
        is_draining: bool,
    ) -> Result<Followed, CliError> {
        match ended {
            Ok(()) if is_draining => Ok(Followed::Left),
            Ok(()) => Err(CliError::new(
                ExitCode::Unexpected,
                "the coordinator in this process ended before the run",
            )
            .next(&self.come_back)),
            Err(error) => Err(error.or_next(|| self.come_back.clone())),
        }
    }
}

async fn watch(
    connection: &mut Connection,
    run: &str,
    limit: Duration,
) -> Result<Streaming<Document>, Status> {
    let request = GetRunRequest {
        run: run.to_owned(),
    };
    within(limit, connection.client.watch_run(request))
        .await
        .map(tonic::Response::into_inner)
}

/// Watches again after a stream broke; where nobody answers soon the next coordinator is gone to,
/// for the next time.
async fn look_again(connection: &mut Connection, run: &str) -> Result<Streaming<Document>, Status> {
    let watched = watch(connection, run, AGAIN_WAIT_MAX).await;
    if watched.is_err() {
        connection.move_on().await;
    }
    watched
}

/// A stream that breaks off in the middle is a coordinator, or one that relays, that went away:
/// transports have several words for it.
fn broken_off(status: Status) -> Status {
    match status.code() {
        Code::Unknown | Code::Internal | Code::Cancelled | Code::DataLoss => {
            Status::unavailable(status.message())
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unavailable
        | Code::Unauthenticated => status,
    }
}

/// The next document; nothing, for ever, while there is no stream.
async fn next_message(
    stream: &mut Option<Streaming<Document>>,
) -> Result<Option<Document>, Status> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

/// The end of what runs in this process; never, when nothing does.
async fn process_end(embedded: Option<&mut Embedded>) -> Result<(), CliError> {
    match embedded {
        Some(embedded) => (&mut embedded.ended).await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}
