//! What the routes ask of a node for what their callers send.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use dtask_core::id::NodeId;
use dtask_core::node::{Rejection, Reply, Request};
use serde_json::Value;
use tower::ServiceExt;

use crate::serve::calls::Calls;
use crate::serve::inbox::{Answer, Arrival, Inbox, inbox};
use crate::serve::status::NodeStatus;

/// A node that refuses what is marked as sent before as forgotten, and all else as too much.
async fn node(mut inbox: Inbox) {
    let why = |retry| match retry {
        true => Rejection::Forgotten,
        false => Rejection::Full { what: "enough".into(), retry_after_ms: 1 },
    };
    while let Some(arrival) = inbox.arrivals.recv().await {
        let Arrival::Ask { request, answer: Answer::Once(answer), .. } = arrival else { continue };
        let reply = match request {
            Request::Claim { .. } => Reply::Claimed,
            Request::Submit(_) => Reply::Submitted(vec![Err(why(false))]),
            Request::Resubmit(_) => Reply::Submitted(vec![Err(why(true))]),
            Request::Cancel { retry, .. } | Request::Trigger { retry, .. } => {
                Reply::Rejected(why(retry))
            }
            other => panic!("nobody asks for {other:?}"),
        };
        answer.send(reply).expect("the caller waits");
    }
}

/// The reason that a POST is refused for.
async fn refused(path: &str, headers: &[(&str, &str)], body: &'static str) -> String {
    let (handle, inbox) = inbox();
    tokio::spawn(node(inbox));
    let calls = Calls::new(handle, Arc::new(NodeStatus::new(NodeId(1))), None);
    let mut request = HttpRequest::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).expect("it is well formed");
    let answer = super::router(Arc::new(calls)).oneshot(request).await.expect("it answers");
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("it is whole");
    let body: Value = serde_json::from_slice(&body).expect("it is JSON");
    let own = body["reason"].as_str().or(body["results"][0]["error"]["reason"].as_str());
    own.unwrap_or_default().to_owned()
}

/// P8.2: what is marked may be answered unknown, and is not done.
#[tokio::test]
async fn every_post_that_carries_a_key_can_be_marked_as_sent_before() {
    let (key, mark) = (("idempotency-key", "k1"), ("idempotency-retry", "true"));
    for (path, body) in [
        ("/v1/tasks", r#"{"type":"noop"}"#),
        ("/v1/tasks/batch", r#"{"tasks":[{"type":"noop"}]}"#),
        ("/v1/tasks/a/cancel", ""),
        ("/v1/tasks/a/runs/1/cancel", ""),
        ("/v1/tasks/a/trigger", ""),
        ("/v1/tasks/a/retry", ""),
        ("/v1/tasks/a/runs/1/retry", ""),
    ] {
        assert_eq!(refused(path, &[key], body).await, "QUEUE_FULL", "{path}");
        assert_eq!(refused(path, &[key, mark], body).await, "OUTCOME_UNKNOWN", "{path}");
    }
}
