//! Workers, the cluster, health and metrics.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Surface;
use super::edge::{Answer, Problem, answer};
use crate::serve::calls::Call;

/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn workers(State(surface): State<Surface>) -> Answer {
    answer(&surface.calls.workers(Call::default()).await.map_err(Problem)?)
}

pub(super) async fn cluster(State(surface): State<Surface>) -> Answer {
    answer(&surface.calls.cluster().await.map_err(Problem)?)
}

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// A leader is known, and this node is near it.
pub(super) async fn readyz(State(surface): State<Surface>) -> Answer {
    surface.calls.ready().await.map_err(Problem)?;
    Ok("ready\n".into_response())
}

pub(super) async fn metrics(State(surface): State<Surface>) -> Answer {
    let reading = surface.calls.reading().await.map_err(Problem)?;
    let page = surface.calls.status().metrics().page(reading);
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], page).into_response())
}
