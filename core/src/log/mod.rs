//! The log's bytes, as pure functions over byte slices: docs/disk.md.
//!
//! [`Writer`] turns [`Persist`]s into [`DiskOp`]s, [`recover()`] turns files into [`Recovered`]. The
//! runtime's log thread and the simulated disk perform the same operations.

pub mod disk;

mod layout;
mod recover;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::{DiskOp, File};
pub use layout::Identity;
pub use recover::{Found, Owner, RecoverError, recover};
pub use writer::Writer;

pub use crate::consensus::{LogFact, Persist, Recovered};
