//! A ledger of tasks, runs and attempts, kept from the committed commands and their answers by
//! rules of its own: S8, S9, S11–S16 as far as the log can tell.
//!
//! It is dull on purpose: it knows no queues, no workers and no calendar but the independent one,
//! and never asks the state machine what it thinks.

use std::collections::{BTreeMap, BTreeSet};

use dtask_core::codec::flat::EntryRef;
use dtask_core::id::{InstanceId, RecordRef, Token};
use dtask_core::limits;
use dtask_core::spec::{AttemptOutcome, Backoff, Overlap, Profile, Recurrence};
use dtask_core::state::{Applied, Close, Command, Create, Fire, Start};
use dtask_core::time::Timestamp;

use super::calendar::Calendar;
use super::{Verdict, Violation, hold};

/// An attempt as the log tells it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Whose.
    pub serial: u64,
    /// Who runs it.
    pub instance: InstanceId,
    /// Replicated time of its opening.
    pub opened_at: Timestamp,
    /// `None` while it is open.
    pub outcome: Option<AttemptOutcome>,
}

/// What a record is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A task that is its own run.
    OneShot,
    /// A task with fire times.
    Recurring {
        /// The rule.
        recurrence: Box<Recurrence>,
        /// Its fire times by the independent calendar.
        calendar: Option<Calendar>,
        /// The next fire time.
        next: Option<Timestamp>,
        /// Fire times taken so far.
        taken: BTreeSet<Timestamp>,
        /// Its runs that have not ended.
        unfinished: BTreeSet<u64>,
        /// How it ends once they have.
        closing: Option<End>,
    },
    /// A run of a recurring task.
    Run {
        /// The task's serial.
        parent: u64,
    },
}

/// A task or a run as the log tells it.
#[derive(Clone, Debug)]
pub struct Record {
    /// The task's id.
    pub id: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// Its definition.
    pub profile: Profile,
    /// Nothing may start before.
    pub not_before: Timestamp,
    /// The open attempt.
    pub open: Option<Token>,
    /// Attempts opened, but for interrupted ones.
    pub counted: u32,
    /// A stop was asked for by someone.
    pub cancelled: bool,
    /// How it ended.
    pub done: Option<End>,
    /// When it ended.
    pub done_at: Timestamp,
    /// It was deleted, perhaps after its end.
    pub deleted: bool,
}

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// An attempt succeeded.
    Succeeded,
    /// The last attempt did not.
    Failed,
    /// On request.
    Cancelled,
    /// A schedule without further fire times.
    Exhausted,
}

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
    /// A run was made by hand.
    Triggered,
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
    /// Another spec under a known id was refused.
    Conflict,
    /// A task was deleted.
    Deleted,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    records: BTreeMap<u64, Record>,
    attempts: BTreeMap<Token, Attempt>,
    by_id: BTreeMap<Box<str>, u64>,
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
            Command::Cancel { target } => self.cancel(entry, *target, answer),
            Command::Trigger { target, open } => self.trigger(entry, *target, *open, answer),
            Command::Delete { target, cancel } => self.delete(entry, *target, *cancel, answer),
            Command::TimeOut { .. }
            | Command::RegisterInstance { .. }
            | Command::RetireInstance { .. }
            | Command::HistoryStored { .. }
            | Command::HistoryDropped { .. }
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

    fn open(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        token: Token,
        instance: InstanceId,
    ) -> Verdict {
        self.s11_tokens_increase(token)?;
        let serial = target.serial.0;
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("token {token} opens unknown {serial}")));
        };
        let id = &record.id;
        hold!("S13", record.done.is_none(), "token {token} opens {id} after {:?}", record.done);
        hold!("S17", !record.cancelled, "token {token} opens {id} after its cancel");
        if let Some(held) = record.open {
            return Err(Violation::new(
                "S11",
                format!("token {token} opens {id} while token {held} is open"),
            ));
        }
        hold!(
            "S16",
            entry.at >= record.not_before,
            "token {token} opens {id} at {}, before {}",
            entry.at,
            record.not_before
        );
        record.counted += 1;
        let most = 1 + u32::from(record.profile.retry.max_retries);
        hold!("S14", record.counted <= most, "{id} has {} attempts of {most}", record.counted);
        record.open = Some(token);
        *self.open_by_instance.entry(instance).or_default() += 1;
        let attempt = Attempt { serial, instance, opened_at: entry.at, outcome: None };
        self.attempts.insert(token, attempt);
        Ok(())
    }

    /// S11: tokens strictly increase.
    fn s11_tokens_increase(&mut self, token: Token) -> Verdict {
        let newest = self.newest_token;
        hold!("S11", token > newest, "token {token} is given after token {newest}");
        self.newest_token = token;
        Ok(())
    }

    fn close(
        &mut self,
        entry: Entry<'_>,
        close: &Close<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let Applied::Closed { target, token, retried } = answer else {
            let open = self.attempts.get(&close.token).is_some_and(|it| it.outcome.is_none());
            hold!("S12", !open, "the close of open token {} is refused: {answer:?}", close.token);
            return Ok(Meaning::StaleReport);
        };
        self.s12_only_the_open_token_closes(target, token, close)?;
        let serial = target.serial.0;
        let (Some(record), Some(attempt)) =
            (self.records.get_mut(&serial), self.attempts.get_mut(&token))
        else {
            return Err(Violation::new("S8", format!("token {token} closes unknown {serial}")));
        };
        attempt.outcome = Some(close.outcome);
        if let Some(open) = self.open_by_instance.get_mut(&attempt.instance) {
            *open -= 1;
        }
        record.open = None;
        if close.outcome == AttemptOutcome::Interrupted {
            record.counted -= 1;
        }
        let (id, counted) = (record.id.clone(), record.counted);
        let most = 1 + u32::from(record.profile.retry.max_retries);
        let left = counted < most;
        let never = record.cancelled
            || match close.outcome {
                AttemptOutcome::Succeeded | AttemptOutcome::Cancelled => true,
                AttemptOutcome::Failed => !close.retryable || !left,
                AttemptOutcome::TimedOut | AttemptOutcome::Lost => !left,
                AttemptOutcome::Interrupted => false,
            };
        hold!(
            "S14",
            !(retried && never),
            "{id} goes on after {:?} (attempt {counted} of {most}, cancelled {})",
            close.outcome,
            record.cancelled
        );
        let no_retry = close
            .exit_code
            .is_some_and(|code| record.profile.retry.no_retry_exit.binary_search(&code).is_ok());
        hold!(
            "S14",
            retried || never || no_retry,
            "{id} ends after {:?} although attempt {counted} of {most} is not the last",
            close.outcome
        );
        if retried {
            record.not_before = earliest_retry(record, entry.at, close.outcome);
            return Ok(Meaning::Closed { outcome: close.outcome, retried });
        }
        let end = match close.outcome {
            AttemptOutcome::Succeeded => End::Succeeded,
            AttemptOutcome::Cancelled => End::Cancelled,
            AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Lost => {
                if record.cancelled { End::Cancelled } else { End::Failed }
            }
            AttemptOutcome::Interrupted => End::Cancelled,
        };
        self.end(serial, end, entry.at);
        Ok(Meaning::Closed { outcome: close.outcome, retried })
    }

    /// S12: a token that is not the record's open attempt changes nothing.
    fn s12_only_the_open_token_closes(
        &self,
        target: RecordRef,
        token: Token,
        close: &Close<'_>,
    ) -> Verdict {
        hold!("S12", token == close.token, "a close of token {} closed {token}", close.token);
        let open = self.records.get(&target.serial.0).and_then(|record| record.open);
        hold!(
            "S12",
            open == Some(token),
            "token {token} closed serial {} whose open attempt is {open:?}",
            target.serial
        );
        Ok(())
    }

    fn end(&mut self, serial: u64, end: End, at: Timestamp) {
        let Some(record) = self.records.get_mut(&serial) else { return };
        record.done = Some(end);
        record.done_at = at;
        if let Kind::Run { parent } = record.kind {
            if let Some(Record { kind: Kind::Recurring { unfinished, .. }, .. }) =
                self.records.get_mut(&parent)
            {
                unfinished.remove(&serial);
            }
            self.close_if_over(parent, at);
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
        }
    }

    fn fire(
        &mut self,
        entry: Entry<'_>,
        fire: &Fire<'_>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let Applied::Fired { run, opened } = answer else { return Ok(Meaning::Nothing) };
        let serial = fire.target.serial.0;
        let (id, profile, overlaps) = self.s15_the_calendar_fires(entry, fire, serial, run)?;
        if run.is_some() {
            let due = run.is_some_and(|_| fire.skip.is_none());
            hold!("S15", due, "{id} runs a fire time that the leader skipped");
        } else {
            hold!(
                "S15",
                fire.skip.is_some() || overlaps,
                "{id} skips {} although nothing overlaps and it was not missed",
                fire.fire_time
            );
        }
        if let Some(run) = run {
            let kind = Kind::Run { parent: serial };
            self.add(run.serial.0, id, kind, profile, fire.fire_time)?;
            self.adopt(serial, run.serial.0);
            if let Some(token) = opened {
                self.open(entry, run, token, fire.open.unwrap_or_default())?;
            }
        }
        if fire.next.is_none() {
            self.set_closing(serial, End::Exhausted, entry.at);
        }
        Ok(Meaning::Fired { skipped: run.is_none() })
    }

    fn adopt(&mut self, parent: u64, run: u64) {
        if let Some(Record { kind: Kind::Recurring { unfinished, .. }, .. }) =
            self.records.get_mut(&parent)
        {
            unfinished.insert(run);
        }
    }

    /// S15: each fire time is one that the calendar names, is taken once, in order, never early,
    /// and none between is passed over in silence. Returns the task's id and profile and whether
    /// an unfinished run may cause a skip.
    fn s15_the_calendar_fires(
        &mut self,
        entry: Entry<'_>,
        fire: &Fire<'_>,
        serial: u64,
        run: Option<RecordRef>,
    ) -> Result<(Box<str>, Profile, bool), Violation> {
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S15", format!("unknown {serial} fires")));
        };
        let id = record.id.clone();
        hold!("S13", record.done.is_none(), "{id} fires after {:?}", record.done);
        let Kind::Recurring { recurrence, calendar, next, taken, unfinished, closing: _ } =
            &mut record.kind
        else {
            return Err(Violation::new("S15", format!("{id} fires and does not recur")));
        };
        let (time, after) = (fire.fire_time, fire.next);
        hold!("S15", *next == Some(time), "{id} fires at {time}; its next is {next:?}");
        hold!("S15", taken.insert(time), "{id} fires twice at {time}");
        hold!("S16", entry.at >= time, "{id} fires at {}, before {time}", entry.at);
        if let (Some(calendar), Some(after)) = (*calendar, after) {
            hold!("S15", after > time, "{id}: {after} does not follow {time}");
            hold!("S15", calendar.names(after), "{id}: {calendar:?} does not name {after}");
            let between = calendar.between(time, after);
            hold!(
                "S15",
                between == u64::from(fire.also_missed),
                "{id}: {between} fire times between {time} and {after}, {} accounted for",
                fire.also_missed
            );
        }
        if fire.also_missed > 0 {
            hold!("S15", run.is_none(), "{id}: a run stands for {} others", fire.also_missed);
        }
        *next = after;
        let overlaps = (recurrence.overlap == Overlap::Skip && !unfinished.is_empty())
            || unfinished.len() >= limits::UNFINISHED_RUNS_MAX;
        Ok((id, record.profile.clone(), overlaps))
    }

    fn set_closing(&mut self, serial: u64, end: End, at: Timestamp) {
        if let Some(Record { kind: Kind::Recurring { closing, next, .. }, .. }) =
            self.records.get_mut(&serial)
        {
            *next = None;
            *closing = Some(end);
        }
        self.close_if_over(serial, at);
    }

    fn cancel(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
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
        if let Kind::Recurring { unfinished, .. } = &record.kind {
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

    fn trigger(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        open: Option<InstanceId>,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let serial = target.serial.0;
        let (run, opened) = match answer {
            Applied::Fired { run: Some(run), opened } => (run, opened),
            Applied::Opened { token, target } => (target, Some(token)),
            Applied::Done | Applied::Created { .. } => (target, None),
            _ => return Ok(Meaning::Nothing),
        };
        let Some(parent) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("unknown {serial} is triggered")));
        };
        hold!("S13", parent.done.is_none(), "{} is triggered after its end", parent.id);
        if run.serial == target.serial {
            parent.not_before = Timestamp::default();
        } else {
            let (id, profile) = (parent.id.clone(), parent.profile.clone());
            let kind = Kind::Run { parent: serial };
            self.add(run.serial.0, id, kind, profile, Timestamp::default())?;
            self.adopt(serial, run.serial.0);
        }
        if let Some(token) = opened {
            self.open(entry, run, token, open.unwrap_or_default())?;
        }
        Ok(Meaning::Triggered)
    }

    fn delete(
        &mut self,
        entry: Entry<'_>,
        target: RecordRef,
        cancel: bool,
        answer: Applied,
    ) -> Result<Meaning, Violation> {
        let serial = target.serial.0;
        if matches!(answer, Applied::Refused(_)) {
            return Ok(Meaning::Nothing);
        }
        let Some(record) = self.records.get_mut(&serial) else {
            return Err(Violation::new("S8", format!("unknown {serial} is deleted")));
        };
        record.deleted = true;
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
}

/// The earliest moment at which a retry may open: the backoff's lower bound (jitter shortens an
/// exponential wait by at most half).
fn earliest_retry(record: &Record, at: Timestamp, outcome: AttemptOutcome) -> Timestamp {
    let retry = &record.profile.retry;
    let waits = match outcome {
        AttemptOutcome::Failed | AttemptOutcome::TimedOut => true,
        AttemptOutcome::Lost
        | AttemptOutcome::Interrupted
        | AttemptOutcome::Succeeded
        | AttemptOutcome::Cancelled => false,
    };
    if !waits {
        return at;
    }
    let wait_ms = match retry.backoff {
        Backoff::Fixed => retry.backoff_base_ms.min(retry.backoff_max_ms),
        Backoff::Exponential => {
            let doublings = record.counted.saturating_sub(1).min(40);
            let full = retry.backoff_base_ms.saturating_mul(1 << doublings);
            full.min(retry.backoff_max_ms) / 2
        }
    };
    at.plus_micros(i64::try_from(wait_ms * 1_000).unwrap_or(i64::MAX))
}
