//! What nodes say to each other: raft's messages, field by field in types of ours, so that
//! rust-protobuf's parser never sees the network.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::time::Timestamp;

/// What travels on a peer stream. Envelopes with a foreign cluster id, sender or recipient are
/// refused before raft sees them (P4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The raft group.
    pub group: GroupId,
    /// `None` until the sender's cluster is formed.
    pub cluster: Option<ClusterId>,
    /// The sender and which life of its disk.
    pub from: (NodeId, Incarnation),
    /// The recipient.
    pub to: NodeId,
    /// What it says.
    pub body: Body,
    /// How the sender is, several times a second.
    pub vitals: Option<Box<Vitals>>,
}

/// What a node tells another of itself beside raft's messages. May be lost, late or repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The sender's wall clock at the sending (P6.2).
    pub wall: Timestamp,
    /// Rises with each message, across the sender's lives; the recipient's next one names it.
    pub mark: u64,
    /// The newest mark that the sender has heard from the recipient, and how long ago.
    pub echo: Option<(u64, Duration)>,
    /// Digests of the sender's state, the newest first (P5.3).
    pub marks: Vec<Mark>,
    /// The slowest sync of the sender's disk of late (P3.9).
    pub sync: Duration,
}

/// The digest of a node's state at an index that all nodes mark (P5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The applied index.
    pub index: u64,
    /// The feature level of the state, which the digest's encoding depends on.
    pub level: u32,
    /// The digest.
    pub digest: u128,
}

/// The content of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// First start: "here is my incarnation, and these voters I was told of".
    Introduce {
        /// The ids that the sender's `--peer` options name, ascending.
        voters: Vec<NodeId>,
        /// A reply is wanted.
        ask: bool,
    },
    /// "Your introduction does not fit": the recipient halts and prints the remedy.
    Reject {
        /// For people.
        reason: Box<str>,
    },
    /// P3.6: "I am reached here", to the leader, which has it agreed. May be lost.
    Announce {
        /// gRPC `host:port`.
        grpc: Box<str>,
        /// HTTP `host:port`; empty if the sender serves none.
        http: Box<str>,
    },
    /// Raft messages of one turn, in order.
    Raft(Vec<RaftMessage>),
    /// A piece of a snapshot file.
    Snapshot(SnapshotPiece),
}

/// A raft message (raft-rs 0.7 `eraftpb::Message`, field for field but for the snapshot's data).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMessage {
    /// raft-rs's number of the message type.
    pub kind: u8,
    /// The sender's term.
    pub term: u64,
    /// Term of the entry before `entries`.
    pub log_term: u64,
    /// Index of the entry before `entries`.
    pub index: u64,
    /// Entries to append.
    pub entries: Vec<LogEntry>,
    /// The sender's commit index.
    pub commit: u64,
    /// Term of that index.
    pub commit_term: u64,
    /// A snapshot's metadata; its data travels as pieces (P10.2).
    pub snapshot: Option<SnapshotMeta>,
    /// raft-rs's request for a snapshot.
    pub request_snapshot: u64,
    /// The message is a refusal.
    pub reject: bool,
    /// Where the refusing follower's log ends.
    pub reject_hint: u64,
    /// Opaque: ReadIndex contexts, transfer marks.
    pub context: Bytes,
    /// raft-rs's election priority.
    pub priority: i64,
}

/// An entry of the replicated log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place.
    pub index: u64,
    /// The term that proposed it.
    pub term: u64,
    /// A normal entry, or a membership change.
    pub conf_change: bool,
    /// The encoded entry (`crate::codec::flat`), or raft's conf change. Shares its buffer.
    pub data: Bytes,
}

/// raft's hard state: what a node must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// Whom it voted for in that term; zero for no one.
    pub vote: u64,
    /// The newest index it knows to be committed.
    pub commit: u64,
}

/// Who votes, who learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Ascending.
    pub voters: Vec<NodeId>,
    /// Ascending.
    pub learners: Vec<NodeId>,
    /// Outgoing voters of a joint configuration, ascending.
    pub voters_outgoing: Vec<NodeId>,
    /// Learners once the joint configuration is left, ascending.
    pub learners_next: Vec<NodeId>,
    /// Leave the joint configuration by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// Ascending, voters exist, nobody is voter and learner at once, only a joint configuration is
    /// left by itself. raft-rs panics on others.
    pub(crate) fn is_sound(&self) -> bool {
        let ascending = |ids: &[NodeId]| ids.is_sorted_by(|a, b| a < b);
        let lists = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        !self.voters.is_empty()
            && (!self.auto_leave || !self.voters_outgoing.is_empty())
            && lists.iter().all(|ids| ascending(ids) && ids.first() != Some(&NodeId(0)))
            && self
                .learners
                .iter()
                .all(|id| !self.voters.contains(id) && !self.voters_outgoing.contains(id))
            && self
                .learners_next
                .iter()
                .all(|id| self.voters_outgoing.contains(id) && !self.voters.contains(id))
    }
}

/// Which state a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last index applied to it.
    pub index: u64,
    /// That index's term.
    pub term: u64,
    /// The membership at that index.
    pub conf: ConfState,
}

/// A piece of a snapshot file on its way to a follower, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPiece {
    /// Which snapshot.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Where this piece begins in the file.
    pub offset: u64,
    /// At most `limits::SNAPSHOT_PIECE_BYTES`.
    pub data: Bytes,
    /// No further piece follows.
    pub last: bool,
}

/// raft's roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Leads.
    Leader,
    /// Asks for votes (pre-votes too).
    Candidate,
    /// Votes.
    Follower,
    /// Only learns.
    Learner,
}
