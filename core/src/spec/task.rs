//! The definition of a task as its owner wrote it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::time::Timestamp;

/// A task as submitted: the body and everything that governs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// The caller's or the edge's id (UUIDv7 when the caller gave none):
    /// `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
    pub id: Box<str>,
    /// A display name; empty means the id.
    pub name: Box<str>,
    /// Handed to the handler, uninterpreted.
    pub payload: Bytes,
    /// 0..=9, 9 first.
    pub priority: u8,
    /// When it runs.
    pub schedule: Schedule,
    /// What it shares with other tasks of its kind.
    pub profile: Profile,
}

/// What many tasks share. Interned by `apply` from the entry's own table (P5.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    /// The handler's name ("exec", "resize", …): interface.md calls it `type`.
    pub kind: Box<str>,
    /// The named line of ready runs.
    pub queue: Box<str>,
    /// What follows a failed attempt.
    pub retry: Retry,
    /// The longest an attempt may run; the worker's clock measures, the leader's is the backstop.
    pub run_timeout_ms: u64,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retry {
    /// Further attempts after the first.
    pub max_retries: u16,
    /// How waiting grows.
    pub backoff: Backoff,
    /// The wait before the first retry.
    pub backoff_base_ms: u64,
    /// The longest wait.
    pub backoff_max_ms: u64,
    /// Exit codes that fail for good, ascending.
    pub no_retry_exit: Vec<i32>,
}

/// How the wait before a retry grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backoff {
    /// Always the base.
    Fixed,
    /// Doubles each time, with jitter in the upper half (keyed hash of serial and attempt).
    Exponential,
}

/// When a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once, as soon as a worker is free.
    Now,
    /// Once, not before this moment.
    At(Timestamp),
    /// Again and again.
    Recurring(Box<Recurrence>),
}

/// The rule that yields fire times, and what happens when a run cannot start then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// Names the instants.
    pub rule: Rule,
    /// What follows a fire time that passed without its run.
    pub misfire: Misfire,
    /// A fire time older than this is skipped with the reason `misfire`, whatever the policy.
    pub catch_up_ms: u64,
    /// What follows a fire time while the previous run is not over.
    pub overlap: Overlap,
}

/// Names the instants at which a recurring task fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every `period_ms` milliseconds from `start`: `start + k * period`.
    Every {
        /// At least [`EVERY_MS_MIN`](crate::limits::EVERY_MS_MIN).
        period_ms: u64,
        /// The origin, and the first fire time unless it has passed. `None`: the creation, which
        /// the spec does not name, so that a repeated submit is the same spec (P8.2).
        start: Option<Timestamp>,
    },
    /// A calendar expression. The text is kept; the parsed form is the leader's cache.
    Cron {
        /// Five, six or seven fields, or `@daily` and friends.
        expr: Box<str>,
        /// An IANA zone name, canonical spelling.
        zone: Box<str>,
        /// Fire times inside the spring gap.
        gap: DstGap,
        /// Fire times inside the autumn fold.
        fold: DstFold,
    },
}

/// What happens to a fire time that names a civil time inside the spring gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DstGap {
    /// By the expression: wildcards skip, fixed times fire at the first instant after the gap.
    Auto,
    /// Skipped.
    Skip,
    /// Fires once at the first instant after the gap.
    Next,
}

/// What happens to a fire time that names a civil time inside the autumn fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DstFold {
    /// By the expression: wildcards fire on both passes, fixed times on the first.
    Auto,
    /// The first pass only.
    First,
    /// The second pass only.
    Second,
    /// Both passes.
    Both,
}

/// What follows a fire time that passed without its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Misfire {
    /// Missed fire times are recorded as skipped.
    Skip,
    /// The latest missed fire time runs; earlier ones are recorded as skipped.
    FireOnce,
}

/// What follows a fire time while the previous run is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overlap {
    /// Both run.
    Allow,
    /// The new one is recorded as skipped.
    Skip,
}

/// Defaults of interface.md.
pub mod defaults {
    /// Further attempts after the first.
    pub const MAX_RETRIES: u16 = 3;
    /// The wait before the first retry.
    pub const BACKOFF_BASE_MS: u64 = 1_000;
    /// The longest wait before a retry.
    pub const BACKOFF_MAX_MS: u64 = 10 * 60 * 1_000;
    /// The longest an attempt may run.
    pub const RUN_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1_000;
    /// How old a fire time may be and still run.
    pub const CATCH_UP_MS: u64 = 24 * 60 * 60 * 1_000;
    /// The middle of 0..=9.
    pub const PRIORITY: u8 = 5;
    /// The queue of a task that names none.
    pub const QUEUE: &str = "default";
}
