//! The watchdog of each worker (P7.4): a process that goes on when its worker is frozen or dead. It
//! knows one deadline and every handler, and it is late by a moment now and then.

use dtask_core::id::Token;
use dtask_core::time::Instant;

use super::World;
use super::config::log_uniform;
use super::event::{Event, Life};
use super::script::KILLED;
use super::trace::Probe;
use crate::check::effects::RunKey;

/// How late a watchdog may be on a busy machine, in microseconds: within what P7.4 leaves between
/// its deadline and the end of the lease (15 s / 1.05 - 13 s × 1.05 = 0.63 s).
const LATE_MAX: u64 = 500_000;
/// How long a dead worker's pipe may take to say so, in microseconds.
const NOTICE_MAX: u64 = 100_000;

impl World {
    /// The worker moves the deadline.
    pub(super) fn watchdog_told(&mut self, who: usize, until: Instant) {
        let at = self.at;
        let host = &mut self.workers[who];
        host.guard = Some(until);
        let left = until.since(host.clock.mono(at));
        let due = at + host.clock.true_span(left) + log_uniform(&mut host.rng, 100, LATE_MAX);
        self.agenda.push(due, Event::Watchdog(Life { who, life: host.life }));
    }

    /// A deadline has come that may have been moved since.
    pub(super) fn watchdog_looks(&mut self, who: usize) {
        let host = &self.workers[who];
        if host.guard.is_none_or(|until| host.clock.mono(self.at) < until) {
            return;
        }
        let tokens: Vec<Token> = host.handlers.keys().copied().collect();
        if tokens.is_empty() {
            return;
        }
        if host.paused_until > self.at {
            self.probes.hit(Probe::WatchdogFired);
        }
        self.note(101 + who as u32, "watchdog kills", [tokens.len() as u64, 0, 0]);
        for token in tokens {
            self.handler_due(who, token, KILLED);
        }
    }

    /// The worker has died: its handlers are the watchdog's.
    pub(super) fn worker_orphans(&mut self, who: usize) {
        let host = &mut self.workers[who];
        let left: Vec<(RunKey, Token)> = std::mem::take(&mut host.handlers)
            .into_iter()
            .map(|(token, run)| (run.key, token))
            .collect();
        if left.is_empty() {
            return;
        }
        self.probes.hit(Probe::Orphaned);
        let at = self.at + log_uniform(&mut host.rng, 100, NOTICE_MAX);
        self.agenda.push(at, Event::Orphans(Life { who, life: host.life }, left));
    }

    /// The watchdog has noticed.
    pub(super) fn orphans_die(&mut self, who: usize, left: &[(RunKey, Token)]) {
        self.note(101 + who as u32, "watchdog kills", [left.len() as u64, 1, 0]);
        for (key, token) in left {
            self.outside.ended(key, *token);
        }
    }
}
