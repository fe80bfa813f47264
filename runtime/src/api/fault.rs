//! The one place where a refusal becomes an answer: the wire's `Error`, gRPC's status with its
//! details, and HTTP's status number.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::id::ClusterId;
use dtask_core::node::Rejection;
use dtask_proto::v1;
use prost::Message;
use tonic::{Code, Status};

use super::views;

/// When to try again while nobody leads: an election's length.
const ELECTION_RETRY_MS: i64 = 500;

/// The closed list of reasons (`types.proto` documents each).
pub const REASONS: [&str; 20] = [
    "FIELD_INVALID",
    "CRON_INVALID",
    "TIMEZONE_UNKNOWN",
    "JSON_INVALID",
    "PAYLOAD_TOO_LARGE",
    "BATCH_TOO_LARGE",
    "NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "ID_CONFLICT",
    "TERMINAL",
    "RUNNING",
    "IDEMPOTENCY_KEY_REUSED",
    "QUEUE_FULL",
    "NO_LEADER",
    "OUTCOME_UNKNOWN",
    "UNAVAILABLE",
    "LAGGING",
    "HISTORY_UNAVAILABLE",
    "HISTORY_GAP",
    "INTERNAL",
];

/// A refused call: the wire's own error, which every surface renders.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault(pub v1::Error);

impl Fault {
    /// A refusal with a reason of interface.md's closed list.
    pub fn new(code: Code, reason: &str, detail: impl Into<String>) -> Self {
        debug_assert!(REASONS.contains(&reason), "{reason} is not in the documented list");
        Self(v1::Error {
            code: code_name(code).to_owned(),
            reason: reason.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
        })
    }

    /// The same, with a hint when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, millis: i64) -> Self {
        self.0.retry_after = Some(millis);
        self
    }

    /// A wrong field of the request.
    pub fn invalid(field: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let detail = detail.into();
        let mut fault =
            Self::new(Code::InvalidArgument, "FIELD_INVALID", format!("{field}: {detail}"));
        let hint = hint.into();
        fault.0.errors.push(v1::FieldError { field: field.to_owned(), detail, hint });
        fault
    }

    /// Nothing is known by this id.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", format!("no {what} has the id {id:?}"))
    }

    /// Nobody leads; nothing was done.
    pub fn no_leader() -> Self {
        Self::new(Code::Unavailable, "NO_LEADER", "no leader is known; nothing was done")
            .retry_after_ms(ELECTION_RETRY_MS)
    }

    /// The leader was lost on the way.
    pub fn outcome_unknown() -> Self {
        let detail = "the leader was lost before it answered; repeat with the same id to learn \
                      whether it was done";
        Self::new(Code::Unknown, "OUTCOME_UNKNOWN", detail).retry_after_ms(ELECTION_RETRY_MS)
    }

    /// A re-send whose id may have been forgotten: final, so there is no time to retry after.
    fn forgotten() -> Self {
        let detail = "this id is not known, and may be one of those that had to be forgotten early: \
                      it may have run, and is not run again";
        Self::new(Code::Unknown, "OUTCOME_UNKNOWN", detail)
    }

    /// The history database is away (P8.6: never "not found").
    pub fn history_unavailable() -> Self {
        let detail = "the history database cannot be reached, and the task is not in memory";
        Self::new(Code::Unavailable, "HISTORY_UNAVAILABLE", detail).retry_after_ms(2_000)
    }

    /// The history database is not this cluster's: as good as away (P9.2).
    pub fn history_foreign(found: ClusterId) -> Self {
        let detail = format!(
            "the history database belongs to cluster {:016x}, which is another one",
            found.0
        );
        Self::new(Code::Unavailable, "HISTORY_UNAVAILABLE", detail).retry_after_ms(2_000)
    }

    /// The node is going down; nothing was done.
    pub fn stopping() -> Self {
        Self::new(Code::Unavailable, "UNAVAILABLE", "the node is shutting down; nothing was done")
            .retry_after_ms(ELECTION_RETRY_MS)
    }

    /// The node answered something that the question does not have: a fault of ours.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Code::Internal, "INTERNAL", detail)
    }

    /// gRPC's code.
    pub fn code(&self) -> Code {
        code_of(&self.0.code)
    }

    /// HTTP's number.
    pub fn http_status(&self) -> u16 {
        match (self.code(), self.0.reason.as_str()) {
            (_, "PAYLOAD_TOO_LARGE" | "BATCH_TOO_LARGE") => 413,
            (_, "OUTCOME_UNKNOWN") => 503,
            (_, "IDEMPOTENCY_KEY_REUSED") => 422,
            (Code::InvalidArgument | Code::OutOfRange, _) => 400,
            (Code::Unauthenticated, _) => 401,
            (Code::PermissionDenied, _) => 403,
            (Code::NotFound, _) => 404,
            (Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted, _) => 409,
            (Code::ResourceExhausted, _) => 429,
            (Code::Unimplemented, _) => 501,
            (Code::Unavailable, _) => 503,
            (Code::DeadlineExceeded, _) => 504,
            (Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss, _) => {
                500
            }
        }
    }

    /// gRPC's status with `ErrorInfo`, `BadRequest`, `RetryInfo`, and our own `Error` for clients
    /// that know it.
    pub fn into_status(self) -> Status {
        let code = self.code();
        let error = self.0;
        let mut details = vec![any(
            "google.rpc.ErrorInfo",
            &ErrorInfo {
                reason: error.reason.clone(),
                domain: "dtask".to_owned(),
                metadata: BTreeMap::new(),
            },
        )];
        if !error.errors.is_empty() {
            let field_violations = error.errors.iter().map(violation).collect();
            details.push(any("google.rpc.BadRequest", &BadRequest { field_violations }));
        }
        if let Some(millis) = error.retry_after {
            let nanos = i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0);
            let retry_delay = Some(RetryDelay { seconds: millis / 1_000, nanos });
            details.push(any("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
        }
        details.push(any("dtask.v1.Error", &error));
        let message = error.detail;
        let rich = RpcStatus { code: code as i32, message: message.clone(), details };
        Status::with_details(code, message, Bytes::from(rich.encode_to_vec()))
    }

    /// What another node refused. `None` when the status was not made by [`Fault::into_status`]:
    /// then the transport failed, not the node.
    pub fn from_status(status: &Status) -> Option<Self> {
        let rich = RpcStatus::decode(status.details()).ok()?;
        let own = rich.details.iter().find(|any| any.type_url.ends_with("/dtask.v1.Error"))?;
        v1::Error::decode(own.value.as_slice()).ok().map(Self)
    }
}

impl From<v1::Error> for Fault {
    fn from(error: v1::Error) -> Self {
        Self(error)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        fault.into_status()
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::IdConflict { id } => Self::new(
                Code::AlreadyExists,
                "ID_CONFLICT",
                format!("the id {id:?} names a task with another specification"),
            ),
            Rejection::RequestReused => Self::new(
                Code::AlreadyExists,
                "IDEMPOTENCY_KEY_REUSED",
                "the request id came before, with another request",
            ),
            Rejection::NotFound { id } => Self::not_found("task", &id),
            Rejection::Terminal { status } => Self::new(
                Code::FailedPrecondition,
                "TERMINAL",
                format!("the task has already ended: {}", views::status_word(status)),
            ),
            Rejection::Running => Self::new(
                Code::FailedPrecondition,
                "RUNNING",
                "the task is running; cancel it first, or ask for both at once",
            ),
            Rejection::NotLeader { leader: _ } | Rejection::NoLeader => Self::no_leader(),
            Rejection::OutcomeUnknown => Self::outcome_unknown(),
            Rejection::Forgotten => Self::forgotten(),
            Rejection::InGap => Self::new(
                Code::FailedPrecondition,
                "HISTORY_GAP",
                "the history database was restored from an older backup, or was away for too long, \
                 after it heard of this task: what became of the task since is lost, so it is left \
                 as it is; submit a new one instead",
            ),
            Rejection::Full { what, retry_after_ms } => {
                Self::new(Code::ResourceExhausted, "QUEUE_FULL", what)
                    .retry_after_ms(i64::try_from(retry_after_ms).unwrap_or(i64::MAX))
            }
            Rejection::Unavailable { reason } => {
                Self::new(Code::Unavailable, "UNAVAILABLE", reason)
                    .retry_after_ms(ELECTION_RETRY_MS)
            }
            Rejection::Invalid { field, detail } => Self::invalid(&field, detail, ""),
        }
    }
}

/// gRPC's codes by their names on the wire.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

fn code_name(code: Code) -> &'static str {
    CODES.iter().find(|(known, _)| *known == code).map_or("UNKNOWN", |(_, name)| name)
}

fn code_of(name: &str) -> Code {
    CODES.iter().find(|(_, known)| *known == name).map_or(Code::Unknown, |(code, _)| *code)
}

// google.rpc's messages, as googleapis publishes them: five small ones do not carry a crate.

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

fn violation(error: &v1::FieldError) -> FieldViolation {
    let description = if error.hint.is_empty() {
        error.detail.clone()
    } else {
        format!("{} ({})", error.detail, error.hint)
    };
    FieldViolation { field: error.field.clone(), description }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_survives_the_way_over_a_status() {
        let fault = Fault::invalid("queue", "is too long", "at most 128 characters");
        let status = fault.clone().into_status();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(Fault::from_status(&status), Some(fault));
    }

    #[test]
    fn status_of_a_broken_connection_is_not_a_fault() {
        assert_eq!(Fault::from_status(&Status::unavailable("broken pipe")), None);
    }

    #[test]
    fn unknown_outcome_is_503_over_http_and_unknown_over_grpc() {
        let fault = Fault::from(Rejection::OutcomeUnknown);
        assert_eq!((fault.code(), fault.http_status()), (Code::Unknown, 503));
    }

    #[test]
    fn every_reason_is_documented_in_the_schema() {
        let schema = include_str!("../../../proto/dtask/v1/types.proto");
        for reason in REASONS {
            assert!(schema.contains(&format!("//   {reason} (")), "{reason} is not documented");
        }
    }

    #[test]
    fn full_queue_tells_when_to_try_again() {
        let full = Rejection::Full { what: "in-flight bytes 64 MiB".into(), retry_after_ms: 1_500 };
        let fault = Fault::from(full);
        assert_eq!((fault.http_status(), fault.0.retry_after), (429, Some(1_500)));
    }
}
