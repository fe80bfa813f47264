//! What can happen next, and the one heap that orders it: by true time, then by the order of
//! scheduling.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use dtask_core::consensus::Envelope;
use dtask_core::id::{ClusterId, NodeId, SessionId, Ticket, Token};
use dtask_core::node::{Reply, Request};
use dtask_core::state::history::HistoryBatch;
use dtask_core::worker::{ConnectionId, Input as WorkerInput, LeaderFrame, WorkerFrame};

use super::call::Call;
use crate::check::effects::RunKey;

/// One life of a machine: events that outlive it are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Which node or worker, from 0.
    pub who: usize,
    /// Which of its lives.
    pub life: u32,
}

/// An event of the World.
#[derive(Clone, Debug)]
pub enum Event {
    /// A node's turn ends.
    NodeTurn(Life),
    /// A node's deadline.
    NodeWake(Life),
    /// A node's pause ends.
    NodeResume(Life),
    /// A node's log thread finished a group.
    LogSynced(Life),
    /// A node's log thread has had nothing to do since its log ended at this offset.
    LogIdle(Life, u64),
    /// A node's snapshot file is in place.
    SnapshotSaved(Life, u64),
    /// A peer's message arrives.
    Peer(usize, Box<Envelope>),
    /// A peer turned out to be unreachable.
    Unreachable(Life, NodeId),
    /// The next piece of a snapshot transfer arrives, or its end is known.
    Transfer(Life, u64),
    /// A caller's question arrives.
    Ask(usize, Ticket, Box<Request>, bool),
    /// An answer arrives at the caller.
    Answer(Ticket, Box<Reply>),
    /// A caller has waited long enough.
    CallTimeout(Ticket),
    /// A client does its next operation.
    ClientStep(usize),
    /// A client asks again.
    Again(Box<Call>),
    /// A worker's frame arrives at a node.
    ToNode(Life, SessionId, Box<WorkerFrame>),
    /// A node notices that a worker's connection ended.
    SessionGone(Life, SessionId),
    /// A worker's connection request arrives at a node.
    Connect(Life, ConnectionId, usize),
    /// A connection stands.
    Connected(Life, ConnectionId),
    /// A worker notices that its connection ended.
    Disconnected(Life, ConnectionId),
    /// A node's frame arrives at a worker.
    ToWorker(Life, ConnectionId, Box<LeaderFrame>),
    /// A worker's turn ends.
    WorkerTurn(Life),
    /// A worker's deadline.
    WorkerWake(Life),
    /// A worker's pause ends.
    WorkerResume(Life),
    /// A handler reaches its next stage.
    HandlerDue(Life, Token, u32),
    /// What a handler said while its worker was frozen is read.
    HandlerSaid(Life, Box<WorkerInput>),
    /// The watchdog of a worker looks at its deadline.
    Watchdog(Life),
    /// The watchdog of a worker that has died kills what it left running.
    Orphans(Life, Vec<(RunKey, Token)>),
    /// A try to open the database ends.
    HistoryOpen(Life, u32, ClusterId),
    /// A transaction ends.
    HistoryStore(Life, u32, Box<HistoryBatch>),
    /// Its acknowledgement arrives.
    HistoryDone(Life, u32, Result<(u64, u64), ()>),
    /// The operator strikes.
    Fault(Fault),
    /// One more submit of a flood.
    Flood,
    /// Checkers that sample.
    Sample,
}

/// What the operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Kills a node, or all.
    Crash,
    /// Starts a node that is down.
    Restart(usize),
    /// Cuts links.
    Partition,
    /// Stops a node for a while.
    Pause,
    /// Moves a node's wall clock.
    ClockStep,
    /// Kills a worker.
    WorkerDeath,
    /// Starts a worker that is down.
    WorkerStart(usize),
    /// Breaks a worker's connection.
    WorkerReset,
    /// Stops a worker for a while.
    WorkerPause,
    /// Asks a worker to shut down.
    WorkerDrain,
    /// Takes the database away.
    HistoryOutage,
    /// Breaks every connection to the database.
    HistoryReset,
    /// Backs the database up, or restores it from the last backup.
    HistoryRestore,
    /// Ends the safety phase.
    Heal,
    /// Puts one node out of order for good, some time after the healing.
    Odd,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The heap.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
}

impl Agenda {
    /// Schedules an event.
    pub fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Scheduled { at, order: self.order, event }));
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(next)| (next.at, next.event))
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Tells whether nothing will ever happen again.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
