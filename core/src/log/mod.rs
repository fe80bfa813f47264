//! The log's bytes, as pure functions over byte slices: docs/disk.md.

pub mod record;

pub use record::{LogFact, Persist, Recovered};
