//! How nodes come to agree: the only user of raft-rs.

pub mod message;

pub use message::{
    Body, ConfState, Envelope, HardState, LogEntry, RaftMessage, SnapshotMeta, SnapshotPiece,
};
