//! The JSON surface of a running node, spoken to by hand.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::nodes::Nodes;

struct Said {
    status: u16,
    head: String,
    body: Value,
    text: String,
}

async fn call(cluster: &Nodes, at: usize, line: &str, headers: &str, body: &str) -> Said {
    let mut stream = TcpStream::connect(cluster.http(at)).await.expect("it listens");
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n\
         {body}"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, text) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = serde_json::from_str(text).unwrap_or(Value::Null);
    Said { status, head: head.to_ascii_lowercase(), body, text: text.to_owned() }
}

#[tokio::test]
async fn tasks_over_http_are_created_repeated_and_refused() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    let task = json!({"id": "a", "type": "noop", "payload": {"n": 1}}).to_string();
    let made = call(&cluster, 0, "POST /v1/tasks", "", &task).await;
    assert_eq!((made.status, &made.body["status"]), (201, &json!("ready")), "{}", made.text);
    assert!(made.head.contains("location: /v1/tasks/a"), "{}", made.head);
    assert!(made.head.contains("dtask-node: 1"), "{}", made.head);
    assert_eq!(made.body["payload"], json!({"n": 1}));
    let again = call(&cluster, 0, "POST /v1/tasks", "", &task).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let other = json!({"id": "a", "type": "noop", "payload": 2}).to_string();
    let conflict = call(&cluster, 0, "POST /v1/tasks", "", &other).await;
    assert_eq!((conflict.status, &conflict.body["reason"]), (409, &json!("ID_CONFLICT")));
    assert!(conflict.head.contains("application/problem+json"), "{}", conflict.head);
    assert!(conflict.body["request_id"].is_string());

    let key = "Idempotency-Key: order 17\r\n";
    let keyed = call(&cluster, 0, "POST /v1/tasks", key, r#"{"type":"noop"}"#).await;
    assert_eq!(keyed.status, 201, "{}", keyed.text);
    let repeat = call(&cluster, 0, "POST /v1/tasks", key, r#"{"type":"noop"}"#).await;
    assert_eq!((repeat.status, &repeat.body["id"]), (200, &keyed.body["id"]));
    let reuse = call(&cluster, 0, "POST /v1/tasks", key, r#"{"type":"other"}"#).await;
    assert_eq!((reuse.status, &reuse.body["reason"]), (422, &json!("IDEMPOTENCY_KEY_REUSED")));

    // Sent again, and said so.
    let marked = format!("{key}Idempotency-Retry: true\r\n");
    let repeat = call(&cluster, 0, "POST /v1/tasks", &marked, r#"{"type":"noop"}"#).await;
    assert_eq!((repeat.status, &repeat.body["id"]), (200, &keyed.body["id"]), "{}", repeat.text);
    let marked = "Idempotency-Retry: yes\r\n";
    let wrong = call(&cluster, 0, "POST /v1/tasks/a/cancel", marked, "").await;
    let field = &wrong.body["errors"][0]["field"];
    assert_eq!((wrong.status, field), (400, &json!("Idempotency-Retry")), "{}", wrong.text);

    let own = call(&cluster, 0, "POST /v1/tasks", key, r#"{"type":"noop","id":"b"}"#).await;
    assert_eq!(own.status, 422, "the key stands for another task: {}", own.text);

    // A repeat is answered as the first, with a key or without.
    for head in ["", "Idempotency-Key: c1\r\n", "Idempotency-Key: c1\r\n"] {
        let gone = call(&cluster, 0, "POST /v1/tasks/a/cancel", head, "").await;
        let said = (gone.status, &gone.body["status"]);
        assert_eq!(said, (200, &json!("cancelled")), "{}", gone.text);
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn batch_under_a_key_is_repeated_and_another_under_it_is_refused_as_a_whole() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    let key = "Idempotency-Key: night-7\r\n";
    let batch = r#"{"tasks":[{"type":"noop"},{"type":"noop","id":"own"},{"type":"noop"}]}"#;
    let made = call(&cluster, 0, "POST /v1/tasks/batch", key, batch).await;
    let ids = |said: &Said| -> Vec<Value> {
        let results = said.body["results"].as_array().expect("results").iter();
        results.map(|result| result["accepted"]["id"].clone()).collect()
    };
    assert_eq!(ids(&made), [json!("night-7:0"), json!("own"), json!("night-7:2")]);
    let again = call(&cluster, 0, "POST /v1/tasks/batch", key, batch).await;
    assert_eq!(ids(&again), ids(&made));
    assert_eq!(again.body["results"][0]["accepted"]["created"], json!(false), "{}", again.text);
    // One task more than before: none of them is made.
    let longer = batch.replacen("]}", r#",{"type":"noop","id":"more"}]}"#, 1);
    let other = call(&cluster, 0, "POST /v1/tasks/batch", key, &longer).await;
    assert_eq!((other.status, &other.body["reason"]), (422, &json!("IDEMPOTENCY_KEY_REUSED")));
    assert_eq!(call(&cluster, 0, "GET /v1/tasks/more", "", "").await.status, 404);
    let long = format!("Idempotency-Key: {}\r\n", "k".repeat(123));
    let long = call(&cluster, 0, "POST /v1/tasks/batch", &long, batch).await;
    assert_eq!((long.status, &long.body["errors"][0]["field"]), (400, &json!("Idempotency-Key")));
    cluster.stop_all().await;
}

#[tokio::test]
async fn cancel_of_a_run_that_is_not_there_says_so() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    let task = json!({"id": "e", "type": "noop", "every": "1h"}).to_string();
    assert_eq!(call(&cluster, 0, "POST /v1/tasks", "", &task).await.status, 201);
    let said = call(&cluster, 0, "POST /v1/tasks/e/runs/9/cancel", "", "").await;
    assert_eq!((said.status, &said.body["reason"]), (404, &json!("NOT_FOUND")), "{}", said.text);
    cluster.stop_all().await;
}

#[tokio::test]
async fn wrong_requests_over_http_are_told_what_is_wrong() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    for (line, body, status, reason) in [
        ("POST /v1/tasks", r#"{"type":"x", }"#, 400, "JSON_INVALID"),
        ("POST /v1/tasks", r#"{"type":"x","cron_expr":"0 25 * * *"}"#, 400, "CRON_INVALID"),
        ("GET /v1/tasks/nobody", "", 404, "NOT_FOUND"),
        ("GET /nowhere", "", 404, "NOT_FOUND"),
        ("PUT /healthz", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET /v1/tasks?page_size=5000", "", 400, "FIELD_INVALID"),
        ("GET /v1/executions/x", "", 404, "NOT_FOUND"),
    ] {
        let said = call(&cluster, 0, line, "", body).await;
        let got = (said.status, said.body["reason"].as_str().unwrap_or_default());
        assert_eq!(got, (status, reason), "{line}: {}", said.text);
        assert_eq!(said.body["status"], json!(status), "{line}");
    }
    let large = format!(r#"{{"type":"x","payload":"{}"}}"#, "y".repeat((1 << 20) + 10));
    let said = call(&cluster, 0, "POST /v1/tasks", "", &large).await;
    assert_eq!((said.status, &said.body["reason"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    cluster.stop_all().await;
}

#[tokio::test]
async fn health_lists_and_metrics_answer() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    for n in 0..3 {
        let task = json!({"id": format!("t{n}"), "type": "noop"}).to_string();
        call(&cluster, 0, "POST /v1/tasks", "", &task).await;
    }
    let first = call(&cluster, 0, "GET /v1/tasks?page_size=2&order_by=created_at", "", "").await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(
        (&first.body["tasks"][0]["id"], &first.body["partial"]),
        (&json!("t0"), &json!(false))
    );
    let token = first.body["next_page_token"].as_str().expect("there is more").to_owned();
    let line = format!("GET /v1/tasks?page_size=2&order_by=created_at&page_token={token}");
    let second = call(&cluster, 0, &line, "", "").await;
    assert_eq!(second.body["tasks"][0]["id"], json!("t2"), "{}", second.text);
    assert_eq!(call(&cluster, 0, "GET /healthz", "", "").await.status, 200);
    assert_eq!(call(&cluster, 0, "GET /readyz", "", "").await.status, 200);
    let metrics = call(&cluster, 0, "GET /metrics", "", "").await;
    assert!(metrics.head.contains("application/openmetrics-text"), "{}", metrics.head);
    assert!(metrics.text.contains("dtask_tasks_submitted_total 3"), "{}", metrics.text);
    cluster.stop_all().await;
}

#[tokio::test]
async fn log_of_an_ended_attempt_is_plain_text() {
    let cluster = Nodes::start(1, None);
    let _worker = cluster.worker();
    cluster.leader().await;
    let task = json!({"id": "greet", "type": "hello"}).to_string();
    call(&cluster, 0, "POST /v1/tasks", "", &task).await;
    let waited = call(&cluster, 0, "GET /v1/tasks/greet/wait?timeout=60s", "", "").await;
    assert_eq!(waited.body["task"]["status"], json!("succeeded"), "{}", waited.text);
    let list = call(&cluster, 0, "GET /v1/tasks/greet/executions", "", "").await;
    let execution = &list.body["executions"][0]["id"];
    for line in
        ["GET /v1/tasks/greet/logs".to_owned(), format!("GET /v1/executions/{execution}/logs")]
    {
        let log = call(&cluster, 0, &line, "", "").await;
        assert!(log.head.contains("text/plain"), "{line}: {}", log.head);
        assert!(log.text.contains("hello from the handler"), "{line}: {}", log.text);
    }
    cluster.stop_all().await;
}
