//! The log's bytes, as pure functions over byte slices: docs/disk.md.
//!
//! [`Writer`] turns [`Persist`]s into [`DiskOp`]s, [`recover`] turns files into [`Recovered`]. The
//! runtime's log thread and the simulated disk perform the same operations.

pub mod disk;
pub mod record;

mod layout;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::{DiskOp, File};
pub use layout::Identity;
pub use record::{LogFact, Persist, Recovered};
pub use recover::{Found, Owner, RecoverError, recover};
pub use writer::Writer;
