//! Acting on one task: cancel, trigger, delete.

use dtask_core::id::RunNumber;
use dtask_core::node::{Reply, Request};
use dtask_core::state::view::TaskView;
use dtask_proto::v1;
use tonic::Code;

use super::forward::{Kind, Tasks, marked};
use super::{Call, Calls, No, odd};
use crate::api::{Fault, views};

/// What became of a write.
enum Done {
    Here(Box<v1::Task>),
    AskLeader(Box<str>),
}

/// S13: what has ended stays ended.
const NO_TRIGGER: &str = "; submit it under another id to run it again";
/// What has left memory is history, and its rows are for readers.
const NO_DELETE: &str = "; its rows stay in history";

impl Calls {
    /// Ends a task, or one run of it.
    pub async fn cancel_task(
        &self,
        call: Call,
        request: v1::CancelTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let run = request.run.map(RunNumber);
        let question = Request::Cancel { id: request.id.as_str().into(), run };
        match self.act(call, &request.id, question, "").await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let cancel =
                    |mut client: Tasks| async move { client.cancel_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, cancel).await
            }
        }
    }

    /// Adds a run now.
    pub async fn trigger_task(
        &self,
        call: Call,
        request: v1::TriggerTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let question = Request::Trigger { id: request.id.as_str().into() };
        match self.act(call, &request.id, question, NO_TRIGGER).await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let trigger =
                    |mut client: Tasks| async move { client.trigger_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, trigger).await
            }
        }
    }

    /// Removes a task.
    pub async fn delete_task(
        &self,
        call: Call,
        request: v1::DeleteTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let question = Request::Delete { id: request.id.as_str().into(), cancel: request.cancel };
        match self.act(call, &request.id, question, NO_DELETE).await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let delete =
                    |mut client: Tasks| async move { client.delete_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, delete).await
            }
        }
    }

    /// `remedy` is what the caller of an ended task can do instead.
    async fn act(
        &self,
        call: Call,
        id: &str,
        question: Request,
        remedy: &str,
    ) -> Result<Done, Fault> {
        match self.put(call, question).await {
            Ok(Reply::Task(view)) => Ok(Done::Here(Box::new(views::task(*view)))),
            Ok(Reply::NotLive { .. }) => Err(self.refused(self.not_live(id, remedy).await)),
            Ok(reply) => Err(odd(&reply)),
            Err(No::AskLeader(address)) => Ok(Done::AskLeader(address)),
            // The node knows what is in memory; whether the id once was a task history knows.
            Err(No::Refused(fault)) if fault.code() == Code::NotFound => {
                Err(self.refused(self.not_live(id, remedy).await))
            }
            Err(No::Refused(fault)) => Err(self.refused(fault)),
        }
    }

    /// Why nothing can be done to a task that is not in memory.
    async fn not_live(&self, id: &str, remedy: &str) -> Fault {
        match self.stored(id).await {
            Ok(TaskView { status, .. }) => Fault::new(
                Code::FailedPrecondition,
                "TERMINAL",
                format!("the task has already ended: {}{remedy}", views::status_word(status)),
            ),
            Err(fault) => fault,
        }
    }
}
