//! Accepting tasks, and recognising repeats (P8.2).

use alloc::vec::Vec;

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::EntryProfiles;
use crate::codec::flat::Put;
use crate::codec::flat::spec::put_recurrence;
use crate::id::RecordRef;
use crate::limits;
use crate::spec::Recurrence;
use crate::state::facts::Changes;
use crate::state::index::id_hash;
use crate::state::record::{Body, NONE, Phase, Record, flag};
use crate::state::schedules::Schedule;
use crate::state::view::TaskStatus;
use crate::state::{Applied, Create, Refusal, Start, State, digest};
use crate::time::Timestamp;

/// A name of `NAME_CHARS_MAX` characters takes at most four bytes each.
const NAME_BYTES_MAX: usize = 4 * limits::NAME_CHARS_MAX;

impl State {
    pub(super) fn create(
        &mut self,
        create: &Create<'_>,
        table: &mut EntryProfiles<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        Self::check_names(create.id, create.name)?;
        if create.payload.len() > limits::PAYLOAD_BYTES_MAX || create.priority > 9 {
            return Err(Refusal::Malformed);
        }
        let profile = table.resolve(self, create.profile)?;
        let hash = id_hash(self.key, create.id.as_bytes());
        // Upholds S9: one id, one task, the same answer.
        if let Some(answer) = self.repeat(create, profile, hash) {
            return answer;
        }
        // Upholds S9: the first sending may have been run, and forgotten since.
        if create.retry && self.forgets_too_soon() {
            return Err(Refusal::Forgotten);
        }
        if self.live_tasks >= limits::LIVE_TASKS_MAX
            || self.slab.len() as u64 >= 2 * limits::LIVE_TASKS_MAX
        {
            return Err(Refusal::Full);
        }
        let slot = self.insert_task(create, profile, hash)?;
        self.start_task(slot, create, changes)
    }

    /// Ids were forgotten that are still in their window (P8.2).
    pub(super) fn forgets_too_soon(&self) -> bool {
        let forgot = self.meta.forgot;
        forgot != Timestamp::default() && self.meta.at < forgot + limits::DEDUP_WINDOW
    }

    /// Whether a record can hold these.
    pub(super) const fn check_names(id: &str, name: &str) -> Result<(), Refusal> {
        let fits = !id.is_empty() && id.len() <= NAME_BYTES_MAX && name.len() <= NAME_BYTES_MAX;
        if fits { Ok(()) } else { Err(Refusal::Malformed) }
    }

    fn repeat(
        &self,
        create: &Create<'_>,
        profile: u32,
        hash: u64,
    ) -> Option<Result<Applied, Refusal>> {
        let same_id = |slot: u32| {
            self.slab.at(slot).is_some_and(|held| held.body.id_bytes() == create.id.as_bytes())
        };
        let (spec, live) = match self.ids.live(hash, same_id) {
            Some(slot) => {
                let record = self.slab.at(slot)?;
                let gone = record.is_done() && record.has(flag::DELETED);
                (self.spec_hash(slot, record), (!gone).then(|| record.named(slot)))
            }
            None => (self.ids.ended(hash)?.spec, None),
        };
        let same = spec == self.spec_hash_of(create, profile);
        Some(if same { Ok(Applied::Repeated { live }) } else { Err(Refusal::IdConflict) })
    }

    fn insert_task(
        &mut self,
        create: &Create<'_>,
        profile: u32,
        hash: u64,
    ) -> Result<u32, Refusal> {
        let at = self.meta.at;
        let (flags, scheduled_for) = match &create.start {
            Start::Ready => (0, at),
            Start::At(due) => (flag::HAS_AT, *due),
            Start::Recurring { .. } => (flag::RECURRING, at),
        };
        let slot = self.insert_record(Record {
            serial: 0,
            change: 0,
            created_at: at,
            updated_at: at,
            scheduled_for,
            last_token: 0,
            body: Body::task(create.id, create.name, create.payload),
            phase: Phase::Scheduled,
            profile,
            attempts: 0,
            failures: 0,
            priority: create.priority,
            flags,
        })?;
        self.ids.enter(hash, slot);
        self.live_tasks += 1;
        Ok(slot)
    }

    fn start_task(
        &mut self,
        slot: u32,
        create: &Create<'_>,
        changes: &mut Changes,
    ) -> Result<Applied, Refusal> {
        let task = self.reference(slot);
        let mut opened = None;
        match &create.start {
            Start::At(due) if *due > self.meta.at => self.make_wait(slot, *due, false),
            Start::Ready | Start::At(_) => opened = self.make_ready(slot, create.open, changes),
            Start::Recurring { recurrence, next } => {
                let schedule = Schedule::new(Some(Recurrence::clone(recurrence)), *next);
                self.schedules.insert(slot, task.serial.0, schedule);
                changes.rescheduled.push(task);
                if next.is_none() {
                    // The rule names no instant: it ends as it was accepted, and says so.
                    self.finish(slot, TaskStatus::Skipped, changes);
                }
            }
        }
        Ok(Applied::Created { task, opened })
    }

    /// Stores a record under the next serial; it counts as touched.
    pub(super) fn insert_record(&mut self, mut record: Record) -> Result<u32, Refusal> {
        record.serial = self.meta.next_serial;
        let slot = self.insert_known(record)?;
        self.meta.next_serial += 1;
        Ok(slot)
    }

    /// Stores a record under the serial that it names; it counts as touched.
    pub(super) fn insert_known(&mut self, mut record: Record) -> Result<u32, Refusal> {
        let serial = record.serial;
        record.flags |= flag::TOUCHED;
        let profile = record.profile;
        let bytes = record.body.bytes().len() as u64;
        let slot = self.slab.insert(record).ok_or(Refusal::Full)?;
        self.profiles.retain_number(profile);
        self.held_bytes += bytes;
        let change = self.outbox.push(crate::state::outbox::Change::Record { slot, serial });
        if let Some(record) = self.slab.at_mut(slot) {
            record.change = change;
            let row = self.digest.body(slot, serial, &record.body);
            self.digest.add(row);
        }
        self.dirty.push(slot);
        Ok(slot)
    }

    /// The reference to the record in `slot`.
    pub(super) fn reference(&self, slot: u32) -> RecordRef {
        match self.slab.at(slot) {
            Some(record) => record.named(slot),
            None => RecordRef { slot: crate::id::Slot(NONE), serial: crate::id::Serial(0) },
        }
    }

    /// The hash of everything that the task's owner wrote.
    pub(in crate::state) fn spec_hash(&self, slot: u32, record: &Record) -> u64 {
        let when = match self.schedules.at(slot) {
            Some(Schedule { recurrence: Some(recurrence), .. }) => When::Recurring(recurrence),
            Some(_) | None if record.has(flag::HAS_AT) => When::At(record.scheduled_for),
            Some(_) | None => When::Now,
        };
        let texts = (own_name(record.body.id(), record.body.name()), record.body.payload());
        self.hash_spec(texts, record.priority, record.profile, &when)
    }

    fn spec_hash_of(&self, create: &Create<'_>, profile: u32) -> u64 {
        let when = match &create.start {
            Start::Ready => When::Now,
            Start::At(at) => When::At(*at),
            Start::Recurring { recurrence, .. } => When::Recurring(recurrence),
        };
        let texts = (own_name(create.id, create.name), create.payload);
        self.hash_spec(texts, create.priority, profile, &when)
    }

    fn hash_spec(&self, texts: (&str, &[u8]), priority: u8, profile: u32, when: &When<'_>) -> u64 {
        let seed = digest::seed(self.key);
        let mut row = Vec::with_capacity(128);
        row.put_text(texts.0);
        row.put_u128(xxh3_128_with_seed(texts.1, seed));
        row.put_u8(priority);
        row.put_u128(self.profiles.at(profile).map_or(0, |held| held.hash));
        match when {
            When::Now => row.put_u8(1),
            When::At(at) => {
                row.put_u8(2);
                row.put_time(*at);
            }
            When::Recurring(recurrence) => {
                row.put_u8(3);
                put_recurrence(&mut row, recurrence);
            }
        }
        xxh3_64_with_seed(&row, seed)
    }
}

/// A name that is the id is none: history shows the two alike.
fn own_name<'a>(id: &str, name: &'a str) -> &'a str {
    if name == id { "" } else { name }
}

enum When<'a> {
    Now,
    At(Timestamp),
    Recurring(&'a Recurrence),
}
