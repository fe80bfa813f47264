//! The command line against a scripted node: repeats with the same id, resumed output, and the
//! exit codes that say how a task or a call ended.
#![cfg(not(madsim))]

use std::collections::VecDeque;
use std::net::TcpListener;
use std::pin::Pin;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use dtask_proto::v1::task_service_server::{TaskService, TaskServiceServer};
use dtask_proto::v1::{self, ExecutionStatus, TaskStatus};
use dtask_runtime::api::Fault;
use futures_util::{Stream, stream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// What the node says, and what it was asked.
#[derive(Default)]
struct Script {
    /// Refusals of the first submits; later ones are accepted.
    submits: VecDeque<Status>,
    submitted: Vec<v1::TaskSpec>,
    /// What each stream of output brings, one after the other.
    logs: VecDeque<Vec<Result<v1::LogChunk, Status>>>,
    read: Vec<v1::StreamLogsRequest>,
    /// How the task's attempt ended; `None` while it runs.
    end: Option<v1::Execution>,
    /// Its attempts before that one.
    earlier: Vec<v1::Execution>,
    /// Why it waits.
    wait: Option<v1::Wait>,
    triggered: Vec<String>,
    cancelled: Vec<v1::CancelTaskRequest>,
    /// What the node says to the first deletes; later ones find nothing.
    deletes: VecDeque<Status>,
}

#[derive(Clone)]
struct Node(Arc<Mutex<Script>>);

impl Node {
    /// Serves the script on a port of its own until the test's process ends.
    fn start(script: Script) -> (Self, String) {
        let node = Self(Arc::new(Mutex::new(script)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("it is bound").to_string();
        let service = TaskServiceServer::new(node.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                let incoming = TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder().add_service(service);
                server.serve_with_incoming(incoming).await.expect("it serves");
            });
        });
        (node, address)
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().expect("no test panicked")
    }

    fn task(&self, id: &str) -> Result<v1::Task, Status> {
        if id == "nobody" {
            return Err(Fault::not_found("task", id).into_status());
        }
        let script = self.script();
        let status = match script.end.as_ref().map(v1::Execution::status) {
            None => TaskStatus::Ready,
            Some(ExecutionStatus::Succeeded) => TaskStatus::Succeeded,
            Some(ExecutionStatus::Cancelled) => TaskStatus::Cancelled,
            Some(_) => TaskStatus::Failed,
        };
        Ok(v1::Task {
            id: id.to_owned(),
            status: status.into(),
            wait: script.wait.clone(),
            ..v1::Task::default()
        })
    }
}

type Reply<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TaskService for Node {
    type SubmitStreamStream = Answers<v1::SubmitTasksResponse>;
    type StreamLogsStream = Answers<v1::LogChunk>;

    async fn submit_task(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Reply<v1::SubmitTaskResponse> {
        let spec = request.into_inner().task.unwrap_or_default();
        let id = spec.id.clone();
        let mut script = self.script();
        script.submitted.push(spec);
        match script.submits.pop_front() {
            Some(status) => Err(status),
            None => Ok(Response::new(v1::SubmitTaskResponse { id, ..Default::default() })),
        }
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Reply<v1::Task> {
        self.task(&request.into_inner().id).map(Response::new)
    }

    async fn get_status(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Reply<v1::GetStatusResponse> {
        let v1::Task { id, status, wait, .. } = self.task(&request.into_inner().id)?;
        Ok(Response::new(v1::GetStatusResponse { id, status, wait, ..Default::default() }))
    }

    async fn wait_task(
        &self,
        request: Request<v1::WaitTaskRequest>,
    ) -> Reply<v1::WaitTaskResponse> {
        let task = self.task(&request.into_inner().id)?;
        let done = self.script().end.is_some();
        Ok(Response::new(v1::WaitTaskResponse { done, task: Some(task) }))
    }

    async fn trigger_task(&self, request: Request<v1::TriggerTaskRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        let task = self.task(&request.id)?;
        let mut script = self.script();
        script.triggered.push(request.request_id);
        if script.triggered.len() == 1 {
            return Err(Fault::outcome_unknown().into_status());
        }
        Ok(Response::new(task))
    }

    async fn retry_task(&self, request: Request<v1::RetryTaskRequest>) -> Reply<v1::Task> {
        let request = request.into_inner();
        let task = self.task(&request.id)?;
        self.script().triggered.push(format!("{:?} {}", request.run, request.request_id));
        Ok(Response::new(task))
    }

    async fn list_executions(
        &self,
        _: Request<v1::ListExecutionsRequest>,
    ) -> Reply<v1::ListExecutionsResponse> {
        let script = self.script();
        let executions = script.earlier.iter().chain(&script.end).cloned().collect();
        Ok(Response::new(v1::ListExecutionsResponse { executions, ..Default::default() }))
    }

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Reply<Self::StreamLogsStream> {
        let mut script = self.script();
        script.read.push(request.into_inner());
        let pieces = script.logs.pop_front();
        Ok(Response::new(match pieces {
            Some(pieces) => Box::pin(stream::iter(pieces)),
            // Nothing is printed: a reader that follows waits.
            None => Box::pin(stream::pending()),
        }))
    }

    async fn submit_tasks(
        &self,
        _: Request<v1::SubmitTasksRequest>,
    ) -> Reply<v1::SubmitTasksResponse> {
        Err(not_asked())
    }

    async fn submit_stream(
        &self,
        _: Request<Streaming<v1::SubmitTasksRequest>>,
    ) -> Reply<Self::SubmitStreamStream> {
        Err(not_asked())
    }

    async fn list_tasks(&self, _: Request<v1::ListTasksRequest>) -> Reply<v1::ListTasksResponse> {
        Err(not_asked())
    }

    async fn cancel_task(&self, request: Request<v1::CancelTaskRequest>) -> Reply<v1::Task> {
        let mut script = self.script();
        script.cancelled.push(request.into_inner());
        match script.cancelled.len() {
            // The first answer is lost.
            1 => Err(Fault::outcome_unknown().into_status()),
            _ => Ok(Response::new(v1::Task { id: "a".into(), ..v1::Task::default() })),
        }
    }

    async fn delete_task(&self, request: Request<v1::DeleteTaskRequest>) -> Reply<v1::Task> {
        let id = request.into_inner().id;
        let first = self.script().deletes.pop_front();
        Err(first.unwrap_or_else(|| Fault::not_found("task", &id).into_status()))
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Reply<v1::ListRunsResponse> {
        Err(not_asked())
    }

    async fn get_execution(&self, _: Request<v1::GetExecutionRequest>) -> Reply<v1::Execution> {
        Err(not_asked())
    }
}

fn not_asked() -> Status {
    Status::unimplemented("no test asks this")
}

fn dtask(server: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dtask"));
    command.env_clear().args(["--server", server]).args(words);
    command.output().expect("the binary runs")
}

fn piece(offset: u64, data: &'static str, end: bool) -> Result<v1::LogChunk, Status> {
    Ok(v1::LogChunk { execution_id: 7, offset, data: data.into(), end })
}

fn chunk(data: &'static str) -> v1::LogChunk {
    v1::LogChunk { data: data.into(), end: true, ..v1::LogChunk::default() }
}

fn ended(status: ExecutionStatus) -> v1::Execution {
    v1::Execution { id: 7, status: status.into(), ..v1::Execution::default() }
}

/// `dtask run` of a command that prints and ends like this: its exit code.
fn run_exit(end: v1::Execution) -> Option<i32> {
    let logs = [vec![piece(0, "out\n", true)]].into();
    let (_, server) = Node::start(Script { logs, end: Some(end), ..Script::default() });
    let output = dtask(&server, &["run", "--", "true"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    output.status.code()
}

#[test]
fn run_exits_with_the_command_s_code_or_says_what_happened() {
    let failed = |exit_code| v1::Execution { exit_code, ..ended(ExecutionStatus::Failed) };
    assert_eq!(run_exit(ended(ExecutionStatus::Succeeded)), Some(0));
    assert_eq!(run_exit(failed(Some(42))), Some(42));
    assert_eq!(run_exit(ended(ExecutionStatus::TimedOut)), Some(124));
    assert_eq!(run_exit(ended(ExecutionStatus::Lost)), Some(125));
    let killed = v1::Execution { signal: Some(9), ..ended(ExecutionStatus::Failed) };
    assert_eq!(run_exit(killed), Some(137));
}

#[test]
fn run_submits_an_exec_task_without_retries() {
    let logs = [vec![piece(0, "", true)]].into();
    let end = Some(ended(ExecutionStatus::Succeeded));
    let (node, server) = Node::start(Script { logs, end, ..Script::default() });
    let words = ["run", "--env", "A=b=c", "--cwd", "/tmp", "--", "sh", "-c", "echo $A"];
    assert!(dtask(&server, &words).status.success());
    let spec = node.script().submitted[0].clone();
    assert_eq!((spec.r#type.as_str(), spec.max_retries), ("exec", Some(0)));
    let payload: serde_json::Value = serde_json::from_slice(&spec.payload).expect("JSON");
    let expected = serde_json::json!(
        {"argv": ["sh", "-c", "echo $A"], "env": {"A": "b=c"}, "cwd": "/tmp"}
    );
    assert_eq!(payload, expected);
}

#[test]
fn output_is_resumed_by_offset_and_printed_once() {
    let logs = [
        vec![piece(0, "one ", false), piece(4, "two ", false), Err(Status::unavailable("broken"))],
        // The next node sends from a little before the reader's place.
        vec![piece(4, "two three\n", false), piece(14, "", true)],
    ];
    let end = Some(ended(ExecutionStatus::Succeeded));
    let script = Script { logs: logs.into(), end, ..Script::default() };
    let (node, server) = Node::start(script);
    let output = dtask(&server, &["run", "--", "true"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one two three\n");
    assert!(output.status.success());
    let asked: Vec<_> =
        node.script().read.iter().map(|asked| (asked.execution_id, asked.offset)).collect();
    assert_eq!(asked, [(None, 0), (Some(7), 8)]);
}

#[test]
fn each_attempt_s_output_is_printed() {
    let of = |id, data| vec![Ok(v1::LogChunk { execution_id: id, ..chunk(data) })];
    let attempt = |id, status| v1::Execution { id, ..ended(status) };
    let script = Script {
        logs: [of(7, "one\n"), of(8, "two\n"), of(9, "three\n")].into(),
        earlier: [7, 8].map(|id| attempt(id, ExecutionStatus::Failed)).into(),
        end: Some(attempt(9, ExecutionStatus::Succeeded)),
        ..Script::default()
    };
    let (node, server) = Node::start(script);
    let output = dtask(&server, &["run", "--max-retries", "2", "--", "true"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\ntwo\nthree\n");
    let asked: Vec<_> = node.script().read.iter().map(|asked| asked.execution_id).collect();
    assert_eq!(asked, [None, Some(8), Some(9)]);
}

#[test]
fn a_submit_is_repeated_with_the_same_id_until_it_is_answered() {
    let submits = [Fault::no_leader(), Fault::outcome_unknown(), Fault::stopping()];
    let submits = submits.map(Fault::into_status).into();
    let (node, server) = Node::start(Script { submits, ..Script::default() });
    let output = dtask(&server, &["submit", "x"]);
    assert!(output.status.success());
    let ids: Vec<_> = node.script().submitted.iter().map(|spec| spec.id.clone()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), ids[0]);
}

#[test]
fn a_refusal_is_told_and_not_repeated() {
    let conflict = Fault::new(Code::AlreadyExists, "ID_CONFLICT", "the id \"a\" is taken");
    let submits = [conflict.into_status()].into();
    let (node, server) = Node::start(Script { submits, ..Script::default() });
    let output = dtask(&server, &["submit", "--id", "a", "x"]);
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said, "error: the id \"a\" is taken\n");
    assert_eq!(node.script().submitted.len(), 1);
    assert_eq!(dtask(&server, &["task", "get", "nobody"]).status.code(), Some(3));
}

#[test]
fn a_trigger_whose_answer_was_lost_is_repeated_with_its_request_id() {
    let (node, server) = Node::start(Script::default());
    let output = dtask(&server, &["task", "trigger", "a"]);
    assert_eq!(output.status.code(), Some(0));
    let asked = node.script().triggered.clone();
    assert_eq!(asked.len(), 2);
    assert!(!asked[0].is_empty() && asked[0] == asked[1], "{asked:?}");
}

#[test]
fn a_retry_names_its_run_and_a_request_id_of_its_own() {
    let (node, server) = Node::start(Script::default());
    assert_eq!(dtask(&server, &["task", "retry", "a"]).status.code(), Some(0));
    assert_eq!(dtask(&server, &["task", "retry", "a", "--run", "3"]).status.code(), Some(0));
    let asked = node.script().triggered.clone();
    let words: Vec<_> = asked.iter().map(|line| line.split_once(' ').expect("two words")).collect();
    assert_eq!((words[0].0, words[1].0), ("None", "Some(3)"));
    assert!(words[0].1.len() > 20 && words[0].1 != words[1].1, "{asked:?}");
}

#[test]
fn a_cancel_whose_answer_was_lost_is_repeated_with_its_request_id_and_marked() {
    let (node, server) = Node::start(Script::default());
    assert_eq!(dtask(&server, &["task", "cancel", "a", "--run", "3"]).status.code(), Some(0));
    let asked = node.script().cancelled.clone();
    assert_eq!(asked.len(), 2);
    assert!(asked[0].request_id.len() > 20 && !asked[0].retry, "{asked:?}");
    assert_eq!(asked[1], v1::CancelTaskRequest { retry: true, ..asked[0].clone() });
}

#[test]
fn a_delete_whose_answer_was_lost_has_done_its_work_when_the_task_is_gone() {
    let lost = VecDeque::from([Fault::outcome_unknown().into_status()]);
    let (_, server) = Node::start(Script { deletes: lost, ..Script::default() });
    let output = dtask(&server, &["task", "delete", "a"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a deleted\n");
}

#[test]
fn a_delete_that_certainly_did_nothing_before_says_that_nothing_is_there() {
    let nobody = VecDeque::from([Fault::no_leader().into_status()]);
    let (_, server) = Node::start(Script { deletes: nobody, ..Script::default() });
    assert_eq!(dtask(&server, &["task", "delete", "a"]).status.code(), Some(3));
}

#[test]
fn a_wait_ends_with_the_task_or_with_its_time() {
    let wait = v1::Wait { message: "no worker runs x".into(), ..v1::Wait::default() };
    let (_, server) = Node::start(Script { wait: Some(wait), ..Script::default() });
    let output = dtask(&server, &["task", "wait", "a", "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("100ms") && said.contains("no worker runs x"), "{said}");

    let failed = v1::Execution { exit_code: Some(2), ..ended(ExecutionStatus::Failed) };
    let (_, server) = Node::start(Script { end: Some(failed), ..Script::default() });
    let output = dtask(&server, &["submit", "--wait", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed: exit code 2"));

    let result = v1::Execution { output: "{\"n\":1}".into(), ..ended(ExecutionStatus::Succeeded) };
    let (_, server) = Node::start(Script { end: Some(result), ..Script::default() });
    let output = dtask(&server, &["submit", "--wait", "x"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"n\":1}\n");
    assert!(output.status.success());
}

#[test]
fn run_says_why_it_waits() {
    let wait = v1::Wait { message: "no connected worker runs exec".into(), ..v1::Wait::default() };
    let (_, server) = Node::start(Script { wait: Some(wait), ..Script::default() });
    let mut command = Command::new(env!("CARGO_BIN_EXE_dtask"));
    command.env_clear().args(["--server", &server, "run", "--", "true"]);
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let first = std::io::BufRead::lines(stderr).next().expect("a line").expect("text");
    assert_eq!(first, "waiting: no connected worker runs exec");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}
