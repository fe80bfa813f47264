//! A node's data directory: the log, written by one thread with group commit, and snapshot files,
//! written by another so that a large one never delays an fsync of the log (P4.5, P10.1).
//!
//! What the bytes are is `dtask_core::log`'s business; this performs its operations. A failure is
//! never retried: the durable number's channel closes, and the host stops the process (P4.4).

pub mod memory;

#[cfg(not(madsim))]
mod directory;
#[cfg(not(madsim))]
mod open;
#[cfg(not(madsim))]
mod snapshots;
#[cfg(not(madsim))]
mod thread;

#[cfg(all(test, not(madsim)))]
mod tests;

#[cfg(not(madsim))]
pub use open::{LogStore, OpenError, OpenedLog, Options, open};
