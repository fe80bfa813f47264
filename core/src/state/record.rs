//! A record of the slab: a task (a one-shot is its own run) or a child run of a recurring task.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::view::{RunCause, TaskStatus};
use crate::codec::flat::{Cursor, DecodeError, Put};
use crate::id::{RecordRef, RunNumber, Serial, Slot};
use crate::time::Timestamp;

/// "No slot", in links and positions.
pub(super) const NONE: u32 = u32::MAX;

/// One record. Kept small: ten million of them fit a node.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Which creation. Fixed.
    pub(super) serial: u64,
    /// The number of its latest change (P9.1).
    pub(super) change: u64,
    /// When it was accepted. Fixed.
    pub(super) created_at: Timestamp,
    /// When it last changed; of a terminal record, when it ended.
    pub(super) updated_at: Timestamp,
    /// A one-shot's due time or acceptance, a run's fire time. Fixed.
    pub(super) scheduled_for: Timestamp,
    /// Its latest attempt's token; zero before the first.
    pub(super) last_token: u64,
    /// What it carries. Fixed.
    pub(super) body: Body,
    /// Where its run stands.
    pub(super) phase: Phase,
    /// Its profile's number, local to this state.
    pub(super) profile: u32,
    /// Attempts opened so far.
    pub(super) attempts: u16,
    /// Of these, how many count against its retries.
    pub(super) failures: u16,
    /// 0..=9. Fixed.
    pub(super) priority: u8,
    /// See [`flag`].
    pub(super) flags: u8,
}

/// Bits of [`Record::flags`].
pub(super) mod flag {
    /// A child run; its body names the parent.
    pub(crate) const RUN: u8 = 1;
    /// A recurring task; its schedule is in the side table.
    pub(crate) const RECURRING: u8 = 2;
    /// A one-shot whose owner named a time.
    pub(crate) const HAS_AT: u8 = 4;
    /// A stop was asked for: no further attempt opens (P7.6).
    pub(crate) const CANCEL: u8 = 8;
    /// It was deleted, or will be once it has ended.
    pub(crate) const DELETED: u8 = 16;
    /// It changed in the entry that is being applied. Never set between entries, never stored.
    pub(crate) const TOUCHED: u8 = 128;
    /// The bits that are replicated.
    pub(crate) const STORED: u8 = RUN | RECURRING | HAS_AT | CANCEL | DELETED;
}

/// Where a run stands. `position`, `prev` and `next` are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For a moment; `position` is its place in the timer heap.
    Waiting { until: Timestamp, position: u32, backoff: bool },
    /// For a worker; linked into its class's list.
    Ready { sequence: u64, prev: u32, next: u32 },
    /// The attempt `last_token` is open.
    Running,
    /// A recurring task that has not ended.
    Scheduled,
    /// Terminal, and kept until history has it.
    Done(TaskStatus),
}

impl Record {
    pub(super) const fn has(&self, bits: u8) -> bool {
        self.flags & bits != 0
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done(_))
    }

    /// The reference to this record when it lies in `slot`.
    pub(super) const fn named(&self, slot: u32) -> RecordRef {
        RecordRef { slot: Slot(slot), serial: Serial(self.serial) }
    }
}

/// Texts and payload of a task, or what a child run is a run of: one allocation.
///
/// A task: id length u16, name length u16, id, name, payload. A run: parent slot u32, parent
/// serial u64, number u32, cause u8, the run that it repeats u32 (zero for none), the reason for
/// which it was skipped or, of one that came back from history, why it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Body(Box<[u8]>);

const TASK_HEAD: usize = 4;
const RUN_HEAD: usize = 21;

impl Body {
    /// A task's body. Texts are within `limits::NAME_CHARS_MAX`.
    pub(super) fn task(id: &str, name: &str, payload: &[u8]) -> Self {
        let mut out = Vec::with_capacity(TASK_HEAD + id.len() + name.len() + payload.len());
        out.put_u16(id.len() as u16);
        out.put_u16(name.len() as u16);
        out.raw(id.as_bytes());
        out.raw(name.as_bytes());
        out.raw(payload);
        Self(out.into_boxed_slice())
    }

    /// A child run's body.
    pub(super) fn run(
        parent: RecordRef,
        number: RunNumber,
        (cause, retry_of): (RunCause, Option<RunNumber>),
        reason: &str,
    ) -> Self {
        let mut out = Vec::with_capacity(RUN_HEAD + reason.len());
        out.put_u32(parent.slot.0);
        out.put_u64(parent.serial.0);
        out.put_u32(number.0);
        out.put_u8(cause as u8);
        out.put_u32(retry_of.map_or(0, |run| run.0));
        out.raw(reason.as_bytes());
        Self(out.into_boxed_slice())
    }

    /// Takes stored bytes over.
    pub(super) fn read(bytes: &[u8], run: bool) -> Result<Self, DecodeError> {
        let body = Self(bytes.into());
        let fits = if run {
            bytes.len() >= RUN_HEAD
                && matches!(bytes[16], 1..=3)
                && core::str::from_utf8(&bytes[RUN_HEAD..]).is_ok()
        } else {
            let mut from = Cursor::new(bytes);
            let (id, name) = (usize::from(from.u16()?), usize::from(from.u16()?));
            let id = from.take(id)?;
            let name = from.take(name)?;
            !id.is_empty() && core::str::from_utf8(id).is_ok() && core::str::from_utf8(name).is_ok()
        };
        if fits { Ok(body) } else { Err(DecodeError::Range("a record's body")) }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn lengths(&self) -> (usize, usize) {
        match self.0.first_chunk::<TASK_HEAD>() {
            Some(&[a, b, c, d]) => {
                (u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into())
            }
            None => (0, 0),
        }
    }

    fn part(&self, from: usize, len: usize) -> &[u8] {
        self.0.get(from..from + len).unwrap_or(&[])
    }

    /// A task's id.
    pub(super) fn id(&self) -> &str {
        let (id, _) = self.lengths();
        core::str::from_utf8(self.part(TASK_HEAD, id)).unwrap_or("")
    }

    /// A task's id, as bytes: comparing needs no check of UTF-8.
    pub(super) fn id_bytes(&self) -> &[u8] {
        let (id, _) = self.lengths();
        self.part(TASK_HEAD, id)
    }

    /// A task's display name; empty when its owner gave none.
    pub(super) fn name(&self) -> &str {
        let (id, name) = self.lengths();
        core::str::from_utf8(self.part(TASK_HEAD + id, name)).unwrap_or("")
    }

    /// A task's payload.
    pub(super) fn payload(&self) -> &[u8] {
        let (id, name) = self.lengths();
        self.0.get(TASK_HEAD + id + name..).unwrap_or(&[])
    }

    /// What a child run is a run of.
    pub(super) fn run_head(&self) -> RunHead<'_> {
        let mut from = Cursor::new(&self.0);
        let slot = Slot(from.u32().unwrap_or(NONE));
        let serial = Serial(from.u64().unwrap_or(0));
        let number = RunNumber(from.u32().unwrap_or(0));
        let cause = match from.u8() {
            Ok(1) => RunCause::Submit,
            Ok(3) => RunCause::Trigger,
            Ok(_) | Err(_) => RunCause::Schedule,
        };
        let retry_of = from.u32().ok().filter(|&run| run > 0).map(RunNumber);
        let reason = core::str::from_utf8(self.0.get(RUN_HEAD..).unwrap_or(&[])).unwrap_or("");
        RunHead { parent: RecordRef { slot, serial }, number, cause, retry_of, reason }
    }
}

/// What a child run's body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunHead<'a> {
    pub(super) parent: RecordRef,
    pub(super) number: RunNumber,
    pub(super) cause: RunCause,
    pub(super) retry_of: Option<RunNumber>,
    pub(super) reason: &'a str,
}
