//! The state's own consistency, recomputed in full: for simulators and tests, between entries.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::State;
use super::digest::{Digest, record_hash, seed};
use super::index::id_hash;
use super::pinned::Pinned;
use super::record::{Phase, Record, flag};
use super::row::{self, kind};

/// Returns early with a formatted finding unless the condition holds.
macro_rules! demand {
    ($condition:expr, $($finding:tt)+) => {
        if !$condition {
            return Err(format!($($finding)+));
        }
    };
}

impl State {
    /// Checks everything that must hold between entries; linear in the state's size.
    ///
    /// # Errors
    /// The first finding, for people.
    pub fn audit(&self) -> Result<(), String> {
        demand!(self.dirty.is_empty(), "{} records are still touched", self.dirty.len());
        let mut counts = Counts::default();
        for slot in 0..self.slab.end() {
            if let Some(record) = self.slab.at(slot) {
                self.audit_record(slot, record, &mut counts)?;
            }
        }
        self.audit_counts(&counts)?;
        self.audit_ready(&counts)?;
        self.audit_timers(&counts)?;
        self.audit_attempts(&counts)?;
        self.audit_digest()
    }

    fn audit_record(&self, slot: u32, record: &Record, into: &mut Counts) -> Result<(), String> {
        let name = record.named(slot);
        let meta = &self.meta;
        demand!(record.serial < meta.next_serial, "{name:?}: its serial was never given");
        demand!(record.last_token < meta.next_token, "{name:?}: its token was never given");
        demand!(!record.has(flag::TOUCHED), "{name:?}: touched between entries");
        demand!(record.change <= self.changes(), "{name:?}: its change has no number");
        let profile = self.profiles.at(record.profile);
        demand!(profile.is_some(), "{name:?}: its profile is gone");
        let retries = profile.map_or(0, |held| held.profile.retry.max_retries);
        demand!(record.failures <= retries, "S14: {name:?} counts {} failures", record.failures);
        *into.profiles.entry(record.profile).or_default() += 1;
        into.records += 1;
        into.bytes += record.body.bytes().len() as u64;
        // Upholds S10: an unfinished record is in exactly one structure that will move it on.
        match record.phase {
            Phase::Waiting { .. } => into.waiting += 1,
            Phase::Ready { .. } => into.ready += 1,
            Phase::Running => {
                into.running += 1;
                let open = self.attempts.open(record.last_token);
                let own =
                    open.is_some_and(|open| open.slot == slot && open.serial == record.serial);
                demand!(own, "S10: {name:?} runs without an open attempt");
            }
            Phase::Scheduled => {
                let schedule = self.schedules.at(slot);
                let moves = schedule.is_some_and(|s| s.next_run_at.is_some() || !s.live.is_empty());
                demand!(moves, "S10: {name:?} has neither a fire time nor a run");
            }
            Phase::Done(_) => into.pinned.add_record(record.body.bytes().len() as u64),
        }
        if record.has(flag::RECURRING) {
            demand!(self.schedules.at(slot).is_some(), "{name:?}: its schedule is missing");
            into.schedules += 1;
        }
        if record.has(flag::RUN) {
            let head = record.body.run_head();
            let parent = self.record(head.parent);
            demand!(parent.is_some(), "{name:?}: its task {:?} is gone", head.parent);
            let live =
                self.schedules.at(head.parent.slot.0).and_then(|s| s.live.get(&head.number.0));
            let listed = live == Some(&slot);
            demand!(listed != record.is_done(), "{name:?}: listed as unfinished: {listed}");
            *into.children.entry(head.parent.slot.0).or_default() += 1;
        } else {
            into.tasks += 1;
            into.live += u64::from(!record.is_done());
            let hash = id_hash(self.key, record.body.id_bytes());
            let indexed = self.ids.live(hash, |held| held == slot);
            demand!(indexed == Some(slot), "S9: {name:?} is not in the id index");
            let before = self.ids.ended(hash);
            let same = before.is_none_or(|ended| ended.serial == record.serial);
            demand!(same, "S9: {name:?} has ended before, as another creation");
        }
        if record.is_done() {
            let unstored = record.change > self.stored()
                || self
                    .attempts
                    .at(record.last_token)
                    .is_some_and(|last| last.change > self.stored())
                || self.schedules.at(slot).is_some_and(|schedule| schedule.children > 0);
            demand!(unstored, "{name:?}: terminal and stored, but in memory");
        }
        Ok(())
    }

    fn audit_counts(&self, counts: &Counts) -> Result<(), String> {
        demand!(counts.records == self.slab.len(), "the slab counts {}", self.slab.len());
        demand!(counts.tasks == self.ids.live_len(), "the ids hold {}", self.ids.live_len());
        demand!(counts.live == self.live_tasks, "live tasks are {}", self.live_tasks);
        demand!(counts.schedules == self.schedules.len(), "{} schedules", self.schedules.len());
        demand!(counts.profiles.len() == self.profiles.len(), "{} profiles", self.profiles.len());
        for (&number, &count) in &counts.profiles {
            let refs = self.profiles.refs(number);
            demand!(refs == count, "profile {number} counts {refs}, {count} name it");
        }
        for slot in 0..self.slab.end() {
            let Some(schedule) = self.schedules.at(slot) else { continue };
            let children = counts.children.get(&slot).copied().unwrap_or(0);
            demand!(schedule.children == children, "slot {slot} counts {} runs", schedule.children);
        }
        let indexed = self.ids.live_len() + self.ids.ended_len();
        demand!(indexed == self.ids.index_len(), "the id index holds {}", self.ids.index_len());
        let planned = self.schedules.due().count();
        demand!(planned == self.schedules.due_len(), "the schedules' order differs");
        for (next, serial, slot) in self.schedules.due() {
            let planned = self.schedules.at(slot).and_then(|schedule| schedule.next_run_at);
            let known = self.slab.at(slot).is_some_and(|record| record.serial == serial);
            demand!(known && planned == Some(next), "slot {slot} is planned for {next}");
        }
        Ok(())
    }

    fn audit_ready(&self, counts: &Counts) -> Result<(), String> {
        let mut seen = 0;
        for class in self.ready_classes() {
            let mut before: Option<super::ReadyRun> = None;
            let mut len = 0;
            for run in self.ready(class.class) {
                len += 1;
                demand!(len <= class.len, "{class:?}: its list does not end");
                let own = self.class_of(run.target) == Some((class.queue, class.kind));
                demand!(own, "{run:?}: it is in a foreign class");
                let ordered = before.is_none_or(|before| {
                    before.priority > run.priority
                        || before.priority == run.priority && before.sequence < run.sequence
                });
                demand!(ordered, "{run:?}: out of order after {before:?}");
                before = Some(run);
            }
            demand!(len == class.len, "{class:?}: {len} are linked");
            seen += len;
        }
        demand!(seen == counts.ready, "S10: {} are ready, {seen} are listed", counts.ready);
        Ok(())
    }

    fn audit_timers(&self, counts: &Counts) -> Result<(), String> {
        let len = self.timers.len();
        demand!(len == counts.waiting, "S10: {} wait, {len} timers", counts.waiting);
        for (place, due, slot) in self.timers.places() {
            let matches = self.slab.at(slot).is_some_and(|record| {
                matches!(record.phase, Phase::Waiting { until, position, .. }
                    if until == due && position as usize == place)
            });
            demand!(matches, "the timer at {place} is not slot {slot}'s");
        }
        Ok(())
    }

    fn audit_attempts(&self, counts: &Counts) -> Result<(), String> {
        let open = self.attempts.open_len();
        demand!(open == counts.running, "S11: {} run, {open} are open", counts.running);
        let (mut token, mut held, mut bytes) = (0, BTreeMap::new(), counts.bytes);
        let mut pinned = counts.pinned;
        while let Some((found, attempt)) = self.attempts.from(token) {
            token = found + 1;
            demand!(found < self.meta.next_token, "S11: token {found} was never given");
            let entry: &mut (u32, u32) = held.entry(attempt.instance).or_default();
            entry.0 += u32::from(attempt.ending.is_none());
            entry.1 += 1;
            if let Some(ending) = &attempt.ending {
                bytes += ending.bytes();
                pinned.add_attempt(ending.bytes());
            }
            let own = self.slab.at(attempt.slot).is_some_and(|r| r.serial == attempt.serial);
            demand!(own, "attempt {found}: its run has left memory before it");
            let last =
                self.slab.at(attempt.slot).is_some_and(|r| r.is_done() && r.last_token == found);
            let unstored = attempt.ending.is_none() || attempt.change > self.stored() || last;
            demand!(unstored, "attempt {found}: closed and stored, but in memory");
        }
        demand!(bytes == self.held_bytes, "{} bytes are held, not {bytes}", self.held_bytes);
        demand!(pinned == self.pinned, "P9.5: {:?} wait for history, not {pinned:?}", self.pinned);
        for (id, known) in self.instances.all() {
            let (open, all) = held.get(&id).copied().unwrap_or_default();
            demand!(known.open == open && known.held == all, "instance {id} counts {known:?}");
        }
        let names = held.keys().all(|&id| self.instances.at(id).is_some());
        demand!(names, "an attempt's instance is unknown");
        Ok(())
    }

    /// The digest from nothing.
    fn audit_digest(&self) -> Result<(), String> {
        let mut digest = Digest::new(seed(self.key));
        for slot in 0..self.slab.end() {
            let Some(record) = self.slab.at(slot) else { continue };
            let row = record_hash(&mut digest, &self.profiles, &self.schedules, slot, record);
            digest.add(row);
            let row = digest.body(slot, record.serial, &record.body);
            digest.add(row);
        }
        let mut token = 0;
        while let Some((found, attempt)) = self.attempts.from(token) {
            token = found + 1;
            let row = digest.attempt(found, attempt);
            digest.add(row);
        }
        for (id, known) in self.instances.all() {
            let put = |out: &mut _| row::put_instance(out, id, &known.name, known.retired);
            let row = digest.row(kind::INSTANCE, put);
            digest.add(row);
        }
        for (&node, (grpc, http)) in &self.addresses {
            let row = digest.row(kind::ADDRESSES, |out| row::put_addresses(out, node, grpc, http));
            digest.add(row);
        }
        let (first, end) = self.ids.ended_numbers();
        for number in first..end {
            let Some(ended) = self.ids.ended_at(number) else { continue };
            let row = digest.ended(number, &ended);
            digest.add(row);
        }
        demand!(digest.sum == self.digest.sum, "the digest differs from the rows'");
        Ok(())
    }
}

/// What a walk over the records counts.
#[derive(Default)]
struct Counts {
    records: usize,
    tasks: usize,
    live: u64,
    waiting: usize,
    ready: usize,
    running: usize,
    schedules: usize,
    bytes: u64,
    pinned: Pinned,
    profiles: BTreeMap<u32, u32>,
    children: BTreeMap<u32, u32>,
}
