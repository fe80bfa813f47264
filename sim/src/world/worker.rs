//! Worker processes: the `Worker` machine, its one connection, and scripted handlers that take
//! time, fail, hang, ignore signals, and leave effects in a store outside.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::id::{InstanceId, SessionId, Token};
use dtask_core::machine::{Driver, Machine as _};
use dtask_core::rng::Rng;
use dtask_core::worker::{
    Assignment, ConnectionId, Effect, Ending, Input, Note, Signal, Worker, WorkerConfig,
    WorkerFrame,
};

use super::clock::Clock;
use super::config::{Config, around, log_uniform};
use super::event::{Event, Life};
use super::trace::Probe;
use super::{World, node_of};
use crate::check::effects::RunKey;

/// The types that the workload uses; the last is served by the worker of the liveness phase only.
pub const KINDS: [&str; 4] = ["alpha", "beta", "gamma", "fresh"];

/// A worker process and its host.
#[derive(Debug)]
pub struct WorkerHost {
    /// Rises with each start.
    pub life: u32,
    /// `None` while the process is down.
    pub driver: Option<Driver<Worker>>,
    /// Its clocks.
    pub clock: Clock,
    /// Draws of its own.
    pub rng: Rng,
    /// What it is told at each start, but for the instance.
    pub config: WorkerConfig,
    /// Frozen before this moment.
    pub paused_until: u64,
    /// When it was last frozen, for judging what stood still.
    pub thawed_at: u64,
    /// What arrives while it is frozen.
    pub backlog: Vec<Event>,
    /// When its turn ends, if one is open.
    pub turn_at: Option<u64>,
    /// When it will be woken.
    pub wake_at: Option<u64>,
    /// The connection.
    pub link: Option<Link>,
    /// Handlers that run.
    pub handlers: BTreeMap<Token, HandlerRun>,
    /// The connection that the worker waits for.
    pub wanted: Option<ConnectionId>,
    /// The next wake-up comes whatever the machine's deadline says.
    pub rouse: bool,
    /// Turns in a row that ended with a deadline that had passed (B4).
    pub spins: u32,
}

/// A connection as both ends know it.
#[derive(Clone, Debug)]
pub struct Link {
    /// The worker's name for it.
    pub connection: ConnectionId,
    /// The node at the other end.
    pub node: Life,
    /// The node's name for it.
    pub session: SessionId,
    /// Frames keep their order: when the last one to the node arrives.
    pub to_node: u64,
    /// … and the last one to the worker.
    pub to_worker: u64,
    /// Frames vanish; both ends will notice.
    pub broken: bool,
}

/// A handler's script.
#[derive(Clone, Debug)]
pub struct HandlerRun {
    /// Whose.
    pub key: RunKey,
    /// How it will end when nobody interferes.
    pub ending: Ending,
    /// Never ends by itself.
    pub hangs: bool,
    /// Ignores SIGTERM.
    pub deaf: bool,
    /// Stages of an older script are void.
    pub script: u32,
    /// Length, in microseconds.
    pub length: u64,
}

/// Stages of a handler.
const STARTED: u32 = 0;
const EFFECT: u32 = 1;
const END: u32 = 2;
const KILLED: u32 = 3;

impl WorkerHost {
    /// A worker that is down, with a configuration drawn for `place`.
    pub fn drawn(place: usize, config: &Config, rng: &mut Rng) -> Self {
        let mut rng = rng.fork(&format!("worker {place}"));
        let mut kinds: Vec<Box<str>> =
            KINDS[..3].iter().filter(|_| rng.chance(2, 3)).map(|&kind| kind.into()).collect();
        if kinds.is_empty() {
            kinds.push(KINDS[rng.below(3) as usize].into());
        }
        let slots = 1 + rng.below(config.slots_max) as u32;
        Self::new(place, config, rng, kinds, slots)
    }

    /// A worker that the liveness phase adds.
    pub fn fresh(place: usize, config: &Config, rng: &Rng, kinds: &[&str]) -> Self {
        let kinds = kinds.iter().map(|&kind| kind.into()).collect();
        Self::new(place, config, rng.fork(&format!("spare {place}")), kinds, 256)
    }

    fn new(place: usize, config: &Config, mut rng: Rng, kinds: Vec<Box<str>>, slots: u32) -> Self {
        let clock = Clock::drawn(&mut rng, config.epoch, &config.clock);
        let servers = (1..=config.nodes).map(|node| format!("n{node}:7171").into()).collect();
        let config = WorkerConfig {
            name: format!("w{}", place + 1).into(),
            instance: InstanceId(0),
            slots,
            kinds,
            queues: Vec::new(),
            labels: Vec::new(),
            servers,
        };
        Self {
            life: 0,
            driver: None,
            clock,
            rng,
            config,
            paused_until: 0,
            thawed_at: 0,
            backlog: Vec::new(),
            turn_at: None,
            wake_at: None,
            link: None,
            handlers: BTreeMap::new(),
            wanted: None,
            rouse: false,
            spins: 0,
        }
    }
}

impl World {
    /// Starts a worker process that is down.
    pub(super) fn worker_start(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.workers[who];
        if host.driver.is_some() {
            return;
        }
        host.life += 1;
        host.config.instance = InstanceId(host.rng.next_u64() | 1);
        host.clock.reboot(&mut host.rng);
        host.paused_until = 0;
        host.driver = Some(Driver::new(Worker::new(host.config.clone())));
        host.rouse = true;
        host.wanted = None;
        let life = Life { who, life: host.life };
        host.wake_at = Some(at);
        self.instances.insert(self.workers[who].config.instance, who);
        self.note(101 + who as u32, "worker starts", [u64::from(life.life), 0, 0]);
        self.agenda.push(at, Event::WorkerWake(life));
    }

    /// Kills a worker process with everything that it started.
    pub(super) fn worker_die(&mut self, who: usize) {
        let host = &mut self.workers[who];
        if host.driver.take().is_none() {
            return;
        }
        host.backlog.clear();
        host.turn_at = None;
        host.wake_at = None;
        for (token, run) in std::mem::take(&mut host.handlers) {
            self.outside.ended(&run.key, token);
        }
        self.worker_unlink(who, true);
        self.note(101 + who as u32, "worker dies", [0, 0, 0]);
    }

    /// The connection is no more at the worker's side; the node may notice late.
    pub(super) fn worker_unlink(&mut self, who: usize, abrupt: bool) {
        let Some(link) = self.workers[who].link.take() else { return };
        let late = if abrupt && self.rng.net.chance(1, 4) {
            self.rng.net.below(15_000_000)
        } else {
            self.net.delay()
        };
        let at = (self.at + late).max(link.to_node + 1);
        self.agenda.push(at, Event::SessionGone(link.node, link.session));
    }

    /// Both ends learn that the connection broke, each in its time.
    pub(super) fn link_break(&mut self, who: usize) {
        let life = self.workers[who].life;
        let Some(link) = &mut self.workers[who].link else { return };
        if std::mem::replace(&mut link.broken, true) {
            return;
        }
        let (node, session, connection) = (link.node, link.session, link.connection);
        let near = self.at + self.rng.net.below(8_000_000);
        let far = self.at + self.rng.net.below(8_000_000);
        self.agenda.push(near, Event::Disconnected(Life { who, life }, connection));
        self.agenda.push(far, Event::SessionGone(node, session));
    }

    /// Feeds a worker and opens its turn.
    pub(super) fn worker_feed(&mut self, who: usize, input: Input) {
        let (at, turn) = (self.at, self.rng.turn.below(self.config.turn_micros));
        let host = &mut self.workers[who];
        let Some(driver) = &mut host.driver else { return };
        driver.feed(host.clock.now(at), input);
        if host.turn_at.is_none() {
            let due = at + 1 + turn;
            host.turn_at = Some(due);
            self.agenda.push(due, Event::WorkerTurn(Life { who, life: host.life }));
        }
    }

    /// An event of a worker's life; `false` when that life is over.
    pub(super) fn worker_event(&mut self, life: Life, event: Event) {
        let at = self.at;
        let host = &mut self.workers[life.who];
        if host.driver.is_none() || host.life != life.life {
            return;
        }
        if host.paused_until > at && !matches!(event, Event::WorkerResume(_)) {
            host.backlog.push(event);
            return;
        }
        let who = life.who;
        match event {
            Event::WorkerTurn(_) => self.worker_turn(who),
            Event::WorkerWake(_) => self.worker_wake(who),
            Event::WorkerResume(_) => {
                host.thawed_at = at;
                for event in std::mem::take(&mut host.backlog) {
                    self.agenda.push(at, event);
                }
                self.agenda.push(at, Event::WorkerWake(life));
                self.workers[who].wake_at = Some(at);
                self.workers[who].rouse = true;
            }
            Event::Connected(_, connection)
                if self.workers[who]
                    .link
                    .as_ref()
                    .is_some_and(|link| link.connection == connection) =>
            {
                self.note(101 + who as u32, "connected", [connection.0, 0, 0]);
                self.worker_feed(who, Input::Connected { connection });
            }
            Event::Disconnected(_, connection) => self.worker_disconnected(who, connection),
            Event::ToWorker(_, connection, frame) => {
                let current = self.workers[who].link.as_ref().map(|link| link.connection);
                if current == Some(connection) {
                    self.note(101 + who as u32, leader_frame(&frame), [connection.0, 0, 0]);
                    self.worker_feed(who, Input::Frame { connection, frame: *frame });
                }
            }
            Event::HandlerDue(_, token, stage) => self.handler_due(who, token, stage),
            _ => {}
        }
    }

    fn worker_disconnected(&mut self, who: usize, connection: ConnectionId) {
        let host = &mut self.workers[who];
        host.wanted = host.wanted.filter(|&wanted| wanted != connection);
        if host.link.as_ref().is_some_and(|link| link.connection == connection) {
            host.link = None;
        }
        self.note(101 + who as u32, "disconnected", [connection.0, 0, 0]);
        self.worker_feed(who, Input::Disconnected { connection });
    }

    fn worker_wake(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.workers[who];
        if host.wake_at.is_none_or(|wake| wake > at) {
            return;
        }
        host.wake_at = None;
        let Some(driver) = &mut host.driver else { return };
        let now = host.clock.now(at);
        let due = driver.sleep(now).is_some_and(|sleep| sleep.is_zero());
        if !std::mem::take(&mut host.rouse) && !due {
            self.worker_sleep(who);
            return;
        }
        driver.wake(now);
        self.worker_turn(who);
    }

    fn worker_turn(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.workers[who];
        host.turn_at = None;
        let Some(driver) = &mut host.driver else { return };
        driver.flush(host.clock.now(at));
        let effects: Vec<Effect> = driver.effects().collect();
        for effect in effects {
            self.worker_effect(who, effect);
        }
        self.worker_sleep(who);
    }

    fn worker_sleep(&mut self, who: usize) {
        let at = self.at;
        let host = &mut self.workers[who];
        let Some(driver) = &host.driver else { return };
        let Some(sleep) = driver.sleep(host.clock.now(at)) else { return };
        let due = at + host.clock.true_span(sleep).max(1);
        host.spins = if sleep.is_zero() { host.spins + 1 } else { 0 };
        if host.spins > super::node::SPINS_MAX {
            let why = driver.machine().next_deadline().map_or("nothing", |deadline| deadline.why);
            self.fail("B4", format!("worker {} spins on {why}", who + 1));
            return;
        }
        if host.wake_at.is_none_or(|wake| wake > due) {
            host.wake_at = Some(due);
            self.agenda.push(due, Event::WorkerWake(Life { who, life: host.life }));
        }
    }

    fn worker_effect(&mut self, who: usize, effect: Effect) {
        let life = Life { who, life: self.workers[who].life };
        match effect {
            Effect::Connect { connection, server } => {
                self.worker_unlink(who, false);
                self.workers[who].wanted = Some(connection);
                self.worker_connect(life, connection, node_of(&server));
            }
            Effect::Disconnect { connection } => {
                let host = &mut self.workers[who];
                host.wanted = host.wanted.filter(|&wanted| wanted != connection);
                if host.link.as_ref().is_some_and(|link| link.connection == connection) {
                    self.worker_unlink(who, false);
                }
            }
            Effect::Send { connection, session, frame } => {
                self.worker_send(who, connection, session, frame);
            }
            Effect::StartHandler(assignment) => self.handler_start(who, &assignment),
            Effect::SignalHandler { token, signal } => self.handler_signal(who, token, signal),
            Effect::Note(note) => self.worker_note(who, &note),
            Effect::Done(_) => {
                self.worker_die(who);
                let at = self.at + self.rng.operator.below(5_000_000);
                let fault = super::event::Fault::WorkerStart(who);
                self.agenda.push(at, Event::Fault(fault));
            }
        }
    }

    fn worker_note(&mut self, who: usize, note: &Note) {
        let (kind, number) = match note {
            Note::Joined { session, .. } => ("joined", session.0),
            Note::Parted { .. } => ("parted", 0),
            Note::Fenced { token } => ("fences itself", token.0),
            Note::Aborted { token } => ("aborts", token.0),
            Note::Declined { token, .. } => ("declines", token.0),
        };
        self.note(101 + who as u32, kind, [number, 0, 0]);
    }

    /// The request travels; a machine that is down or cut off refuses or says nothing.
    fn worker_connect(&mut self, life: Life, connection: ConnectionId, node: Option<usize>) {
        let place = self.config.nodes + life.who;
        let there = node.filter(|&node| self.net.passes(self.at, place, node));
        match there {
            Some(node) => {
                let at = self.at + self.net.delay();
                self.agenda.push(at, Event::Connect(life, connection, node));
            }
            None => {
                let at = self.at + 1_000 + self.rng.net.below(3_000_000);
                self.agenda.push(at, Event::Disconnected(life, connection));
            }
        }
    }

    /// A connection request arrives at a node.
    pub(super) fn connect_arrives(&mut self, life: Life, connection: ConnectionId, node: usize) {
        let worker = &self.workers[life.who];
        if worker.life != life.life || worker.wanted != Some(connection) {
            return;
        }
        let at = self.at + self.net.delay();
        if !self.nodes[node].is_up() {
            self.agenda.push(at, Event::Disconnected(life, connection));
            return;
        }
        let host = &mut self.nodes[node];
        host.next_session += 1;
        let session = SessionId(host.next_session);
        host.sessions.insert(session, (life, connection));
        let node = Life { who: node, life: host.life };
        let link = Link { connection, node, session, to_node: 0, to_worker: at, broken: false };
        self.worker_unlink(life.who, false);
        self.workers[life.who].link = Some(link);
        self.agenda.push(at, Event::Connected(life, connection));
    }

    fn worker_send(
        &mut self,
        who: usize,
        connection: ConnectionId,
        named: Option<SessionId>,
        frame: WorkerFrame,
    ) {
        let at = self.at + self.net.delay();
        let (place, now) = (self.config.nodes + who, self.at);
        let Some(link) = &mut self.workers[who].link else { return };
        if link.connection != connection || link.broken {
            return;
        }
        let (node, session) = (link.node, link.session);
        if named.is_some_and(|named| named != session) {
            self.fail("P7", format!("worker {} names session {named:?} on {session}", who + 1));
            return;
        }
        if !self.net.passes(now, place, node.who) {
            self.link_break(who);
            return;
        }
        let at = at.max(link.to_node + 1);
        link.to_node = at;
        self.note(101 + who as u32, worker_frame(&frame), [node.who as u64 + 1, session.0, 0]);
        self.agenda.push(at, Event::ToNode(node, session, Box::new(frame)));
    }

    fn handler_start(&mut self, who: usize, assignment: &Assignment) {
        let (at, healed) = (self.at, self.healed);
        let token = assignment.token;
        let key = (assignment.task_id.clone(), assignment.run.0);
        let numbers = [token.0, u64::from(assignment.run.0), u64::from(assignment.attempt)];
        self.trace.push(super::trace::Line {
            at,
            who: 101 + who as u32,
            kind: "handler starts",
            numbers,
        });
        let instance = self.workers[who].config.instance;
        if let Err(violation) = self.judge_start(who, instance, assignment) {
            self.violate(violation);
            return;
        }
        let config = &self.config;
        let host = &mut self.workers[who];
        let rng = &mut host.rng;
        let most =
            if healed { config.load.handler_max.min(20_000) } else { config.load.handler_max };
        let length = log_uniform(rng, 1_000, most.max(1_000));
        let fails = !healed && rng.chance(config.worker.fail_permille, 1_000);
        let hangs = !healed && rng.chance(config.worker.hang_permille, 1_000);
        let ending = if fails {
            let exit_code = Some(1 + rng.below(3) as i32);
            Ending { exit_code, ..Ending::failure("scripted", rng.chance(7, 8)) }
        } else {
            Ending::success(Bytes::from_static(b"done"))
        };
        let run = HandlerRun { key, ending, hangs, deaf: rng.chance(1, 4), script: 0, length };
        host.handlers.insert(token, run);
        let life = Life { who, life: host.life };
        let slow = rng.below(2_000);
        self.agenda.push(at + 1 + slow, Event::HandlerDue(life, token, STARTED));
    }

    fn handler_due(&mut self, who: usize, token: Token, stage: u32) {
        let life = Life { who, life: self.workers[who].life };
        let Some(run) = self.workers[who].handlers.get(&token).cloned() else { return };
        let at = self.at;
        match stage {
            STARTED => {
                self.agenda.push(at + run.length / 2, Event::HandlerDue(life, token, EFFECT));
                self.worker_feed(who, Input::Started { token });
            }
            EFFECT => {
                if !self.outside.effect(&run.key, token) {
                    self.probes.hit(Probe::EffectFenced);
                }
                if !run.hangs {
                    self.agenda.push(at + run.length / 2, Event::HandlerDue(life, token, END));
                }
            }
            _ => {
                self.workers[who].handlers.remove(&token);
                self.outside.ended(&run.key, token);
                let ending = if stage == KILLED {
                    Ending { exit_code: Some(-9), ..Ending::failure("killed", true) }
                } else {
                    run.ending
                };
                self.note(101 + who as u32, "handler ends", [token.0, u64::from(stage), 0]);
                self.worker_feed(who, Input::Ended { token, ending });
            }
        }
    }

    fn handler_signal(&mut self, who: usize, token: Token, signal: Signal) {
        let life = Life { who, life: self.workers[who].life };
        self.note(101 + who as u32, "signals handler", [token.0, signal as u64, 0]);
        let host = &mut self.workers[who];
        let Some(run) = host.handlers.get(&token) else { return };
        let wait = match signal {
            Signal::Term if run.deaf => return,
            Signal::Term => 1_000 + around(&mut host.rng, 300_000),
            Signal::Kill => 1 + host.rng.below(2_000),
        };
        self.probes.hit(Probe::HandlerKilled);
        self.agenda.push(self.at + wait, Event::HandlerDue(life, token, KILLED));
    }
}

fn leader_frame(frame: &dtask_core::worker::LeaderFrame) -> &'static str {
    use dtask_core::worker::LeaderFrame as F;
    match frame {
        F::Welcome { .. } => "is welcomed",
        F::NotLeader { .. } => "is redirected",
        F::Refused { .. } => "is refused",
        F::Open(_) => "is given attempts",
        F::Renewed { .. } => "is renewed",
        F::Stop { .. } => "is told to stop one",
        F::Acknowledged(_) => "is acknowledged",
        F::Follow { .. } | F::Unfollow { .. } => "is followed",
    }
}

fn worker_frame(frame: &WorkerFrame) -> &'static str {
    match frame {
        WorkerFrame::Hello(_) => "says hello",
        WorkerFrame::Heartbeat { .. } => "heartbeat",
        WorkerFrame::Started(_) => "says started",
        WorkerFrame::Reports(_) => "reports",
        WorkerFrame::Output { .. } => "sends output",
        WorkerFrame::Draining => "says draining",
    }
}
