//! The World: every machine of a cluster on one event heap, with our own disk, network, clocks,
//! workers, database, clients and operator. No async, no threads: a run is a function of its seed.
//!
//! It hosts the machines exactly as the runtime does (feed what arrived, end the turn, perform the
//! effects in order) and hands everything that leaves them to the checkers.

pub mod bounds;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod database;
pub mod disk;
mod edge;
pub mod event;
pub mod flood;
pub mod history;
pub mod judge;
pub mod link;
pub mod live;
pub mod net;
pub mod node;
pub mod odd;
pub mod operator;
mod requests;
pub mod rot;
pub mod script;
pub mod store;
pub mod trace;
pub mod transfer;
pub mod watchdog;
pub mod worker;
pub mod wrong;

use dtask_core::consensus::{Body, Envelope};
use dtask_core::rng::Rng;
use dtask_core::time::Timestamp;

use self::call::Calls;
use self::client::Client;
use self::config::Config;
use self::event::{Agenda, Event};
use self::flood::Flood;
use self::history::HistoryDb;
use self::live::Progress;
use self::net::Net;
use self::node::{NodeHost, node_of};
use self::odd::Odd;
use self::trace::{Line, Probes, Trace};
use self::transfer::Transfers;
use self::worker::WorkerHost;
use crate::check::Violation;
use crate::check::chain::Chain;
use crate::check::effects::Outside;
use crate::check::promises::Promises;
use crate::check::wire::Wire;

/// A break of the World's own host, for the canary: a build that lies must be caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    Honest,
    /// `Persisted` is answered before the sync has happened.
    PersistedBeforeSync,
}

/// Generators of their own for each part, so that a new draw here does not move another there.
#[derive(Debug)]
struct Chances {
    operator: Rng,
    client: Rng,
    net: Rng,
    disk: Rng,
    turn: Rng,
    history: Rng,
    node: Rng,
    odd: Rng,
}

/// A cluster and everything around it.
pub struct World {
    config: Config,
    sabotage: Sabotage,
    at: u64,
    agenda: Agenda,
    rng: Chances,
    net: Net,
    nodes: Vec<NodeHost>,
    workers: Vec<WorkerHost>,
    /// The first of the two workers that start with the liveness phase.
    spare: usize,
    clients: Vec<Client>,
    calls: Calls,
    history: HistoryDb,
    /// The entry and the moment at which what waits for history went beyond its bound.
    over_bound: Option<(u64, u64)>,
    transfers: Transfers,
    trace: Trace,
    probes: Probes,
    wire: Wire,
    chain: Chain,
    outside: Outside,
    promises: Promises,
    healed: bool,
    healed_at: u64,
    /// Replicated time at the healing.
    heal_time: Timestamp,
    core: Vec<usize>,
    /// The node that something stays wrong with after the healing.
    odd: Option<Odd>,
    /// More new work than there may be, after the healing.
    flood: Flood,
    progress: Progress,
    /// Bytes of the largest submit so far.
    largest_submit: usize,
    over: bool,
    failure: Option<Violation>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The violated invariant, if any.
    pub failure: Option<Violation>,
    /// Hash of the whole trace.
    pub hash: u64,
    /// Events in it.
    pub events: u64,
    /// Simulated time, in microseconds.
    pub simulated: u64,
    /// The probes.
    pub probes: Probes,
    /// The last lines of the trace.
    pub tail: String,
    /// Entries committed.
    pub entries: u64,
    /// Submits acknowledged.
    pub acknowledged: usize,
}

impl World {
    /// Everything at rest, as the configuration draws it.
    pub fn new(config: Config, sabotage: Sabotage) -> Self {
        let root = Rng::new(config.seed);
        let mut machines = root.fork("machines");
        let nodes: Vec<NodeHost> =
            (0..config.nodes).map(|_| NodeHost::drawn(&config, &mut machines)).collect();
        let spare = config.workers;
        let workers: Vec<WorkerHost> =
            (0..spare + 2).map(|place| WorkerHost::drawn(place, &config, &mut machines)).collect();
        let clients = (0..config.load.clients)
            .map(|client| Client::new(root.fork(&format!("client {client}"))))
            .collect();
        let places = config.nodes + workers.len() + 1;
        Self {
            net: Net::new(root.fork("net"), config.net.clone(), places),
            sabotage,
            at: 0,
            agenda: Agenda::default(),
            rng: Chances {
                operator: root.fork("operator"),
                client: root.fork("fresh"),
                net: root.fork("links"),
                disk: root.fork("disk"),
                turn: root.fork("turn"),
                history: root.fork("history"),
                node: root.fork("node"),
                odd: root.fork("odd"),
            },
            nodes,
            workers,
            spare,
            clients,
            calls: Calls::default(),
            history: HistoryDb::default(),
            over_bound: None,
            transfers: Transfers::default(),
            trace: Trace::default(),
            probes: Probes::default(),
            wire: Wire::default(),
            chain: Chain::keeping_ended_ids(config.ended_ids_max),
            outside: Outside::default(),
            promises: Promises::default(),
            healed: false,
            healed_at: 0,
            heal_time: Timestamp::default(),
            core: (0..config.nodes).collect(),
            odd: None,
            flood: Flood::default(),
            progress: Progress::default(),
            largest_submit: 0,
            over: false,
            failure: None,
            config,
        }
    }

    /// Prints every event.
    pub fn verbose(&mut self) {
        self.trace.verbose = true;
    }

    /// Runs both phases, or until an invariant fails.
    pub fn run(mut self) -> Outcome {
        for node in 0..self.config.nodes {
            let at = self.rng.operator.below(500_000);
            self.agenda.push(at, Event::Fault(event::Fault::Restart(node)));
        }
        for worker in 0..self.spare {
            let at = self.rng.operator.below(5_000_000);
            self.agenda.push(at, Event::Fault(event::Fault::WorkerStart(worker)));
        }
        for client in 0..self.clients.len() {
            self.agenda.push(1_000 + client as u64, Event::ClientStep(client));
        }
        self.operator_begins();
        self.samples_begin();
        while self.failure.is_none() && !self.over {
            let Some((at, event)) = self.agenda.pop() else { break };
            self.at = at;
            self.happen(event);
        }
        if self.failure.is_none()
            && let Err(violation) = self.judge_end()
        {
            self.violate(violation);
        }
        Outcome {
            failure: self.failure,
            hash: self.trace.hash(),
            events: self.trace.events(),
            simulated: self.at,
            probes: self.probes,
            tail: self.trace.report(),
            entries: self.chain.len(),
            acknowledged: self.promises.count(),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::NodeTurn(life)
            | Event::NodeWake(life)
            | Event::NodeResume(life)
            | Event::LogSynced(life)
            | Event::LogIdle(life, _)
            | Event::SnapshotSaved(life, _)
            | Event::Unreachable(life, _)
            | Event::Transfer(life, _)
            | Event::ToNode(life, ..)
            | Event::SessionGone(life, _)
            | Event::HistoryOpen(life, ..)
            | Event::HistoryDone(life, ..) => self.node_event(life, event),
            Event::Peer(to, envelope) => self.peer_arrives(to, envelope),
            Event::Ask(node, ticket, request, forwarded) => {
                self.ask_arrives(node, ticket, request, forwarded);
            }
            Event::Answer(ticket, reply) => self.answer_arrives(ticket, *reply),
            Event::CallTimeout(ticket) => self.call_times_out(ticket),
            Event::ClientStep(client) => self.client_step(client),
            Event::Again(call) => self.client_asks_again(*call),
            Event::Connect(life, connection, node) => self.connect_arrives(life, connection, node),
            Event::Connected(life, _)
            | Event::Disconnected(life, _)
            | Event::ToWorker(life, ..)
            | Event::WorkerTurn(life)
            | Event::WorkerWake(life)
            | Event::WorkerResume(life)
            | Event::HandlerSaid(life, _)
            | Event::Watchdog(life)
            | Event::HandlerDue(life, ..) => self.worker_event(life, event),
            Event::Orphans(life, left) => self.orphans_die(life.who, &left),
            Event::HistoryStore(life, generation, batch) => {
                self.history_commits(life, generation, &batch);
            }
            Event::Fault(fault) => self.fault(fault),
            Event::Flood => {
                if let Err(violation) = self.flood_goes_on() {
                    self.violate(violation);
                }
            }
            Event::Sample => {
                if let Err(violation) = self.sample() {
                    self.violate(violation);
                }
            }
        }
    }

    fn note(&mut self, who: u32, kind: &'static str, numbers: [u64; 3]) {
        self.trace.push(Line { at: self.at, who, kind, numbers });
    }

    fn fail(&mut self, id: &'static str, detail: String) {
        self.violate(Violation::new(id, detail));
    }

    fn violate(&mut self, violation: Violation) {
        self.failure.get_or_insert(violation);
    }
}

fn envelope_name(envelope: &Envelope) -> &'static str {
    match &envelope.body {
        Body::Introduce { .. } => "hears introduction",
        Body::Reject { .. } => "hears rejection",
        Body::Announce { .. } => "hears announcement",
        Body::Raft(_) => "hears raft",
        Body::Snapshot(_) => "hears snapshot",
    }
}

/// Three numbers for the trace: recipient or sender, a hash of what is said, and how much.
fn envelope_numbers(envelope: &Envelope) -> [u64; 3] {
    let mut hash = envelope.from.0.0;
    let size = match &envelope.body {
        Body::Introduce { voters, .. } => voters.len() as u64,
        Body::Reject { reason } => reason.len() as u64,
        Body::Announce { grpc, http } => (grpc.len() + http.len()) as u64,
        Body::Raft(messages) => {
            for message in messages {
                for word in [
                    u64::from(message.kind),
                    message.term,
                    message.index,
                    message.log_term,
                    message.commit,
                    u64::from(message.reject),
                    message.entries.last().map_or(0, |entry| entry.index),
                ] {
                    hash = dtask_core::rng::mix(hash ^ word);
                }
            }
            messages.first().map_or(0, |message| {
                u64::from(message.kind) * 1_000_000 + message.term * 1_000 + messages.len() as u64
            })
        }
        Body::Snapshot(piece) => piece.offset,
    };
    [envelope.to.0, hash & 0xffff, size]
}
