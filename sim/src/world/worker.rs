//! Worker processes: the `Worker` machine, its clocks, its life and its deaths. Its one connection
//! is in `link`, what its handlers do in `script`.

use std::collections::BTreeMap;

use dtask_core::id::{InstanceId, Token};
use dtask_core::machine::{Driver, Machine as _};
use dtask_core::rng::Rng;
use dtask_core::time::Instant;
use dtask_core::worker::{ConnectionId, Effect, Input, Note, Worker, WorkerConfig};

use super::clock::Clock;
use super::config::Config;
use super::event::{Event, Life};
use super::link::{Link, leader_frame};
use super::script::HandlerRun;
use super::{World, node_of};

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
    /// What its watchdog was told last: when to kill them.
    pub guard: Option<Instant>,
    /// The connection that the worker waits for.
    pub wanted: Option<ConnectionId>,
    /// The next wake-up comes whatever the machine's deadline says.
    pub rouse: bool,
    /// Turns in a row that ended with a deadline that had passed (B4).
    pub spins: u32,
}

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
            backlog: Vec::new(),
            turn_at: None,
            wake_at: None,
            link: None,
            handlers: BTreeMap::new(),
            guard: None,
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
        self.note(101 + who as u32, "worker starts", [u64::from(life.life), 0, 0]);
        self.agenda.push(at, Event::WorkerWake(life));
    }

    /// Kills a worker process. What it started lives on until its watchdog notices.
    pub(super) fn worker_die(&mut self, who: usize) {
        let host = &mut self.workers[who];
        if host.driver.take().is_none() {
            return;
        }
        host.backlog.clear();
        host.turn_at = None;
        host.wake_at = None;
        host.guard = None;
        self.worker_orphans(who);
        self.worker_unlink(who, true);
        self.note(101 + who as u32, "worker dies", [0, 0, 0]);
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
        // Handlers and the watchdog are processes of their own.
        let apart = matches!(event, Event::HandlerDue(..) | Event::Watchdog(_));
        if host.paused_until > at && !apart && !matches!(event, Event::WorkerResume(_)) {
            host.backlog.push(event);
            return;
        }
        let who = life.who;
        match event {
            Event::WorkerTurn(_) => self.worker_turn(who),
            Event::WorkerWake(_) => self.worker_wake(who),
            Event::WorkerResume(_) => {
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
            Event::HandlerSaid(_, input) => self.worker_feed(who, *input),
            Event::Watchdog(_) => self.watchdog_looks(who),
            _ => {}
        }
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
            Effect::Guard { until } => self.watchdog_told(who, until),
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
}
