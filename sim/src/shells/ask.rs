//! A client's question over any surface: the command line's client (which finds a node that
//! answers), a gRPC stub of one node, an HTTP route of one node.

use dtask_core::client::Repeat;
use dtask_core::rng::Rng;
use dtask_proto::v1;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_runtime::api::Fault;
use dtask_runtime::cli::calls::Calls;
use dtask_runtime::serve::net;
use serde::de::DeserializeOwned;

use super::cluster::{self, Cluster};
use super::{http, seen};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Accept one task.
    Submit(Box<v1::TaskSpec>),
    /// Accept many.
    Batch(Vec<v1::TaskSpec>),
    /// One task.
    Look(String),
    /// Until it has ended, or for this many milliseconds.
    Wait(String, i64),
    /// End it.
    Cancel(String),
    /// Run it now.
    Trigger(String),
    /// Remove it, also while it runs.
    Delete(String, bool),
    /// A page of tasks.
    List,
    /// The attempts of a task.
    Executions(String),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Each task of a submit: its id and whether this call made it, or the reason against it.
    Accepted(Vec<Result<(String, bool), String>>),
    /// A task.
    Task(Box<v1::Task>),
    /// A wait: whether it has ended.
    Waited(bool, Box<v1::Task>),
    /// A page.
    Tasks(Vec<v1::Task>),
    /// Attempts.
    Executions(Vec<v1::Execution>),
    /// The closed list's reason, or a transport's.
    Refused(String),
}

/// What a call that was cut off says.
pub const CUT: &str = "CUT";

/// Asks over a surface drawn at random.
pub async fn ask(cluster: &Cluster, rng: &mut Rng, question: &Question) -> Answer {
    let place = rng.below(cluster.draw.nodes as u64) as usize;
    let (answer, surface) = match rng.below(3) {
        0 => (by_cli(cluster, place, question).await, seen::BY_CLI),
        1 => (by_stub(place, question).await, seen::BY_GRPC),
        _ => (by_http(place, question).await, seen::BY_HTTP),
    };
    let mut books = cluster.witness.books();
    match &answer {
        Answer::Refused(reason) if reason == "OUTCOME_UNKNOWN" => {
            books.seen.hit(seen::OUTCOME_UNKNOWN);
        }
        Answer::Refused(reason) if reason == CUT => {}
        Answer::Refused(_)
        | Answer::Accepted(_)
        | Answer::Task(_)
        | Answer::Waited(..)
        | Answer::Tasks(_)
        | Answer::Executions(_) => books.seen.hit(surface),
    }
    answer
}

/// Asks as the command line does, any node but `place` first.
pub async fn by_cli(cluster: &Cluster, place: usize, question: &Question) -> Answer {
    let mut servers: Vec<String> =
        cluster.draw.node_places().map(|node| cluster::grpc(node).to_string()).collect();
    servers.rotate_left(place);
    let calls = Calls::new(&servers);
    let repeat = match question {
        Question::Submit(_) | Question::Batch(_) => Repeat::SameId,
        Question::Look(_) | Question::Wait(..) | Question::List | Question::Executions(_) => {
            Repeat::Read
        }
        Question::Cancel(_) | Question::Trigger(_) | Question::Delete(..) => Repeat::Once,
    };
    let asked = calls.call(repeat, async |services| {
        // The machine reads refusals from the status; whatever it lets pass is an answer.
        stub(services.tasks, question, services.again).await.map(tonic::Response::new)
    });
    match asked.await {
        Ok(answer) => answer,
        Err(failure) => Answer::Refused(match failure.code {
            3 => "NOT_FOUND".to_owned(),
            6 => "OUTCOME_UNKNOWN".to_owned(),
            5 => "NO_LEADER".to_owned(),
            _ => failure.message,
        }),
    }
}

/// Asks one node over gRPC.
pub async fn by_stub(place: usize, question: &Question) -> Answer {
    let channel = match net::connect(&cluster::grpc(place).to_string()).await {
        Ok(channel) => channel,
        Err(_) => return Answer::Refused(CUT.to_owned()),
    };
    match stub(TaskServiceClient::new(channel), question, false).await {
        Ok(answer) => answer,
        Err(status) => Answer::Refused(match Fault::from_status(&status) {
            Some(fault) => fault.0.reason,
            None => CUT.to_owned(),
        }),
    }
}

async fn stub(
    mut tasks: TaskServiceClient<tonic::transport::Channel>,
    question: &Question,
    retry: bool,
) -> Result<Answer, tonic::Status> {
    let task = |task: tonic::Response<v1::Task>| Answer::Task(Box::new(task.into_inner()));
    Ok(match question.clone() {
        Question::Submit(spec) => {
            let request = v1::SubmitTaskRequest { task: Some(*spec), retry, ..Default::default() };
            let accepted = tasks.submit_task(request).await?.into_inner();
            Answer::Accepted(vec![Ok((accepted.id, accepted.created))])
        }
        Question::Batch(specs) => {
            let request = v1::SubmitTasksRequest { tasks: specs, retry, ..Default::default() };
            many(tasks.submit_tasks(request).await?.into_inner())
        }
        Question::Look(id) => task(tasks.get_task(v1::GetTaskRequest { id, stale: false }).await?),
        Question::Wait(id, timeout) => {
            let request = v1::WaitTaskRequest { id, run: None, timeout: Some(timeout) };
            let waited = tasks.wait_task(request).await?.into_inner();
            Answer::Waited(waited.done, Box::new(waited.task.unwrap_or_default()))
        }
        Question::Cancel(id) => {
            task(tasks.cancel_task(v1::CancelTaskRequest { id, ..Default::default() }).await?)
        }
        Question::Trigger(id) => {
            task(tasks.trigger_task(v1::TriggerTaskRequest { id, ..Default::default() }).await?)
        }
        Question::Delete(id, cancel) => {
            task(tasks.delete_task(v1::DeleteTaskRequest { id, cancel }).await?)
        }
        Question::List => {
            let page = tasks.list_tasks(v1::ListTasksRequest::default()).await?;
            Answer::Tasks(page.into_inner().tasks)
        }
        Question::Executions(task_id) => {
            let request = v1::ListExecutionsRequest { task_id, ..Default::default() };
            Answer::Executions(tasks.list_executions(request).await?.into_inner().executions)
        }
    })
}

fn many(answers: v1::SubmitTasksResponse) -> Answer {
    let each = answers.results.into_iter().map(|result| match (result.accepted, result.error) {
        (Some(accepted), _) => Ok((accepted.id, accepted.created)),
        (None, error) => Err(error.map(|error| error.reason).unwrap_or_default()),
    });
    Answer::Accepted(each.collect())
}

async fn by_http(place: usize, question: &Question) -> Answer {
    let (method, path, body) = match question {
        Question::Submit(spec) => ("POST", "/v1/tasks".to_owned(), json(&**spec)),
        Question::Batch(specs) => {
            let request = v1::SubmitTasksRequest { tasks: specs.clone(), ..Default::default() };
            ("POST", "/v1/tasks/batch".to_owned(), json(&request))
        }
        Question::Look(id) => ("GET", format!("/v1/tasks/{id}"), None),
        Question::Wait(id, ms) => ("GET", format!("/v1/tasks/{id}/wait?timeout={ms}ms"), None),
        Question::Cancel(id) => ("POST", format!("/v1/tasks/{id}/cancel"), None),
        Question::Trigger(id) => ("POST", format!("/v1/tasks/{id}/trigger"), None),
        Question::Delete(id, cancel) => ("DELETE", format!("/v1/tasks/{id}?cancel={cancel}"), None),
        Question::List => ("GET", "/v1/tasks".to_owned(), None),
        Question::Executions(id) => ("GET", format!("/v1/tasks/{id}/executions"), None),
    };
    let Ok((status, body)) = http::ask(cluster::http(place), method, &path, body).await else {
        return Answer::Refused(CUT.to_owned());
    };
    if status >= 400 {
        let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let reason = problem.as_ref().and_then(|it| it["reason"].as_str());
        return Answer::Refused(reason.unwrap_or("INTERNAL").to_owned());
    }
    let read = match question {
        Question::Submit(_) => {
            read::<v1::Task>(&body).map(|task| Answer::Accepted(vec![Ok((task.id, status == 201))]))
        }
        Question::Batch(_) => read(&body).map(many),
        Question::Look(_) | Question::Cancel(_) | Question::Trigger(_) | Question::Delete(..) => {
            read(&body).map(|task| Answer::Task(Box::new(task)))
        }
        Question::Wait(..) => read::<v1::WaitTaskResponse>(&body)
            .map(|it| Answer::Waited(it.done, Box::new(it.task.unwrap_or_default()))),
        Question::List => read::<v1::ListTasksResponse>(&body).map(|it| Answer::Tasks(it.tasks)),
        Question::Executions(_) => {
            read::<v1::ListExecutionsResponse>(&body).map(|it| Answer::Executions(it.executions))
        }
    };
    read.unwrap_or_else(|error| Answer::Refused(format!("INTERNAL {error}")))
}

fn json(message: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(message).ok()
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Whether a submit that was refused so is repeated with the same id.
pub fn may_try_again(reason: &str) -> bool {
    [CUT, "OUTCOME_UNKNOWN", "NO_LEADER", "UNAVAILABLE", "QUEUE_FULL"].contains(&reason)
}
