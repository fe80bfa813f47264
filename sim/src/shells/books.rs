//! Where what happens meets the checkers: what each node's machine asks for, what its disk has
//! synced, each handler's start, each transaction, each restart. One set of books a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dtask_core::consensus::Body;
use dtask_core::id::{InstanceId, NodeId, Ticket};
use dtask_core::log::{LogFact, Recovered};
use dtask_core::node::{Effect, Node, Note, Reply, Request};
use dtask_core::worker::Assignment;

use super::clock::at;
use super::draw::Draw;
use super::seen::{self, Seen};
use crate::check::chain::{Chain, Said};
use crate::check::durable::Image;
use crate::check::effects::Outside;
use crate::check::ledger::Meaning;
use crate::check::promises::Promises;
use crate::check::wire::Wire;
use crate::check::{Verdict, Violation};
use crate::world::history::HistoryDb;
use crate::world::trace::{Line, Trace};

/// After a pause a worker's own clock has had this long to stop its handlers.
const THAW_MICROS: u64 = 2_000_000;

/// A handle on the books: cheap to clone.
#[derive(Clone)]
pub struct Witness(Arc<Mutex<Books>>);

/// One node, across its lives.
#[derive(Debug, Default)]
pub struct NodeBooks {
    /// Rises with each start.
    pub life: u32,
    /// The process runs.
    pub up: bool,
    /// What its disk holds for certain.
    pub image: Image,
    /// The entries that it wrote.
    pub said: Said,
    /// The last applied index that it told of.
    pub applied: u64,
    /// It leads, by its own word, since then.
    pub leads_since: Option<u64>,
    /// The audit of its state, once asked for.
    pub audit: Option<Result<(), String>>,
}

/// One worker process, across its lives.
#[derive(Debug, Default)]
pub struct WorkerBooks {
    /// Rises with each start.
    pub life: u32,
    /// The process runs.
    pub up: bool,
    /// It is frozen.
    pub paused: bool,
    /// When it was last thawed.
    pub thawed_at: Option<u64>,
}

/// The books.
pub struct Books {
    /// What was drawn.
    pub draw: Arc<Draw>,
    /// The first violation.
    pub failure: Option<Violation>,
    /// The running hash and the last lines.
    pub trace: Trace,
    /// What was met.
    pub seen: Seen,
    /// Nodes.
    pub nodes: Vec<NodeBooks>,
    /// Workers.
    pub workers: Vec<WorkerBooks>,
    /// Which worker an instance is a life of.
    pub instances: BTreeMap<InstanceId, usize>,
    /// The committed log.
    pub chain: Chain,
    /// What clients were promised.
    pub promises: Promises,
    /// What handlers did.
    pub outside: Outside,
    /// The history database.
    pub history: HistoryDb,
    /// Faults are over.
    pub healed: bool,
    /// States are to be audited.
    pub audit: bool,
    /// A leader was seen after the healing: fresh tasks must run until this moment.
    pub fresh_until: Option<u64>,
    /// Fresh tasks that have.
    pub fresh_done: usize,
    /// Clients are to read what they were promised; then they have.
    pub read_back: bool,
    /// Clients have read it.
    pub read: bool,
    /// The last node that led.
    leader: Option<usize>,
    wire: Wire,
}

/// Questions under way at one life of a node, and when each was asked.
pub type Asked = BTreeMap<Ticket, (Request, u64)>;

impl Witness {
    /// Empty books.
    pub fn new(draw: Arc<Draw>, verbose: bool) -> Self {
        let mut trace = Trace::default();
        trace.verbose = verbose;
        let books = Books {
            failure: None,
            trace,
            seen: Seen::default(),
            nodes: draw.node_places().map(|_| NodeBooks::default()).collect(),
            workers: (0..draw.workers_in_all()).map(|_| WorkerBooks::default()).collect(),
            instances: BTreeMap::new(),
            chain: Chain::new(),
            promises: Promises::default(),
            outside: Outside::default(),
            history: HistoryDb::default(),
            healed: false,
            audit: false,
            fresh_until: None,
            fresh_done: 0,
            read_back: false,
            read: false,
            leader: None,
            wire: Wire::default(),
            draw,
        };
        Self(Arc::new(Mutex::new(books)))
    }

    /// The books, to write in.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Writes an event down: nodes from 1, workers from 101, clients from 201, the operator 0.
    pub fn note(&mut self, who: u32, kind: &'static str, numbers: [u64; 3]) {
        self.trace.push(Line { at: at(), who, kind, numbers });
    }

    /// Keeps the first violation.
    pub fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.failure.get_or_insert(violation);
        }
    }

    /// A step of the node at `place`: everything that it asks for, before it reaches anyone.
    pub fn stepped(
        &mut self,
        place: usize,
        input: &'static str,
        node: &Node,
        effects: &[Effect],
        asked: &mut Asked,
    ) {
        let state = node.state();
        let digest = state.digest() as u64;
        let numbers = [effects.len() as u64, state.applied_index(), digest];
        self.note(place as u32 + 1, input, numbers);
        let verdict = self.take(place, node, effects, asked);
        self.judge(verdict);
        if self.audit && self.nodes[place].audit.is_none() {
            self.nodes[place].audit = Some(state.audit().map_err(|error| error.to_string()));
        }
    }

    fn take(
        &mut self,
        place: usize,
        node: &Node,
        effects: &[Effect],
        asked: &mut Asked,
    ) -> Verdict {
        for effect in effects {
            if let Effect::Persist(persist) = effect {
                self.nodes[place].said.take(persist);
                self.nodes[place].image.written(persist);
                if let Some(LogFact::Formed { voters, .. }) = &persist.fact {
                    self.chain.formed(voters);
                }
            }
        }
        let mut applied = None;
        for effect in effects {
            if let Effect::Note(note) = effect {
                self.heard(place, note, &mut applied)?;
            }
        }
        if let Some(index) = applied {
            self.applied(place, index)?;
        }
        let state = node.state();
        self.chain.s6_equal_index_equal_digest(place, state.applied_index(), state.digest())?;
        for effect in effects {
            match effect {
                Effect::Send(envelope) => {
                    let Body::Raft(messages) = &envelope.body else { continue };
                    let from = NodeId(place as u64 + 1);
                    for message in messages {
                        self.wire.sent(from, envelope.to, message)?;
                        let image = &self.nodes[place].image;
                        image.s4_claims_are_durable(from, envelope.to, message)?;
                    }
                }
                Effect::Answer { ticket, reply } => {
                    let more = matches!(reply, Reply::Output { end: false, .. });
                    let Some((request, asked_at)) = asked.get(ticket) else { continue };
                    self.answered(place, *asked_at, request, reply)?;
                    if !more {
                        asked.remove(ticket);
                    }
                }
                Effect::Halt { reason } => {
                    return Err(Violation::new(
                        "L7",
                        format!("node {} halts: {reason}", place + 1),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn heard(&mut self, place: usize, note: &Note, applied: &mut Option<u64>) -> Verdict {
        match note {
            Note::Applied { index } => *applied = Some(*index),
            Note::SnapshotInstalled { index } => {
                self.seen.hit(seen::SNAPSHOT_INSTALLED);
                let books = &mut self.nodes[place];
                books.applied = books.applied.max(*index);
            }
            Note::Leading { .. } => {
                if self.leader.replace(place).is_some_and(|before| before != place) {
                    self.seen.hit(seen::LEADER_CHANGED);
                }
                self.nodes[place].leads_since = Some(at());
            }
            Note::Following { .. } => self.nodes[place].leads_since = None,
            Note::LeaseExpired { .. } => self.seen.hit(seen::LEASE_EXPIRED),
            Note::Violation { what } => {
                return Err(Violation::new("S6", format!("node {} says: {what}", place + 1)));
            }
            Note::HistoryRefused { text } => {
                return Err(Violation::new("S18", format!("node {}: {text}", place + 1)));
            }
            // Nothing damages a state here.
            Note::Diverged { index } => {
                let what = format!("node {} takes its state at {index} for wrong", place + 1);
                return Err(Violation::new("S6", what));
            }
            Note::Fenced { .. } => self.seen.hit(seen::STALE_REPORT),
            Note::Formed { .. }
            | Note::SnapshotTaken { .. }
            | Note::HandsOn { .. }
            | Note::Warning { .. } => {}
        }
        Ok(())
    }

    fn applied(&mut self, place: usize, index: u64) -> Verdict {
        let node = &mut self.nodes[place];
        let from = node.applied.min(index);
        let meanings = self.chain.applied(place, &node.said, from, index, &self.promises)?;
        node.applied = index;
        node.said.trim(index.saturating_sub(64));
        for meaning in meanings {
            let what = match meaning {
                Meaning::Closed { retried: true, .. } => seen::RETRIED,
                Meaning::Fired { .. } => seen::FIRED,
                Meaning::Triggered => seen::TRIGGERED,
                Meaning::Rerun { .. } => seen::RAN_AGAIN,
                Meaning::CancelledWaiting => seen::CANCELLED_WAITING,
                Meaning::CancelledRunning => seen::CANCELLED_RUNNING,
                Meaning::StaleReport => seen::STALE_REPORT,
                Meaning::Deleted => seen::DELETED,
                Meaning::Nothing
                | Meaning::StaleRow
                | Meaning::RequestRepeated
                | Meaning::RequestReused
                | Meaning::Created { .. }
                | Meaning::Closed { retried: false, .. }
                | Meaning::CancelTooLate
                | Meaning::Dropped
                | Meaning::Repeated
                | Meaning::Conflict => continue,
            };
            self.seen.hit(what);
        }
        Ok(())
    }

    /// A node starts from what its disk holds.
    pub fn node_starts(&mut self, place: usize, recovered: &Recovered) {
        if let Some((_, voters)) = &recovered.formed {
            self.chain.formed(voters);
        }
        let node = &mut self.nodes[place];
        node.life += 1;
        node.up = true;
        node.said.restart(&recovered.entries);
        node.applied = recovered.meta.as_ref().map_or(0, |meta| meta.index);
        let life = node.life;
        let verdict = node.image.s25_recovery_yields_a_written_prefix(recovered);
        self.judge(verdict);
        self.note(place as u32 + 1, "starts", [u64::from(life), 0, 0]);
    }

    /// A node's process is gone.
    pub fn node_ends(&mut self, place: usize, why: &'static str) {
        let node = &mut self.nodes[place];
        node.up = false;
        node.leads_since = None;
        self.note(place as u32 + 1, why, [0, 0, 0]);
    }

    /// Who leads, by its own word.
    pub fn leads(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.up && node.leads_since.is_some())
    }

    /// Judges the start of a handler: P7.2 (agreed before the worker hears of it), S11, S17.
    pub fn handler_starts(&mut self, instance: InstanceId, assignment: &Assignment) {
        let verdict = self.start(instance, assignment);
        self.judge(verdict);
    }

    fn start(&mut self, instance: InstanceId, assignment: &Assignment) -> Verdict {
        let ledger = self.chain.ledger();
        let (now, workers, instances) = (at(), &self.workers, &self.instances);
        self.outside.started(ledger, instance, assignment, |other| {
            instances.get(&other).is_some_and(|&place| {
                let worker = &workers[place];
                worker.paused || worker.thawed_at.is_some_and(|thawed| now < thawed + THAW_MICROS)
            })
        })
    }
}
