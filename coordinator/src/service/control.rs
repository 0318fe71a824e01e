//! The service that the command line speaks to.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use highwater_common::controls::Control;
use highwater_common::document::{ClusterDocument, EventsDocument, RunDocument, RunsDocument};
use highwater_common::id::{DocumentDigest, RunId};
use highwater_common::saved_plan::SAVED_PLAN;
use highwater_common::status::RunStatus;
use highwater_common::task::TaskState;
use highwater_proto::convert::FieldError;
use highwater_proto::convert::records::errand_from;
use highwater_proto::v1 as pb;
use highwater_proto::v1::control_service_server::ControlService;
use tonic::{Request, Response, Status};

use crate::coordinator::CoordinatorHandle;
use crate::engine::{Chosen, cluster_document, plan_document, run_summary, tasks_document};
use crate::error::ServiceError;
use crate::leader::{Request as Ask, Submission, Verdict};

use super::documents::{document_of, encode};
use super::errands::{check_errand, permit_submission};
use super::finding::{check_selection, find_run, find_to_act, read_step};
use super::gate::Permit;
use super::limits::Watches;
use super::operator::{audit, operator, selections, word};
use super::relay;
use super::saved_plans::{saved_plan, to_save};
use super::schedules;
use super::submissions::spec_of;
use super::watching::Board;
use super::workers;

/// Tasks that one listing holds at the most.
const TASKS_MAX: usize = 500;
/// Runs that one listing holds at the most.
const RUNS_MAX: usize = 200;

/// The service that the command line speaks to.
#[derive(Debug)]
pub struct ControlApi {
    handle: CoordinatorHandle,
    board: Board,
    watches: Watches,
}

impl ControlApi {
    pub(super) fn new(handle: CoordinatorHandle) -> Self {
        Self {
            board: Board::of(handle.clone()),
            handle,
            watches: Watches::default(),
        }
    }

    async fn find(&self, text: String) -> Result<RunId, ServiceError> {
        self.handle
            .look(move |leader| find_run(leader, &text))
            .await
    }

    async fn document(&self, id: RunId) -> Result<RunDocument, ServiceError> {
        document_of(&self.handle, id).await
    }
}

#[tonic::async_trait]
impl ControlService for ControlApi {
    type WatchRunStream = Pin<Box<dyn Stream<Item = Result<pb::Document, Status>> + Send>>;

    async fn submit(
        &self,
        request: Request<pb::SubmitRequest>,
    ) -> Result<Response<pb::SubmitResponse>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.submit(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let by = operator(request.metadata(), request.extensions());
        let trace = highwater_net::trace::of_call(request.extensions());
        let permit = Permit::of(request.extensions());
        let request = request.into_inner();
        let spec = spec_of(&self.handle, &request.spec, &request.base_dir)?;
        if request.adopt && !request.plan_only {
            return Err(ServiceError::from(FieldError::new(
                "adopt",
                "it goes together with plan_only",
            ))
            .into());
        }
        let errand = errand_from(&request.errand).map_err(ServiceError::from)?;
        if let Some(errand) = &errand {
            check_errand(errand, request.plan_only, &spec)?;
        }
        permit_submission(&permit, request.adopt, errand.as_ref(), &spec.name)?;
        let saved = saved_plan(&request.saved_plan, request.plan_only, &spec)?;
        let is_of_all = request.adopt || errand.is_some() || saved.is_some();
        check_selection(&request.selection, is_of_all, &spec)?;
        let canonical = spec.canonical_json();
        let submission = Submission {
            digest: DocumentDigest::of(&canonical),
            canonical,
            spec: Arc::new(spec),
            base_dir: request.base_dir,
            plan_only: request.plan_only,
            fresh: request.fresh,
            adopts: request.adopt,
            errand,
            saved,
            selected: request.selection,
            by,
            trace,
        };
        let (run, attached) = self
            .handle
            .ask(|reply| Ask::Submit { submission, reply })
            .await?;
        Ok(Response::new(pb::SubmitResponse {
            run: run.as_bytes().to_vec(),
            attached,
        }))
    }

    async fn get_run(
        &self,
        request: Request<pb::GetRunRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.get_run(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let id = self.find(request.into_inner().run).await?;
        encode("run/v1", &self.document(id).await?).map(Response::new)
    }

    async fn get_plan(
        &self,
        request: Request<pb::GetPlanRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.get_plan(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let request = request.into_inner();
        let id = self.find(request.run).await?;
        if request.to_save {
            let saved = self.handle.look(move |leader| to_save(leader, id)).await?;
            return encode(SAVED_PLAN, &saved).map(Response::new);
        }
        let plan = self
            .handle
            .look(move |leader| {
                let run = leader
                    .cluster()
                    .runs
                    .get(&id)
                    .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
                let short = leader.short_of(&id);
                plan_document(leader.cluster().id, run, short.clone())
                    .ok_or(ServiceError::NeverPlanned { run: short })
            })
            .await?;
        encode("plan/v1", &plan).map(Response::new)
    }

    async fn watch_run(
        &self,
        request: Request<pb::GetRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let seat = self.watches.seat()?;
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let stream = leader
                .watch_run(relay::passed_on(request))
                .await
                .map_err(relay::passed_back)?
                .into_inner();
            return Ok(Response::new(Box::pin(stream.map(move |document| {
                let _held = &seat;
                document.map_err(relay::passed_back)
            }))));
        }
        let id = self.find(request.into_inner().run).await?;
        let stream = self.board.watch(id);
        Ok(Response::new(Box::pin(stream.map(move |document| {
            let _held = &seat;
            document
        }))))
    }

    async fn list_runs(
        &self,
        request: Request<pb::ListRunsRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.list_runs(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let request = request.into_inner();
        let limit = usize::try_from(request.limit)
            .unwrap_or(RUNS_MAX)
            .clamp(1, RUNS_MAX);
        let runs = self
            .handle
            .look(move |leader| {
                let wanted = leader.cluster().newest_first().into_iter();
                let wanted = wanted
                    .filter(|run| {
                        request.pipeline.is_empty()
                            || run.record.pipeline.as_str() == request.pipeline
                    })
                    .take(limit);
                let runs =
                    wanted.map(|run| run_summary(leader.cluster(), run, leader.short_of(&run.id)));
                Ok(RunsDocument {
                    schema: "runs/v1".to_owned(),
                    runs: runs.collect(),
                })
            })
            .await?;
        encode("runs/v1", &runs).map(Response::new)
    }

    async fn retry(
        &self,
        request: Request<pb::RetryRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.retry(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let word = word(&request, request.get_ref().reason.clone());
        let permit = Permit::of(request.extensions());
        let request = request.into_inner();
        let run = find_to_act(&self.handle, request.run, &permit, "Retry").await?;
        let selections = selections(&request.step).map_err(ServiceError::from)?;
        let verdict = match (request.applied, request.accept) {
            (Some(true), _) => Some(Verdict::Applied),
            (Some(false), _) => Some(Verdict::NotApplied),
            (None, true) => Some(Verdict::Accepted),
            (None, false) => None,
        };
        self.handle
            .ask(|reply| Ask::Retry {
                run,
                selections,
                verdict,
                word,
                reply,
            })
            .await?;
        encode("run/v1", &self.document(run).await?).map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.cancel(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let word = word(&request, request.get_ref().reason.clone());
        let permit = Permit::of(request.extensions());
        let run = request.into_inner().run;
        let run = find_to_act(&self.handle, run, &permit, "Cancel").await?;
        let mut version = self.handle.version();
        self.handle
            .ask(|reply| Ask::Cancel { run, word, reply })
            .await?;
        loop {
            let document = self.document(run).await?;
            if document.status == RunStatus::Cancelled {
                return encode("run/v1", &document).map(Response::new);
            }
            if version.changed().await.is_err() {
                return Err(ServiceError::BetweenTerms.into());
            }
        }
    }

    async fn control(
        &self,
        request: Request<pb::ControlRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.control(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let word = word(&request, request.get_ref().reason.clone());
        let permit = Permit::of(request.extensions());
        let request = request.into_inner();
        let run = find_to_act(&self.handle, request.run, &permit, "Control").await?;
        let control = Control::from_json(&request.control)
            .map_err(|why| ServiceError::from(FieldError::new("control", why)))?;
        self.handle
            .ask(|reply| Ask::Control {
                run,
                control,
                word,
                reply,
            })
            .await?;
        encode("run/v1", &self.document(run).await?).map(Response::new)
    }

    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.list_audit(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let request = request.into_inner();
        let run = match request.run.as_str() {
            "" => None,
            _ => Some(self.find(request.run).await?),
        };
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX).max(1);
        let audit = audit(self.handle.store(), run, limit).await?;
        encode("audit/v1", &audit).map(Response::new)
    }

    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.get_cluster(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let store = self.handle.store();
        let bytes = store
            .size_bytes()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (place, address) = (store.place(), self.handle.options().address.clone());
        let document = self
            .handle
            .look(move |leader| {
                let (now, _) = leader.now();
                let (term, hi) = leader.term();
                let term = if term.is_empty() {
                    String::new()
                } else {
                    DocumentDigest::of(term).short()
                };
                let document =
                    cluster_document(leader.cluster(), now, term, hi, address, place, bytes);
                Ok(ClusterDocument {
                    trouble: leader.trouble().unwrap_or_default().to_owned(),
                    ..document
                })
            })
            .await?;
        encode("cluster/v1", &document).map(Response::new)
    }

    async fn list_tasks(
        &self,
        request: Request<pb::ListTasksRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.list_tasks(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let request = request.into_inner();
        let id = self.find(request.run).await?;
        let selections = selections(&request.step).map_err(ServiceError::from)?;
        let state = match request.state.as_str() {
            "" => None,
            word => Some(
                TaskState::ALL
                    .into_iter()
                    .find(|state| state.as_str() == word)
                    .ok_or_else(|| {
                        Status::invalid_argument(format!("`{word}` is no state of a task"))
                    })?,
            ),
        };
        let limit = match usize::try_from(request.limit).unwrap_or(TASKS_MAX) {
            0 => TASKS_MAX,
            limit => limit.min(TASKS_MAX),
        };
        let tasks = self
            .handle
            .look(move |leader| {
                let run = leader
                    .cluster()
                    .runs
                    .get(&id)
                    .ok_or_else(|| ServiceError::UnknownRun(id.to_string()))?;
                let chosen = Chosen::of(run, &selections)?;
                Ok(tasks_document(
                    run,
                    leader.short_of(&id),
                    &chosen,
                    state,
                    limit,
                ))
            })
            .await?;
        encode("tasks/v1", &tasks).map(Response::new)
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.list_events(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        let request = request.into_inner();
        let run = self.find(request.run).await?;
        let (step, after) = (read_step(&request.step)?, request.after);
        let events = self
            .handle
            .look(move |leader| Ok(leader.events(&run, step.as_ref(), after)))
            .await?;
        encode(
            "events/v1",
            &EventsDocument {
                schema: "events/v1".to_owned(),
                run,
                events,
            },
        )
        .map(Response::new)
    }

    async fn set_worker(
        &self,
        request: Request<pb::SetWorkerRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.set_worker(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        // The answer is asked for by the same caller: somebody else may lead by then.
        let (metadata, extensions) = (request.metadata().clone(), request.extensions().clone());
        workers::set(&self.handle, request).await?;
        let ask = Request::from_parts(metadata, extensions, pb::GetClusterRequest {});
        self.get_cluster(ask).await
    }

    async fn set_schedule(
        &self,
        request: Request<pb::SetScheduleRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.set_schedule(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        schedules::set(&self.handle, request).await
    }

    async fn control_schedule(
        &self,
        request: Request<pb::ControlScheduleRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.control_schedule(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        schedules::control(&self.handle, request).await
    }

    async fn list_schedules(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Result<Response<pb::Document>, Status> {
        if let Some(mut leader) = relay::leader(&self.handle, request.metadata())? {
            let answer = leader.list_schedules(relay::passed_on(request)).await;
            return answer.map_err(relay::passed_back);
        }
        schedules::list(&self.handle, request.into_inner()).await
    }
}
