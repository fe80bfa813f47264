//! Submitting: the fast path.

use std::time::Instant;

use dtask_core::limits;
use dtask_core::node::{Accepted, Rejection, Reply, Request};
use dtask_core::spec::NewTask;
use dtask_proto::v1;
use tonic::Code;

use super::forward::{Kind, marked};
use super::key::{ID_MAX, Key, REQUEST_ID_OF_BATCH_MAX};
use super::{Call, Calls, No, odd};
use crate::api::{Fault, spec, views};

impl Calls {
    /// Accepts one task.
    pub async fn submit_task(
        &self,
        call: Call,
        mut request: v1::SubmitTaskRequest,
    ) -> Result<v1::SubmitTaskResponse, Fault> {
        let key = Key::check(&request.request_id, ID_MAX).map_err(|fault| self.refused(fault))?;
        key.name(None, request.task.get_or_insert_default());
        // Only a node that does not lead needs the message once more.
        let again = (!self.status.leads()).then(|| request.clone());
        let content = key.content(|| v1::SubmitTasksRequest {
            tasks: request.task.iter().cloned().collect(),
            ..v1::SubmitTasksRequest::default()
        });
        let (draft, retry) = (request.task.unwrap_or_default(), request.retry);
        let id = draft.id.clone();
        let task = spec::new_task(draft, fresh_id).map_err(|fault| self.refused(fault))?;
        let results = match self.claim(call, &key, content).await {
            Ok(()) => self.accept(call, vec![task], retry).await,
            Err(no) => Err(no),
        };
        match results {
            Ok(results) => match results.into_iter().next() {
                Some(Ok(accepted)) => Ok(views::accepted(id, &accepted)),
                Some(Err(rejection)) => Err(self.refused(key.refused(None, &id, rejection))),
                None => Err(Fault::internal("the node accepted nothing and refused nothing")),
            },
            Err(No::Refused(fault)) => Err(self.refused(fault)),
            Err(No::AskLeader(address)) => {
                let Some(request) = again else { return Err(self.refused(Fault::no_leader())) };
                let submit = |mut client: super::forward::Tasks| async move {
                    client.submit_task(marked(request)).await
                };
                self.leaders.call(&address, Kind::Write, submit).await
            }
        }
    }

    /// Accepts many tasks, each by itself.
    pub async fn submit_tasks(
        &self,
        call: Call,
        mut request: v1::SubmitTasksRequest,
    ) -> Result<v1::SubmitTasksResponse, Fault> {
        check_size(&request).map_err(|fault| self.refused(fault))?;
        let key = Key::check(&request.request_id, REQUEST_ID_OF_BATCH_MAX)
            .map_err(|fault| self.refused(fault))?;
        for (place, task) in request.tasks.iter_mut().enumerate() {
            key.name(Some(place), task);
        }
        let again = (!self.status.leads()).then(|| request.clone());
        let content = key.content(|| v1::SubmitTasksRequest {
            request_id: key.0.clone().unwrap_or_default(),
            tasks: request.tasks.clone(),
            retry: false,
        });
        let (tasks, results) = self.drafts(request.tasks);
        let answers = match self.claim(call, &key, content).await {
            Ok(()) => self.accept(call, tasks, request.retry).await,
            Err(no) => Err(no),
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(No::Refused(fault)) => return Err(self.refused(fault)),
            Err(No::AskLeader(address)) => {
                let Some(request) = again else { return Err(self.refused(Fault::no_leader())) };
                let submit = |mut client: super::forward::Tasks| async move {
                    client.submit_tasks(marked(request)).await
                };
                return self.leaders.call(&address, Kind::Write, submit).await;
            }
        };
        let mut answers = answers.into_iter();
        let results = results.into_iter().enumerate().map(|(place, result)| match result {
            Err(fault) => refused_one(fault),
            Ok(id) => match answers.next() {
                Some(Ok(accepted)) => accepted_one(views::accepted(id, &accepted)),
                Some(Err(rejection)) => {
                    refused_one(self.refused(key.refused(Some(place), &id, rejection)))
                }
                None => refused_one(Fault::internal("the node gave too few answers")),
            },
        });
        Ok(v1::SubmitTasksResponse { results: results.collect() })
    }

    /// The tasks of a batch that are well formed, and for each task its id or what is wrong.
    fn drafts(&self, drafts: Vec<v1::TaskSpec>) -> (Vec<NewTask>, Vec<Result<String, Fault>>) {
        let mut tasks = Vec::with_capacity(drafts.len());
        let mut results = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let id = draft.id.clone();
            match spec::new_task(draft, fresh_id) {
                Ok(task) => {
                    tasks.push(task);
                    results.push(Ok(id));
                }
                Err(fault) => results.push(Err(self.refused(fault))),
            }
        }
        (tasks, results)
    }

    /// Puts the request's id on record, if it has one, before its tasks are created (P8.3). When
    /// this node stops between the two a repeat creates them.
    async fn claim(&self, call: Call, key: &Key, content: u64) -> Result<(), No> {
        let Some(request) = key.0.as_deref() else { return Ok(()) };
        match self.put(call, Request::Claim { request: request.into(), content }).await? {
            Reply::Claimed => Ok(()),
            reply => Err(No::Refused(odd(&reply))),
        }
    }

    async fn accept(
        &self,
        call: Call,
        tasks: Vec<NewTask>,
        retry: bool,
    ) -> Result<Vec<Result<Accepted, Rejection>>, No> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let request = if retry { Request::Resubmit(tasks) } else { Request::Submit(tasks) };
        match self.put(call, request).await? {
            Reply::Submitted(results) => {
                let metrics = self.status.metrics();
                metrics.committed(began.elapsed());
                let new = results.iter().flatten().filter(|accepted| accepted.new);
                metrics.submitted(new.count() as u64);
                Ok(results)
            }
            reply => Err(No::Refused(odd(&reply))),
        }
    }

    /// Counts a refusal on its way out.
    pub(super) fn refused(&self, fault: Fault) -> Fault {
        self.status.metrics().refused(&fault.0.reason);
        fault
    }
}

/// A time-ordered name for what came without one.
#[cfg(not(madsim))]
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// In simulation, a thread each, ids are counted, so that a run can be repeated.
#[cfg(madsim)]
pub(crate) fn fresh_id() -> String {
    thread_local!(static NEXT: std::cell::Cell<u64> = const { std::cell::Cell::new(1) });
    format!("sim-{}", NEXT.replace(NEXT.get() + 1))
}

/// A batch has two bounds; what surrounds payloads is bounded by the number of tasks.
fn check_size(request: &v1::SubmitTasksRequest) -> Result<(), Fault> {
    let count = request.tasks.len();
    let bytes: usize = request.tasks.iter().map(|task| task.payload.len()).sum();
    let detail = if count > limits::BATCH_TASKS_MAX {
        format!("the batch has {count} tasks, at most {} are allowed", limits::BATCH_TASKS_MAX)
    } else if bytes > limits::BATCH_BYTES_MAX {
        let max = limits::BATCH_BYTES_MAX;
        format!("the batch's payloads have {bytes} bytes, at most {max} are allowed")
    } else {
        return Ok(());
    };
    Err(Fault::new(Code::InvalidArgument, "BATCH_TOO_LARGE", detail))
}

fn accepted_one(accepted: v1::SubmitTaskResponse) -> v1::SubmitResult {
    v1::SubmitResult { accepted: Some(accepted), error: None }
}

fn refused_one(fault: Fault) -> v1::SubmitResult {
    v1::SubmitResult { accepted: None, error: Some(fault.0) }
}
