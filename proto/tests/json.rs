//! The JSON mapping, message by message, against golden files: what has worked in one release
//! works the same in the next. `DTASK_BLESS=1` writes the files anew; review the difference.

use std::path::PathBuf;
use std::{env, fs};

use bytes::Bytes;
use dtask_proto::v1::{self, *};
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

const NINE: i64 = 1_767_603_600_000_000;

/// Compares a message's JSON with its golden file, both ways.
#[track_caller]
fn golden<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let path = file(name);
    let json = serde_json::to_string_pretty(message).expect("messages are JSON") + "\n";
    if env::var_os("DTASK_BLESS").is_some() {
        fs::write(&path, &json).expect("the golden file is writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(json, expected, "{name} differs from its golden file");
    let back: M = serde_json::from_str(&expected).expect("a golden file is readable");
    assert_eq!(&back, message, "{name} does not read back");
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"))
}

fn spec() -> TaskSpec {
    TaskSpec {
        id: "report".into(),
        name: "Nightly report".into(),
        r#type: "exec".into(),
        payload: Bytes::from_static(b"{\"argv\":[\"report\"],\"big\":18446744073709551616}"),
        queue: "mail".into(),
        priority: Some(9),
        at: None,
        every: None,
        starts_at: None,
        cron_expr: "30 2 * * 1-5".into(),
        timezone: "Europe/Paris".into(),
        dst_gap: v1::DstGap::Next.into(),
        dst_fold: v1::DstFold::First.into(),
        misfire: v1::Misfire::FireOnce.into(),
        catch_up: Some(5_400_000),
        overlap: v1::Overlap::Allow.into(),
        max_retries: Some(0),
        backoff: v1::Backoff::Fixed.into(),
        backoff_base: Some(1_500),
        backoff_max: Some(600_000),
        no_retry_exit: vec![2, 64],
        timeout: Some(86_400_000),
    }
}

fn run() -> Run {
    Run {
        task_id: "report".into(),
        run: 3,
        cause: RunCause::Schedule.into(),
        scheduled_for: NINE,
        status: TaskStatus::Failed.into(),
        reason: "exit code 2".into(),
        attempts: 4,
        retry_of: Some(2),
    }
}

fn wait() -> Wait {
    Wait {
        code: WaitCode::NoWorkerForType.into(),
        message: "no connected worker runs `resize`".into(),
        since: NINE,
        until: None,
        position: None,
    }
}

fn task() -> Task {
    Task {
        id: "report".into(),
        name: "report".into(),
        r#type: "resize".into(),
        status: TaskStatus::Waiting.into(),
        timezone: "UTC".into(),
        payload: Bytes::from_static(b"\xff\x00"),
        queue: "default".into(),
        priority: 5,
        max_retries: 3,
        backoff: v1::Backoff::Exponential.into(),
        backoff_base: 1_000,
        backoff_max: 600_000,
        timeout: 86_400_000,
        every: Some(3_600_000),
        wait: Some(wait()),
        last_run: Some(run()),
        consecutive_failures: 1,
        runs_count: 3,
        revision: 1,
        incarnation: 17,
        created_at: NINE,
        updated_at: NINE + 1_500,
        next_run_at: Some(NINE + 3_600_000_000),
        ..Task::default()
    }
}

fn execution() -> Execution {
    Execution {
        id: 9_007_199_254_740_991,
        task_id: "report".into(),
        run: 3,
        attempt: 4,
        worker_id: "w1".into(),
        status: ExecutionStatus::TimedOut.into(),
        output: Bytes::from_static(b"[1, 2.50]"),
        error: "ran longer than 24h".into(),
        exit_code: None,
        scheduled_for: NINE,
        opened_at: NINE,
        started_at: Some(NINE),
        finished_at: None,
        signal: Some(9),
    }
}

fn error() -> Error {
    Error {
        code: "INVALID_ARGUMENT".into(),
        reason: "CRON_INVALID".into(),
        detail: "cron_expr: hour 25 is out of range".into(),
        errors: vec![field_error()],
        retry_after: Some(250),
    }
}

fn field_error() -> FieldError {
    FieldError {
        field: "cron_expr".into(),
        detail: "hour 25 is out of range".into(),
        hint: "hours go from 0 to 23".into(),
    }
}

fn accepted() -> SubmitTaskResponse {
    SubmitTaskResponse {
        id: "report".into(),
        created: true,
        status: TaskStatus::Ready.into(),
        created_at: NINE,
        next_run_at: None,
    }
}

fn results() -> Vec<SubmitResult> {
    vec![
        SubmitResult { accepted: Some(accepted()), error: None },
        SubmitResult { accepted: None, error: Some(error()) },
    ]
}

#[test]
fn nouns_match_their_golden_files() {
    golden("TaskSpec", &spec());
    golden("Task", &task());
    golden("Run", &run());
    golden("Execution", &execution());
    golden("Wait", &wait());
    golden("Pause", &Pause { at: NINE, by: "ann".into(), note: "stocktaking".into() });
    golden("Error", &error());
    golden("FieldError", &field_error());
}

#[test]
fn questions_match_their_golden_files() {
    let (id, task_id) = ("report".to_owned(), "report".to_owned());
    golden(
        "SubmitTaskRequest",
        &SubmitTaskRequest { task: Some(spec()), request_id: "r1".into(), retry: true },
    );
    let tasks = vec![TaskSpec::default()];
    golden(
        "SubmitTasksRequest",
        &SubmitTasksRequest { tasks, request_id: "r2".into(), retry: false },
    );
    golden("GetTaskRequest", &GetTaskRequest { id: id.clone(), stale: true });
    let list = ListTasksRequest {
        status: vec![TaskStatus::Pending.into(), TaskStatus::Running.into()],
        created_after: Some(NINE),
        page_size: Some(10),
        ..ListTasksRequest::default()
    };
    golden("ListTasksRequest", &list);
    golden(
        "CancelTaskRequest",
        &CancelTaskRequest { id: id.clone(), run: Some(2), request_id: "r1".into(), retry: false },
    );
    let trigger = TriggerTaskRequest { id: id.clone(), request_id: "r1".into(), retry: true };
    golden("TriggerTaskRequest", &trigger);
    let retry =
        RetryTaskRequest { id: id.clone(), run: Some(2), request_id: "r1".into(), retry: false };
    golden("RetryTaskRequest", &retry);
    golden("DeleteTaskRequest", &DeleteTaskRequest { id: id.clone(), cancel: true });
    golden("WaitTaskRequest", &WaitTaskRequest { id, run: None, timeout: Some(30_000) });
    let runs = ListRunsRequest { task_id: task_id.clone(), ..ListRunsRequest::default() };
    golden("ListRunsRequest", &runs);
    let executions = ListExecutionsRequest {
        task_id: task_id.clone(),
        status: vec![ExecutionStatus::Lost.into()],
        ..ListExecutionsRequest::default()
    };
    golden("ListExecutionsRequest", &executions);
    golden("GetExecutionRequest", &GetExecutionRequest { id: 7, stale: false });
    let logs = StreamLogsRequest { task_id, follow: true, ..StreamLogsRequest::default() };
    golden("StreamLogsRequest", &logs);
    golden("ListWorkersRequest", &ListWorkersRequest {});
    golden("GetClusterRequest", &GetClusterRequest {});
}

#[test]
fn answers_match_their_golden_files() {
    golden("SubmitTaskResponse", &accepted());
    golden("SubmitTasksResponse", &SubmitTasksResponse { results: results() });
    golden("SubmitResult", &results()[0]);
    let status = GetStatusResponse {
        id: "report".into(),
        status: TaskStatus::Succeeded.into(),
        finished_at: Some(NINE),
        revision: 1,
        ..GetStatusResponse::default()
    };
    golden("GetStatusResponse", &status);
    let tasks = ListTasksResponse { tasks: vec![task()], ..ListTasksResponse::default() };
    golden("ListTasksResponse", &tasks);
    golden("WaitTaskResponse", &WaitTaskResponse { done: true, task: Some(task()) });
    let runs = ListRunsResponse { runs: vec![run()], ..ListRunsResponse::default() };
    golden("ListRunsResponse", &runs);
    let executions = ListExecutionsResponse {
        executions: vec![execution()],
        next_page_token: "b2Zmc2V0".into(),
        partial: true,
    };
    golden("ListExecutionsResponse", &executions);
    let data = Bytes::from_static("12 grün\n".as_bytes());
    golden("LogChunk", &LogChunk { execution_id: 7, offset: 65_536, data, end: false });
}

#[test]
fn workers_and_cluster_match_their_golden_files() {
    let worker = Worker {
        name: "w1".into(),
        instance: "9f3a".into(),
        slots: 16,
        running: 2,
        types: vec!["exec".into()],
        queues: vec![],
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        draining: false,
        connected: true,
        silent: 1_250,
    };
    golden("Worker", &worker);
    golden("ListWorkersResponse", &ListWorkersResponse { workers: vec![worker] });
    let node = Node {
        id: 2,
        grpc: "127.0.0.1:7102".into(),
        http: "127.0.0.1:7182".into(),
        role: Role::Follower.into(),
        match_index: Some(41),
        alive: Some(true),
        clock_offset_ms: Some(-12),
        diverged: false,
    };
    let limits = Limits {
        payload_bytes_max: 1 << 20,
        result_bytes_max: 1 << 20,
        output_tail_bytes_max: 64 << 10,
        batch_tasks_max: 10_000,
        batch_bytes_max: 4 << 20,
        name_chars_max: 128,
        cron_chars_max: 256,
        live_tasks_max: 10_000_000,
        inflight_bytes_max: 64 << 20,
        outbox_bytes_max: 1 << 30,
        dedup_ids_max: 1_000_000,
        dedup_window: 3_600_000,
    };
    let digest = Digest { index: 41, value: "00ff".into() };
    let cluster = Cluster {
        cluster_id: "c0ffee".into(),
        node_id: 1,
        leader: None,
        term: 7,
        commit_index: 42,
        applied_index: 41,
        digest: Some(digest.clone()),
        history_lag: 3,
        paused: None,
        limits: Some(limits),
        nodes: vec![node.clone()],
        live_tasks: 12,
        at: NINE,
        executions_opened: 900,
        executions_running: 4,
    };
    golden("Node", &node);
    golden("Limits", &limits);
    golden("Digest", &digest);
    golden("Cluster", &cluster);
}

#[test]
fn every_message_of_the_client_api_has_a_golden_file() {
    let set = prost_types::FileDescriptorSet::decode(dtask_proto::DESCRIPTORS)
        .expect("our own descriptors decode");
    let mut seen = 0;
    for descriptor in &set.file {
        let name = descriptor.name().trim_start_matches("dtask/v1/");
        if !["types.proto", "task.proto", "admin.proto", "cluster.proto"].contains(&name) {
            continue;
        }
        for message in &descriptor.message_type {
            assert!(file(message.name()).exists(), "{} has no golden file", message.name());
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} messages were found");
}

#[test]
fn an_unknown_key_is_refused_by_its_name() {
    let refused = serde_json::from_str::<TaskSpec>(r#"{"type":"exec","retries":3}"#);
    let message = refused.expect_err("`retries` is no field").to_string();
    assert!(message.contains("unknown field `retries`, expected one of `id`"), "{message}");
}

#[test]
fn missing_keys_and_nulls_mean_absent() {
    let json = r#"{"type":"exec","payload":null,"at":null,"overlap":null}"#;
    let spec: TaskSpec = serde_json::from_str(json).expect("nulls are allowed");
    assert_eq!(spec, TaskSpec { r#type: "exec".into(), ..TaskSpec::default() });
}

#[test]
fn a_payload_that_looks_like_the_escape_reads_back_as_it_is() {
    let payload = Bytes::from_static(br#"{"base64":"aGk="}"#);
    let spec = TaskSpec { payload: payload.clone(), ..TaskSpec::default() };
    let json = serde_json::to_string(&spec).expect("messages are JSON");
    let back: TaskSpec = serde_json::from_str(&json).expect("our own JSON reads back");
    assert_eq!(back.payload, payload);
}

#[test]
fn wrong_values_say_what_to_write() {
    let cases = [
        (r#"{"at":"2026-01-05 09:00"}"#, "not a time with an offset"),
        (r#"{"every":"5"}"#, "not a duration"),
        (r#"{"overlap":"never"}"#, "`never` is not one of allow, skip"),
        (r#"{"payload":{"base64":"?"}}"#, "not base64"),
    ];
    for (json, expected) in cases {
        let message = serde_json::from_str::<TaskSpec>(json).expect_err(json).to_string();
        assert!(message.contains(expected), "{json}: {message}");
    }
}
