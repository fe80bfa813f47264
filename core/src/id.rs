//! Identities. Each is a type of its own: two `u64`s never meet in one signature.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A raft group. One group serves one cluster today; the id is on disk, on the wire and in
    /// recordings so that many can later share nodes (design: scale).
    GroupId(u64)
);
number!(
    /// A scheduler node, as `--id` names it. Never zero (raft's "none").
    NodeId(u64)
);
number!(
    /// One life of a node's disk: drawn at random before the node sends anything (P4.1).
    Incarnation(u64)
);
number!(
    /// The hash of a cluster's sorted (node id, incarnation) pairs (P4.1).
    ClusterId(u64)
);
number!(
    /// A place in the paged slab of records. Reused; meaningless without its [`Serial`].
    Slot(u32)
);
number!(
    /// Which creation of a record: increasing, never reused (P8.1). Of a task, its incarnation.
    Serial(u64)
);
number!(
    /// The fencing token: strictly increasing, taken when an attempt opens in `apply`, and at the
    /// same time the execution's id. Below 2^53 (P7.1).
    Token(u64)
);
number!(
    /// The number of a run within its task; a one-shot task's only run is 1.
    RunNumber(u32)
);
number!(
    /// One life of a worker process: random at its start (P7.2).
    InstanceId(u64)
);
number!(
    /// One life of a worker's connection; every frame carries it. Unique within a node's life,
    /// given by the host.
    SessionId(u64)
);
number!(
    /// A caller's question, until it is answered. Given by the host, unique within a node's life.
    Ticket(u64)
);
number!(
    /// The number of a change in the history outbox: increasing without gaps (P9.1).
    ChangeNumber(u64)
);

/// A record and which creation of it: how commands and changes name tasks and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    /// Where it is.
    pub slot: Slot,
    /// Which creation.
    pub serial: Serial,
}
