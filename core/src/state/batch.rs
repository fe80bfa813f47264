//! Batches of the outbox: the rows that change numbers stand for, as they are now (P9.1).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::State;
use super::history::{AttemptRow, HistoryBatch, HistoryGap, RunRow, TaskRow};
use super::outbox::Change;
use super::record::{Record, flag};
use crate::id::ClusterId;
use crate::limits;

impl State {
    /// Rows for the changes after number `after`, up to `max` rows, or fewer of large ones. `None`
    /// when there are none, or when `after` lies before what is still in memory (`stored`). The
    /// caller fills `cluster` and, while the state knows none, `epoch`.
    pub fn history_batch(&self, after: u64, max: usize) -> Option<HistoryBatch> {
        if after < self.stored() || after >= self.changes() {
            return None;
        }
        let mut batch = HistoryBatch {
            cluster: ClusterId(0),
            epoch: self.meta.epoch,
            after,
            through: after,
            gap: None,
            tasks: Vec::new(),
            runs: Vec::new(),
            attempts: Vec::new(),
        };
        // Most changes are of one-shot tasks and of their attempts, in equal parts. Rows are large:
        // growing lists of them were half of this function's time.
        let expected = max.min((self.changes() - after) as usize) / 2 + 1;
        batch.tasks.reserve(expected);
        batch.attempts.reserve(expected);
        let (mut rows, mut bytes) = (0, 0);
        // References that were overtaken cost little, but not nothing: they are bounded too.
        let scan = (max as u64).saturating_mul(8);
        for number in after + 1..=self.changes().min(after.saturating_add(scan)) {
            if rows >= max || bytes >= limits::HISTORY_BATCH_BYTES_MAX {
                break;
            }
            if let Some(weight) = self.add_row(number, &mut batch) {
                rows += 1;
                bytes += weight;
            }
            batch.through = number;
        }
        self.add_tasks_ahead(&mut batch);
        Some(batch)
    }

    /// P9.3: a batch for a database whose cursor stands at `after`, below what is in memory: up to
    /// `max` rows, fewer of large ones, of current tasks from slot `slot` on, and where to go on. The
    /// last batch, which has no further slot, passes the gap; those before it leave the cursor where
    /// it is, so a leader that ends in between costs only repeats.
    pub fn history_again(&self, after: u64, slot: u64, max: usize) -> (HistoryBatch, Option<u64>) {
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        let next = self.walk_tasks(slot, max.saturating_mul(8), |task| {
            // One that has ended waits in the outbox and comes from there, or leaves memory unstored,
            // in the gap: an outage at the bound leaves a gigabyte of them.
            if let Some(record) = self.record(task)
                && !(record.is_done() && record.change > self.stored())
                && let Some(view) = self.task_view(task)
            {
                let deleted = record.has(flag::DELETED);
                bytes += record.body.bytes().len();
                tasks.push(TaskRow { number: record.change, deleted, view });
            }
            tasks.len() < max && bytes < limits::HISTORY_BATCH_BYTES_MAX
        });
        let to = self.stored();
        let gap = HistoryGap { from: after + 1, to, dropped: self.dropped() };
        let last = next.is_none();
        let batch = HistoryBatch {
            cluster: ClusterId(0),
            epoch: self.meta.epoch,
            after,
            through: if last { to } else { after },
            gap: last.then_some(gap),
            tasks,
            runs: Vec::new(),
            attempts: Vec::new(),
        };
        (batch, next)
    }

    /// Rows of runs and attempts refer to their task's row. One whose task changed again beyond the
    /// batch brings that row along: a row may be newer than the batch (S18), and comes again later.
    fn add_tasks_ahead(&self, batch: &mut HistoryBatch) {
        let mut present: BTreeSet<u64> = batch.tasks.iter().map(|row| row.view.serial).collect();
        let runs = batch.runs.iter().map(|row| (&row.task_id, row.incarnation));
        let attempts = batch.attempts.iter().map(|row| (&row.task_id, row.incarnation));
        for (id, serial) in runs.chain(attempts) {
            if !present.insert(serial) {
                continue;
            }
            let record =
                self.slot_of(id.as_bytes()).and_then(|slot| Some((slot, self.slab.at(slot)?)));
            let Some((slot, record)) = record.filter(|(_, record)| record.serial == serial) else {
                continue;
            };
            // At or below the batch's end its row is in this batch or in an earlier one.
            if record.change <= batch.through {
                continue;
            }
            if let Some(view) = self.task_view(record.named(slot)) {
                let deleted = record.has(flag::DELETED);
                batch.tasks.push(TaskRow { number: record.change, deleted, view });
            }
        }
    }

    /// Adds the row that a change number stands for; what it weighs, with the task's row that it may
    /// bring along. `None` when it was overtaken.
    fn add_row(&self, number: u64, batch: &mut HistoryBatch) -> Option<usize> {
        match self.outbox.at(number) {
            Some(Change::Record { slot, serial }) => {
                self.add_record_row(number, slot, serial, batch)
            }
            Some(Change::Attempt { token }) => self.add_attempt_row(number, token, batch),
            Some(Change::Passed) | None => Some(0),
        }
    }

    fn add_record_row(
        &self,
        number: u64,
        slot: u32,
        serial: u64,
        batch: &mut HistoryBatch,
    ) -> Option<usize> {
        let held = |record: &&Record| record.serial == serial && record.change == number;
        let record = self.slab.at(slot).filter(held)?;
        if !record.has(flag::RUN) {
            let view = self.task_view(record.named(slot))?;
            batch.tasks.push(TaskRow { number, deleted: record.has(flag::DELETED), view });
            return Some(record.body.bytes().len());
        }
        let task = self.record(record.body.run_head().parent)?;
        let view = self.run_view(slot)?;
        let (task_id, incarnation) = (task.body.id().into(), task.serial);
        batch.runs.push(RunRow { number, task_id, incarnation, view });
        Some(task.body.bytes().len())
    }

    fn add_attempt_row(&self, number: u64, token: u64, batch: &mut HistoryBatch) -> Option<usize> {
        let attempt = self.attempts.at(token).filter(|attempt| attempt.change == number)?;
        let record = self.slab.at(attempt.slot).filter(|held| held.serial == attempt.serial)?;
        let task = self.record(self.task_of(record.named(attempt.slot))?)?;
        let view = self.attempt_view(token, attempt)?;
        let queue = self.profiles.at(record.profile)?.profile.queue.clone();
        let weight = task.body.bytes().len() + view.output.len() + view.tail.len();
        batch.attempts.push(AttemptRow {
            number,
            task_id: task.body.id().into(),
            incarnation: task.serial,
            run: view.run,
            queue,
            view,
        });
        Some(weight)
    }
}
