//! Acting on one task: cancel, trigger, retry, delete.
//!
//! What has ended and left memory is acted on as history tells it (P8.5): the node says that it
//! does not hold the task, its row is read, and the node is asked again with the row.

use dtask_core::id::RunNumber;
use dtask_core::leader::calls::is_terminal;
use dtask_core::node::{Reply, Request, StoredTask};
use dtask_core::spec::draft::check_id;
use dtask_core::state::Wish;
use dtask_core::state::view::TaskView;
use dtask_proto::v1;
use tonic::Code;

use super::forward::{Kind, Tasks, marked};
use super::look::LEVEL_MAX;
use super::{Call, Calls, No, odd};
use crate::api::spec::wrong_fields;
use crate::api::{Fault, views};

/// How often history is read for one call: each time others may have acted on the task meanwhile.
const LOOKS_MAX: u32 = 3;

/// What became of a write.
enum Done {
    Here(Box<v1::Task>),
    AskLeader(Box<str>),
}

impl Calls {
    /// Ends a task, or one run of it.
    pub async fn cancel_task(
        &self,
        call: Call,
        request: v1::CancelTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let run = request.run.map(RunNumber);
        let asked = self.request_id(&request.request_id)?;
        let (id, retry) = (request.id.as_str().into(), request.retry);
        let question = Request::Cancel { id, run, request: asked, retry };
        match self.cancel(call, &request, question).await? {
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
        let asked = (&*request.request_id, request.retry);
        match self.rerun(call, &request.id, Wish::Trigger, asked).await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let trigger =
                    |mut client: Tasks| async move { client.trigger_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, trigger).await
            }
        }
    }

    /// Adds a run now that repeats one that has ended.
    pub async fn retry_task(
        &self,
        call: Call,
        request: v1::RetryTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let wish = request.run.map_or(Wish::RetryLatest, |run| Wish::Retry(RunNumber(run)));
        let asked = (&*request.request_id, request.retry);
        match self.rerun(call, &request.id, wish, asked).await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let retry =
                    |mut client: Tasks| async move { client.retry_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, retry).await
            }
        }
    }

    /// Removes a task.
    pub async fn delete_task(
        &self,
        call: Call,
        request: v1::DeleteTaskRequest,
    ) -> Result<v1::Task, Fault> {
        let (id, cancel) = (&*request.id, request.cancel);
        let question = |past| Request::Delete { id: id.into(), cancel, past };
        match self.act(call, id, question).await? {
            Done::Here(task) => Ok(*task),
            Done::AskLeader(address) => {
                let delete =
                    |mut client: Tasks| async move { client.delete_task(marked(request)).await };
                self.leaders.call(&address, Kind::Write, delete).await
            }
        }
    }

    async fn rerun(
        &self,
        call: Call,
        id: &str,
        wish: Wish,
        (request_id, retry): (&str, bool),
    ) -> Result<Done, Fault> {
        let request = self.request_id(request_id)?;
        let question =
            |past| Request::Trigger { id: id.into(), wish, request: request.clone(), retry, past };
        self.act(call, id, question).await
    }

    /// A caller's request id, if there is one.
    fn request_id(&self, request_id: &str) -> Result<Option<Box<str>>, Fault> {
        if request_id.is_empty() {
            return Ok(None);
        }
        check_id("request_id", request_id).map_err(|wrong| self.refused(wrong_fields(&[wrong])))?;
        Ok(Some(request_id.into()))
    }

    /// Asks, and when the task has left memory asks again with what history tells (P8.5).
    async fn act(
        &self,
        call: Call,
        id: &str,
        question: impl Fn(Option<Box<StoredTask>>) -> Request,
    ) -> Result<Done, Fault> {
        let mut past = None;
        for _ in 0..=LOOKS_MAX {
            let (stored, as_of) = match self.put(call, question(past.take())).await {
                Ok(Reply::Task(view)) => return Ok(Done::Here(Box::new(views::task(*view)))),
                Ok(Reply::Repeated { stored }) => return self.repeated(id, stored).await,
                Ok(Reply::NotLive { stored, ended }) => (stored, ended),
                Ok(reply) => return Err(odd(&reply)),
                Err(No::AskLeader(address)) => return Ok(Done::AskLeader(address)),
                Err(No::Refused(fault)) => return Err(self.refused(fault)),
            };
            let row = self.ended_row(id, stored).await.map_err(|fault| self.refused(fault))?;
            let (view, before_gap) = row;
            past = Some(Box::new(StoredTask { view, as_of, before_gap }));
        }
        let detail = "others kept acting on the task; nothing was done, try again";
        let busy = Fault::new(Code::Unavailable, "UNAVAILABLE", detail).retry_after_ms(100);
        Err(self.refused(busy))
    }

    /// The row of a task that has ended and left memory with change `stored` at the latest, and
    /// whether history names a gap behind it.
    async fn ended_row(&self, id: &str, stored: u64) -> Result<(TaskView, bool), Fault> {
        self.level_with(stored).await?;
        let view = self.stored(id).await?;
        if !is_terminal(view.status) {
            return Err(Fault::history_unavailable());
        }
        // It may have been restored just before that look, and its gap not have been named yet.
        self.level_with(stored).await?;
        let before_gap = match &self.history {
            Some(history) => history.is_before_gap(id).await.map_err(|away| self.away(&away))?,
            None => false,
        };
        Ok((view, before_gap))
    }

    /// P8.6: a database that is away, or that was restored from an older backup and has not come
    /// level, proves nothing.
    async fn level_with(&self, stored: u64) -> Result<(), Fault> {
        match &self.history {
            Some(history) if !history.covers(stored, LEVEL_MAX).await => {
                Err(Fault::history_unavailable())
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn cancel(
        &self,
        call: Call,
        request: &v1::CancelTaskRequest,
        question: Request,
    ) -> Result<Done, Fault> {
        let fault = match self.put(call, question).await {
            Ok(Reply::Task(view)) => return Ok(Done::Here(Box::new(views::task(*view)))),
            Ok(Reply::Repeated { stored }) => return self.repeated(&request.id, stored).await,
            Ok(Reply::NotLive { .. }) => self.not_live(&request.id).await,
            Ok(reply) => return Err(odd(&reply)),
            Err(No::AskLeader(address)) => return Ok(Done::AskLeader(address)),
            // The node knows what is in memory; whether the id once was a task history knows.
            Err(No::Refused(fault)) if fault.code() == Code::NotFound => {
                self.not_live(&request.id).await
            }
            Err(No::Refused(fault)) => fault,
        };
        let before = self.cancelled_before(request, fault).await;
        before.map(|task| Done::Here(Box::new(task))).map_err(|fault| self.refused(fault))
    }

    /// A request that was answered before is answered once more, with the task as it ended (P8.3).
    async fn repeated(&self, id: &str, stored: u64) -> Result<Done, Fault> {
        let row = async {
            self.level_with(stored).await?;
            self.stored(id).await
        };
        let view = row.await.map_err(|fault| self.refused(fault))?;
        Ok(Done::Here(Box::new(views::task(view))))
    }

    /// Why nothing can be cancelled that is not in memory.
    async fn not_live(&self, id: &str) -> Fault {
        match self.stored(id).await {
            Ok(TaskView { status, .. }) => Fault::new(
                Code::FailedPrecondition,
                "TERMINAL",
                format!("the task has already ended: {}", views::status_word(status)),
            ),
            Err(fault) => fault,
        }
    }
}
