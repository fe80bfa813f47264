//! The digest (P5.3): the sum modulo 2^128 of a keyed hash of every replicated row, kept up to
//! date row by row. Equal states have equal digests in whatever order they came about.
//!
//! A record's hash is taken out at its first change within an entry and put back when the entry
//! ends ([`super::State::touch`]), so a record that changes three times in an entry is hashed
//! twice. Bodies never change and are rows of their own, so a payload is hashed once.

use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::State;
use super::attempts::Attempt;
use super::ended::Ended;
use super::facts::IndexKey;
use super::outbox::Change;
use super::profiles::Profiles;
use super::record::{Body, Record, flag};
use super::row::{self, kind};
use super::schedules::{Schedule, Schedules};
use crate::codec::flat::Put;

/// The sum, its key, and a buffer for one row.
#[derive(Debug)]
pub(super) struct Digest {
    seed: u64,
    pub(super) sum: u128,
    scratch: Vec<u8>,
}

impl Digest {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed, sum: 0, scratch: Vec::new() }
    }

    /// The hash of one row.
    pub(super) fn row(&mut self, kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> u128 {
        self.scratch.clear();
        self.scratch.put_u8(kind);
        put(&mut self.scratch);
        xxh3_128_with_seed(&self.scratch, self.seed)
    }

    pub(super) fn record(
        &mut self,
        slot: u32,
        record: &Record,
        profile: u128,
        schedule: Option<&Schedule>,
    ) -> u128 {
        self.row(kind::RECORD, |out| {
            out.put_u128(profile);
            row::put_record(out, slot, record, schedule);
        })
    }

    /// A body's row: the payload is hashed in place, never copied.
    pub(super) fn body(&mut self, slot: u32, serial: u64, body: &Body) -> u128 {
        let content = xxh3_128_with_seed(body.bytes(), self.seed);
        self.row(kind::BODY, |out| {
            out.put_u32(slot);
            out.put_u64(serial);
            out.put_u128(content);
        })
    }

    pub(super) fn attempt(&mut self, token: u64, attempt: &Attempt) -> u128 {
        self.row(kind::ATTEMPT, |out| row::put_attempt(out, token, attempt))
    }

    pub(super) fn ended(&mut self, number: u64, ended: &Ended) -> u128 {
        self.row(kind::ENDED, |out| row::put_ended(out, number, ended))
    }

    pub(super) const fn add(&mut self, row: u128) {
        self.sum = self.sum.wrapping_add(row);
    }

    pub(super) const fn subtract(&mut self, row: u128) {
        self.sum = self.sum.wrapping_sub(row);
    }
}

/// The hash of a record's row, with what lies beside the record looked up.
pub(super) fn record_hash(
    digest: &mut Digest,
    profiles: &Profiles,
    schedules: &Schedules,
    slot: u32,
    record: &Record,
) -> u128 {
    let profile = profiles.at(record.profile).map_or(0, |held| held.hash);
    digest.record(slot, record, profile, schedules.at(slot))
}

/// The seed of digests and content hashes.
pub(super) const fn seed(key: IndexKey) -> u64 {
    let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = key.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl State {
    /// The digest of everything replicated, at the applied index.
    pub fn digest(&self) -> u128 {
        self.digest_beside(self.outbox.newest(), self.outbox.stored())
    }

    /// The digest with the outbox's numbers given: while a snapshot is loaded there is none yet.
    pub(super) fn digest_beside(&self, newest: u64, stored: u64) -> u128 {
        let mut row = Vec::with_capacity(128);
        row.put_u8(kind::META);
        row.raw(&self.key.0);
        self.meta.put(&mut row);
        row.put_u64(newest);
        row.put_u64(stored);
        row.put_u64(self.ids.ended_numbers().1);
        self.digest.sum.wrapping_add(xxh3_128_with_seed(&row, self.digest.seed))
    }

    /// Says that a record is about to change in this entry: its row leaves the digest, a running
    /// snapshot walk keeps its old image, and it takes a change number (P9.1). Everything that
    /// changes a record's replicated fields calls this first; later calls in an entry are free.
    ///
    /// One number an entry suffices: rows are read between entries, and `HistoryStored` accepts no
    /// number that was taken in its own entry.
    pub(super) fn touch(&mut self, slot: u32) {
        let Some(record) = self.slab.at(slot) else { return };
        if record.has(flag::TOUCHED) {
            return;
        }
        let row = record_hash(&mut self.digest, &self.profiles, &self.schedules, slot, record);
        let serial = record.serial;
        self.digest.subtract(row);
        self.keep_record_image(slot);
        let change = self.outbox.push(Change::Record { slot, serial });
        let at = self.meta.at;
        if let Some(record) = self.slab.at_mut(slot) {
            record.flags |= flag::TOUCHED;
            record.change = change;
            if !record.is_done() {
                record.updated_at = at;
            }
        }
        self.dirty.push(slot);
    }

    /// Ends an entry: rows of touched records enter the digest again.
    pub(super) fn settle(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            let Some(record) = self.slab.at_mut(slot) else { continue };
            if !record.has(flag::TOUCHED) {
                continue;
            }
            record.flags &= !flag::TOUCHED;
            let record = &*record;
            let row = record_hash(&mut self.digest, &self.profiles, &self.schedules, slot, record);
            self.digest.add(row);
        }
    }
}
