//! What all nodes agree on. Changes in one place: [`State::apply`].
//!
//! Records (tasks and runs) live in a paged slab and are named by (slot, serial); everything else
//! hangs on them by slot or token. Replicated: records and their bodies, schedules, attempts,
//! instances, addresses, ended ids, counters. Derived, and rebuilt when a snapshot is loaded: the
//! id index, free slots, ready lists, timers, the outbox, counts. This module knows neither raft
//! nor leadership, reads no clock and draws no chance.

pub mod applied;
mod apply;
mod attempts;
pub mod audit;
mod batch;
mod by_token;
pub mod command;
mod digest;
mod ended;
pub mod facts;
pub mod history;
mod ids;
mod index;
mod instances;
mod lookup;
mod meta;
mod outbox;
mod pinned;
mod profiles;
mod queue;
mod ready;
mod record;
pub(crate) mod row;
mod schedules;
mod slab;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod timers;
pub mod view;
mod views;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

pub use applied::{Applied, Refusal};
pub use command::{Again, Close, Command, Create, Deed, Fire, Key, Open, Past, Rerun, Start, Wish};
pub use facts::{
    ApplyError, Changes, ClassId, Dropped, DueSchedule, EndedTask, Finished, IndexKey, OpenAttempt,
    ReadyClass, ReadyRun,
};

use crate::id::NodeId;

/// The feature level that this program knows (P5.1).
pub const LEVEL: u32 = 1;

/// The replicated state of one raft group.
#[derive(Debug)]
pub struct State {
    key: IndexKey,
    meta: meta::Meta,
    slab: slab::Slab,
    /// Tasks in memory and ended ids.
    ids: ids::Ids,
    profiles: profiles::Profiles,
    /// Derived.
    classes: ready::Classes,
    /// Derived.
    timers: timers::Timers,
    schedules: schedules::Schedules,
    attempts: attempts::Attempts,
    instances: instances::Instances,
    /// gRPC and HTTP addresses.
    addresses: BTreeMap<NodeId, (Box<str>, Box<str>)>,
    /// Derived.
    outbox: outbox::HistoryOutbox,
    digest: digest::Digest,
    /// Slots touched by the entry that is being applied; empty between entries.
    dirty: Vec<u32>,
    /// Tasks (not runs) that are not terminal. Derived.
    live_tasks: u64,
    /// Bytes of bodies and of closed attempts. Derived.
    held_bytes: u64,
    /// What waits in memory for history alone. Derived.
    pinned: pinned::Pinned,
    /// A running snapshot walk: local, never replicated.
    walk: Option<Box<snapshot::Walk>>,
}

impl State {
    /// An empty state. `key` is drawn once at bootstrap and the same on every node.
    pub fn new(key: IndexKey) -> Self {
        let seed = digest::seed(key);
        Self {
            key,
            meta: meta::Meta::default(),
            slab: slab::Slab::default(),
            ids: ids::Ids::starting_at(0),
            profiles: profiles::Profiles::new(seed),
            classes: ready::Classes::default(),
            timers: timers::Timers::default(),
            schedules: schedules::Schedules::default(),
            attempts: attempts::Attempts::default(),
            instances: instances::Instances::default(),
            addresses: BTreeMap::new(),
            outbox: outbox::HistoryOutbox::after(0),
            digest: digest::Digest::new(seed),
            dirty: Vec::new(),
            live_tasks: 0,
            held_bytes: 0,
            pinned: pinned::Pinned::default(),
            walk: None,
        }
    }

    /// Keeps at most so many ended ids (P8.2). For a state that is still empty, and the same on
    /// every node: it is agreed from then on.
    #[must_use]
    pub const fn keeping_ended_ids(mut self, most: u64) -> Self {
        self.meta.ended_max = most;
        self
    }

    /// Frees up to `pages` pages of 256 records and tells whether more remain: a state that was
    /// replaced is thrown away in slices (P10.2). It must not be used for anything else then.
    pub fn dismantle(&mut self, pages: usize) -> bool {
        self.slab.dismantle(pages)
    }
}
