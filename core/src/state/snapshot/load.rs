//! The way back: a stream of items becomes a shadow state, in pieces of any size (P10.2). Total:
//! arbitrary bytes give an error, never a panic. Derived structures are built as rows arrive, or at
//! the end where they need order; the digest that the stream carries decides whether it is used.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{END, SnapshotError, VERSION};
use crate::codec::flat::{Cursor, DecodeError};
use crate::id::{InstanceId, NodeId};
use crate::limits;
use crate::state::digest::record_hash;
use crate::state::ids::Ids;
use crate::state::index::id_hash;
use crate::state::meta::Meta;
use crate::state::outbox::{Change, HistoryOutbox};
use crate::state::record::{Body, Phase, flag};
use crate::state::row::{self, kind};
use crate::state::{IndexKey, LEVEL, State};

/// An item's kind and length.
const ITEM_HEAD: usize = 5;
/// The largest item: a record with its payload, or an attempt with result, tail and error.
const ITEM_BYTES_MAX: usize = limits::PAYLOAD_BYTES_MAX
    + limits::RESULT_BYTES_MAX
    + limits::OUTPUT_TAIL_BYTES_MAX
    + (64 << 10);
/// Changes that may be outstanding: bounds what a hostile header makes us allocate.
const OUTSTANDING_MAX: u64 = 1 << 28;

/// Decodes a snapshot.
#[derive(Debug, Default)]
pub struct Loader {
    pending: Vec<u8>,
    state: Option<State>,
    digest: u128,
    /// The state's numbers of the stream's profiles, each held once until the end.
    profiles: Vec<u32>,
    ready: Vec<(u64, u32)>,
    runs: Vec<u32>,
    /// The newest change number.
    newest: u64,
    /// What the rows say of the outbox. It is built at the end: a header that lies about its
    /// length is found by the digest, before anything is allocated for it.
    changes: Vec<(u64, Change)>,
    ended: bool,
}

impl Loader {
    /// Waits for the first piece.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the stream in; pieces may be cut anywhere.
    ///
    /// # Errors
    /// When the stream is malformed or contradicts itself; the loader is of no further use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        self.pending.extend_from_slice(piece);
        let pending = core::mem::take(&mut self.pending);
        let mut from = 0;
        while let Some(&[kind, a, b, c, d]) = pending[from..].first_chunk::<ITEM_HEAD>() {
            let len = u32::from_le_bytes([a, b, c, d]) as usize;
            if len > ITEM_BYTES_MAX {
                return Err(DecodeError::Range("an item's length").into());
            }
            let Some(bytes) = pending.get(from + ITEM_HEAD..from + ITEM_HEAD + len) else { break };
            self.item(kind, bytes)?;
            from += ITEM_HEAD + len;
        }
        self.pending.extend_from_slice(&pending[from..]);
        Ok(())
    }

    /// The state, complete and checked.
    ///
    /// # Errors
    /// When the stream has not ended, its rows contradict each other, or they do not sum to the
    /// digest that it carries.
    pub fn finish(mut self) -> Result<State, SnapshotError> {
        let mut state = match self.state.take() {
            Some(state) if self.ended && self.pending.is_empty() => state,
            Some(_) | None => return Err(SnapshotError::Incomplete),
        };
        for number in core::mem::take(&mut self.profiles) {
            state.release_profile(number);
        }
        link_runs(&mut state, &self.runs)?;
        self.ready.sort_unstable();
        for &(_, slot) in &self.ready {
            let class = state.slab.at(slot).and_then(|record| state.profiles.at(record.profile));
            if let Some(class) = class.map(|held| held.class) {
                state.classes.push(&mut state.slab, class, slot);
            }
        }
        let stored = state.outbox.stored();
        let found = state.digest_beside(self.newest, stored);
        if found != self.digest {
            return Err(SnapshotError::Diverged { walked: found, expected: self.digest });
        }
        for _ in stored..self.newest {
            state.outbox.push(Change::Passed);
        }
        for (number, change) in self.changes {
            state.outbox.restore(number, change);
        }
        Ok(state)
    }

    fn item(&mut self, kind: u8, bytes: &[u8]) -> Result<(), SnapshotError> {
        if self.ended {
            return Err(SnapshotError::Inconsistent("an item follows the end mark"));
        }
        let mut from = Cursor::new(bytes);
        match kind {
            kind::META => self.header(&mut from)?,
            kind::PROFILE => self.profile(&mut from)?,
            kind::RECORD => self.record(&mut from)?,
            kind::ATTEMPT => {
                let (change, token) = attempt(self.state()?, &mut from)?;
                self.change(change, Change::Attempt { token })?;
            }
            kind::INSTANCE => instance(self.state()?, &mut from)?,
            kind::ADDRESSES => addresses(self.state()?, &mut from)?,
            kind::ENDED => ended(self.state()?, &mut from)?,
            END => {
                self.state()?;
                self.ended = true;
            }
            other => return Err(DecodeError::Tag("an item", other).into()),
        }
        Ok(from.end()?)
    }

    fn state(&mut self) -> Result<&mut State, SnapshotError> {
        self.state.as_mut().ok_or(SnapshotError::Inconsistent("the header is missing"))
    }

    fn header(&mut self, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
        if self.state.is_some() {
            return Err(SnapshotError::Inconsistent("there are two headers"));
        }
        let version = from.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version).into());
        }
        let mut key = [0; 16];
        key.copy_from_slice(from.take(16)?);
        let mut state = State::new(IndexKey(key));
        state.meta = Meta::read(from)?;
        if state.meta.level > LEVEL {
            return Err(SnapshotError::Level { needed: state.meta.level, known: LEVEL });
        }
        let (newest, stored) = (from.u64()?, from.u64()?);
        let ended_first = from.u64()?;
        let outstanding = newest.checked_sub(stored).filter(|&count| count <= OUTSTANDING_MAX);
        if outstanding.is_none() || stored >= u64::MAX / 2 {
            return Err(DecodeError::Range("a change number").into());
        }
        if ended_first > u64::MAX / 2 {
            return Err(DecodeError::Range("an ended id's number").into());
        }
        state.ids = Ids::starting_at(ended_first);
        state.outbox = HistoryOutbox::after(stored);
        self.newest = newest;
        self.digest = from.u128()?;
        self.state = Some(state);
        Ok(())
    }

    fn profile(&mut self, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
        let (shown, bytes) = (from.u32()?, from.bytes()?);
        let expected = self.profiles.len();
        let state = self.state()?;
        if shown as usize != expected {
            return Err(SnapshotError::Inconsistent("a profile is out of order"));
        }
        let number = state.profiles.retain(bytes, &mut state.classes)?;
        self.profiles.push(number);
        Ok(())
    }

    /// Keeps what a row says of the outbox.
    fn change(&mut self, number: u64, change: Change) -> Result<(), SnapshotError> {
        if number > self.newest {
            return Err(SnapshotError::Inconsistent("a change number is out of range"));
        }
        if number > self.state()?.outbox.stored() {
            self.changes.push((number, change));
        }
        Ok(())
    }

    fn record(&mut self, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
        let shown = from.u32()?;
        let body = from.bytes()?;
        let (slot, mut record, schedule) = row::read_record(from)?;
        let number = self.profiles.get(shown as usize).copied();
        record.profile = number.ok_or(SnapshotError::Inconsistent("a profile is missing"))?;
        let is_run = record.has(flag::RUN);
        record.body = Body::read(body, is_run)?;
        let state = self.state()?;
        if slot as usize >= 4 * limits::LIVE_TASKS_MAX as usize
            || record.serial >= state.meta.next_serial
            || record.last_token >= state.meta.next_token
            || record.has(flag::RECURRING) != schedule.is_some()
            || matches!(record.phase, Phase::Scheduled) && schedule.is_none()
        {
            return Err(SnapshotError::Inconsistent("a record is out of range"));
        }
        let (serial, phase, change) = (record.serial, record.phase, record.change);
        let hash = id_hash(state.key, record.body.id_bytes());
        state.held_bytes += record.body.bytes().len() as u64;
        state.live_tasks += u64::from(!is_run && !record.is_done());
        if record.is_done() {
            state.pinned.add_record(record.body.bytes().len() as u64);
        }
        state.profiles.retain_number(record.profile);
        if !state.slab.insert_at(slot, record) {
            return Err(SnapshotError::Inconsistent("a slot is taken twice"));
        }
        if let Some(schedule) = schedule {
            state.schedules.insert(slot, serial, schedule);
        }
        if !is_run {
            state.ids.enter(hash, slot);
        }
        add_record_rows(state, slot);
        self.change(change, Change::Record { slot, serial })?;
        let state = self.state()?;
        match phase {
            Phase::Waiting { .. } => state.timers.insert(&mut state.slab, slot),
            Phase::Ready { sequence, .. } => self.ready.push((sequence, slot)),
            Phase::Running | Phase::Scheduled | Phase::Done(_) => {}
        }
        if is_run {
            self.runs.push(slot);
        }
        Ok(())
    }
}

fn add_record_rows(state: &mut State, slot: u32) {
    let Some(record) = state.slab.at(slot) else { return };
    let row = record_hash(&mut state.digest, &state.profiles, &state.schedules, slot, record);
    state.digest.add(row);
    let row = state.digest.body(slot, record.serial, &record.body);
    state.digest.add(row);
}

/// Gives recurring tasks their runs back.
fn link_runs(state: &mut State, runs: &[u32]) -> Result<(), SnapshotError> {
    for &slot in runs {
        let Some(record) = state.slab.at(slot) else { continue };
        let done = record.is_done();
        let head = record.body.run_head();
        let (parent, number) = (head.parent, head.number.0);
        let held = state.slab.at(parent.slot.0).is_some_and(|held| held.serial == parent.serial.0);
        match state.schedules.at_mut(parent.slot.0) {
            Some(schedule) if held => {
                schedule.children += 1;
                if !done {
                    schedule.live.insert(number, slot);
                }
            }
            Some(_) | None => return Err(SnapshotError::Inconsistent("a run has no task")),
        }
    }
    Ok(())
}

/// Reads an attempt; returns its change number and token.
fn attempt(state: &mut State, from: &mut Cursor<'_>) -> Result<(u64, u64), SnapshotError> {
    let (token, attempt) = row::read_attempt(from)?;
    if token >= state.meta.next_token || attempt.previous >= token {
        return Err(SnapshotError::Inconsistent("a token is out of range"));
    }
    let Some(instance) = state.instances.at_mut(attempt.instance) else {
        return Err(SnapshotError::Inconsistent("an attempt's instance is missing"));
    };
    instance.held += 1;
    instance.open += u32::from(attempt.ending.is_none());
    let change = attempt.change;
    if let Some(ending) = &attempt.ending {
        state.held_bytes += ending.bytes();
        state.pinned.add_attempt(ending.bytes());
    }
    let row = state.digest.attempt(token, &attempt);
    state.digest.add(row);
    state.attempts.insert(token, attempt);
    Ok((change, token))
}

fn instance(state: &mut State, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
    let (id, name, retired) = (InstanceId(from.u64()?), from.text()?, from.flag()?);
    let row = state.digest.row(kind::INSTANCE, |out| row::put_instance(out, id, name, retired));
    state.digest.add(row);
    state.instances.insert(id, name, retired);
    Ok(())
}

fn addresses(state: &mut State, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
    let (node, grpc, http) = (NodeId(from.u64()?), from.text()?, from.text()?);
    let row = state.digest.row(kind::ADDRESSES, |out| row::put_addresses(out, node, grpc, http));
    state.digest.add(row);
    state.addresses.insert(node, (Box::from(grpc), Box::from(http)));
    Ok(())
}

fn ended(state: &mut State, from: &mut Cursor<'_>) -> Result<(), SnapshotError> {
    let (number, ended) = row::read_ended(from)?;
    if number != state.ids.ended_numbers().1 {
        return Err(SnapshotError::Inconsistent("ended ids are out of order"));
    }
    let row = state.digest.ended(number, &ended);
    state.digest.add(row);
    state.ids.push(ended);
    Ok(())
}
