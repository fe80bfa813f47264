//! Runs, executions and their logs.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dtask_proto::v1;
use futures_util::{Stream, stream};
use serde_json::Value;

use super::Surface;
use super::edge::{Answer, Problem, answer};
use super::input::{self, Pairs};
use super::tasks::run_number;
use crate::api::Fault;
use crate::serve::calls::{Call, LogReader};

/// A silent stream says this often that it lives, or proxies cut it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What has ended says so within this; what says nothing is running.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// A piece of a log, or why there is no further one.
type Piece = Result<v1::LogChunk, Fault>;

pub(super) async fn runs(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::ListRunsRequest = input::query(&pairs, &[("task_id", id.into())])?;
    answer(&surface.calls.runs(request).await.map_err(Problem)?)
}

pub(super) async fn run(
    State(surface): State<Surface>,
    Path((id, run)): Path<(String, String)>,
    pairs: Pairs,
) -> Answer {
    let number = run_number(&run)?;
    let request: v1::ListRunsRequest = input::query(&pairs, &[("task_id", id.into())])?;
    answer(&surface.calls.run(request, number).await.map_err(Problem)?)
}

pub(super) async fn of_task(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let request: v1::ListExecutionsRequest = input::query(&pairs, &[("task_id", id.into())])?;
    answer(&surface.calls.executions(request).await.map_err(Problem)?)
}

pub(super) async fn list(State(surface): State<Surface>, pairs: Pairs) -> Answer {
    let request: v1::ListExecutionsRequest = input::query(&pairs, &[])?;
    answer(&surface.calls.executions(request).await.map_err(Problem)?)
}

pub(super) async fn look(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    pairs: Pairs,
) -> Answer {
    let id = execution_id(&id)?;
    let request: v1::GetExecutionRequest = input::query(&pairs, &[("id", id.into())])?;
    answer(&surface.calls.execution(request).await.map_err(Problem)?)
}

pub(super) async fn logs(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Answer {
    let id = execution_id(&id)?;
    read_logs(&surface, &headers, &pairs, &[("execution_id", id.into())]).await
}

pub(super) async fn task_logs(
    State(surface): State<Surface>,
    Path(id): Path<String>,
    headers: HeaderMap,
    pairs: Pairs,
) -> Answer {
    read_logs(&surface, &headers, &pairs, &[("task_id", id.into())]).await
}

/// Plain text when the attempt has ended (or with `follow=false`), server-sent events while it
/// runs. `Last-Event-ID` resumes.
async fn read_logs(
    surface: &Surface,
    headers: &HeaderMap,
    pairs: &Pairs,
    path: &[(&str, Value)],
) -> Answer {
    let mut path = path.to_vec();
    if !pairs.0.as_deref().unwrap_or("").contains("follow") {
        path.push(("follow", true.into()));
    }
    let mut request: v1::StreamLogsRequest = input::query(pairs, &path)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if let Some(offset) = last.and_then(|id| id.parse().ok()) {
        request.offset = offset;
    }
    let mut reader = surface.calls.logs(Call::default(), request).await.map_err(Problem)?;
    let mut text = Vec::new();
    if reader.is_live() {
        // An attempt that has ended says everything at once.
        let first = tokio::time::timeout(FIRST_WORD, reader.next()).await.ok().flatten();
        match first {
            Some(Ok(chunk)) if chunk.end => text.extend_from_slice(&chunk.data),
            first => {
                let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
                let events = Sse::new(events(first, reader)).keep_alive(keep_alive);
                return Ok(events.into_response());
            }
        }
    }
    while let Some(chunk) = reader.next().await {
        text.extend_from_slice(&chunk.map_err(Problem)?.data);
    }
    Ok(plain(text))
}

fn plain(text: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// One event a piece, its id the offset that follows it; `end` closes, `error` breaks off.
fn events(
    first: Option<Piece>,
    reader: LogReader,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((first, Some(reader)), |(first, reader)| async move {
        let mut reader = reader?;
        let piece = match first {
            Some(piece) => piece,
            None => reader.next().await?,
        };
        let (event, more) = match piece {
            Ok(chunk) => {
                let next = chunk.offset + chunk.data.len() as u64;
                let event = Event::default().id(next.to_string());
                let event = if chunk.end { event.event("end") } else { event.event("output") };
                (event.json_data(&chunk).unwrap_or_default(), !chunk.end)
            }
            Err(fault) => {
                let event = Event::default().event("error");
                (event.json_data(&fault.0).unwrap_or_default(), false)
            }
        };
        Some((Ok(event), (None, more.then_some(reader))))
    })
}

fn execution_id(text: &str) -> Result<u64, Fault> {
    text.parse().map_err(|_| Fault::not_found("execution", text))
}
