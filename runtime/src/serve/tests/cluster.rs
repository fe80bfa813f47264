//! Three nodes over loopback gRPC: submit, forward, read, run, restart, catch up.

use dtask_core::limits;
use dtask_proto::v1;

use super::nodes::{Nodes, answered, submit, submit_all, task};

#[tokio::test]
async fn every_node_takes_submits_and_answers_reads() {
    let cluster = Nodes::start(3, None);
    for at in 0..3 {
        let mut client = cluster.tasks(at).await;
        let accepted = submit(&mut client, task(&format!("from-{at}"), "noop")).await;
        assert_eq!(accepted.id, format!("from-{at}"));
    }
    for at in 0..3 {
        let mut client = cluster.tasks(at).await;
        let look = v1::GetTaskRequest { id: "from-1".to_owned(), stale: false };
        let got = answered(async || client.get_task(look.clone()).await).await;
        assert_eq!(got.expect("any node reads").r#type, "noop");
        let again = submit(&mut client, task("from-0", "noop")).await;
        assert!(!again.created, "the same id and spec was accepted before");
        let request =
            v1::SubmitTaskRequest { task: Some(task("from-0", "other")), ..Default::default() };
        let conflict = answered(async || client.submit_task(request.clone()).await).await;
        let conflict = conflict.expect_err("another spec");
        assert_eq!(conflict.code(), tonic::Code::AlreadyExists);
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn request_id_makes_one_task_wherever_it_is_asked() {
    let cluster = Nodes::start(3, None);
    let keyed = |task, request_id: &str| v1::SubmitTaskRequest {
        task: Some(task),
        request_id: request_id.to_owned(),
        retry: false,
    };
    for at in 0..3 {
        let mut client = cluster.tasks(at).await;
        let mut ask = async |request: v1::SubmitTaskRequest| {
            answered(async || client.submit_task(request.clone()).await).await
        };
        let accepted = ask(keyed(task("", "noop"), "order-17")).await.expect("it is legal");
        assert_eq!(accepted.id, "order-17");
        let named = ask(keyed(task("own", "noop"), "order-18")).await.expect("it is legal");
        assert_eq!(named.id, "own");
        // The first node may have been asked twice, when a leader went.
        assert!(at == 0 || !accepted.created && !named.created);
        for other in
            [keyed(task("", "other"), "order-17"), keyed(task("own-2", "noop"), "order-18")]
        {
            let refused = ask(other).await.expect_err("another request");
            let fault = crate::api::Fault::from_status(&refused).expect("a node's own word");
            assert_eq!(refused.code(), tonic::Code::AlreadyExists);
            assert_eq!(fault.0.reason, "IDEMPOTENCY_KEY_REUSED");
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn worker_runs_a_task_and_any_node_shows_it() {
    let cluster = Nodes::start(3, None);
    let _worker = cluster.worker();
    let follower = (cluster.leader().await + 1) % 3;
    let mut client = cluster.tasks(follower).await;
    submit(&mut client, task("greet", "hello")).await;
    let wait = v1::WaitTaskRequest { id: "greet".to_owned(), run: None, timeout: Some(60_000) };
    let done = answered(async || client.wait_task(wait.clone()).await).await.expect("it ends");
    assert!(done.done);
    let ended = done.task.expect("with the task");
    assert_eq!(ended.status(), v1::TaskStatus::Succeeded);
    let list = v1::ListExecutionsRequest {
        task_id: "greet".to_owned(),
        ..v1::ListExecutionsRequest::default()
    };
    let list = answered(async || client.list_executions(list.clone()).await).await;
    let list = list.expect("a follower lists");
    let [execution] = &list.executions[..] else { panic!("{list:?}") };
    assert_eq!((execution.worker_id.as_str(), execution.attempt), ("w1", 1));
    assert_eq!(&execution.output[..], b"\"done\"");
    let logs =
        v1::StreamLogsRequest { task_id: "greet".to_owned(), ..v1::StreamLogsRequest::default() };
    let mut chunks = client.stream_logs(logs).await.expect("a follower has logs").into_inner();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.message().await.expect("the log is whole") {
        text.extend_from_slice(&chunk.data);
    }
    assert_eq!(text, b"hello from the handler\n");
    cluster.stop_all().await;
}

#[tokio::test]
async fn cluster_goes_on_without_its_leader_and_takes_it_back() {
    let mut cluster = Nodes::start(3, None);
    let leader = cluster.leader().await;
    submit(&mut cluster.tasks(leader).await, task("before", "noop")).await;
    cluster.stop(leader).await;
    let other = (leader + 1) % 3;
    submit(&mut cluster.tasks(other).await, task("between", "noop")).await;
    cluster.restart(leader);
    cluster.converge().await;
    let mut client = cluster.tasks(leader).await;
    for id in ["before", "between"] {
        let look = v1::GetTaskRequest { id: id.to_owned(), stale: true };
        client.get_task(look).await.expect("it came back with everything");
    }
    cluster.stop_all().await;
}

/// P3.6: also nodes that have never led are known by where they advertise themselves.
#[tokio::test]
async fn every_node_is_shown_with_both_its_addresses() {
    let cluster = Nodes::start(3, None);
    for at in 0..3 {
        cluster
            .until("every address is agreed", async || {
                let nodes = cluster.view(at).await.nodes;
                let known = |node: &v1::Node| !node.grpc.is_empty() && !node.http.is_empty();
                (nodes.len() == 3 && nodes.iter().all(known)).then_some(())
            })
            .await;
        let nodes = cluster.view(at).await.nodes;
        for (node, other) in nodes.iter().zip(0..) {
            assert_eq!(node.http, cluster.http(other).to_string());
        }
    }
    cluster.stop_all().await;
}

/// P1.3: the largest task, the largest batch by bytes and by count, through every path there is:
/// forwarded, agreed, sent to peers, written, and read back at a restart.
#[tokio::test]
async fn largest_task_and_largest_batches_reach_every_node_and_outlive_a_restart() {
    let mut cluster = Nodes::start(3, None);
    let follower = (cluster.leader().await + 1) % 3;
    let mut client = cluster.tasks(follower).await;
    let heavy = |id: &str, bytes: usize| v1::TaskSpec {
        payload: vec![b'x'; bytes].into(),
        ..task(id, "noop")
    };
    submit(&mut client, heavy("largest", limits::PAYLOAD_BYTES_MAX)).await;
    let each = limits::BATCH_BYTES_MAX / 4;
    for (name, count, bytes) in [("heavy", 4, each), ("many", limits::BATCH_TASKS_MAX, 0)] {
        let tasks = (0..count).map(|n| heavy(&format!("{name}-{n}"), bytes));
        assert_eq!(submit_all(&mut client, tasks).await.len(), count);
    }
    cluster.stop(follower).await;
    cluster.restart(follower);
    cluster.converge().await;
    let last = format!("many-{}", limits::BATCH_TASKS_MAX - 1);
    for at in 0..3 {
        let mut client = cluster.tasks(at).await;
        for (id, bytes) in [("largest", limits::PAYLOAD_BYTES_MAX), ("heavy-3", each), (&last, 0)] {
            let look = v1::GetTaskRequest { id: id.to_owned(), stale: true };
            let got = client.get_task(look).await.expect("every node has it").into_inner();
            assert_eq!(got.payload.len(), bytes);
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn node_behind_the_log_catches_up_by_snapshot() {
    let mut cluster = Nodes::start(3, Some(32 << 10));
    let leader = cluster.leader().await;
    let absent = (leader + 1) % 3;
    submit(&mut cluster.tasks(leader).await, task("first", "noop")).await;
    cluster.stop(absent).await;
    let mut client = cluster.tasks((leader + 2) % 3).await;
    // Snapshots are taken while the node is away, and the log before them goes.
    for batch in 0..20 {
        let tasks = (0..100).map(|n| v1::TaskSpec {
            payload: vec![b'x'; 200].into(),
            ..task(&format!("t-{batch}-{n}"), "noop")
        });
        submit_all(&mut client, tasks).await;
    }
    cluster.restart(absent);
    cluster.converge().await;
    let look = v1::GetTaskRequest { id: "t-19-99".to_owned(), stale: true };
    cluster.tasks(absent).await.get_task(look).await.expect("it has the newest");
    cluster.stop_all().await;
}

#[tokio::test]
async fn node_tells_its_health_and_its_schema() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let cluster = Nodes::start(1, None);
    let channel = cluster.channel(0).await;
    let request = HealthCheckRequest { service: "dtask.v1.TaskService".to_owned() };
    let health = HealthClient::new(channel.clone()).check(request).await.expect("it answers");
    assert_eq!(health.into_inner().status(), ServingStatus::Serving);
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = ServerReflectionClient::new(channel)
        .server_reflection_info(futures_util::stream::iter([question]))
        .await
        .expect("it answers");
    let answer = answers.into_inner().message().await.expect("it is whole").expect("one answer");
    let ServerReflectionResponse {
        message_response: Some(MessageResponse::ListServicesResponse(list)),
        ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"dtask.v1.WorkerService"), "{names:?}");
    cluster.stop_all().await;
}
