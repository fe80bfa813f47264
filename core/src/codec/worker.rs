//! Frames of a worker's session ([`crate::worker::frame`]) to the generated messages of
//! `worker.proto` and back.
//!
//! Encoding cannot fail. Decoding checks every bound that the protocol names, except in reports:
//! those are never refused (P7.8); what is too large becomes `Failed`, what is too long is cut.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use dtask_proto::v1 as pb;
use dtask_proto::v1::leader_to_worker::Frame as ToWorker;
use dtask_proto::v1::worker_to_leader::Frame as ToLeader;

use crate::id::{InstanceId, NodeId, RunNumber, SessionId, Token};
use crate::limits;
use crate::spec::{AttemptOutcome, StopWhy};
use crate::time::Timestamp;
use crate::worker::frame::{Assignment, Hello, LeaderFrame, Report, WorkerFrame};

/// Why a message is not a frame. The sender's mistake: the receiver ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The oneof is empty or holds something newer than this program.
    #[error("the message holds no frame that this version knows")]
    Unknown,
    /// A field is empty, zero or out of its range.
    #[error("{field} is missing or out of range")]
    Invalid {
        /// Its name in the schema.
        field: &'static str,
    },
    /// A field is longer than its bound.
    #[error("{field} holds {len}, at most {max} are allowed")]
    TooLong {
        /// Its name in the schema.
        field: &'static str,
        /// How many elements, characters or bytes came.
        len: usize,
        /// How many may.
        max: usize,
    },
}

/// Wraps a worker's frame for the wire. `session` is `None` in the Hello alone.
pub fn encode_worker_frame(session: Option<SessionId>, frame: WorkerFrame) -> pb::WorkerToLeader {
    let frame = match frame {
        WorkerFrame::Hello(hello) => ToLeader::Hello(encode_hello(hello)),
        WorkerFrame::Heartbeat { seq, tokens } => {
            ToLeader::Heartbeat(pb::WorkerHeartbeat { seq, tokens: numbers(tokens) })
        }
        WorkerFrame::Started(list) => ToLeader::Started(pb::WorkerStarted {
            attempts: list
                .into_iter()
                .map(|(token, at)| pb::StartedAttempt {
                    token: token.0,
                    started_at_us: at.as_micros(),
                })
                .collect(),
        }),
        WorkerFrame::Reports(list) => ToLeader::Reports(pb::WorkerReports {
            reports: list.into_iter().map(encode_report).collect(),
        }),
        WorkerFrame::Output { token, offset, data, end } => {
            ToLeader::Output(pb::WorkerOutput { token: token.0, offset, data, end })
        }
        WorkerFrame::Draining => ToLeader::Draining(pb::WorkerDraining {}),
    };
    pb::WorkerToLeader { session: session.map_or(0, |s| s.0), frame: Some(frame) }
}

/// Reads a worker's message: the session that it names (`None` for zero) and what it says.
///
/// # Errors
/// When it is no frame or breaks a bound; the session ends.
pub fn decode_worker_frame(
    message: pb::WorkerToLeader,
) -> Result<(Option<SessionId>, WorkerFrame), FrameError> {
    let session = (message.session != 0).then_some(SessionId(message.session));
    let frame = match message.frame.ok_or(FrameError::Unknown)? {
        ToLeader::Hello(hello) => WorkerFrame::Hello(decode_hello(hello)?),
        ToLeader::Heartbeat(beat) => {
            WorkerFrame::Heartbeat { seq: beat.seq, tokens: tokens("tokens", beat.tokens)? }
        }
        ToLeader::Started(started) => {
            bounded("attempts", started.attempts.len(), limits::WORKER_HELD_MAX)?;
            WorkerFrame::Started(
                started
                    .attempts
                    .into_iter()
                    .map(|s| Ok((token(s.token)?, Timestamp::from_micros(s.started_at_us))))
                    .collect::<Result<_, FrameError>>()?,
            )
        }
        ToLeader::Reports(reports) => {
            bounded("reports", reports.reports.len(), limits::WORKER_HELD_MAX)?;
            WorkerFrame::Reports(
                reports.reports.into_iter().map(decode_report).collect::<Result<_, _>>()?,
            )
        }
        ToLeader::Output(piece) => {
            bounded("data", piece.data.len(), limits::RESULT_BYTES_MAX)?;
            WorkerFrame::Output {
                token: token(piece.token)?,
                offset: piece.offset,
                data: piece.data,
                end: piece.end,
            }
        }
        ToLeader::Draining(pb::WorkerDraining {}) => WorkerFrame::Draining,
    };
    Ok((session, frame))
}

/// Wraps a leader's frame for the wire.
pub fn encode_leader_frame(frame: LeaderFrame) -> pb::LeaderToWorker {
    let frame = match frame {
        LeaderFrame::Welcome { session, lease_ttl_ms, heartbeat_ms, extends } => {
            ToWorker::Welcome(pb::SessionWelcome {
                session: session.0,
                lease_ttl_ms,
                heartbeat_ms,
                extends: numbers(extends),
            })
        }
        LeaderFrame::NotLeader { leader } => ToWorker::NotLeader(match leader {
            Some((id, address)) => {
                pb::SessionNotLeader { leader_id: id.0, leader: address.into_string() }
            }
            None => pb::SessionNotLeader::default(),
        }),
        LeaderFrame::Refused { reason } => {
            ToWorker::Refused(pb::SessionRefused { reason: reason.into_string() })
        }
        LeaderFrame::Open(list) => ToWorker::Open(pb::SessionOpen {
            assignments: list.into_iter().map(encode_assignment).collect(),
        }),
        LeaderFrame::Renewed { seq, extends } => {
            ToWorker::Renewed(pb::SessionRenewed { seq, extends: numbers(extends) })
        }
        LeaderFrame::Stop { token, why } => {
            ToWorker::Stop(pb::SessionStop { token: token.0, reason: encode_stop(why).into() })
        }
        LeaderFrame::Acknowledged(ranges) => ToWorker::Acknowledged(pb::SessionAcknowledged {
            ranges: ranges
                .into_iter()
                .map(|(first, last)| pb::TokenRange { first: first.0, last: last.0 })
                .collect(),
        }),
        LeaderFrame::Follow { token, offset } => {
            ToWorker::Follow(pb::SessionFollow { token: token.0, offset })
        }
        LeaderFrame::Unfollow { token } => {
            ToWorker::Unfollow(pb::SessionUnfollow { token: token.0 })
        }
    };
    pb::LeaderToWorker { frame: Some(frame) }
}

/// Reads a leader's message.
///
/// # Errors
/// When it is no frame or breaks a bound; the session ends.
pub fn decode_leader_frame(message: pb::LeaderToWorker) -> Result<LeaderFrame, FrameError> {
    Ok(match message.frame.ok_or(FrameError::Unknown)? {
        ToWorker::Welcome(welcome) => LeaderFrame::Welcome {
            session: SessionId(positive("session", welcome.session)?),
            lease_ttl_ms: positive("lease_ttl_ms", welcome.lease_ttl_ms)?,
            heartbeat_ms: positive("heartbeat_ms", welcome.heartbeat_ms)?,
            extends: tokens("extends", welcome.extends)?,
        },
        ToWorker::NotLeader(other) => LeaderFrame::NotLeader {
            leader: (other.leader_id != 0 && !other.leader.is_empty())
                .then(|| (NodeId(other.leader_id), other.leader.into_boxed_str())),
        },
        ToWorker::Refused(refused) => {
            LeaderFrame::Refused { reason: refused.reason.into_boxed_str() }
        }
        ToWorker::Open(open) => {
            bounded("assignments", open.assignments.len(), limits::WORKER_HELD_MAX)?;
            LeaderFrame::Open(
                open.assignments.into_iter().map(decode_assignment).collect::<Result<_, _>>()?,
            )
        }
        ToWorker::Renewed(renewed) => {
            LeaderFrame::Renewed { seq: renewed.seq, extends: tokens("extends", renewed.extends)? }
        }
        ToWorker::Stop(stop) => LeaderFrame::Stop {
            why: match stop.reason() {
                pb::StopReason::Cancelled => StopWhy::Cancelled,
                pb::StopReason::TimedOut => StopWhy::TimedOut,
                pb::StopReason::Unspecified => return Err(FrameError::Invalid { field: "reason" }),
            },
            token: token(stop.token)?,
        },
        ToWorker::Acknowledged(acknowledged) => {
            bounded("ranges", acknowledged.ranges.len(), limits::WORKER_HELD_MAX)?;
            LeaderFrame::Acknowledged(
                acknowledged.ranges.into_iter().map(range).collect::<Result<_, _>>()?,
            )
        }
        ToWorker::Follow(follow) => {
            LeaderFrame::Follow { token: token(follow.token)?, offset: follow.offset }
        }
        ToWorker::Unfollow(unfollow) => LeaderFrame::Unfollow { token: token(unfollow.token)? },
    })
}

fn encode_hello(hello: Hello) -> pb::WorkerHello {
    pb::WorkerHello {
        name: hello.name.into_string(),
        instance: hello.instance.0,
        slots: hello.slots,
        kinds: strings(hello.kinds),
        queues: strings(hello.queues),
        labels: strings(hello.labels),
        tokens: numbers(hello.tokens),
        draining: hello.draining,
    }
}

fn decode_hello(hello: pb::WorkerHello) -> Result<Hello, FrameError> {
    if hello.slots == 0 || hello.slots > limits::WORKER_SLOTS_MAX {
        return Err(FrameError::Invalid { field: "slots" });
    }
    Ok(Hello {
        name: name("name", hello.name)?,
        instance: InstanceId(positive("instance", hello.instance)?),
        slots: hello.slots,
        kinds: names("kinds", hello.kinds, limits::WORKER_KINDS_MAX)?,
        queues: names("queues", hello.queues, limits::WORKER_KINDS_MAX)?,
        labels: names("labels", hello.labels, limits::WORKER_LABELS_MAX)?,
        tokens: tokens("tokens", hello.tokens)?,
        draining: hello.draining,
    })
}

fn encode_report(report: Report) -> pb::AttemptReport {
    pb::AttemptReport {
        token: report.token.0,
        outcome: encode_outcome(report.outcome).into(),
        started_at_us: report.started_at.map(Timestamp::as_micros),
        finished_at_us: report.finished_at.map(Timestamp::as_micros),
        exit_code: report.exit_code,
        not_retryable: !report.retryable,
        output: report.output,
        error: report.error.into_string(),
        tail: report.tail,
    }
}

fn decode_report(report: pb::AttemptReport) -> Result<Report, FrameError> {
    let outcome = match report.outcome() {
        pb::AttemptOutcome::Unspecified => return Err(FrameError::Invalid { field: "outcome" }),
        pb::AttemptOutcome::Succeeded => AttemptOutcome::Succeeded,
        pb::AttemptOutcome::Failed => AttemptOutcome::Failed,
        pb::AttemptOutcome::TimedOut => AttemptOutcome::TimedOut,
        pb::AttemptOutcome::Lost => AttemptOutcome::Lost,
        pb::AttemptOutcome::Cancelled => AttemptOutcome::Cancelled,
        pb::AttemptOutcome::Interrupted => AttemptOutcome::Interrupted,
    };
    let mut report = Report {
        token: token(report.token)?,
        outcome,
        started_at: report.started_at_us.map(Timestamp::from_micros),
        finished_at: report.finished_at_us.map(Timestamp::from_micros),
        exit_code: report.exit_code,
        retryable: !report.not_retryable,
        output: report.output,
        error: report.error.into_boxed_str(),
        tail: report.tail,
    };
    report.bound();
    Ok(report)
}

fn encode_assignment(assignment: Assignment) -> pb::AttemptAssignment {
    pb::AttemptAssignment {
        token: assignment.token.0,
        task_id: assignment.task_id.into_string(),
        task_name: assignment.task_name.into_string(),
        run: assignment.run.0,
        attempt: u32::from(assignment.attempt),
        kind: assignment.kind.into_string(),
        payload: assignment.payload,
        scheduled_for_us: assignment.scheduled_for.as_micros(),
        run_timeout_ms: assignment.run_timeout_ms,
    }
}

fn decode_assignment(assignment: pb::AttemptAssignment) -> Result<Assignment, FrameError> {
    bounded("payload", assignment.payload.len(), limits::PAYLOAD_BYTES_MAX)?;
    Ok(Assignment {
        token: token(assignment.token)?,
        task_id: name("task_id", assignment.task_id)?,
        task_name: short("task_name", assignment.task_name)?,
        run: RunNumber(assignment.run),
        attempt: u16::try_from(assignment.attempt)
            .map_err(|_| FrameError::Invalid { field: "attempt" })?,
        kind: name("kind", assignment.kind)?,
        payload: assignment.payload,
        scheduled_for: Timestamp::from_micros(assignment.scheduled_for_us),
        run_timeout_ms: assignment.run_timeout_ms,
    })
}

const fn encode_outcome(outcome: AttemptOutcome) -> pb::AttemptOutcome {
    match outcome {
        AttemptOutcome::Succeeded => pb::AttemptOutcome::Succeeded,
        AttemptOutcome::Failed => pb::AttemptOutcome::Failed,
        AttemptOutcome::TimedOut => pb::AttemptOutcome::TimedOut,
        AttemptOutcome::Lost => pb::AttemptOutcome::Lost,
        AttemptOutcome::Cancelled => pb::AttemptOutcome::Cancelled,
        AttemptOutcome::Interrupted => pb::AttemptOutcome::Interrupted,
    }
}

const fn encode_stop(why: StopWhy) -> pb::StopReason {
    match why {
        StopWhy::Cancelled => pb::StopReason::Cancelled,
        StopWhy::TimedOut => pb::StopReason::TimedOut,
    }
}

fn numbers(tokens: Vec<Token>) -> Vec<u64> {
    tokens.into_iter().map(|token| token.0).collect()
}

fn strings(list: Vec<Box<str>>) -> Vec<String> {
    list.into_iter().map(Into::into).collect()
}

fn token(number: u64) -> Result<Token, FrameError> {
    // P7.1: so that every language's JSON numbers hold it.
    if number == 0 || number >= 1 << 53 {
        return Err(FrameError::Invalid { field: "token" });
    }
    Ok(Token(number))
}

fn tokens(field: &'static str, list: Vec<u64>) -> Result<Vec<Token>, FrameError> {
    bounded(field, list.len(), limits::WORKER_HELD_MAX)?;
    list.into_iter().map(token).collect()
}

fn range(range: pb::TokenRange) -> Result<(Token, Token), FrameError> {
    let (first, last) = (token(range.first)?, token(range.last)?);
    if first > last {
        return Err(FrameError::Invalid { field: "ranges" });
    }
    Ok((first, last))
}

const fn positive(field: &'static str, number: u64) -> Result<u64, FrameError> {
    if number == 0 { Err(FrameError::Invalid { field }) } else { Ok(number) }
}

const fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), FrameError> {
    if len > max { Err(FrameError::TooLong { field, len, max }) } else { Ok(()) }
}

fn short(field: &'static str, text: String) -> Result<Box<str>, FrameError> {
    // Bytes bound characters from above, so that counting is rare.
    if text.len() > limits::NAME_CHARS_MAX {
        bounded(field, text.chars().count(), limits::NAME_CHARS_MAX)?;
    }
    Ok(text.into_boxed_str())
}

fn name(field: &'static str, text: String) -> Result<Box<str>, FrameError> {
    if text.is_empty() {
        return Err(FrameError::Invalid { field });
    }
    short(field, text)
}

fn names(field: &'static str, list: Vec<String>, max: usize) -> Result<Vec<Box<str>>, FrameError> {
    bounded(field, list.len(), max)?;
    list.into_iter().map(|text| name(field, text)).collect()
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            hello(|h| h.tokens = vec![1 << 53]),
            Err(FrameError::Invalid { field: "token" })
        );
    }
}
