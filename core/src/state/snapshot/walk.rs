//! The walk: a cursor over slots, then tokens, then ended ids. A row beyond the cursor that existed
//! when the walk began is encoded before its first change; rows that are younger are left out. So
//! the stream is the state at the walk's index, whatever is applied meanwhile, and the cost of not
//! walking is one comparison a change.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{END, SnapshotError};
use crate::codec::flat::Put;
use crate::state::State;
use crate::state::attempts::Attempt;
use crate::state::digest::{Digest, record_hash, seed};
use crate::state::record::Record;
use crate::state::row::{self, kind};

/// A walk in progress.
#[derive(Debug)]
pub struct Walk {
    out: Vec<u8>,
    /// Over the rows that were encoded; compared with the state's digest at the end.
    digest: Digest,
    expected: u128,
    /// Slots below are done.
    slot: u32,
    slot_end: u32,
    /// Records from this serial on are younger than the walk.
    serial_end: u64,
    /// Slots at or above the cursor that were encoded early.
    early_slots: BTreeSet<u32>,
    /// Tokens below are done.
    token: u64,
    token_end: u64,
    early_tokens: BTreeSet<u64>,
    /// Ended ids below are done.
    ended: u64,
    ended_end: u64,
    /// The stream's numbers of profiles that it has shown, by the state's. A number may be freed
    /// and reused meanwhile, but never come up again: a record that is older than the walk holds
    /// its profile until it has been encoded, and younger ones are left out.
    profiles: BTreeMap<u32, u32>,
    next_profile: u32,
}

impl Walk {
    pub(super) fn new(state: &State) -> Self {
        let (ended, ended_end) = state.ids.ended_numbers();
        Self {
            out: Vec::new(),
            digest: Digest::new(seed(state.key)),
            expected: state.digest.sum,
            slot: 0,
            slot_end: state.slab.end(),
            serial_end: state.meta.next_serial,
            early_slots: BTreeSet::new(),
            token: 0,
            token_end: state.meta.next_token,
            early_tokens: BTreeSet::new(),
            ended,
            ended_end,
            profiles: BTreeMap::new(),
            next_profile: 0,
        }
    }

    /// Encodes rows until about `bytes` are waiting; true at the end of the stream.
    pub(super) fn advance(&mut self, state: &State, bytes: usize) -> bool {
        while self.out.len() < bytes {
            if self.slot < self.slot_end {
                self.pass_slot(state);
            } else if self.token < self.token_end {
                self.pass_token(state);
            } else if self.ended < self.ended_end {
                self.pass_ended(state);
            } else {
                self.item(END, |_| {});
                return true;
            }
        }
        false
    }

    fn pass_slot(&mut self, state: &State) {
        let slot = self.slot;
        self.slot += 1;
        if self.early_slots.remove(&slot) {
            return;
        }
        if let Some(record) = state.slab.at(slot).filter(|held| held.serial < self.serial_end) {
            self.record(state, slot, record);
        }
    }

    fn pass_token(&mut self, state: &State) {
        match state.attempts.from(self.token) {
            Some((token, attempt)) if token < self.token_end => {
                self.token = token + 1;
                if !self.early_tokens.remove(&token) {
                    self.attempt(token, attempt);
                }
            }
            Some(_) | None => self.token = self.token_end,
        }
    }

    fn pass_ended(&mut self, state: &State) {
        let number = self.ended;
        self.ended += 1;
        if let Some(ended) = state.ids.ended_at(number) {
            self.hashed_item(kind::ENDED, |out| row::put_ended(out, number, &ended));
        }
    }

    /// Before the record in `slot` changes or goes.
    pub(super) fn keep_record(&mut self, state: &State, slot: u32) {
        if slot < self.slot || slot >= self.slot_end || self.early_slots.contains(&slot) {
            return;
        }
        if let Some(record) = state.slab.at(slot).filter(|held| held.serial < self.serial_end) {
            self.early_slots.insert(slot);
            self.record(state, slot, record);
        }
    }

    /// A record that is older than the walk came back into `slot` (P8.5): it was not there when the
    /// walk began.
    pub(super) fn leave_out(&mut self, slot: u32) {
        if slot >= self.slot && slot < self.slot_end {
            self.early_slots.insert(slot);
        }
    }

    /// Before the attempt changes or goes.
    pub(super) fn keep_attempt(&mut self, state: &State, token: u64) {
        if token < self.token || token >= self.token_end || self.early_tokens.contains(&token) {
            return;
        }
        if let Some(attempt) = state.attempts.at(token) {
            self.early_tokens.insert(token);
            self.attempt(token, attempt);
        }
    }

    /// Before the oldest ended id goes. They go in order, so the cursor moves along.
    pub(super) fn keep_oldest_ended(&mut self, state: &State) {
        let (oldest, _) = state.ids.ended_numbers();
        if oldest == self.ended && oldest < self.ended_end {
            self.pass_ended(state);
        }
    }

    fn record(&mut self, state: &State, slot: u32, record: &Record) {
        let profile = self.profile(state, record.profile);
        let schedule = state.schedules.at(slot);
        let hash = record_hash(&mut self.digest, &state.profiles, &state.schedules, slot, record);
        self.digest.add(hash);
        let hash = self.digest.body(slot, record.serial, &record.body);
        self.digest.add(hash);
        self.item(kind::RECORD, |out| {
            out.put_u32(profile);
            out.put_bytes(record.body.bytes());
            row::put_record(out, slot, record, schedule);
        });
    }

    fn attempt(&mut self, token: u64, attempt: &Attempt) {
        self.hashed_item(kind::ATTEMPT, |out| row::put_attempt(out, token, attempt));
    }

    /// The stream's number of a profile; shows the profile first if the stream has not yet.
    fn profile(&mut self, state: &State, number: u32) -> u32 {
        if let Some(&shown) = self.profiles.get(&number) {
            return shown;
        }
        let shown = self.next_profile;
        self.next_profile += 1;
        self.profiles.insert(number, shown);
        if let Some(held) = state.profiles.at(number) {
            self.item(kind::PROFILE, |out| {
                out.put_u32(shown);
                out.put_bytes(&held.bytes);
            });
        }
        shown
    }

    /// Appends an item whose bytes are the row that the digest hashes.
    pub(super) fn hashed_item(&mut self, kind: u8, put: impl Fn(&mut Vec<u8>)) {
        let hash = self.digest.row(kind, &put);
        self.digest.add(hash);
        self.item(kind, put);
    }

    /// Appends an item.
    pub(super) fn item(&mut self, kind: u8, put: impl FnOnce(&mut Vec<u8>)) {
        self.out.put_u8(kind);
        let length_at = self.out.len();
        self.out.put_u32(0);
        put(&mut self.out);
        let len = (self.out.len() - length_at - 4) as u32;
        self.out[length_at..length_at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// What is waiting. Room is made for as much again, in one piece.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let room = Vec::with_capacity(self.out.capacity());
        core::mem::replace(&mut self.out, room)
    }

    pub(super) const fn backlog(&self) -> usize {
        self.out.len()
    }

    pub(super) const fn verify(&self) -> Result<(), SnapshotError> {
        if self.digest.sum == self.expected {
            return Ok(());
        }
        Err(SnapshotError::Diverged { walked: self.digest.sum, expected: self.expected })
    }
}
