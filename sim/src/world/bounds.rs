//! B1: queues and counters stay within their bounds, looked at every few seconds.

use dtask_core::limits;

use super::World;
use super::event::Event;
use crate::check::{Verdict, hold};

/// How often the safety phase looks at what is too dear to look at after every step.
const LOOK_MICROS: u64 = 3_000_000;
/// Groups of writes that may wait for a log thread: far above what a turn a tick can make.
const LOG_QUEUE_MAX: usize = 20_000;

/// Entries that may follow, and the time that may pass, before what waits for history is within its
/// bound again (P9.5): a burst of reports is a burst of entries, and a drop takes a commit.
const OVER_ENTRIES_MAX: u64 = 200;
const OVER_MICROS_MAX: u64 = 10_000_000;

impl World {
    /// Looks, in whatever phase the run is.
    pub(super) fn sample(&mut self) -> Verdict {
        if self.healed {
            return self.liveness_look();
        }
        self.agenda.push(self.at + LOOK_MICROS, Event::Sample);
        self.b1_within_bounds()?;
        self.chain.s10_everything_unfinished_is_awaited()
    }

    /// Begins to look.
    pub(super) fn samples_begin(&mut self) {
        self.agenda.push(LOOK_MICROS, Event::Sample);
    }

    /// B1: what waits for history goes beyond its bound for no longer than it takes to let the
    /// oldest of it go. Looked at whenever the log grows.
    pub(super) fn b1_history_is_bounded(&mut self) -> Verdict {
        let (bytes, len) = (self.chain.state().outbox_bytes(), self.chain.len());
        let max = self.config.history.outbox_bound();
        if bytes <= max {
            self.over_bound = None;
            return Ok(());
        }
        let (since, at) = *self.over_bound.get_or_insert((len, self.at));
        hold!(
            "B1",
            len - since <= OVER_ENTRIES_MAX || self.at - at <= OVER_MICROS_MAX,
            "{bytes} B wait for history, and more than {max} since entry {since} of {len}"
        );
        Ok(())
    }

    /// B1: what waits anywhere is bounded.
    pub(super) fn b1_within_bounds(&self) -> Verdict {
        for (place, node) in self.nodes.iter().enumerate() {
            let waiting = node.log.waiting();
            hold!(
                "B1",
                waiting <= LOG_QUEUE_MAX,
                "node {} has {waiting} writes waiting",
                place + 1
            );
        }
        let live = self.chain.state().live_tasks();
        hold!("B1", live <= limits::LIVE_TASKS_MAX, "{live} live tasks");
        for (place, worker) in self.workers.iter().enumerate() {
            let running = worker.handlers.len();
            hold!(
                "B1",
                running <= worker.config.slots as usize,
                "worker {} runs {running} handlers in {} slots",
                place + 1,
                worker.config.slots
            );
            let open = self.chain.ledger().open_of(worker.config.instance);
            hold!(
                "B1",
                open <= worker.config.slots,
                "worker {} is given {open} attempts for {} slots",
                place + 1,
                worker.config.slots
            );
        }
        Ok(())
    }
}
