//! A hash index from something with a 64-bit keyed hash to a number: 1,024 small tables, because
//! one large table stalls for 300 ms when it grows at ten million entries. It has no iterator:
//! its order depends on the hash and must never become behaviour.

use alloc::boxed::Box;
use core::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::facts::IndexKey;

const SHARDS: usize = 1_024;

/// The index. Each entry keeps half of its hash, so that a growing shard reads nothing else: with a
/// million tasks the records and ids that it would have to visit are a cache miss each.
pub(super) struct Index {
    shards: Box<[HashTable<Entry>]>,
}

#[derive(Clone, Copy)]
struct Entry {
    number: u32,
    half: u32,
}

impl core::fmt::Debug for Index {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }
}

impl Index {
    /// The number with this hash that `same` accepts; `same` decides, for hashes may be equal.
    pub(super) fn find(&self, hash: u64, mut same: impl FnMut(u32) -> bool) -> Option<u32> {
        let half = hash as u32;
        let found = self.shards[shard(hash)]
            .find(spread(half), |entry| entry.half == half && same(entry.number));
        found.map(|entry| entry.number)
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let half = hash as u32;
        let entry = Entry { number, half };
        self.shards[shard(hash)].insert_unique(spread(half), entry, |held| spread(held.half));
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) -> bool {
        let shard = &mut self.shards[shard(hash)];
        match shard.find_entry(spread(hash as u32), |held| held.number == number) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

/// The shard comes from bits that the entry's half does not hold: within a shard the halves differ
/// in all their bits, and none of them is wasted on the choice.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// What the table is given: it takes the bucket from the low bits and a tag from the top seven, and
/// a product with an odd constant (2^64 by the golden ratio) carries the half into both.
const fn spread(half: u32) -> u64 {
    (half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The keyed hash of an id: users choose ids, so an unkeyed hash would let them choose collisions.
pub(super) fn id_hash(key: IndexKey, id: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    hasher.write(id);
    hasher.finish()
}
