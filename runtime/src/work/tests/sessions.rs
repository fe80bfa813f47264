//! A worker against a server that speaks the leader's half of the protocol by hand.

use std::net::SocketAddr;
use std::time::Duration;

use dtask_core::codec::worker::{decode_worker_frame, encode_leader_frame};
use dtask_core::id::{InstanceId, NodeId, SessionId};
use dtask_core::spec::{AttemptOutcome, StopWhy};
use dtask_core::worker::{Hello, LeaderFrame, Report, WorkerFrame};
use dtask_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use dtask_proto::v1::{LeaderToWorker, WorkerToLeader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::work::{Drained, Handlers, WorkConfig, WorkError, run};

/// A session as the leader sees it.
struct Session {
    incoming: Streaming<WorkerToLeader>,
    outgoing: mpsc::Sender<Result<LeaderToWorker, Status>>,
}

struct Service {
    sessions: mpsc::Sender<Session>,
}

#[tonic::async_trait]
impl WorkerService for Service {
    type SessionStream = ReceiverStream<Result<LeaderToWorker, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<WorkerToLeader>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outgoing, queue) = mpsc::channel(64);
        let session = Session { incoming: request.into_inner(), outgoing };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

impl Session {
    async fn hear(&mut self) -> (Option<SessionId>, WorkerFrame) {
        let message = tokio::time::timeout(Duration::from_secs(30), self.incoming.message()).await;
        let message = message.expect("a frame within 30 s").expect("a live stream");
        decode_worker_frame(message.expect("a frame before the end")).expect("a legal frame")
    }

    async fn hello(&mut self) -> Hello {
        match self.hear().await {
            (None, WorkerFrame::Hello(hello)) => hello,
            other => panic!("{other:?} instead of a hello"),
        }
    }

    /// The next reports, whatever else is said before.
    async fn reports(&mut self) -> Vec<Report> {
        loop {
            if let (_, WorkerFrame::Reports(list)) = self.hear().await {
                return list;
            }
        }
    }

    async fn say(&self, frame: LeaderFrame) {
        self.outgoing.send(Ok(encode_leader_frame(frame))).await.expect("a live stream");
    }

    async fn welcome(&self, extends: Vec<Token>) {
        let session = SessionId(9);
        self.say(LeaderFrame::Welcome {
            session,
            lease_ttl_ms: 15_000,
            heartbeat_ms: 200,
            extends,
        })
        .await;
    }

    async fn acknowledge(&self, list: &[Report]) {
        let ranges = list.iter().map(|report| (report.token, report.token)).collect();
        self.say(LeaderFrame::Acknowledged(ranges)).await;
    }

    /// Renews whatever is asked until the stream ends.
    async fn renew_until_end(mut self) {
        while let Ok(Some(message)) = self.incoming.message().await {
            let frame = decode_worker_frame(message).expect("a legal frame").1;
            if let WorkerFrame::Heartbeat { seq, tokens } = frame {
                self.say(LeaderFrame::Renewed { seq, extends: tokens }).await;
            }
        }
    }
}

/// A server; sessions come out of the channel.
async fn server() -> (SocketAddr, mpsc::Receiver<Session>, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (sessions, queue) = mpsc::channel(8);
    let task = tokio::spawn(async move {
        tonic::transport::Server::builder()
            .add_service(WorkerServiceServer::new(Service { sessions }))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .expect("the server serves");
    });
    (address, queue, task)
}

fn work(
    servers: &[SocketAddr],
    handlers: Handlers,
) -> (JoinHandle<Result<Drained, WorkError>>, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let config = WorkConfig {
        name: "w1".into(),
        instance: InstanceId(77),
        servers: servers.iter().map(SocketAddr::to_string).collect(),
        slots: 4_000,
        queues: vec![],
        labels: vec![],
        drain_timeout: Duration::from_secs(5),
        handlers,
    };
    let task = tokio::spawn(run(config, async {
        let _ = stopped.await;
    }));
    (task, stop)
}

async fn next(sessions: &mut mpsc::Receiver<Session>) -> Session {
    let session = tokio::time::timeout(Duration::from_secs(30), sessions.recv()).await;
    session.expect("a session within 30 s").expect("the server lives")
}

#[tokio::test]
async fn attempts_travel_from_open_to_acknowledgement_and_a_drained_worker_ends() {
    let (address, mut sessions, _server) = server().await;
    let (worker, stop) = work(&[address], Handlers::new().exec().expect("the first"));
    let mut session = next(&mut sessions).await;
    let hello = session.hello().await;
    assert_eq!((&*hello.name, hello.slots), ("w1", 4_000));
    assert_eq!(hello.kinds, ["exec".into()]);
    session.welcome(vec![]).await;
    session.say(LeaderFrame::Open(vec![assignment(5, "exec", script("echo hi"))])).await;
    let reports = session.reports().await;
    assert_eq!((reports[0].token, reports[0].outcome), (Token(5), AttemptOutcome::Succeeded));
    assert_eq!(&reports[0].output[..], b"\"hi\"");
    assert_eq!(&reports[0].tail[..], b"hi\n");
    session.acknowledge(&reports).await;
    stop.send(()).expect("the worker lives");
    session.renew_until_end().await;
    let drained = worker.await.expect("no panic").expect("no error");
    assert_eq!(drained, Drained { unacknowledged: 0 });
}

#[tokio::test]
async fn a_result_survives_a_broken_connection() {
    let (address, mut sessions, _server) = server().await;
    let (_worker, _stop) = work(&[address], Handlers::new().exec().expect("the first"));
    let mut session = next(&mut sessions).await;
    session.hello().await;
    session.welcome(vec![]).await;
    session.say(LeaderFrame::Open(vec![assignment(5, "exec", script("sleep 0.5"))])).await;
    while !matches!(session.hear().await.1, WorkerFrame::Started(_)) {}
    drop(session);
    let mut session = next(&mut sessions).await;
    assert_eq!(session.hello().await.tokens, [Token(5)]);
    session.welcome(vec![Token(5)]).await;
    let reports = session.reports().await;
    assert_eq!((reports[0].token, reports[0].outcome), (Token(5), AttemptOutcome::Succeeded));
}

#[tokio::test]
async fn a_follower_sends_the_worker_to_the_leader() {
    let (follower, mut at_follower, _one) = server().await;
    let (leader, mut at_leader, _two) = server().await;
    let handlers = Handlers::new().noop("noop").expect("the first");
    let (_worker, _stop) = work(&[follower], handlers);
    let mut session = next(&mut at_follower).await;
    session.hello().await;
    let hint = Some((NodeId(2), leader.to_string().into()));
    session.say(LeaderFrame::NotLeader { leader: hint }).await;
    next(&mut at_leader).await.hello().await;
}

#[tokio::test]
async fn a_cancelled_process_is_stopped_and_its_output_was_watched() {
    let (address, mut sessions, _server) = server().await;
    let (_worker, _stop) = work(&[address], Handlers::new().exec().expect("the first"));
    let mut session = next(&mut sessions).await;
    session.hello().await;
    session.welcome(vec![]).await;
    let shell = script("echo working; sleep 300");
    session.say(LeaderFrame::Open(vec![assignment(5, "exec", shell)])).await;
    session.say(LeaderFrame::Follow { token: Token(5), offset: 0 }).await;
    loop {
        if let (_, WorkerFrame::Output { data, offset, .. }) = session.hear().await {
            assert_eq!((&data[..], offset), (&b"working\n"[..], 0));
            break;
        }
    }
    session.say(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled }).await;
    let reports = session.reports().await;
    assert_eq!(reports[0].outcome, AttemptOutcome::Cancelled);
    assert_eq!(reports[0].exit_code, Some(-15));
}

#[tokio::test]
async fn a_thousand_noops_come_back_in_few_frames() {
    let (address, mut sessions, _server) = server().await;
    let handlers = Handlers::new().noop("noop").expect("the first");
    let (_worker, _stop) = work(&[address], handlers);
    let mut session = next(&mut sessions).await;
    session.hello().await;
    session.welcome(vec![]).await;
    let list = (1..=1_000).map(|token| assignment(token, "noop", "")).collect();
    session.say(LeaderFrame::Open(list)).await;
    let (mut got, mut frames) = (0, 0);
    while got < 1_000 {
        let reports = session.reports().await;
        assert!(reports.iter().all(|report| report.outcome == AttemptOutcome::Succeeded));
        got += reports.len();
        frames += 1;
    }
    assert!(frames <= 2, "{frames} frames");
}

#[tokio::test]
async fn a_full_frame_of_large_payloads_passes() {
    let (address, mut sessions, _server) = server().await;
    let handlers = Handlers::new().noop("noop").expect("the first");
    let (_worker, _stop) = work(&[address], handlers);
    let mut session = next(&mut sessions).await;
    session.hello().await;
    session.welcome(vec![]).await;
    // Above tonic's own limit of 4 MiB (P1.3).
    let payload = Bytes::from(vec![b'x'; dtask_core::limits::PAYLOAD_BYTES_MAX]);
    let list = (1..=12).map(|token| assignment(token, "noop", payload.clone())).collect();
    session.say(LeaderFrame::Open(list)).await;
    assert_eq!(session.reports().await.len(), 12);
}

#[tokio::test]
async fn a_refusal_for_good_is_an_error() {
    let (address, mut sessions, _server) = server().await;
    let handlers = Handlers::new().noop("noop").expect("the first");
    let (worker, _stop) = work(&[address], handlers);
    let mut session = next(&mut sessions).await;
    session.hello().await;
    session.say(LeaderFrame::Refused { reason: "too many workers".into() }).await;
    let error = worker.await.expect("no panic").expect_err("refused");
    assert_eq!(error.to_string(), "the cluster refuses this worker: too many workers");
}

#[tokio::test]
async fn a_worker_with_nothing_to_run_is_told_so() {
    let (address, _sessions, _server) = server().await;
    let (worker, _stop) = work(&[address], Handlers::new());
    let error = worker.await.expect("no panic").expect_err("no handler");
    assert!(error.to_string().contains("nothing to run"), "{error}");
}
