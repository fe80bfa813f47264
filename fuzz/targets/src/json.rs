//! HTTP requests from arbitrary bytes: a JSON body or a query becomes a message, or a refusal that
//! names the field. What is taken is the same after it was written as JSON and read again.

use axum::extract::RawQuery;
use axum::http::{HeaderMap, HeaderValue};
use dtask_core::limits;
use dtask_core::spec::NewTask;
use dtask_core::spec::draft::check_id;
use dtask_proto::v1;
use dtask_runtime::api::json;
use dtask_runtime::http::input;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::meter;
use crate::requests::{applies, refused, submit};

/// `{},` is a task of a batch: three bytes, some five hundred as a message.
const FACTOR: usize = 2_000;

/// The first byte says what the rest is.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    let taken = meter::bounded(data.len(), FACTOR, || read(kind, body));
    taken.iter().for_each(applies);
}

/// Reads and converts; returns the tasks that were taken.
fn read(kind: u8, body: &[u8]) -> Vec<NewTask> {
    match kind % 8 {
        0 | 1 => {
            return crosses::<v1::TaskSpec>(body).and_then(submit).into_iter().collect();
        }
        2 => {
            let request = crosses::<v1::SubmitTasksRequest>(body).unwrap_or_default();
            return request.tasks.into_iter().filter_map(submit).collect();
        }
        3 => {
            crosses::<v1::ListTasksRequest>(body);
        }
        4 => query::<v1::ListTasksRequest>(body),
        5 => query::<v1::ListExecutionsRequest>(body),
        6 => query::<v1::WaitTaskRequest>(body),
        _ => key(body),
    }
    Vec::new()
}

fn crosses<T>(body: &[u8]) -> Option<T>
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    match json::read::<T>(body) {
        Ok(message) => {
            same(&message);
            Some(message)
        }
        Err(fault) => {
            let problem = json::problem(&fault, "r");
            assert_eq!(problem["status"], fault.http_status());
            refused(fault);
            None
        }
    }
}

/// What cannot be written (a number that no choice has) is refused, never wrong.
fn same<T>(message: &T)
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let written = serde_json::to_vec(message).expect("what was read can be written");
    assert_eq!(json::read::<T>(&written).as_ref(), Ok(message));
}

fn query<T>(text: &[u8])
where
    T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let Ok(text) = std::str::from_utf8(text) else { return };
    let pairs = RawQuery(Some(text.to_owned()));
    match input::query::<T>(&pairs, &[]) {
        Ok(message) => same(&message),
        Err(fault) => refused(fault),
    }
}

/// An `Idempotency-Key`: an id, or a refusal; two keys never give the same id.
fn key(bytes: &[u8]) {
    let half = bytes.len() / 2;
    let ids = [&bytes[..half], &bytes[half..]].map(|key| {
        let value = HeaderValue::from_bytes(key).ok()?;
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", value);
        match input::idempotency_id(&headers, limits::NAME_CHARS_MAX) {
            Ok(id) => {
                let id = id.expect("there is a key");
                assert_eq!(check_id("id", &id), Ok(()));
                Some(id)
            }
            Err(fault) => {
                refused(fault);
                None
            }
        }
    });
    if let [Some(a), Some(b)] = ids
        && bytes[..half] != bytes[half..]
    {
        assert_ne!(a, b, "two keys are one id");
    }
}
