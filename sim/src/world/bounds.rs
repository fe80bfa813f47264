//! B1: queues and counters stay within their bounds, looked at every few seconds.

use dtask_core::limits;

use super::World;
use super::event::Event;
use crate::check::{Verdict, hold};

/// How often the safety phase looks at what is too dear to look at after every step.
const LOOK_MICROS: u64 = 3_000_000;
/// Groups of writes that may wait for a log thread: far above what a turn a tick can make.
const LOG_QUEUE_MAX: usize = 20_000;

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
