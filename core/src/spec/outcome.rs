//! How attempts end, and why they are stopped: words that workers and nodes share.

/// How an attempt ended (interface.md: an execution's status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum AttemptOutcome {
    /// The handler said so.
    Succeeded = 1,
    /// The handler said so.
    Failed = 2,
    /// The run timeout passed.
    TimedOut = 3,
    /// Its lease ended without a word; counts against retries.
    Lost = 4,
    /// Stopped on request; never retried.
    Cancelled = 5,
    /// The worker drained and hands it back; never counts against retries.
    Interrupted = 6,
}

/// Why an attempt is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StopWhy {
    /// Someone asked.
    Cancelled = 1,
    /// The run timeout passed.
    TimedOut = 2,
}
