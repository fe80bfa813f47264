//! What a machine is, and the one driver that every host uses.
//!
//! A machine is told things and asks for things; it touches nothing. Hosts (the tokio shell, the
//! simulators) differ only in how they wait and how they perform effects.

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::{Instant, Now, Timestamp};

/// A deterministic state machine: its behaviour is a function of its fields, `now` and the input.
pub trait Machine {
    /// What enters: plain data, so that a life can be recorded and replayed (P1.1).
    type Input;
    /// What the machine asks of its host.
    type Effect;

    /// Takes one input in. Never fails, blocks or looks around.
    fn step(&mut self, now: Now, input: Self::Input, out: &mut Outbox<Self::Effect>);

    /// When the machine wants to be woken although nothing arrived. Early and repeated wake-ups
    /// are harmless (P1.4).
    fn next_deadline(&self) -> Option<Deadline>;

    /// The input that says only that time has passed.
    fn wake() -> Self::Input;

    /// The input that ends a turn: plan, propose and emit (P1.2).
    fn flush() -> Self::Input;
}

/// Effects in the order of their emission.
#[derive(Debug)]
pub struct Outbox<E> {
    effects: Vec<E>,
}

impl<E> Outbox<E> {
    /// An empty outbox.
    pub const fn new() -> Self {
        Self { effects: Vec::new() }
    }

    /// Appends an effect.
    pub fn push(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// Removes all effects, oldest first, and keeps the allocation.
    pub fn drain(&mut self) -> alloc::vec::Drain<'_, E> {
        self.effects.drain(..)
    }

    /// Tells whether no effect waits.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// How many effects wait.
    pub fn len(&self) -> usize {
        self.effects.len()
    }
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// A wish to be woken, and why: the reason makes a stuck trace readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: When,
    /// What falls due then.
    pub why: &'static str,
}

/// A moment on one of the two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On the monotonic clock.
    Mono(Instant),
    /// On the wall clock, which may step: hosts sleep at most one second towards it (P1.4).
    Wall(Timestamp),
}

/// The longest sleep towards a deadline on the wall clock.
pub const WALL_SLEEP_MAX: Duration = Duration::from_secs(1);

impl Deadline {
    /// How long a host may sleep from `now` before it wakes the machine.
    pub fn sleep_from(&self, now: Now) -> Duration {
        match self.at {
            When::Mono(at) => at.since(now.mono),
            When::Wall(at) => at.since(now.wall).min(WALL_SLEEP_MAX),
        }
    }

    /// Of two wishes, the one that is nearer from `now`.
    pub fn nearer(self, other: Option<Self>, now: Now) -> Self {
        match other {
            Some(other) if other.sleep_from(now) < self.sleep_from(now) => other,
            _ => self,
        }
    }
}

/// The driver: feeds inputs, ends turns, and hands effects to the host in order.
#[derive(Debug)]
pub struct Driver<M: Machine> {
    machine: M,
    out: Outbox<M::Effect>,
}

impl<M: Machine> Driver<M> {
    /// Drives `machine`.
    pub const fn new(machine: M) -> Self {
        Self { machine, out: Outbox::new() }
    }

    /// Takes one input in; the turn stays open.
    pub fn feed(&mut self, now: Now, input: M::Input) {
        self.machine.step(now, input, &mut self.out);
    }

    /// Says that time has passed; the turn stays open.
    pub fn wake(&mut self, now: Now) {
        self.feed(now, M::wake());
    }

    /// Ends the turn.
    pub fn flush(&mut self, now: Now) {
        self.feed(now, M::flush());
    }

    /// Effects since the last call, oldest first.
    pub fn effects(&mut self) -> alloc::vec::Drain<'_, M::Effect> {
        self.out.drain()
    }

    /// How long the host may sleep from `now`; `None` sleeps until something arrives.
    pub fn sleep(&self, now: Now) -> Option<Duration> {
        self.machine.next_deadline().map(|deadline| deadline.sleep_from(now))
    }

    /// The machine, to look at.
    pub const fn machine(&self) -> &M {
        &self.machine
    }
}
