//! `TaskService`.

use std::pin::Pin;
use std::sync::Arc;

use dtask_proto::v1;
use dtask_proto::v1::task_service_server::TaskService;
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::api::Fault;
use crate::serve::calls::{Call, Calls};

/// Batches of one `SubmitStream` that are under way at once: enough to keep the log busy while
/// answers travel, few enough that one loader cannot fill the inbox.
const STREAM_BATCHES_MAX: usize = 32;

/// `TaskService` over a node's calls.
#[derive(Clone)]
pub struct TaskEdge(pub Arc<Calls>);

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, Fault>) -> Answer<T> {
    result.map(Response::new).map_err(Fault::into_status)
}

#[tonic::async_trait]
impl TaskService for TaskEdge {
    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Answer<v1::SubmitTaskResponse> {
        let call = Call::from(request.metadata());
        answer(self.0.submit_task(call, request.into_inner()).await)
    }

    async fn submit_tasks(
        &self,
        request: Request<v1::SubmitTasksRequest>,
    ) -> Answer<v1::SubmitTasksResponse> {
        let call = Call::from(request.metadata());
        answer(self.0.submit_tasks(call, request.into_inner()).await)
    }

    type SubmitStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::SubmitTasksResponse, Status>> + Send>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<v1::SubmitTasksRequest>>,
    ) -> Answer<Self::SubmitStreamStream> {
        let call = Call::from(request.metadata());
        let calls = self.0.clone();
        let answers = request.into_inner().map(move |batch| {
            let calls = calls.clone();
            async move { calls.submit_tasks(call, batch?).await.map_err(Fault::into_status) }
        });
        Ok(Response::new(Box::pin(answers.buffered(STREAM_BATCHES_MAX))))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::Task> {
        answer(self.0.task(request.into_inner()).await)
    }

    async fn get_status(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        answer(self.0.task_status(request.into_inner()).await)
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Answer<v1::ListTasksResponse> {
        answer(self.0.tasks(request.into_inner()).await)
    }

    async fn cancel_task(&self, request: Request<v1::CancelTaskRequest>) -> Answer<v1::Task> {
        let call = Call::from(request.metadata());
        answer(self.0.cancel_task(call, request.into_inner()).await)
    }

    async fn trigger_task(&self, request: Request<v1::TriggerTaskRequest>) -> Answer<v1::Task> {
        let call = Call::from(request.metadata());
        answer(self.0.trigger_task(call, request.into_inner()).await)
    }

    async fn retry_task(&self, request: Request<v1::RetryTaskRequest>) -> Answer<v1::Task> {
        let call = Call::from(request.metadata());
        answer(self.0.retry_task(call, request.into_inner()).await)
    }

    async fn delete_task(&self, request: Request<v1::DeleteTaskRequest>) -> Answer<v1::Task> {
        let call = Call::from(request.metadata());
        answer(self.0.delete_task(call, request.into_inner()).await)
    }

    async fn wait_task(
        &self,
        request: Request<v1::WaitTaskRequest>,
    ) -> Answer<v1::WaitTaskResponse> {
        let call = Call::from(request.metadata());
        answer(self.0.wait_task(call, request.into_inner()).await)
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Answer<v1::ListRunsResponse> {
        answer(self.0.runs(request.into_inner()).await)
    }

    async fn list_executions(
        &self,
        request: Request<v1::ListExecutionsRequest>,
    ) -> Answer<v1::ListExecutionsResponse> {
        answer(self.0.executions(request.into_inner()).await)
    }

    async fn get_execution(
        &self,
        request: Request<v1::GetExecutionRequest>,
    ) -> Answer<v1::Execution> {
        answer(self.0.execution(request.into_inner()).await)
    }

    type StreamLogsStream = Pin<Box<dyn Stream<Item = Result<v1::LogChunk, Status>> + Send>>;

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Answer<Self::StreamLogsStream> {
        let call = Call::from(request.metadata());
        let reader = self.0.logs(call, request.into_inner()).await.map_err(Fault::into_status)?;
        let chunks = stream::unfold(reader, |mut reader| async move {
            let chunk = reader.next().await?;
            Some((chunk.map_err(Fault::into_status), reader))
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
