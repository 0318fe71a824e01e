//! A coordinator that answers by a script, over real sockets: what it would take hours to make a
//! real one say.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_common::document::RunDocument;
use highwater_proto::OPERATOR_METADATA;
use highwater_proto::v1::control_service_server::{ControlService, ControlServiceServer};
use highwater_proto::v1::{
    CancelRequest, ControlRequest, ControlScheduleRequest, Document, GetClusterRequest,
    GetPlanRequest, GetRunRequest, ListAuditRequest, ListEventsRequest, ListRunsRequest,
    ListSchedulesRequest, ListTasksRequest, RetryRequest, SetScheduleRequest, SetWorkerRequest,
    SubmitRequest, SubmitResponse,
};
use serde::Serialize;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use crate::samples;

/// What the coordinator answers.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// A refusal of everything but watching.
    pub(super) refusal: Option<(Code, &'static str)>,
    /// The run as it stands.
    pub(super) run: RunDocument,
    /// What a watcher sees, one list for each time it asks; the last list is repeated.
    pub(super) watches: Vec<Watch>,
}

/// What a watcher sees, and what comes after it.
#[derive(Debug, Clone)]
pub(super) struct Watch(pub(super) Vec<RunDocument>, pub(super) Then);

/// What comes after the documents.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    /// The stream ends.
    End,
    /// The stream breaks.
    Break,
    /// Nothing.
    Silence,
}

impl Script {
    /// A run that is seen once as it works and once as `end`.
    pub(super) fn ending_with(end: RunDocument) -> Self {
        let watches = vec![Watch(vec![samples::run(), end.clone()], Then::End)];
        Self {
            refusal: None,
            run: end,
            watches,
        }
    }

    /// A run that goes on for ever.
    pub(super) fn endless() -> Self {
        let watches = vec![Watch(vec![samples::run()], Then::Silence)];
        Self {
            refusal: None,
            run: samples::run(),
            watches,
        }
    }

    /// A coordinator that refuses everything.
    pub(super) fn refusing(code: Code, why: &'static str) -> Self {
        Self {
            refusal: Some((code, why)),
            ..Self::endless()
        }
    }
}

/// The coordinator.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    script: Script,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(super) fn new(script: Script) -> Self {
        Self {
            script,
            asked: Arc::default(),
        }
    }

    /// Serves on a port of its own, and returns its address.
    pub(super) async fn on_port(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Server::builder().add_service(ControlServiceServer::new(self.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    /// Serves on the socket of a folder.
    pub(super) fn in_folder(&self, dir: &Path) {
        let listener = UnixListener::bind(dir.join(crate::control::CONTROL_SOCKET)).unwrap();
        let router = Server::builder().add_service(ControlServiceServer::new(self.clone()));
        tokio::spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
    }

    /// What it was asked, in order.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes the question; true for the first `nth` of its kind.
    fn note(&self, question: &str) -> usize {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(question.to_owned());
        asked.iter().filter(|earlier| *earlier == question).count()
    }

    fn answer(
        &self,
        question: &str,
        document: &impl Serialize,
    ) -> Result<Response<Document>, Status> {
        self.note(question);
        match self.script.refusal {
            Some((code, why)) => Err(Status::new(code, why)),
            None => Ok(Response::new(to_document(document))),
        }
    }
}

fn to_document(document: &impl Serialize) -> Document {
    let json = serde_json::to_value(document).unwrap();
    let schema = json["schema"].as_str().unwrap().to_owned();
    Document {
        schema,
        json: json.to_string().into_bytes(),
    }
}

#[tonic::async_trait]
impl ControlService for Scripted {
    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<Document, Status>> + Send>>;

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let request = request.into_inner();
        self.note(&format!(
            "submit plan_only={} fresh={}",
            request.plan_only, request.fresh
        ));
        match self.script.refusal {
            Some((code, why)) => Err(Status::new(code, why)),
            None => Ok(Response::new(SubmitResponse {
                run: samples::RUN.as_bytes().to_vec(),
                attached: false,
            })),
        }
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<Document>, Status> {
        self.answer(
            &format!("get {}", request.into_inner().run),
            &self.script.run,
        )
    }

    async fn get_plan(&self, _: Request<GetPlanRequest>) -> Result<Response<Document>, Status> {
        self.answer("plan", &samples::plan())
    }

    async fn watch_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let time = self.note(&format!("watch {}", request.into_inner().run));
        let watches = &self.script.watches;
        let Watch(documents, then) = watches[time.min(watches.len()) - 1].clone();
        let documents = tokio_stream::iter(documents.into_iter().map(|run| Ok(to_document(&run))));
        let stream: Self::WatchRunStream = match then {
            Then::End => Box::pin(documents),
            Then::Break => Box::pin(documents.chain(tokio_stream::once(Err(Status::unavailable(
                "the leader has resigned",
            ))))),
            Then::Silence => Box::pin(documents.chain(tokio_stream::pending())),
        };
        Ok(Response::new(stream))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<Document>, Status> {
        self.answer(
            &format!("list {}", request.into_inner().limit),
            &samples::runs(),
        )
    }

    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        self.answer(
            &format!("retry {} step={}", request.run, request.step),
            &samples::run(),
        )
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        self.answer(
            &format!("cancel {} because {}", request.run, request.reason),
            &samples::cancelled(),
        )
    }

    async fn control(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<Document>, Status> {
        let operator = request.metadata().get(OPERATOR_METADATA).cloned();
        let request = request.into_inner();
        let control = String::from_utf8_lossy(&request.control);
        self.answer(
            &format!("{operator:?} {control} because {}", request.reason),
            &samples::run(),
        )
    }

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<Document>, Status> {
        self.answer(
            &format!("audit {}", request.into_inner().limit),
            &samples::audit(),
        )
    }

    async fn get_cluster(
        &self,
        _: Request<GetClusterRequest>,
    ) -> Result<Response<Document>, Status> {
        self.answer("cluster", &samples::cluster())
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        self.answer(
            &format!("tasks {} state={}", request.run, request.state),
            &samples::tasks(),
        )
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<Document>, Status> {
        self.answer(
            &format!("events after {}", request.into_inner().after),
            &samples::events(),
        )
    }

    async fn set_worker(
        &self,
        request: Request<SetWorkerRequest>,
    ) -> Result<Response<Document>, Status> {
        let request = request.into_inner();
        self.answer(
            &format!("{:?} {}", request.action(), request.worker),
            &samples::cluster(),
        )
    }

    async fn set_schedule(
        &self,
        _: Request<SetScheduleRequest>,
    ) -> Result<Response<Document>, Status> {
        Err(Status::unimplemented("of an earlier version"))
    }

    async fn control_schedule(
        &self,
        _: Request<ControlScheduleRequest>,
    ) -> Result<Response<Document>, Status> {
        Err(Status::unimplemented("of an earlier version"))
    }

    async fn list_schedules(
        &self,
        _: Request<ListSchedulesRequest>,
    ) -> Result<Response<Document>, Status> {
        Err(Status::unimplemented("of an earlier version"))
    }
}
