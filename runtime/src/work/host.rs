//! The host of the Worker machine: feeds what has arrived, ends the turn, performs effects.

use std::collections::BTreeMap;
use std::pin::pin;

use dtask_core::id::Token;
use dtask_core::limits;
use dtask_core::machine::Driver;
use dtask_core::time::Now;
use dtask_core::worker::{Effect, Farewell, Input, Note, Worker, WorkerConfig as MachineConfig};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::handlers::{Begun, Control, Events, Handlers};
use super::session::Session;
use super::{Drained, WorkConfig, WorkError};
use crate::serve::clock::{Clock, SystemClock};

/// Inputs on their way to the machine. Full slows handlers that write and the reading of frames,
/// never the machine.
const INBOX_MAX: usize = 1_024;
/// Inputs of one turn: a turn stays short, and frames of many attempts leave together.
const TURN_INPUTS_MAX: usize = 1_024;

/// Works until `shutdown` resolves and the drain is over.
pub(super) async fn run(
    config: WorkConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, WorkError> {
    let (sender, mut inbox) = mpsc::channel(INBOX_MAX);
    let mut host = Host::new(config, sender);
    let mut shutdown = pin!(shutdown);
    let mut draining = false;
    loop {
        let now = host.clock.now();
        host.driver.wake(now);
        host.perform(now);
        host.driver.flush(now);
        host.perform(now);
        if let Some(farewell) = host.farewell.take() {
            return host.leave(farewell);
        }
        let now = host.clock.now();
        let sleep = host.driver.sleep(now).unwrap_or(limits::LEASE_HEARTBEAT);
        tokio::select! {
            biased;
            () = &mut shutdown, if !draining => {
                draining = true;
                info!(within = ?host.drain_timeout, "draining");
                let within = host.drain_timeout;
                host.driver.feed(host.clock.now(), Input::Drain { within });
            }
            input = inbox.recv() => {
                // One yield lets everything that is ready arrive, so that it shares the turn.
                tokio::task::yield_now().await;
                let now = host.clock.now();
                host.take(now, input);
                for _ in 1..TURN_INPUTS_MAX {
                    let Ok(input) = inbox.try_recv() else { break };
                    host.take(now, Some(input));
                }
            }
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// The machine and what its effects need.
struct Host {
    clock: SystemClock,
    driver: Driver<Worker>,
    drain_timeout: std::time::Duration,
    handlers: Handlers,
    /// Running attempts; each ends with its `Ended`. Dropped, it kills them.
    running: BTreeMap<Token, Box<dyn Control>>,
    session: Option<Session>,
    inbox: mpsc::Sender<Input>,
    farewell: Option<Farewell>,
}

impl Host {
    fn new(config: WorkConfig, inbox: mpsc::Sender<Input>) -> Self {
        let boxed = |list: Vec<String>| list.into_iter().map(Into::into).collect();
        let machine = Worker::new(MachineConfig {
            name: config.name.into(),
            instance: config.instance,
            slots: config.slots,
            kinds: config.handlers.kinds(),
            queues: boxed(config.queues),
            labels: boxed(config.labels),
            servers: boxed(config.servers),
        });
        Self {
            clock: Default::default(),
            driver: Driver::new(machine),
            drain_timeout: config.drain_timeout,
            handlers: config.handlers,
            running: BTreeMap::new(),
            session: None,
            inbox,
            farewell: None,
        }
    }

    fn take(&mut self, now: Now, input: Option<Input>) {
        let Some(input) = input else { return };
        if let Input::Ended { token, .. } = &input {
            self.running.remove(token);
        }
        self.driver.feed(now, input);
        self.perform(now);
    }

    /// Performs effects until there are none: an attempt that ends where it begins is fed back at
    /// once, so that its report leaves in the same turn.
    fn perform(&mut self, now: Now) {
        loop {
            let effects: Vec<Effect> = self.driver.effects().collect();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform_one(now, effect);
            }
        }
    }

    fn perform_one(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Connect { connection, server } => {
                self.session = Some(Session::open(connection, server, self.inbox.clone()));
            }
            Effect::Disconnect { connection } => {
                self.session.take_if(|session| session.connection() == connection);
            }
            Effect::Send { connection, session, frame } => {
                let stuck = self
                    .session
                    .as_ref()
                    .filter(|open| open.connection() == connection)
                    .is_some_and(|open| !open.send(session, frame));
                if stuck {
                    self.session = None;
                    self.driver.feed(now, Input::Disconnected { connection });
                }
            }
            Effect::Guard { until } => self.handlers.guard(until),
            Effect::StartHandler(assignment) => {
                let token = assignment.token;
                let events = Events::new(token, self.inbox.clone());
                match self.handlers.begin(assignment, events) {
                    Begun::Ended(ending) => {
                        self.driver.feed(now, Input::Ended { token, ending });
                    }
                    Begun::Running(control) => {
                        self.running.insert(token, control);
                    }
                }
            }
            Effect::SignalHandler { token, signal } => {
                if let Some(control) = self.running.get_mut(&token) {
                    control.signal(signal);
                }
            }
            Effect::Note(note) => log(&note),
            Effect::Done(farewell) => self.farewell = Some(farewell),
        }
    }

    fn leave(self, farewell: Farewell) -> Result<Drained, WorkError> {
        match farewell {
            Farewell::Drained => Ok(Drained { unacknowledged: 0 }),
            Farewell::Unacknowledged { results } => {
                warn!(results, "no leader acknowledged these results; their leases will end");
                Ok(Drained { unacknowledged: results })
            }
            Farewell::Refused { reason } => Err(WorkError::Refused { reason: reason.into() }),
        }
    }
}

fn log(note: &Note) {
    match note {
        Note::Joined { server, session } => info!(%server, %session, "joined"),
        Note::Parted { server, why } => warn!(%server, why, "session ended"),
        Note::Fenced { token } => warn!(%token, "lease over, stopping the handler"),
        Note::Aborted { token } => warn!(%token, "no longer ours, stopping the handler"),
        Note::Declined { token, why } => info!(%token, why, "attempt handed back"),
    }
}
