//! How nodes come to agree: the only user of raft-rs, whose types stay inside this directory.
//!
//! [`Consensus`] is told what arrived (peer envelopes, durable numbers, time) and, when a turn
//! ends, [`Consensus::drain`] says everything that follows in a [`Turn`]. It knows entries as
//! bytes; what they mean is `state`'s business. It does no input or output.

pub mod config;
pub mod turn;

mod bootstrap;
mod convert;
mod drain;
mod group;
mod guard;
mod inbound;
mod look;
mod machine;
pub mod message;
mod outbound;
mod reads;
pub mod record;
mod storage;
mod timeout;

#[cfg(test)]
mod tests;

pub use config::ConsensusConfig;
pub use machine::Consensus;
pub use message::{
    Body, ConfState, Envelope, HardState, LogEntry, Mark, RaftMessage, Role, SnapshotMeta,
    SnapshotPiece, Vitals,
};
pub use record::{LogFact, Persist, Recovered};
pub use turn::{PeerProgress, ProposeError, ReadId, RoleChange, SendSnapshot, Turn};
