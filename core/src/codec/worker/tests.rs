//! The wire against itself, and its bounds.

use alloc::vec;

use bytes::Bytes;
use prost::Message;

use super::*;

fn worker_frames() -> Vec<WorkerFrame> {
    vec![
        WorkerFrame::Hello(Hello {
            name: "w1".into(),
            instance: InstanceId(u64::MAX),
            slots: 16,
            kinds: vec!["exec".into(), "resize".into()],
            queues: vec!["mail".into()],
            labels: vec!["zone=a".into()],
            tokens: vec![Token(5), Token(9)],
            draining: true,
        }),
        WorkerFrame::Heartbeat { seq: 7, tokens: vec![Token(1)] },
        WorkerFrame::Started(vec![(Token(1), Timestamp::from_micros(-3))]),
        WorkerFrame::Reports(vec![report(Bytes::from_static(b"{}"))]),
        WorkerFrame::Output {
            token: Token(3),
            offset: 12,
            data: Bytes::from_static(b"hi"),
            end: true,
        },
        WorkerFrame::Draining,
    ]
}

fn report(output: Bytes) -> Report {
    Report {
        token: Token(4),
        outcome: AttemptOutcome::Failed,
        started_at: None,
        finished_at: Some(Timestamp::from_micros(8)),
        exit_code: Some(-9),
        retryable: false,
        output,
        error: "killed".into(),
        tail: Bytes::from_static(b"tail"),
    }
}

fn leader_frames() -> Vec<LeaderFrame> {
    vec![
        LeaderFrame::Welcome {
            session: SessionId(3),
            lease_ttl_ms: 15_000,
            heartbeat_ms: 3_000,
            extends: vec![Token(4)],
        },
        LeaderFrame::NotLeader { leader: None },
        LeaderFrame::NotLeader { leader: Some((NodeId(2), "b:7100".into())) },
        LeaderFrame::Refused { reason: "no".into() },
        LeaderFrame::Open(vec![Assignment {
            token: Token((1 << 53) - 1),
            task_id: "t".into(),
            task_name: "".into(),
            run: RunNumber(1),
            attempt: 2,
            kind: "exec".into(),
            payload: Bytes::from_static(b"{}"),
            scheduled_for: Timestamp::from_micros(55),
            run_timeout_ms: 1_000,
        }]),
        LeaderFrame::Renewed { seq: 7, extends: vec![] },
        LeaderFrame::Stop { token: Token(1), why: StopWhy::TimedOut },
        LeaderFrame::Acknowledged(vec![(Token(1), Token(1)), (Token(4), Token(90))]),
        LeaderFrame::Follow { token: Token(1), offset: 100 },
        LeaderFrame::Unfollow { token: Token(1) },
    ]
}

#[test]
fn every_worker_frame_survives_the_wire() {
    for frame in worker_frames() {
        let bytes = encode_worker_frame(Some(SessionId(2)), frame.clone()).encode_to_vec();
        let message = pb::WorkerToLeader::decode(bytes.as_slice()).expect("own bytes");
        assert_eq!(decode_worker_frame(message), Ok((Some(SessionId(2)), frame)));
    }
}

#[test]
fn every_leader_frame_survives_the_wire() {
    for frame in leader_frames() {
        let bytes = encode_leader_frame(frame.clone()).encode_to_vec();
        let message = pb::LeaderToWorker::decode(bytes.as_slice()).expect("own bytes");
        assert_eq!(decode_leader_frame(message), Ok(frame));
    }
}

#[test]
fn an_empty_message_is_refused() {
    assert_eq!(decode_worker_frame(pb::WorkerToLeader::default()), Err(FrameError::Unknown));
    assert_eq!(decode_leader_frame(pb::LeaderToWorker::default()), Err(FrameError::Unknown));
}

#[test]
fn an_oversize_result_is_turned_into_a_failure_not_refused() {
    let mut sent = report(Bytes::from(vec![b'x'; limits::RESULT_BYTES_MAX + 1]));
    sent.outcome = AttemptOutcome::Succeeded;
    sent.retryable = true;
    let message = encode_worker_frame(None, WorkerFrame::Reports(vec![sent]));
    let Ok((None, WorkerFrame::Reports(got))) = decode_worker_frame(message) else {
        panic!("a report is never refused");
    };
    assert_eq!((got[0].outcome, got[0].retryable), (AttemptOutcome::Failed, false));
    assert!(got[0].error.starts_with("RESULT_TOO_LARGE"), "{}", got[0].error);
    assert!(got[0].output.is_empty());
    assert_eq!(&got[0].tail[..], b"tail");
}

#[test]
fn bounds_name_their_field() {
    let hello = |change: fn(&mut pb::WorkerHello)| {
        let mut hello = encode_hello(match worker_frames().swap_remove(0) {
            WorkerFrame::Hello(hello) => hello,
            _ => panic!("the first is the hello"),
        });
        change(&mut hello);
        decode_hello(hello).map(|_| ())
    };
    assert_eq!(hello(|h| h.slots = 0), Err(FrameError::Invalid { field: "slots" }));
    assert_eq!(hello(|h| h.name.clear()), Err(FrameError::Invalid { field: "name" }));
    assert_eq!(
        hello(|h| h.name = "é".repeat(129)),
        Err(FrameError::TooLong { field: "name", len: 129, max: 128 })
    );
    assert_eq!(hello(|h| h.name = "é".repeat(128)), Ok(()));
    assert_eq!(hello(|h| h.tokens = vec![1 << 53]), Err(FrameError::Invalid { field: "token" }));
}
