//! Scheduler processes: the `Node` machine and its host: turns, wake-ups, effects in their order,
//! and crashes between any two of them.

use std::collections::BTreeMap;

use dtask_core::consensus::{Body, Envelope};
use dtask_core::id::{ClusterId, NodeId, SessionId, Ticket};
use dtask_core::machine::{Driver, Machine as _};
use dtask_core::node::{Effect, Input, Node, Note, Unfit};
use dtask_core::rng::Rng;
use dtask_core::worker::{ConnectionId, LeaderFrame};

use super::World;
use super::clock::Clock;
use super::config::Config;
use super::disk::Disk;
use super::event::{Event, Life};
use super::store::LogThread;
use super::trace::Probe;
use crate::check::chain::Said;
use crate::check::durable::Image;

/// A scheduler process and its host.
pub struct NodeHost {
    /// Rises with each start.
    pub life: u32,
    /// `None` while the process is down.
    pub driver: Option<Driver<Node>>,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// Its log thread.
    pub log: LogThread,
    /// What its disk holds for certain, by the checkers' own books.
    pub image: Image,
    /// The entries that it wrote.
    pub said: Said,
    /// The last applied index that it told of.
    pub applied: u64,
    /// Frozen before this moment.
    pub paused_until: u64,
    /// What arrives while it is frozen.
    pub backlog: Vec<Event>,
    /// When its turn ends, if one is open.
    pub turn_at: Option<u64>,
    /// When it will be woken.
    pub wake_at: Option<u64>,
    /// Dies after performing this many further effects.
    pub fuse: Option<u32>,
    /// Connections of workers.
    pub sessions: BTreeMap<SessionId, (Life, ConnectionId)>,
    /// The last session id given.
    pub next_session: u64,
    /// The database as this host uses it.
    pub history: HistoryClient,
    /// Group, cluster and sender as its envelopes name them, for pieces of snapshots.
    pub header: Option<Envelope>,
    /// The next wake-up comes whatever the machine's deadline says.
    pub rouse: bool,
    /// Turns in a row that ended with a deadline that had passed (B4).
    pub spins: u32,
    /// It last refused new work for load.
    pub refused_at: u64,
    /// It leads, by its own word, since then.
    pub leads_since: Option<u64>,
    /// A synced bit of its log has flipped.
    pub rotten: bool,
    /// It has found that and starts no more.
    pub halted: bool,
}

/// A host's use of the database.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryClient {
    /// Whose database the node wants open.
    pub wanted: Option<ClusterId>,
    /// Rises with each opening, so that answers of an older one are dropped.
    pub generation: u32,
}

impl NodeHost {
    /// A node that is down, with an empty disk.
    pub fn drawn(config: &Config, rng: &mut Rng) -> Self {
        Self {
            life: 0,
            driver: None,
            clock: Clock::drawn(rng, config.epoch, &config.clock),
            disk: Disk::default(),
            log: LogThread::default(),
            image: Image::default(),
            said: Said::default(),
            applied: 0,
            paused_until: 0,
            backlog: Vec::new(),
            turn_at: None,
            wake_at: None,
            fuse: None,
            sessions: BTreeMap::new(),
            next_session: 0,
            history: HistoryClient::default(),
            header: None,
            rouse: false,
            spins: 0,
            refused_at: 0,
            leads_since: None,
            rotten: false,
            halted: false,
        }
    }

    /// Tells whether the process runs.
    pub const fn is_up(&self) -> bool {
        self.driver.is_some()
    }
}

/// B4: so many turns may end with a deadline that has passed: a walk over a state takes some.
pub(super) const SPINS_MAX: u32 = 2_000;

/// The index of the node that an address names.
pub(super) fn node_of(address: &str) -> Option<usize> {
    let number: usize = address.strip_prefix('n')?.split(':').next()?.parse().ok()?;
    number.checked_sub(1)
}

impl World {
    /// Kills a node. `power` loses what was not synced.
    pub(super) fn node_crash(&mut self, who: usize, power: bool) {
        let host = &mut self.nodes[who];
        if host.driver.take().is_none() {
            return;
        }
        if host.log.is_syncing() {
            self.probes.hit(Probe::CrashInSync);
        }
        self.log_crash(who);
        let host = &mut self.nodes[who];
        host.backlog.clear();
        host.turn_at = None;
        host.wake_at = None;
        host.fuse = None;
        host.history = HistoryClient::default();
        host.leads_since = None;
        host.paused_until = 0;
        let lost = if power { host.disk.lose_power(&mut self.rng.disk) } else { 0 };
        if lost > 0 {
            self.probes.hit(Probe::SectorsLost);
        }
        let sessions = std::mem::take(&mut self.nodes[who].sessions);
        for (life, connection) in sessions.into_values() {
            // A killed process resets its connections; a dead machine says nothing for a while.
            let late = if power { self.rng.net.below(10_000_000) } else { self.net.delay() };
            self.agenda.push(self.at + late, Event::Disconnected(life, connection));
        }
        self.note(who as u32 + 1, "node dies", [u64::from(power), lost as u64, 0]);
    }

    /// Feeds a node and opens its turn.
    pub(super) fn node_feed(&mut self, who: usize, input: Input) {
        let (at, turn) = (self.at, self.rng.turn.below(self.config.turn_micros));
        let host = &mut self.nodes[who];
        let Some(driver) = &mut host.driver else { return };
        driver.feed(host.clock.now(at), input);
        if host.turn_at.is_none() {
            let due = at + 1 + turn;
            host.turn_at = Some(due);
            self.agenda.push(due, Event::NodeTurn(Life { who, life: host.life }));
        }
    }

    /// An event of a node's life; dropped when that life is over, kept while it is frozen.
    pub(super) fn node_event(&mut self, life: Life, event: Event) {
        let at = self.at;
        let host = &mut self.nodes[life.who];
        if host.driver.is_none() || host.life != life.life {
            return;
        }
        if host.paused_until > at && !matches!(event, Event::NodeResume(_)) {
            host.backlog.push(event);
            return;
        }
        let who = life.who;
        match event {
            Event::NodeTurn(_) => self.node_turn(who),
            Event::NodeWake(_) => self.node_wake(who),
            Event::NodeResume(_) => {
                for event in std::mem::take(&mut host.backlog) {
                    self.agenda.push(at, event);
                }
                self.note(who as u32 + 1, "resumes", [0, 0, 0]);
                self.nodes[who].wake_at = Some(at);
                self.nodes[who].rouse = true;
                self.agenda.push(at, Event::NodeWake(life));
            }
            Event::LogSynced(_) => self.log_synced(who),
            Event::LogIdle(_, offset) => self.log_idle(who, offset),
            Event::SnapshotSaved(_, index) => self.snapshot_saved(who, index),
            Event::Unreachable(_, to) => {
                self.note(who as u32 + 1, "unreachable", [to.0, 0, 0]);
                self.node_feed(who, Input::PeerUnreachable { to });
            }
            Event::ToNode(_, session, frame) if self.nodes[who].sessions.contains_key(&session) => {
                self.note(who as u32 + 1, "worker frame", [session.0, 0, 0]);
                self.node_feed(who, Input::Worker { session, frame: *frame });
            }
            Event::SessionGone(_, session)
                if self.nodes[who].sessions.remove(&session).is_some() =>
            {
                self.note(who as u32 + 1, "session gone", [session.0, 0, 0]);
                self.node_feed(who, Input::WorkerGone { session });
            }
            Event::HistoryOpen(_, generation, cluster) => {
                self.history_open(who, generation, cluster);
            }
            Event::HistoryDone(_, generation, result) => {
                self.history_done(who, generation, result);
            }
            Event::Transfer(_, transfer) => self.transfer_step(who, transfer),
            _ => {}
        }
    }

    /// A peer's message arrives, at whatever life is there.
    pub(super) fn peer_arrives(&mut self, who: usize, mut envelope: Box<Envelope>) {
        let at = self.at;
        let host = &mut self.nodes[who];
        if !host.is_up() {
            return;
        }
        if host.paused_until > at {
            host.backlog.push(Event::Peer(who, envelope));
            return;
        }
        self.mistake(who, &mut envelope);
        let numbers = super::envelope_numbers(&envelope);
        self.note(who as u32 + 1, super::envelope_name(&envelope), numbers);
        self.node_feed(who, Input::Peer(envelope));
    }

    fn node_wake(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.nodes[who];
        if host.wake_at.is_none_or(|wake| wake > at) {
            return;
        }
        host.wake_at = None;
        let Some(driver) = &mut host.driver else { return };
        let now = host.clock.now(at);
        let due = driver.sleep(now).is_some_and(|sleep| sleep.is_zero());
        if !std::mem::take(&mut host.rouse) && !due {
            self.node_sleep(who);
            return;
        }
        driver.wake(now);
        self.trace.push(super::trace::Line {
            at,
            who: who as u32 + 1,
            kind: "wakes",
            numbers: [0, 0, 0],
        });
        self.node_turn(who);
    }

    /// Ends a node's turn and performs its effects.
    pub(super) fn node_turn(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.nodes[who];
        host.turn_at = None;
        let Some(driver) = &mut host.driver else { return };
        driver.flush(host.clock.now(at));
        let effects: Vec<Effect> = driver.effects().collect();
        if let Err(violation) = self.judge_turn(who, &effects) {
            self.violate(violation);
            return;
        }
        for effect in effects {
            if !self.nodes[who].is_up() || self.failure.is_some() {
                return;
            }
            if let Some(fuse) = &mut self.nodes[who].fuse {
                if *fuse == 0 {
                    self.probes.hit(Probe::CrashBetweenEffects);
                    self.strike(who);
                    return;
                }
                *fuse -= 1;
            }
            self.node_effect(who, effect);
        }
        self.node_sleep(who);
    }

    fn node_sleep(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.nodes[who];
        let Some(driver) = &host.driver else { return };
        let Some(sleep) = driver.sleep(host.clock.now(at)) else { return };
        host.spins = if sleep.is_zero() { host.spins + 1 } else { 0 };
        if host.spins > SPINS_MAX {
            let why = driver.machine().next_deadline().map_or("nothing", |deadline| deadline.why);
            self.fail("B4", format!("node {} spins on {why}", who + 1));
            return;
        }
        let due = at + host.clock.true_span(sleep).max(1);
        if host.wake_at.is_none_or(|wake| wake > due) {
            host.wake_at = Some(due);
            self.agenda.push(due, Event::NodeWake(Life { who, life: host.life }));
        }
    }

    fn node_effect(&mut self, who: usize, effect: Effect) {
        match effect {
            Effect::Persist(persist) => self.log_write(who, persist),
            Effect::Send(envelope) => self.peer_send(who, envelope),
            Effect::SendSnapshot { to, index, term } => {
                self.transfer_start(who, to, index, term);
            }
            Effect::SnapshotWrite { index, data } => self.snapshot_write(who, index, &data),
            Effect::SnapshotFinish { index } => self.snapshot_finish(who, index),
            Effect::SnapshotAbort { index } => self.snapshot_abort(who, index),
            Effect::Answer { ticket, reply } => self.answer(who, ticket, reply),
            Effect::ToWorker { session, frame } => self.tell_worker(who, session, frame),
            Effect::CloseSession { session } => self.close_session(who, session),
            Effect::OpenHistory { cluster } => {
                let client = &mut self.nodes[who].history;
                client.wanted = Some(cluster);
                client.generation += 1;
                self.history_reopen(who, 1_000);
            }
            Effect::StoreHistory(batch) => self.history_store(who, batch),
            Effect::CloseHistory => {
                let client = &mut self.nodes[who].history;
                client.wanted = None;
                client.generation += 1;
            }
            Effect::Note(note) => self.node_note(who, &note),
            Effect::Halt { reason } => {
                self.fail("L7", format!("node {} halts: {reason}", who + 1));
            }
        }
    }

    fn answer(&mut self, who: usize, ticket: Ticket, reply: dtask_core::node::Reply) {
        self.note(who as u32 + 1, "answers", [ticket.0, 0, 0]);
        self.answer_leaves(who, ticket, reply);
    }

    fn peer_send(&mut self, who: usize, envelope: Box<Envelope>) {
        let to = envelope.to;
        let from = NodeId(who as u64 + 1);
        if let Body::Raft(messages) = &envelope.body {
            for message in messages {
                let verdict = self
                    .wire
                    .sent(from, to, message)
                    .and_then(|()| self.nodes[who].image.s4_claims_are_durable(from, to, message));
                if let Err(violation) = verdict {
                    self.violate(violation);
                    return;
                }
            }
        }
        if self.nodes[who].header.is_none()
            || self.nodes[who].header.as_ref().is_some_and(|it| it.cluster != envelope.cluster)
        {
            let body = Body::Raft(Vec::new());
            let head = Envelope { body, vitals: None, ..(*envelope).clone() };
            self.nodes[who].header = Some(head);
        }
        let numbers = super::envelope_numbers(&envelope);
        self.note(who as u32 + 1, "sends", numbers);
        let place = (to.0 as usize).wrapping_sub(1);
        if place >= self.config.nodes {
            return;
        }
        let [first, again] = self.net.datagram(self.at, who, place);
        if let Some(at) = again {
            self.probes.hit(Probe::DuplicateAppend);
            self.agenda.push(at, Event::Peer(place, envelope.clone()));
        }
        match first {
            Some(at) => self.agenda.push(at, Event::Peer(place, envelope)),
            None if self.rng.net.chance(1, 8) => {
                let life = Life { who, life: self.nodes[who].life };
                let at = self.at + self.net.delay();
                self.agenda.push(at, Event::Unreachable(life, to));
            }
            None => {}
        }
    }

    fn tell_worker(&mut self, who: usize, session: SessionId, frame: LeaderFrame) {
        if let Err(violation) = self.l9_a_wrong_state_takes_no_session(who, &frame) {
            return self.violate(violation);
        }
        let Some(&(life, connection)) = self.nodes[who].sessions.get(&session) else { return };
        let (place, at) = (self.config.nodes + life.who, self.at + self.net.delay());
        let worker = &mut self.workers[life.who];
        let current = worker.life == life.life
            && worker.link.as_ref().is_some_and(|link| link.connection == connection);
        if !current {
            return;
        }
        if !self.net.passes(self.at, who, place) {
            self.link_break(life.who);
            return;
        }
        self.flood_hears_leader(&frame);
        if let LeaderFrame::NotLeader { .. } = &frame {
            self.probes.hit(Probe::WorkerRedirected);
        }
        let Some(link) = &mut self.workers[life.who].link else { return };
        if link.broken {
            return;
        }
        let at = at.max(link.to_worker + 1);
        link.to_worker = at;
        self.agenda.push(at, Event::ToWorker(life, connection, Box::new(frame)));
    }

    fn close_session(&mut self, who: usize, session: SessionId) {
        let Some((life, connection)) = self.nodes[who].sessions.remove(&session) else { return };
        let link = self.workers[life.who].link.as_ref();
        let last = link.filter(|link| link.connection == connection).map_or(0, |it| it.to_worker);
        let at = (self.at + self.net.delay()).max(last + 1);
        self.agenda.push(at, Event::Disconnected(life, connection));
    }

    fn node_note(&mut self, who: usize, note: &Note) {
        let (kind, number) = match note {
            Note::Leading { term } => {
                self.nodes[who].leads_since = Some(self.at);
                self.flood_sees_another_leader();
                if self.is_mistaken(who)
                    && let Err(violation) = self.l9_a_wrong_state_does_not_lead(who)
                {
                    self.violate(violation);
                }
                if let Err(violation) =
                    self.wire.s1_one_leader_a_term(*term, NodeId(who as u64 + 1))
                {
                    self.violate(violation);
                }
                if self.nodes.iter().filter(|node| node.leads_since.is_some()).count() > 1 {
                    self.probes.hit(Probe::TwoLeaders);
                }
                ("leads", *term)
            }
            Note::Following { term, .. } => {
                if self.nodes[who].leads_since.take().is_some() {
                    self.flood_sees_another_leader();
                }
                ("follows", *term)
            }
            Note::Formed { cluster } => ("forms the cluster", cluster.0),
            Note::Applied { index } => ("has applied", *index),
            Note::LeaseExpired { token } => {
                self.lease_expired(*token);
                ("ends a lease", token.0)
            }
            Note::Fenced { token } => {
                self.probes.hit(Probe::StaleReportRefused);
                ("refuses a report", token.0)
            }
            Note::SnapshotTaken { index } => {
                self.probes.hit(Probe::SnapshotTaken);
                ("took a snapshot", *index)
            }
            Note::SnapshotInstalled { index } => {
                self.probes.hit(Probe::SnapshotInstalled);
                ("installed a snapshot", *index)
            }
            Note::Violation { what } => {
                self.fail("S6", format!("node {} notes: {what}", who + 1));
                return;
            }
            Note::Diverged { index } => {
                self.told_of_divergence(who);
                ("has diverged", *index)
            }
            Note::HandsOn { to, why } => {
                match why {
                    Unfit::Clock => self.probes.hit(Probe::HandedOnForClock),
                    Unfit::Disk => self.probes.hit(Probe::HandedOnForDisk),
                    Unfit::State => {}
                }
                ("hands leadership on", to.0)
            }
            // S18: the World has one database and one log, so they belong together.
            Note::HistoryRefused { text } => {
                self.fail("S18", format!("node {}: {text}", who + 1));
                return;
            }
            Note::Warning { .. } => ("warns", 0),
        };
        self.note(who as u32 + 1, kind, [number, 0, 0]);
    }
}
