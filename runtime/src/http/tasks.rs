//! `/v1/tasks`: submit, look, list, act, wait.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use dtask_core::limits;
use dtask_proto::v1;
use serde_json::{Value, json};

use super::Surface;
use super::edge::{Answer, Problem, answer, answer_with};
use super::input::{self, Pairs, Sending};
use crate::api::Fault;
use crate::serve::calls::{Call, ID_MAX, REQUEST_ID_OF_BATCH_MAX};

/// A body with one task: its payload as JSON text, escaped at worst sixfold.
const TASK_BODY_MAX: usize = limits::MESSAGE_BYTES_MAX;
/// A body that only acts on a task.
const ACT_BODY_MAX: usize = 64 << 10;

pub(super) async fn submit(
    State(surface): State<Surface>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let task: v1::TaskSpec = input::message(body, TASK_BODY_MAX).await?;
    let mut request = v1::SubmitTaskRequest { task: Some(task), ..Default::default() };
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    let calls = &surface.calls;
    let accepted = calls.submit_task(Call::default(), request).await.map_err(Problem)?;
    let status = if accepted.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/v1/tasks/{}", accepted.id);
    let look = v1::GetTaskRequest { id: accepted.id.clone(), stale: false };
    // Accepted is accepted: when the task cannot be read at once, what is known of it is the answer.
    let task = calls.task(look).await.unwrap_or_else(|_| v1::Task {
        id: accepted.id,
        status: accepted.status,
        created_at: accepted.created_at,
        next_run_at: accepted.next_run_at,
        ..v1::Task::default()
    });
    let mut response = answer_with(status, &task)?;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn submit_batch(
    State(surface): State<Surface>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let mut request: v1::SubmitTasksRequest = input::message(body, limits::BATCH_BYTES_MAX).await?;
    let sending = Sending::read(&headers, REQUEST_ID_OF_BATCH_MAX)?;
    sending.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.submit_tasks(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn list(State(surface): State<Surface>, pairs: Pairs) -> Answer {
    let request: v1::ListTasksRequest = input::query(&pairs, &[])?;
    answer(&surface.calls.tasks(request).await.map_err(Problem)?)
}

pub(super) async fn look(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::GetTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    answer(&surface.calls.task(request).await.map_err(Problem)?)
}

pub(super) async fn status(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::GetTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    answer(&surface.calls.task_status(request).await.map_err(Problem)?)
}

pub(super) async fn delete(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::DeleteTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    answer(&surface.calls.delete_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn cancel(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    nothing_but(body, &[]).await?;
    let mut request: v1::CancelTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.cancel_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn cancel_run(
    State(surface): State<Surface>,
    Path((id, run)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    nothing_but(body, &[]).await?;
    let run = Some(run_number(&run)?);
    let mut request = v1::CancelTaskRequest { id, run, ..Default::default() };
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.cancel_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn trigger(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    nothing_but(body, &[]).await?;
    let mut request = v1::TriggerTaskRequest { id, ..Default::default() };
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.trigger_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn retry(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    nothing_but(body, &[]).await?;
    let mut request: v1::RetryTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.retry_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn retry_run(
    State(surface): State<Surface>,
    Path((id, run)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    nothing_but(body, &[]).await?;
    let run = Some(run_number(&run)?);
    let mut request = v1::RetryTaskRequest { id, run, ..Default::default() };
    Sending::read(&headers, ID_MAX)?.mark(&mut request.request_id, &mut request.retry);
    answer(&surface.calls.retry_task(Call::default(), request).await.map_err(Problem)?)
}

pub(super) async fn wait(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::WaitTaskRequest = input::query(&pairs, &[("id", id.into())])?;
    answer(&surface.calls.wait_task(Call::default(), request).await.map_err(Problem)?)
}

/// A run's number in a path.
pub(super) fn run_number(text: &str) -> Result<u32, Fault> {
    text.parse().map_err(|_| Fault::not_found("run", text))
}

/// A body that acts says nothing yet: an empty one or an empty object.
async fn nothing_but(body: Body, known: &[&str]) -> Result<(), Fault> {
    let value: Value = input::message(body, ACT_BODY_MAX).await?;
    let unknown =
        value.as_object().and_then(|map| map.keys().find(|k| !known.contains(&k.as_str())));
    match unknown {
        Some(key) => Err(Fault::invalid(key, "no such field", "this call takes no body")),
        None if value.is_object() || value == json!(null) => Ok(()),
        None => Err(Fault::invalid("body", "is not an object", "this call takes no body")),
    }
}
