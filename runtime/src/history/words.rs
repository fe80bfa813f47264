//! Choices as words: the columns that people read.

use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::{RunCause, TaskStatus, WaitCode};

/// `status` of `tasks` and `runs`.
pub(super) const STATUSES: [(&str, TaskStatus); 7] = [
    ("waiting", TaskStatus::Waiting),
    ("ready", TaskStatus::Ready),
    ("running", TaskStatus::Running),
    ("succeeded", TaskStatus::Succeeded),
    ("failed", TaskStatus::Failed),
    ("cancelled", TaskStatus::Cancelled),
    ("skipped", TaskStatus::Skipped),
];

/// `status` of `execution_logs`; `None` is an attempt that runs.
pub(super) const OUTCOMES: [(&str, Option<AttemptOutcome>); 7] = [
    ("running", None),
    ("succeeded", Some(AttemptOutcome::Succeeded)),
    ("failed", Some(AttemptOutcome::Failed)),
    ("timed_out", Some(AttemptOutcome::TimedOut)),
    ("lost", Some(AttemptOutcome::Lost)),
    ("cancelled", Some(AttemptOutcome::Cancelled)),
    ("interrupted", Some(AttemptOutcome::Interrupted)),
];

/// `cause`.
pub(super) const CAUSES: [(&str, RunCause); 3] = [
    ("submit", RunCause::Submit),
    ("schedule", RunCause::Schedule),
    ("trigger", RunCause::Trigger),
];

/// `wait`.
pub(super) const WAITS: [(&str, WaitCode); 5] = [
    ("not_due", WaitCode::NotDue),
    ("backoff", WaitCode::Backoff),
    ("no_worker_for_type", WaitCode::NoWorkerForType),
    ("no_free_slot", WaitCode::NoFreeSlot),
    ("no_leader", WaitCode::NoLeader),
];

/// The word for a value; each table names every value of its type.
pub(super) fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// The value of a word.
pub(super) fn value<T: Copy>(words: &[(&'static str, T)], word: &str) -> Option<T> {
    words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}
