//! What every answer has: the node's headers, a request id, and refusals as
//! `application/problem+json` (RFC 9457).

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::Code;

use super::Surface;
use crate::api::{Fault, json};

/// The longest request id that is taken over from a caller.
const REQUEST_ID_MAX: usize = 128;

/// A refused request. It becomes a body in [`dress`], which knows the request's id.
#[derive(Clone, Debug)]
pub(super) struct Problem(pub(super) Fault);

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.0.http_status();
        let mut response = StatusCode::from_u16(status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a route answers.
pub(super) type Answer = Result<Response, Problem>;

/// A message as JSON.
pub(super) fn answer(message: &impl Serialize) -> Answer {
    answer_with(StatusCode::OK, message)
}

/// A message as JSON under another status.
pub(super) fn answer_with(status: StatusCode, message: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(message)
        .map_err(|error| Fault::internal(format!("the answer cannot be written: {error}")))?;
    Ok((status, [(CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem(Fault::new(Code::NotFound, "NOT_FOUND", detail))
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> Response {
    let detail = format!("{} does not take {method}", uri.path());
    let problem = Problem(Fault::new(Code::Unimplemented, "METHOD_NOT_ALLOWED", detail));
    let mut response = problem.into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// Puts the node's headers on every answer and renders refusals.
pub(super) async fn dress(
    State(surface): State<Surface>,
    request: Request,
    next: Next,
) -> Response {
    let request_id = request_id(request.headers());
    let mut response = next.run(request).await;
    if let Some(Problem(fault)) = response.extensions_mut().remove::<Problem>() {
        render(&mut response, &fault, &request_id);
    }
    let status = surface.calls.status();
    let leader = status.leader().map_or_else(String::new, |id| id.to_string());
    let headers = response.headers_mut();
    for (name, value) in [
        ("dtask-node", status.id.to_string()),
        ("dtask-leader", leader),
        ("dtask-applied-index", status.applied().to_string()),
        ("x-request-id", request_id),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn render(response: &mut Response, fault: &Fault, request_id: &str) {
    let mut problem = json::problem(fault, request_id);
    problem["status"] = response.status().as_u16().into();
    *response.body_mut() = problem.to_string().into();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.remove(axum::http::header::CONTENT_LENGTH);
    if let Some(millis) = fault.0.retry_after {
        // Whole seconds, and never "at once".
        let seconds = u64::try_from(millis).unwrap_or(0).div_ceil(1_000).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// The caller's own id, or a fresh one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_MAX => id.to_owned(),
        _ => crate::serve::calls::fresh_id(),
    }
}
