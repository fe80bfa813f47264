//! The host of one node: waits, feeds what has arrived, ends the turn, performs the effects.
//!
//! It decides nothing. One loop on the same `current_thread` runtime as the network: what arrived
//! while the node was at work is fed together, so that one entry, one append per follower and one
//! fsync serve all of it (datapath.md, "Threads").

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dtask_core::id::{SessionId, Ticket};
use dtask_core::machine::{Driver, Machine};
use dtask_core::node::{Effect, Input, Reply};
use dtask_core::worker::LeaderFrame;
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::inbox::{Answer, Arrival, Inbox};
use super::peers::Peers;
use super::ports::{Disk, History};
use super::status::NodeStatus;

/// Arrivals fed in one turn: with an entry's bounds it keeps a turn to a few milliseconds (P1.3).
const TURN_ARRIVALS_MAX: usize = 2_000;
/// How long a leader that shuts down waits for another to take over.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// How long a node that shuts down without a successor goes on answering what it has proposed.
const SETTLE_MAX: Duration = Duration::from_millis(300);

/// Why the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    ShutDown,
    /// The node cannot go on; one line with the remedy.
    Halted(String),
    /// The disk could not persist: no answer will come (P4.4).
    DiskFailed,
}

/// What a host is made of.
pub struct HostParts<M, C, D, H> {
    /// The node.
    pub node: M,
    /// Both clocks.
    pub clock: C,
    /// Log and snapshots.
    pub disk: D,
    /// The newest durable `Persist`, as the disk reports it.
    pub durable: watch::Receiver<u64>,
    /// The history database.
    pub history: H,
    /// Streams to the other nodes.
    pub peers: Peers,
    /// What arrives.
    pub inbox: Inbox,
    /// What services show in headers and metrics.
    pub status: Arc<NodeStatus>,
    /// True once the process is to stop.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs a node until it is told to stop, halts, or its disk fails.
pub async fn run<M, C, D, H>(parts: HostParts<M, C, D, H>) -> Ended
where
    M: Machine<Input = Input, Effect = Effect>,
    C: Clock,
    D: Disk,
    H: History,
{
    let HostParts { node, clock, disk, durable, history, peers, inbox, status, shutdown } = parts;
    let outside = Outside {
        disk,
        history,
        peers,
        status,
        waiters: HashMap::new(),
        sessions: HashMap::new(),
        unsynced: VecDeque::new(),
        snapshot_bytes: 0,
        halted: None,
    };
    let host =
        Host { driver: Driver::new(node), clock, outside, inbox, durable, told: 0, shutdown };
    host.run().await
}

struct Host<M: Machine, C, D, H> {
    driver: Driver<M>,
    clock: C,
    /// Dropped before the disk, whose thread may wait for room in it while the disk's end waits
    /// for the thread.
    inbox: Inbox,
    outside: Outside<D, H>,
    durable: watch::Receiver<u64>,
    /// The newest durable number that the node was told.
    told: u64,
    shutdown: watch::Receiver<bool>,
}

/// Why the loop woke.
enum Woken {
    Stop,
    Durable,
    DiskGone,
    Arrived(Arrival),
    Time,
}

impl<M, C, D, H> Host<M, C, D, H>
where
    M: Machine<Input = Input, Effect = Effect>,
    C: Clock,
    D: Disk,
    H: History,
{
    async fn run(mut self) -> Ended {
        // A first turn lets a node that has nothing to wait for (a sole voter) begin at once.
        self.turn();
        let mut stopping: Option<tokio::time::Instant> = None;
        loop {
            if let Some(reason) = self.outside.halted.take() {
                return Ended::Halted(reason);
            }
            let over = stopping.is_some_and(|until| {
                tokio::time::Instant::now() >= until || self.outside.handed_over()
            });
            if over {
                return Ended::ShutDown;
            }
            match self.wait(stopping).await {
                Woken::Stop => stopping = Some(self.begin_to_stop()),
                Woken::DiskGone => return Ended::DiskFailed,
                Woken::Arrived(arrival) => self.feed(arrival),
                Woken::Durable | Woken::Time => {}
            }
            // One yield lets every connection that became readable meanwhile hand in its part, so
            // that they share this turn's entry and fsync (datapath.md, "Threads").
            tokio::task::yield_now().await;
            self.turn();
        }
    }

    async fn wait(&mut self, stopping: Option<tokio::time::Instant>) -> Woken {
        let mut sleep = self.driver.sleep(self.clock.now());
        if let Some(until) = stopping {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            sleep = Some(sleep.map_or(left, |sleep| sleep.min(left)));
        }
        if sleep == Some(Duration::ZERO) {
            // The timer's grain is a millisecond; work that is due now does not wait for it.
            return self.inbox.arrivals.try_recv().map_or(Woken::Time, Woken::Arrived);
        }
        let timer = async {
            match sleep {
                Some(sleep) => tokio::time::sleep(sleep).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            asked = self.shutdown.wait_for(|stop| *stop), if stopping.is_none() => {
                // A dropped sender is a request too: nobody is left who could make one.
                drop(asked);
                Woken::Stop
            }
            durable = self.durable.changed() => match durable {
                Ok(()) => Woken::Durable,
                Err(_) => Woken::DiskGone,
            },
            Some(arrival) = self.inbox.arrivals.recv() => Woken::Arrived(arrival),
            () = timer => Woken::Time,
        }
    }

    /// One turn: feed what has arrived, end it, perform what it asked for (P1.2).
    fn turn(&mut self) {
        let now = self.clock.now();
        let n = *self.durable.borrow_and_update();
        if n > self.told {
            self.told = n;
            self.outside.synced(n);
            self.driver.feed(now, Input::Persisted { n });
        }
        for _ in 0..TURN_ARRIVALS_MAX {
            match self.inbox.arrivals.try_recv() {
                Ok(arrival) => self.feed(arrival),
                Err(_) => break,
            }
        }
        let now = self.clock.now();
        if self.driver.sleep(now) == Some(Duration::ZERO) {
            self.driver.wake(now);
        }
        self.driver.flush(now);
        for effect in self.driver.effects() {
            self.outside.perform(effect);
        }
    }

    fn feed(&mut self, arrival: Arrival) {
        let now = self.clock.now();
        match arrival {
            Arrival::Input(input) => {
                match &input {
                    Input::Abandon { ticket } => {
                        self.outside.waiters.remove(ticket);
                    }
                    Input::WorkerGone { session } => {
                        self.outside.sessions.remove(session);
                    }
                    _ => {}
                }
                self.driver.feed(now, input);
            }
            Arrival::Ask { ticket, request, forwarded, answer } => {
                self.outside.waiters.insert(ticket, answer);
                self.driver.feed(now, Input::Ask { ticket, request, forwarded });
            }
            Arrival::SessionOpened { session, frames } => {
                self.outside.sessions.insert(session, frames);
            }
        }
    }

    fn begin_to_stop(&mut self) -> tokio::time::Instant {
        self.driver.feed(self.clock.now(), Input::Shutdown);
        let grace = if self.outside.peers.is_empty() { SETTLE_MAX } else { HAND_OVER_MAX };
        tokio::time::Instant::now() + grace
    }
}

/// Everything that effects touch.
struct Outside<D, H> {
    disk: D,
    history: H,
    peers: Peers,
    status: Arc<NodeStatus>,
    /// Callers that wait; the host adds and removes them.
    waiters: HashMap<Ticket, Answer>,
    /// Connected workers; an entry ends with its connection or by `CloseSession`.
    sessions: HashMap<SessionId, mpsc::Sender<LeaderFrame>>,
    /// Records on their way to the disk, for the metric.
    unsynced: VecDeque<(u64, Instant)>,
    /// Of the snapshot that is being written, for the metric.
    snapshot_bytes: u64,
    halted: Option<String>,
}

impl<D: Disk, H: History> Outside<D, H> {
    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(persist) => {
                self.unsynced.push_back((persist.n, Instant::now()));
                self.disk.persist(persist);
            }
            Effect::Send(envelope) => self.peers.send(*envelope),
            Effect::SendSnapshot { to, index, term } => {
                let file = self.disk.snapshot_read(index);
                self.peers.send_snapshot(to, index, term, file);
            }
            Effect::SnapshotWrite { index, data } => {
                self.snapshot_bytes += data.len() as u64;
                self.disk.snapshot_write(index, data);
            }
            Effect::SnapshotFinish { index } => {
                self.status.metrics().snapshot(std::mem::take(&mut self.snapshot_bytes));
                self.disk.snapshot_finish(index);
            }
            Effect::SnapshotAbort { index } => {
                self.snapshot_bytes = 0;
                self.disk.snapshot_abort(index);
            }
            Effect::Answer { ticket, reply } => self.answer(ticket, reply),
            Effect::ToWorker { session, frame } => self.say_to_worker(session, frame),
            Effect::CloseSession { session } => {
                self.sessions.remove(&session);
            }
            Effect::OpenHistory { cluster } => self.history.open(cluster),
            Effect::StoreHistory(batch) => {
                self.status.metrics().stored(&batch);
                self.history.store(batch);
            }
            Effect::CloseHistory => self.history.close(),
            Effect::Note(note) => self.status.note(&note),
            Effect::Halt { reason } => self.halted = Some(reason),
        }
    }

    fn synced(&mut self, n: u64) {
        while let Some((_, began)) = self.unsynced.pop_front_if(|(number, _)| *number <= n) {
            self.status.metrics().synced(began.elapsed());
        }
    }

    /// A receiver that is gone has withdrawn; its `Abandon` is on its way.
    fn answer(&mut self, ticket: Ticket, reply: Reply) {
        let more = matches!(reply, Reply::Output { end: false, .. });
        let Some(answer) = self.waiters.remove(&ticket) else { return };
        let sender = match answer {
            Answer::Once(sender) => return drop(sender.send(reply)),
            Answer::Pieces(sender) => sender,
        };
        // A full queue means a reader that is too slow: it is cut off here and resumes by offset;
        // its dropped receiver makes the `Abandon` (P7.9).
        if sender.try_send(reply).is_ok() && more {
            self.waiters.insert(ticket, Answer::Pieces(sender));
        }
    }

    /// A worker that is too slow to take its frames loses its session and connects again; the
    /// Hello tells both sides where they stand.
    fn say_to_worker(&mut self, session: SessionId, frame: LeaderFrame) {
        if let Some(frames) = self.sessions.get(&session)
            && frames.try_send(frame).is_err()
        {
            self.sessions.remove(&session);
        }
    }

    fn handed_over(&self) -> bool {
        !self.peers.is_empty() && !self.status.leads()
    }
}
