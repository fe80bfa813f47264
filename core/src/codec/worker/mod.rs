//! Frames of a worker's session ([`crate::worker::frame`]) to the generated messages of
//! `worker.proto` and back.
//!
//! Encoding cannot fail. Decoding checks every bound that the protocol names, except in reports:
//! those are never refused (P7.8); what is too large becomes `Failed`, what is too long is cut.

#[cfg(test)]
mod tests;

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
