//! Tasks that have ended and left memory: triggered, retried and deleted as history tells of them
//! (P8.5).

use dtask_proto::v1;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use super::nodes::{Nodes, answered, submit, task};
use crate::api::Fault;

type Tasks = TaskServiceClient<Channel>;

/// Until history has everything, so that what has ended is in memory no more.
async fn stored(cluster: &Nodes) {
    cluster
        .until("history comes level", async || {
            (cluster.view(0).await.history_lag == 0).then_some(())
        })
        .await;
}

async fn ended(cluster: &Nodes, client: &mut Tasks, id: &str) -> v1::Task {
    let wait = v1::WaitTaskRequest { id: id.to_owned(), run: None, timeout: Some(60_000) };
    let waited = answered(async || client.wait_task(wait.clone()).await).await;
    let waited = waited.expect("it is known");
    assert!(waited.done, "{waited:?}");
    stored(cluster).await;
    waited.task.expect("a task")
}

fn retry(id: &str, run: Option<u32>, request_id: &str) -> v1::RetryTaskRequest {
    v1::RetryTaskRequest { id: id.to_owned(), run, request_id: request_id.to_owned(), retry: false }
}

fn reason(status: &tonic::Status) -> String {
    Fault::from_status(status).map_or_else(String::new, |fault| fault.0.reason)
}

#[tokio::test]
async fn task_that_history_alone_has_is_retried_triggered_and_deleted() {
    let mut cluster = Nodes::start(1, None);
    let _worker = cluster.worker();
    let mut client = cluster.tasks(0).await;
    submit(&mut client, task("a", "noop")).await;
    let first = ended(&cluster, &mut client, "a").await;
    cluster.stop(0).await;
    cluster.restart(0);
    cluster.leader().await;
    let mut client = cluster.tasks(0).await;

    let again = client.retry_task(retry("a", None, "r1")).await.expect("it runs").into_inner();
    let latest = again.last_run.expect("a run");
    assert_eq!((latest.run, latest.retry_of, latest.cause()), (2, Some(1), v1::RunCause::Trigger));
    assert_eq!((again.incarnation, again.runs_count), (first.incarnation, 2));
    let done = ended(&cluster, &mut client, "a").await;
    assert_eq!(done.status(), v1::TaskStatus::Succeeded);
    // The same request once more: the same answer, no third run.
    let repeat = client.retry_task(retry("a", None, "r1")).await.expect("known").into_inner();
    assert_eq!(repeat.runs_count, 2);
    let reused = client.retry_task(retry("a", Some(1), "r1")).await.expect_err("another request");
    assert_eq!(reason(&reused), "IDEMPOTENCY_KEY_REUSED");
    let none = client.retry_task(retry("a", Some(7), "")).await.expect_err("no such run");
    assert_eq!((none.code(), reason(&none).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));

    let trigger = v1::TriggerTaskRequest { id: "a".to_owned(), ..Default::default() };
    let third = client.trigger_task(trigger).await.expect("it runs").into_inner();
    assert_eq!(third.runs_count, 3);
    ended(&cluster, &mut client, "a").await;
    let list = v1::ListRunsRequest { task_id: "a".to_owned(), ..Default::default() };
    let runs = client.list_runs(list).await.expect("known").into_inner().runs;
    let runs: Vec<_> = runs.into_iter().map(|run| (run.run, run.retry_of, run.status())).collect();
    let good = v1::TaskStatus::Succeeded;
    assert_eq!(runs, [(1, None, good), (2, Some(1), good), (3, None, good)]);

    let delete = v1::DeleteTaskRequest { id: "a".to_owned(), cancel: false };
    let was = client.delete_task(delete).await.expect("what has ended is removed").into_inner();
    assert_eq!((was.id.as_str(), was.runs_count), ("a", 3));
    // Before history has heard of it, and afterwards.
    for _ in 0..2 {
        let trigger = v1::TriggerTaskRequest { id: "a".to_owned(), ..Default::default() };
        let gone = client.trigger_task(trigger).await.expect_err("it is deleted");
        assert_eq!(gone.code(), Code::NotFound);
        stored(&cluster).await;
    }
    cluster.stop_all().await;
}

/// P8.3: what a request id stands for does not depend on what became of its task.
#[tokio::test]
async fn request_id_is_recognised_when_its_task_is_in_memory_no_more() {
    let cluster = Nodes::start(1, None);
    cluster.leader().await;
    let mut client = cluster.tasks(0).await;
    let cancel = |id: &str, request_id: &str| v1::CancelTaskRequest {
        id: id.to_owned(),
        run: None,
        request_id: request_id.to_owned(),
        retry: true,
    };
    submit(&mut client, task("a", "noop")).await;
    client.cancel_task(cancel("a", "c1")).await.expect("it waits for a worker");
    let _worker = cluster.worker();
    client.retry_task(retry("a", None, "r1")).await.expect("it runs again");
    ended(&cluster, &mut client, "a").await;

    let again = client.cancel_task(cancel("a", "c1")).await.expect("it was cancelled then");
    let again = again.into_inner();
    assert_eq!((again.status(), again.runs_count), (v1::TaskStatus::Succeeded, 2));
    let again = client.retry_task(retry("a", None, "r1")).await.expect("it ran again then");
    assert_eq!(again.into_inner().runs_count, 2);
    let trigger = v1::TriggerTaskRequest {
        id: "a".to_owned(),
        request_id: "c1".to_owned(),
        ..Default::default()
    };
    for other in [
        client.cancel_task(cancel("a", "r1")).await.expect_err("a retry's"),
        client.cancel_task(cancel("nobody", "c1")).await.expect_err("another task's"),
        client.retry_task(retry("nobody", None, "r1")).await.expect_err("another task's"),
        client.trigger_task(trigger).await.expect_err("a cancel's"),
    ] {
        assert_eq!(reason(&other), "IDEMPOTENCY_KEY_REUSED");
    }
    let late = client.cancel_task(cancel("a", "c2")).await.expect_err("it has ended");
    assert_eq!(reason(&late), "TERMINAL");
    let nobody = client.cancel_task(cancel("nobody", "c3")).await.expect_err("nobody");
    assert_eq!(nobody.code(), Code::NotFound);
    cluster.stop_all().await;
}

#[tokio::test]
async fn database_that_is_away_is_unavailable_and_never_not_found() {
    let mut cluster = Nodes::start(1, None);
    let _worker = cluster.worker();
    let mut client = cluster.tasks(0).await;
    submit(&mut client, task("a", "noop")).await;
    ended(&cluster, &mut client, "a").await;
    cluster.stop(0).await;
    cluster.spoil_history();
    cluster.restart(0);
    cluster.leader().await;
    let mut client = cluster.tasks(0).await;
    let trigger = v1::TriggerTaskRequest { id: "a".to_owned(), ..Default::default() };
    let delete = v1::DeleteTaskRequest { id: "a".to_owned(), cancel: false };
    for away in [
        client.trigger_task(trigger).await.expect_err("nobody can tell what it was"),
        client.retry_task(retry("a", None, "")).await.expect_err("nobody can tell what it was"),
        client.delete_task(delete).await.expect_err("nobody can tell what it was"),
    ] {
        assert_eq!(
            (away.code(), reason(&away).as_str()),
            (Code::Unavailable, "HISTORY_UNAVAILABLE")
        );
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn follower_hands_a_retry_on_to_the_leader() {
    let cluster = Nodes::start(3, None);
    let _worker = cluster.worker();
    let leader = cluster.leader().await;
    let mut client = cluster.tasks(leader).await;
    submit(&mut client, task("a", "noop")).await;
    ended(&cluster, &mut client, "a").await;
    let mut other = cluster.tasks((leader + 1) % 3).await;
    let again = answered(async || other.retry_task(retry("a", None, "r1")).await).await;
    assert_eq!(again.expect("it runs").runs_count, 2);
    cluster.stop_all().await;
}
