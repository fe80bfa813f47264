//! The same rules as `apply`, written naively: maps by serial, linear searches, no numbers of
//! changes, no digest. It says what every command must answer and where every record must stand.

mod reruns;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{InstanceId, RecordRef, RunNumber, Serial, Slot, Token};
use crate::limits;
use crate::spec::{AttemptOutcome, Overlap, StopWhy};
use crate::state::view::TaskStatus;
use crate::state::{Applied, Close, Command, Create, Fire, Key, Refusal, Start};
use crate::time::Timestamp;

/// Ten seconds: the fixed backoff of every profile in these tests.
const BACKOFF: i64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Waiting(Timestamp),
    Ready(u64),
    Running(Token),
    Scheduled,
    Done(TaskStatus),
}

#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) slot: u32,
    pub(super) id: String,
    /// Everything the owner wrote, as text.
    spec: String,
    pub(super) parent: Option<u64>,
    pub(super) stand: Stand,
    pub(super) attempts: u16,
    failures: u16,
    max_retries: u16,
    pub(super) priority: u8,
    cancel: bool,
    pub(super) deleted: bool,
    pub(super) next: Option<Timestamp>,
    overlap: Option<Overlap>,
    pub(super) runs: u32,
    number: u32,
    /// The newest run that has ended: its number, how, and its attempts.
    last: Option<(u32, TaskStatus, u16)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    pub(super) serial: u64,
    pub(super) instance: InstanceId,
    pub(super) stop: Option<StopWhy>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) at: Timestamp,
    pub(super) entities: BTreeMap<u64, Entity>,
    pub(super) open: BTreeMap<Token, Try>,
    /// Instances: retired or not.
    instances: BTreeMap<InstanceId, bool>,
    /// Tasks that have left memory, by id, with the entry in which they did.
    ended: BTreeMap<String, (u64, Entity, u64)>,
    /// Requests that were answered, with what they asked for.
    requests: BTreeMap<String, u64>,
    entries: u64,
    serials: u64,
    tokens: u64,
    sequence: u64,
}

impl Model {
    /// Starts an entry.
    pub(super) fn entry(&mut self, at: Timestamp) {
        self.at = self.at.max(at);
        self.entries += 1;
        let mut due: Vec<(Timestamp, u64)> = self
            .entities
            .iter()
            .filter_map(|(&serial, entity)| match entity.stand {
                Stand::Waiting(until) if until <= self.at => Some((until, serial)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        for (_, serial) in due.into_iter().take(limits::ROWS_PER_COMMAND_MAX) {
            self.ready(serial, None);
        }
    }

    pub(super) fn apply(&mut self, command: &Command<'_>, retries: &[u16]) -> Applied {
        let answer = match command {
            Command::Create(create) => self.create(create, retries),
            Command::Open(open) => self.open(open.target, open.attempt, open.instance),
            Command::Close(close) => self.close(close),
            Command::Fire(fire) => self.fire(fire),
            Command::Cancel { target, key } => self.once(*key, |model| model.cancel(*target)),
            Command::Claim { request, content } => {
                let key = Some(Key { request, content: *content, retry: false });
                self.once(key, |_| Ok(Applied::Done))
            }
            Command::TimeOut { token, target } => self.time_out(*token, *target),
            Command::Trigger { target, rerun } => self.rerun(*target, *rerun),
            Command::Again(again) => self.again(again),
            Command::Delete { target, cancel } => self.delete(*target, *cancel),
            Command::RegisterInstance { instance, .. } => {
                self.instances.insert(*instance, false);
                Ok(Applied::Done)
            }
            Command::RetireInstance { instance } => self.retire(*instance),
            // What history has taken is checked from outside.
            Command::HistoryStored { .. }
            | Command::HistoryDropped { .. }
            | Command::SetAddresses { .. } => Ok(Applied::Done),
        };
        answer.unwrap_or_else(Applied::Refused)
    }

    /// The state let go of this record.
    pub(super) fn forget(&mut self, serial: u64) {
        let Some(gone) = self.entities.remove(&serial) else { return };
        assert!(matches!(gone.stand, Stand::Done(_)), "an unfinished record was let go: {gone:?}");
        if gone.parent.is_none() {
            self.ended.insert(gone.id.clone(), (serial, gone, self.entries));
        }
    }

    pub(super) fn reference(&self, serial: u64) -> RecordRef {
        RecordRef { slot: Slot(self.entities[&serial].slot), serial: Serial(serial) }
    }

    fn find(&self, target: RecordRef) -> Result<u64, Refusal> {
        match self.entities.get(&target.serial.0) {
            Some(entity) if entity.slot == target.slot.0 => Ok(target.serial.0),
            _ => Err(Refusal::NotFound),
        }
    }

    fn at_mut(&mut self, serial: u64) -> &mut Entity {
        self.entities.get_mut(&serial).expect("the caller found it")
    }

    fn lowest_slot(&self) -> u32 {
        let used: BTreeSet<u32> = self.entities.values().map(|entity| entity.slot).collect();
        (0..).find(|slot| !used.contains(slot)).expect("there are more slots than entities")
    }

    fn live_runs(&self, parent: u64) -> Vec<u64> {
        let live = |entity: &Entity| {
            entity.parent == Some(parent) && !matches!(entity.stand, Stand::Done(_))
        };
        self.entities.iter().filter(|(_, e)| live(e)).map(|(&serial, _)| serial).collect()
    }

    fn create(&mut self, create: &Create<'_>, retries: &[u16]) -> Result<Applied, Refusal> {
        let start = match &create.start {
            Start::Recurring { recurrence, .. } => alloc::format!("{recurrence:?}"),
            other => alloc::format!("{other:?}"),
        };
        let spec = alloc::format!(
            "{}|{:?}|{}|{}|{start}",
            create.name,
            create.payload,
            create.profile,
            create.priority
        );
        let held = self.entities.iter().find(|(_, e)| e.parent.is_none() && e.id == create.id);
        if let Some((&serial, held)) = held {
            let hidden = held.deleted && matches!(held.stand, Stand::Done(_));
            let live = (!hidden).then(|| self.reference(serial));
            let same = held.spec == spec;
            return if same { Ok(Applied::Repeated { live }) } else { Err(Refusal::IdConflict) };
        }
        if let Some((_, ended, _)) = self.ended.get(create.id) {
            let same = ended.spec == spec;
            return if same {
                Ok(Applied::Repeated { live: None })
            } else {
                Err(Refusal::IdConflict)
            };
        }
        let serial = self.insert(Entity {
            slot: self.lowest_slot(),
            id: create.id.into(),
            spec,
            parent: None,
            stand: Stand::Scheduled,
            attempts: 0,
            failures: 0,
            max_retries: retries[usize::from(create.profile)],
            priority: create.priority,
            cancel: false,
            deleted: false,
            next: None,
            overlap: None,
            runs: 0,
            number: 1,
            last: None,
        });
        let mut opened = None;
        match &create.start {
            Start::At(due) if *due > self.at => self.at_mut(serial).stand = Stand::Waiting(*due),
            Start::Ready | Start::At(_) => opened = self.ready(serial, create.open),
            Start::Recurring { recurrence, next } => {
                let task = self.at_mut(serial);
                (task.next, task.overlap) = (*next, Some(recurrence.overlap));
                self.end_task_if_over(serial);
            }
        }
        Ok(Applied::Created { task: self.reference(serial), opened })
    }

    fn insert(&mut self, entity: Entity) -> u64 {
        self.serials += 1;
        self.entities.insert(self.serials, entity);
        self.serials
    }

    fn ready(&mut self, serial: u64, open: Option<InstanceId>) -> Option<Token> {
        if let Some(instance) = open.filter(|instance| self.instances.get(instance) == Some(&false))
        {
            return Some(self.start(serial, instance));
        }
        self.sequence += 1;
        self.at_mut(serial).stand = Stand::Ready(self.sequence);
        None
    }

    fn start(&mut self, serial: u64, instance: InstanceId) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        let run = self.at_mut(serial);
        run.attempts += 1;
        run.stand = Stand::Running(token);
        self.open.insert(token, Try { serial, instance, stop: None });
        token
    }

    fn open(
        &mut self,
        target: RecordRef,
        attempt: u16,
        instance: InstanceId,
    ) -> Result<Applied, Refusal> {
        let serial = self.find(target)?;
        match self.entities[&serial].stand {
            Stand::Ready(_) => {}
            Stand::Done(_) => return Err(Refusal::Terminal),
            Stand::Waiting(_) | Stand::Running(_) | Stand::Scheduled => return Err(Refusal::Stale),
        }
        if attempt != self.entities[&serial].attempts + 1 {
            return Err(Refusal::Stale);
        }
        if self.instances.get(&instance) != Some(&false) {
            return Err(Refusal::UnknownInstance);
        }
        let token = self.start(serial, instance);
        Ok(Applied::Opened { token, target })
    }

    fn close(&mut self, close: &Close<'_>) -> Result<Applied, Refusal> {
        let Some(held) = self.open.remove(&close.token) else { return Err(Refusal::StaleToken) };
        let serial = held.serial;
        let target = self.reference(serial);
        let at = self.at;
        let run = self.at_mut(serial);
        let spent = run.failures >= run.max_retries;
        let last_word = close.exit_code == Some(99) || !close.retryable;
        let end = match close.outcome {
            AttemptOutcome::Succeeded => Some(TaskStatus::Succeeded),
            AttemptOutcome::Cancelled => Some(TaskStatus::Cancelled),
            AttemptOutcome::Failed if spent || last_word => Some(TaskStatus::Failed),
            _ if run.cancel => Some(TaskStatus::Cancelled),
            AttemptOutcome::TimedOut | AttemptOutcome::Lost if spent => Some(TaskStatus::Failed),
            AttemptOutcome::Failed
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Lost
            | AttemptOutcome::Interrupted => None,
        };
        let retried = end.is_none();
        match end {
            Some(status) => self.finish(serial, status),
            None if close.outcome == AttemptOutcome::Interrupted => {
                self.ready(serial, None);
            }
            None => {
                run.failures += 1;
                run.stand = Stand::Waiting(at.plus_micros(BACKOFF));
            }
        }
        Ok(Applied::Closed { target, token: close.token, retried })
    }

    fn finish(&mut self, serial: u64, status: TaskStatus) {
        let entity = self.at_mut(serial);
        entity.stand = Stand::Done(status);
        let (number, attempts) = (entity.number, entity.attempts);
        if let Some(parent) = entity.parent {
            let task = self.at_mut(parent);
            if task.last.is_none_or(|(last, _, _)| last <= number) {
                task.last = Some((number, status, attempts));
            }
            self.end_task_if_over(parent);
        }
    }

    fn end_task_if_over(&mut self, serial: u64) {
        let over = self.live_runs(serial).is_empty();
        let task = self.at_mut(serial);
        if over && task.next.is_none() && task.stand == Stand::Scheduled {
            let last = task.last.map_or(TaskStatus::Skipped, |(_, status, _)| status);
            let cancelled = task.cancel && task.overlap.is_some();
            task.stand = Stand::Done(if cancelled { TaskStatus::Cancelled } else { last });
        }
    }

    fn fire(&mut self, fire: &Fire<'_>) -> Result<Applied, Refusal> {
        let serial = self.find(fire.target)?;
        let task = &self.entities[&serial];
        let Some(overlap) = task.overlap else { return Err(Refusal::Malformed) };
        if matches!(task.stand, Stand::Done(_)) {
            return Err(Refusal::Terminal);
        }
        let planned = fire.revision == 1 && task.next == Some(fire.fire_time);
        let later = fire.next.is_none_or(|next| next > fire.fire_time);
        if !planned || !later || fire.fire_time > self.at {
            return Err(Refusal::Stale);
        }
        let unfinished = self.live_runs(serial).len();
        let skip = fire.skip.is_some() || unfinished > 0 && overlap == Overlap::Skip;
        self.at_mut(serial).next = fire.next;
        Ok(self.run(serial, skip, fire.open))
    }

    fn run(&mut self, parent: u64, skip: bool, open: Option<InstanceId>) -> Applied {
        let slot = self.lowest_slot();
        let task = self.at_mut(parent);
        task.runs += 1;
        let child = Entity {
            slot,
            parent: Some(parent),
            number: task.runs,
            overlap: None,
            next: None,
            deleted: false,
            ..task.clone()
        };
        let serial = self.insert(child);
        if skip {
            self.finish(serial, TaskStatus::Skipped);
            return Applied::Fired { run: None, opened: None };
        }
        let opened = self.ready(serial, open);
        Applied::Fired { run: Some(self.reference(serial)), opened }
    }

    fn cancel(&mut self, target: RecordRef) -> Result<Applied, Refusal> {
        let serial = self.find(target)?;
        if matches!(self.entities[&serial].stand, Stand::Done(_)) {
            return Err(Refusal::Terminal);
        }
        Ok(self.stop(serial))
    }

    fn stop(&mut self, serial: u64) -> Applied {
        self.at_mut(serial).cancel = true;
        match self.entities[&serial].stand {
            Stand::Waiting(_) | Stand::Ready(_) => {
                self.finish(serial, TaskStatus::Cancelled);
                Applied::Done
            }
            Stand::Running(token) => {
                self.open.get_mut(&token).expect("it runs").stop = Some(StopWhy::Cancelled);
                Applied::Stopping { target: self.reference(serial), token }
            }
            Stand::Scheduled => {
                self.at_mut(serial).next = None;
                let runs = self.live_runs(serial);
                let stopped: Vec<Applied> = runs.into_iter().map(|run| self.stop(run)).collect();
                self.end_task_if_over(serial);
                let stopping = |answer: &Applied| matches!(answer, Applied::Stopping { .. });
                stopped.into_iter().rfind(stopping).unwrap_or(Applied::Done)
            }
            Stand::Done(_) => Applied::Done,
        }
    }

    fn time_out(&mut self, token: Token, target: RecordRef) -> Result<Applied, Refusal> {
        let serial = self.find(target).map_err(|_| Refusal::StaleToken)?;
        match self.open.get_mut(&token) {
            Some(held) if held.serial == serial => {
                held.stop = held.stop.or(Some(StopWhy::TimedOut));
                Ok(Applied::Stopping { target, token })
            }
            _ => Err(Refusal::StaleToken),
        }
    }

    fn delete(&mut self, target: RecordRef, cancel: bool) -> Result<Applied, Refusal> {
        let serial = self.find(target)?;
        let entity = &self.entities[&serial];
        if entity.parent.is_some() {
            return Err(Refusal::Malformed);
        }
        let done = matches!(entity.stand, Stand::Done(_));
        if done && entity.deleted {
            return Err(Refusal::NotFound);
        }
        let running = |serial: &u64| matches!(self.entities[serial].stand, Stand::Running(_));
        if !cancel && (running(&serial) || self.live_runs(serial).iter().any(running)) {
            return Err(Refusal::Running);
        }
        self.at_mut(serial).deleted = true;
        Ok(if done { Applied::Done } else { self.stop(serial) })
    }

    fn retire(&mut self, instance: InstanceId) -> Result<Applied, Refusal> {
        if !self.instances.contains_key(&instance) {
            return Err(Refusal::UnknownInstance);
        }
        if self.open.values().any(|held| held.instance == instance) {
            return Err(Refusal::Running);
        }
        // A retired one may be forgotten or not: the test never retires one twice.
        self.instances.insert(instance, true);
        Ok(Applied::Done)
    }

    /// The number of a run within its task.
    pub(super) fn run_number(&self, serial: u64) -> RunNumber {
        RunNumber(self.entities[&serial].number)
    }
}
