//! A hash index from something with a 64-bit keyed hash to a number: 1,024 small tables, because
//! one large table stalls for 300 ms when it grows at ten million entries. It has no iterator:
//! its order depends on the hash and must never become behaviour.

use alloc::boxed::Box;
use core::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use super::facts::IndexKey;

const SHARDS: usize = 1_024;

/// The index. It stores numbers alone; callers compare and rehash through closures.
pub(super) struct Index {
    shards: Box<[HashTable<u32>]>,
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
    pub(super) fn find(&self, hash: u64, same: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.shards[shard(hash)].find(hash, same).copied()
    }

    /// Adds a number. `rehash` gives the hash of any number in the index.
    pub(super) fn insert(&mut self, hash: u64, number: u32, rehash: impl Fn(&u32) -> u64) {
        self.shards[shard(hash)].insert_unique(hash, number, rehash);
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) -> bool {
        match self.shards[shard(hash)].find_entry(hash, |&held| held == number) {
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

/// The table uses the hash's low bits for the bucket and its top seven for the tag; a shard chosen
/// from either would make every entry of a shard collide there. Bits 40–49 are neither.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// The keyed hash of an id: users choose ids, so an unkeyed hash would let them choose collisions.
pub(super) fn id_hash(key: IndexKey, id: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    hasher.write(id);
    hasher.finish()
}
