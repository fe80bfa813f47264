//! What a node answers over HTTP, refusals too.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::cluster::Cluster;

/// An answer of whatever status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its JSON; null when it is none.
    pub body: Value,
    /// It says when to come again.
    pub again: bool,
}

/// `GET path` at node `id`.
pub fn get(cluster: &Cluster, id: usize, path: &str) -> Result<Answer> {
    read(agent().get(url(cluster, id, path)).call()?)
}

/// `POST path` at node `id`.
pub fn post(cluster: &Cluster, id: usize, path: &str, body: &Value) -> Result<Answer> {
    read(agent().post(url(cluster, id, path)).send_json(body)?)
}

fn url(cluster: &Cluster, id: usize, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", cluster.http_port(id))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build()
        .into()
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let again = answer.headers().contains_key("retry-after");
    let status = answer.status().as_u16();
    Ok(Answer { status, body: answer.body_mut().read_json().unwrap_or_default(), again })
}
