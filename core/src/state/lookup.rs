//! What dispatch, firing, leases and requests read from the state. Nothing here changes it.

use alloc::vec::Vec;

use super::State;
use super::attempts::Attempt;
use super::facts::{ClassId, DueSchedule, EndedTask, OpenAttempt, ReadyClass, ReadyRun};
use super::index::id_hash;
use super::record::{Phase, flag};
use crate::id::{InstanceId, NodeId, RecordRef, Serial, Slot, Token};
use crate::time::Timestamp;

impl State {
    /// The last index applied.
    pub const fn applied_index(&self) -> u64 {
        self.meta.applied
    }

    /// Replicated time: the stamp of the newest entry, never falling.
    pub const fn at(&self) -> Timestamp {
        self.meta.at
    }

    /// The cluster's feature level.
    pub const fn level(&self) -> u32 {
        self.meta.level
    }

    /// The key that the state was made with.
    pub const fn key(&self) -> super::IndexKey {
        self.key
    }

    /// Tasks (not runs) that are not terminal.
    pub const fn live_tasks(&self) -> u64 {
        self.live_tasks
    }

    /// Attempts that were ever opened.
    pub const fn attempts_opened(&self) -> u64 {
        self.meta.next_token.saturating_sub(1)
    }

    /// Attempts that have not ended.
    pub fn attempts_running(&self) -> u64 {
        self.attempts.open_len() as u64
    }

    /// Records in memory: tasks and runs, terminal ones too.
    pub const fn records(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of bodies and of closed attempts' texts in memory.
    pub const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The task with this id while it is in memory (finished ones until history has them); deleted
    /// ones are not found.
    pub fn find(&self, id: &str) -> Option<RecordRef> {
        let slot = self.slot_of(id.as_bytes())?;
        let record = self.slab.at(slot)?;
        (!(record.is_done() && record.has(flag::DELETED))).then(|| record.named(slot))
    }

    /// What is known of an id whose task has left memory (P8.2).
    pub fn ended(&self, id: &str) -> Option<EndedTask> {
        self.ids.ended(id_hash(self.key, id.as_bytes())).map(|ended| ended.view())
    }

    /// Tells whether what is known of the id's newest end is this: the creation `serial` ended at
    /// `at`, and was not deleted.
    pub fn remembers_end(&self, id: &str, serial: u64, at: Timestamp) -> bool {
        self.ids.newest(id_hash(self.key, id.as_bytes())).is_some_and(|(_, ended)| {
            ended.serial == serial && ended.ended_at == at && !ended.deleted
        })
    }

    /// The number that the next id gets which leaves memory.
    pub const fn ended_end(&self) -> u64 {
        self.ids.ended_numbers().1
    }

    /// Tells whether this creation is in memory.
    pub fn holds(&self, record: RecordRef) -> bool {
        self.record(record).is_some()
    }

    /// Tells whether the newest creation of this id was deleted. History may learn of that later:
    /// what it shows of the id until then is older than the answer to the caller who deleted it.
    pub fn is_deleted(&self, id: &str) -> bool {
        match self.slot_of(id.as_bytes()).and_then(|slot| self.slab.at(slot)) {
            Some(record) => record.is_done() && record.has(flag::DELETED),
            None => self.ended(id).is_some_and(|ended| ended.deleted),
        }
    }

    /// The child run with this number while it is in memory and unfinished; a one-shot's run 1 is
    /// the task itself.
    pub fn live_run(&self, task: RecordRef, run: crate::id::RunNumber) -> Option<RecordRef> {
        let record = self.record(task)?;
        match self.schedules.at(task.slot.0) {
            Some(schedule) => {
                let slot = *schedule.live.get(&run.0)?;
                self.slab.at(slot).map(|held| held.named(slot))
            }
            None => (run.0 == 1 && !record.has(flag::RUN)).then_some(task),
        }
    }

    /// The task of a record: itself, or the parent of a child run.
    pub fn task_of(&self, record: RecordRef) -> Option<RecordRef> {
        self.record(record)?;
        Some(self.parent_of(record.slot.0).unwrap_or(record))
    }

    /// Calls `each` for tasks (not runs, nor deleted ones) from slot `from` on, looking at no more
    /// than `scan` slots, until it returns false. Returns where to go on, or `None` at the end.
    pub fn walk_tasks(
        &self,
        from: u64,
        scan: usize,
        mut each: impl FnMut(RecordRef) -> bool,
    ) -> Option<u64> {
        let first = u32::try_from(from).ok()?;
        let end = self.slab.end();
        for slot in (first..end).take(scan) {
            let Some(record) = self.slab.at(slot) else { continue };
            let hidden = record.has(flag::RUN) || record.is_done() && record.has(flag::DELETED);
            if !hidden && !each(record.named(slot)) {
                return Some(u64::from(slot) + 1).filter(|&next| next < u64::from(end));
            }
        }
        let next = from.saturating_add(scan as u64);
        (next < u64::from(end)).then_some(next)
    }

    /// Match classes with ready runs, in a fixed order.
    pub fn ready_classes(&self) -> impl Iterator<Item = ReadyClass<'_>> {
        self.classes.nonempty().filter_map(|class| {
            let held = self.classes.at(class)?;
            let head = self.ready(class).next()?;
            Some(ReadyClass { class, queue: &held.queue, kind: &held.kind, len: held.len, head })
        })
    }

    /// The ready runs of a class by priority, then age.
    pub fn ready(&self, class: ClassId) -> impl Iterator<Item = ReadyRun> + '_ {
        self.classes.walk(&self.slab, class).filter_map(|slot| self.ready_run(slot))
    }

    fn ready_run(&self, slot: u32) -> Option<ReadyRun> {
        let record = self.slab.at(slot)?;
        let Phase::Ready { sequence, .. } = record.phase else { return None };
        Some(ReadyRun {
            target: record.named(slot),
            attempt: record.attempts.saturating_add(1),
            priority: record.priority,
            sequence,
            since: record.updated_at,
        })
    }

    /// Tells whether a run is ready.
    pub fn is_ready(&self, run: RecordRef) -> bool {
        self.record(run).is_some_and(|record| matches!(record.phase, Phase::Ready { .. }))
    }

    /// Queue and type of a record.
    pub fn class_of(&self, record: RecordRef) -> Option<(&str, &str)> {
        let profile = self.record(record)?.profile;
        self.profiles.at(profile).map(|held| (&*held.profile.queue, &*held.profile.kind))
    }

    /// Tells whether no run of this queue and type is ready.
    pub fn class_is_empty(&self, queue: &str, kind: &str) -> bool {
        let class = self.classes.find(queue, kind).and_then(|class| self.classes.at(class));
        class.is_none_or(|held| held.len == 0)
    }

    /// The earliest moment at which something is due: a waiting run (apply wakes it) or a fire
    /// time. It may lie in the past when more was due than one entry wakes.
    pub fn next_due(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(due, _)| due);
        let fire = self.next_fire();
        match (timer, fire) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The earliest due time of a waiting run.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| due)
    }

    /// The earliest fire time of all schedules.
    pub fn next_fire(&self) -> Option<Timestamp> {
        self.schedules.due().next().map(|(due, _, _)| due)
    }

    /// Up to `max` schedules whose fire time is not after `at`, earliest first.
    pub fn due_schedules(&self, at: Timestamp, max: usize) -> Vec<DueSchedule> {
        self.schedules
            .due()
            .take_while(|&(due, _, _)| due <= at)
            .take(max)
            .filter_map(|(fire_time, serial, slot)| {
                let schedule = self.schedules.at(slot)?;
                let recurrence = schedule.recurrence.clone()?;
                Some(DueSchedule {
                    task: RecordRef { slot: Slot(slot), serial: Serial(serial) },
                    revision: schedule.revision,
                    fire_time,
                    recurrence,
                    live_runs: schedule.live.len() as u32,
                })
            })
            .collect()
    }

    /// Running attempts, oldest first.
    pub fn open_attempts(&self) -> impl Iterator<Item = OpenAttempt> + '_ {
        self.attempts.all_open().map(|(token, attempt)| self.open_view(token, attempt))
    }

    /// A running attempt.
    pub fn open_attempt(&self, token: Token) -> Option<OpenAttempt> {
        self.attempts.open(token.0).map(|attempt| self.open_view(token.0, attempt))
    }

    fn open_view(&self, token: u64, attempt: &Attempt) -> OpenAttempt {
        let profile = self.slab.at(attempt.slot).and_then(|held| self.profiles.at(held.profile));
        OpenAttempt {
            token: Token(token),
            target: RecordRef { slot: Slot(attempt.slot), serial: Serial(attempt.serial) },
            instance: attempt.instance,
            opened_at: attempt.opened_at,
            run_timeout_ms: profile.map_or(0, |held| held.profile.run_timeout_ms),
            stop: attempt.stop,
        }
    }

    /// A registered instance's name.
    pub fn instance(&self, instance: InstanceId) -> Option<&str> {
        self.instances.at(instance).filter(|known| !known.retired).map(|known| &*known.name)
    }

    /// Registered instances: id, name, running attempts; ascending.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceId, &str, u32)> {
        let registered = self.instances.all().filter(|(_, known)| !known.retired);
        registered.map(|(id, known)| (id, &*known.name, known.open))
    }

    /// A node's gRPC and HTTP addresses.
    pub fn addresses(&self, node: NodeId) -> Option<(&str, &str)> {
        self.addresses.get(&node).map(|(grpc, http)| (&**grpc, &**http))
    }

    /// The newest change number.
    pub const fn changes(&self) -> u64 {
        self.outbox.newest()
    }

    /// The last change number that history is known to have.
    pub const fn stored(&self) -> u64 {
        self.outbox.stored()
    }

    /// The epoch of the history database that is written; zero until one was (P9.2).
    pub const fn history_epoch(&self) -> u64 {
        self.meta.epoch
    }

    /// What has left memory without being stored, since history last came level (P9.5).
    pub const fn dropped(&self) -> super::Dropped {
        self.meta.dropped
    }

    /// Where the task with this id is, deleted ones too.
    pub(super) fn slot_of(&self, id: &[u8]) -> Option<u32> {
        self.ids.live(id_hash(self.key, id), |slot| {
            self.slab.at(slot).is_some_and(|held| held.body.id_bytes() == id)
        })
    }

    pub(super) fn record(&self, record: RecordRef) -> Option<&super::record::Record> {
        self.slab.at(record.slot.0).filter(|held| held.serial == record.serial.0)
    }
}
