//! Interned profiles: what many tasks share is held once and counted. Numbers are local to a
//! state; rows and entries name profiles by content, so replicas may number them differently.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::facts::ClassId;
use super::ready::Classes;
use crate::codec::flat::{DecodeError, spec};
use crate::spec::Profile;

/// One profile in use.
#[derive(Debug)]
pub(super) struct Interned {
    pub(super) profile: Arc<Profile>,
    /// Its canonical bytes.
    pub(super) bytes: Box<[u8]>,
    /// Of the bytes; stands for the profile in rows and in spec hashes.
    pub(super) hash: u128,
    /// The class of its ready runs.
    pub(super) class: ClassId,
    refs: u32,
}

/// The table.
pub(super) struct Profiles {
    seed: u64,
    interned: Vec<Option<Interned>>,
    free: Vec<u32>,
    by_hash: HashTable<u32>,
}

impl core::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.interned.iter().flatten()).finish()
    }
}

impl Profiles {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, interned: Vec::new(), free: Vec::new(), by_hash: HashTable::new() }
    }

    pub(super) fn at(&self, number: u32) -> Option<&Interned> {
        self.interned.get(number as usize)?.as_ref()
    }

    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Finds or adds the profile with these canonical bytes and counts one more reference to it.
    pub(super) fn retain(
        &mut self,
        bytes: &[u8],
        classes: &mut Classes,
    ) -> Result<u32, DecodeError> {
        let hash = xxh3_128_with_seed(bytes, self.seed);
        let interned = &self.interned;
        let found = self.by_hash.find(hash as u64, |&number| {
            interned[number as usize].as_ref().is_some_and(|held| *held.bytes == *bytes)
        });
        if let Some(&number) = found {
            self.retain_number(number);
            return Ok(number);
        }
        let profile = spec::read_profile(bytes)?;
        let class = classes.retain(&profile.queue, &profile.kind);
        let new =
            Interned { profile: Arc::new(profile), bytes: bytes.into(), hash, class, refs: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.interned[number as usize] = Some(new);
                number
            }
            None => {
                self.interned.push(Some(new));
                (self.interned.len() - 1) as u32
            }
        };
        let interned = &self.interned;
        self.by_hash.insert_unique(hash as u64, number, |&number| {
            interned[number as usize].as_ref().map_or(0, |held| held.hash as u64)
        });
        Ok(number)
    }

    /// Counts one more reference to a profile in use.
    pub(super) fn retain_number(&mut self, number: u32) {
        if let Some(Some(held)) = self.interned.get_mut(number as usize) {
            held.refs += 1;
        }
    }

    /// Gives one reference back; with the last one the number becomes free.
    pub(super) fn release(&mut self, number: u32, classes: &mut Classes) {
        let Some(place) = self.interned.get_mut(number as usize) else { return };
        let Some(held) = place else { return };
        held.refs -= 1;
        if held.refs > 0 {
            return;
        }
        let (hash, class) = (held.hash as u64, held.class);
        *place = None;
        if let Ok(entry) = self.by_hash.find_entry(hash, |&other| other == number) {
            entry.remove();
        }
        self.free.push(number);
        classes.release(class);
    }

    /// References held, for the audit.
    pub(super) fn refs(&self, number: u32) -> u32 {
        self.at(number).map_or(0, |held| held.refs)
    }
}
