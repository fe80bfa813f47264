//! A ledger of tasks, runs and attempts, kept from the committed commands and their answers by
//! rules of its own: S8, S9, S11–S16 as far as the log can tell.
//!
//! It is dull on purpose: it knows no queues, no workers and no calendar but the independent one,
//! and never asks the state machine what it thinks.

mod attempts;
mod fires;
mod record;
mod requests;
mod reruns;

use std::collections::{BTreeMap, BTreeSet};

use dtask_core::codec::flat::EntryRef;
use dtask_core::id::{InstanceId, RecordRef, Token};
use dtask_core::limits;
use dtask_core::spec::{AttemptOutcome, Profile};
use dtask_core::state::{Applied, Command, Create, Key, Start};
use dtask_core::time::Timestamp;

pub use self::record::{Attempt, End, Kind, Record};
use self::requests::Said;
use super::calendar::Calendar;
use super::{Verdict, Violation, hold};

/// What one command meant, for probes and for the checkers of other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing that others care about.
    Nothing,
    /// A task was accepted.
    Created {
        /// Its serial.
        serial: u64,
        /// Its first attempt opened at once.
        opened: bool,
    },
    /// An attempt ended.
    Closed {
        /// How.
        outcome: AttemptOutcome,
        /// Another follows.
        retried: bool,
    },
    /// A fire time was taken.
    Fired {
        /// Its run was skipped.
        skipped: bool,
    },
    /// A run was made by hand, or begins by hand.
    Triggered,
    /// A task that had ended got a further run.
    Rerun {
        /// Its body had left memory.
        from_history: bool,
    },
    /// What history told was older than the log.
    StaleRow,
    /// A waiting task was cancelled.
    CancelledWaiting,
    /// A running attempt was asked to stop.
    CancelledRunning,
    /// A cancel came after the end.
    CancelTooLate,
    /// A report of a token that is not open was refused.
    StaleReport,
    /// A repeat was recognised.
    Repeated,
    /// A request id came again, and changed nothing.
    RequestRepeated,
    /// A request id came again, for something else.
    RequestReused,
    /// Another spec under a known id was refused.
    Conflict,
    /// A task was deleted.
    Deleted,
    /// Changes left memory unstored.
    Dropped,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    records: BTreeMap<u64, Record>,
    attempts: BTreeMap<Token, Attempt>,
    by_id: BTreeMap<Box<str>, u64>,
    /// Request ids: what they stand for, and since when.
    requests: BTreeMap<Box<str>, (Said, Timestamp)>,
    /// How many ids, of ended and deleted tasks and of requests, went into the table at most.
    ids_kept: u64,
    newest_token: Token,
    at: Timestamp,
    open_by_instance: BTreeMap<InstanceId, u32>,
}

/// What a command sees of its entry.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Its place in the log.
    pub index: u64,
    /// Replicated time.
    pub at: Timestamp,
    /// Its bytes, for its own table of profiles.
    pub bytes: &'a EntryRef<'a>,
}

impl Ledger {
    /// S16: replicated time never falls.
    pub fn s16_replicated_time_never_falls(&mut self, index: u64, at: Timestamp) -> Verdict {
        hold!("S16", at >= self.at, "entry {index} says {at} after {}", self.at);
        self.at = at;
        Ok(())
    }

    /// Takes a command and its answer in.
    pub fn take(
        &mut self,
        entry: Entry<'_>,
        command: &Command<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        match command {
            Command::Create(create) => self.create(entry, create, answer),
            Command::Open(open) => match answer {
                Applied::Opened { token, target } => {
                    hold!("S12", target == open.target, "open of {:?} hit {target:?}", open.target);
                    self.open(entry, target, token, open.instance)?;
                    Ok(Meaning::Nothing)
                }
                _ => Ok(Meaning::Nothing),
            },
            Command::Close(close) => self.close(entry, close, answer),
            Command::Fire(fire) => self.fire(entry, fire, answer),
            Command::Cancel { target, key } => self.cancel(entry, *target, *key, answer),
            Command::Claim { request, content } => {
                self.request(entry.at, request, Said::Tasks(*content), answer)
            }
            Command::Trigger { target, rerun } => {
                self.rerun(entry, target.serial.0, *rerun, answer)
            }
            Command::Again(again) => self.again(entry, again, answer),
            Command::Delete { target, cancel } => {
                self.delete(entry, target.serial.0, *cancel, answer)
            }
            Command::HistoryDropped { .. } => {
                Ok(if answer == Applied::Done { Meaning::Dropped } else { Meaning::Nothing })
            }
            Command::TimeOut { .. }
            | Command::RegisterInstance { .. }
            | Command::RetireInstance { .. }
            | Command::HistoryStored { .. }
            | Command::SetAddresses { .. } => Ok(Meaning::Nothing),
        }
    }

    fn create(
        &mut self,
        entry: Entry<'_>,
        create: &Create<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let (task, opened) = match answer {
            Applied::Created { task, opened } => (task, opened),
            Applied::Repeated { .. } => {
                hold!("S9", self.by_id.contains_key(create.id), "{} repeats nothing", create.id);
                return Ok(Meaning::Repeated);
            }
            Applied::Refused(dtask_core::state::Refusal::IdConflict) => {
                return Ok(Meaning::Conflict);
            }
            _ => return Ok(Meaning::Nothing),
        };
        self.s9_one_id_one_task(entry, create.id)?;
        let Ok(profile) = entry.bytes.profile(create.profile) else {
            return Err(Violation::new("S8", format!("entry {} lacks a profile", entry.index)));
        };
        let (kind, not_before) = match &create.start {
            Start::Ready => (Kind::OneShot, Timestamp::default()),
            Start::At(at) => (Kind::OneShot, *at),
            Start::Recurring { recurrence, next } => {
                let calendar = next.and_then(|next| Calendar::of(&recurrence.rule, next));
                if let (Some(calendar), Some(next)) = (calendar, next) {
                    hold!(
                        "S15",
                        calendar.names(*next),
                        "task {} first fires at {next}, which {calendar:?} does not name",
                        create.id
                    );
                }
                let recurring = Kind::Recurring {
                    recurrence: recurrence.clone(),
                    calendar,
                    next: *next,
                    taken: BTreeSet::new(),
                    unfinished: BTreeSet::new(),
                    closing: next.is_none().then_some(End::Exhausted),
                };
                (recurring, Timestamp::MAX)
            }
        };
        let serial = task.serial.0;
        self.add(serial, create.id.into(), kind, profile, not_before)?;
        self.by_id.insert(create.id.into(), serial);
        self.close_if_over(serial, entry.at);
        if let Some(token) = opened {
            let instance = create.open.unwrap_or_default();
            self.open(entry, task, token, instance)?;
        }
        Ok(Meaning::Created { serial, opened: opened.is_some() })
    }

    fn add(
        &mut self,
        serial: u64,
        id: Box<str>,
        kind: Kind,
        profile: Profile,
        not_before: Timestamp,
    ) -> Verdict {
        hold!("S8", !self.records.contains_key(&serial), "serial {serial} is given twice");
        let record = Record {
            id,
            kind,
            profile,
            not_before,
            open: None,
            counted: 0,
            cancelled: false,
            done: None,
            done_at: Timestamp::default(),
            back_at: 0,
            deleted: false,
        };
        self.records.insert(serial, record);
        Ok(())
    }

    /// S9: an id names one task as long as it is reserved (P8.2).
    fn s9_one_id_one_task(&self, entry: Entry<'_>, id: &str) -> Verdict {
        let Some(record) = self.by_id.get(id).and_then(|serial| self.records.get(serial)) else {
            return Ok(());
        };
        let ended = record.done.is_some();
        let long_ago = entry.at.since(record.done_at) >= limits::DEDUP_WINDOW;
        hold!("S9", ended && long_ago, "entry {} creates {id} a second time", entry.index);
        Ok(())
    }

    fn end(&mut self, serial: u64, end: End, at: Timestamp) {
        let Some(record) = self.records.get_mut(&serial) else { return };
        record.done = Some(end);
        record.done_at = at;
        let Kind::Run { parent } = record.kind else {
            self.ids_kept += 1;
            return;
        };
        match self.records.get_mut(&parent) {
            Some(Record { kind: Kind::Recurring { unfinished, .. }, .. }) => {
                unfinished.remove(&serial);
                self.close_if_over(parent, at);
            }
            Some(task @ Record { kind: Kind::Again { .. }, .. }) => {
                task.kind = Kind::Again { unfinished: BTreeSet::new() };
                (task.done, task.done_at) = (Some(end), at);
                self.ids_kept += 1;
            }
            Some(_) | None => {}
        }
    }

    /// Ends a recurring task without further fire times once its runs have ended.
    fn close_if_over(&mut self, serial: u64, at: Timestamp) {
        let Some(record) = self.records.get_mut(&serial) else { return };
        if let Kind::Recurring { unfinished, closing: Some(end), .. } = &record.kind
            && unfinished.is_empty()
            && record.done.is_none()
        {
            record.done = Some(*end);
            record.done_at = at;
            self.ids_kept += 1;
        }
    }

    fn cancel(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        key: Option<Key<'_>>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        if let Some(key) = key {
            let said = Said::Cancel(self.id_of(target.serial.0));
            let meaning = self.request(entry.at, key.request, said, answer)?;
            if meaning != Meaning::Nothing {
                return Ok(meaning);
            }
        }
        if matches!(answer, Applied::Refused(_)) {
            return Ok(Meaning::CancelTooLate);
        }
        let Some(running) = self.stop(target.serial.0, entry.at) else {
            return Err(Violation::new("S13", format!("{target:?} is cancelled after its end")));
        };
        Ok(if running { Meaning::CancelledRunning } else { Meaning::CancelledWaiting })
    }

    /// What does not run ends at once; a running attempt is asked. Tells whether one runs; `None`
    /// when the record is unknown or has ended.
    fn stop(&mut self, serial: u64, at: Timestamp) -> Option<bool> {
        let record = self.records.get_mut(&serial).filter(|record| record.done.is_none())?;
        record.cancelled = true;
        if let Kind::Recurring { unfinished, .. } | Kind::Again { unfinished } = &record.kind {
            let runs = unfinished.clone();
            self.set_closing(serial, End::Cancelled, at);
            let stopped: Vec<_> = runs.into_iter().map(|run| self.stop(run, at)).collect();
            return Some(stopped.contains(&Some(true)));
        }
        let running = record.open.is_some();
        if !running {
            self.end(serial, End::Cancelled, at);
        }
        Some(running)
    }

    fn delete(
        &mut self,
        entry: Entry<'_>,
        serial: u64,
        cancel: bool,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        if matches!(answer, Applied::Refused(_)) {
            return Ok(Meaning::Nothing);
        }
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("unknown {serial} is deleted")));
        };
        record.deleted = true;
        self.ids_kept += 1;
        let id = record.id.clone();
        let running = self.stop(serial, entry.at) == Some(true);
        hold!("S13", cancel || !running, "{id} is deleted while it runs");
        Ok(Meaning::Deleted)
    }

    /// The record of a serial.
    pub fn record(&self, serial: u64) -> Option<&Record> {
        self.records.get(&serial)
    }

    /// The newest creation of an id.
    pub fn find(&self, id: &str) -> Option<(u64, &Record)> {
        let serial = *self.by_id.get(id)?;
        self.records.get(&serial).map(|record| (serial, record))
    }

    /// The attempt of a token.
    pub fn attempt(&self, token: Token) -> Option<&Attempt> {
        self.attempts.get(&token)
    }

    /// How many attempts an instance has open.
    pub fn open_of(&self, instance: InstanceId) -> u32 {
        self.open_by_instance.get(&instance).copied().unwrap_or(0)
    }

    /// All attempts by token.
    pub fn attempts(&self) -> impl Iterator<Item = (Token, &Attempt)> {
        self.attempts.iter().map(|(&token, attempt)| (token, attempt))
    }

    /// All records by serial.
    pub fn records(&self) -> impl Iterator<Item = (u64, &Record)> {
        self.records.iter().map(|(&serial, record)| (serial, record))
    }

    /// The newest replicated time.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// How many ids, of ended and deleted tasks and of requests, went into the table of P8.2 at
    /// most.
    pub const fn ids_kept(&self) -> u64 {
        self.ids_kept
    }
}
