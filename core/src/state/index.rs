//! A hash index from something with a 64-bit keyed hash to a number: 1,024 small tables, because
//! one large table stalls for 300 ms when it grows at ten million entries. It has no iterator:
//! its order depends on the hash and must never become behaviour.
//!
//! With a million ids every look-up leaves the caches, and what it costs is the memory that it
//! touches. So an entry keeps half of its hash (a growing table reads nothing else), and a table is
//! made of cache lines that hold seven entries each and know whether a search ends with them: a
//! library's table touches its tags in one place and its entries in another.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::facts::IndexKey;

const SHARDS: usize = 1_024;
/// Entries of a line.
const LINE: usize = 7;
/// A table grows when its lines hold more than so many entries on average: one in eight is full
/// then, and few searches read a second line.
const LINE_MEAN_MAX: usize = 5;

/// The index.
pub(super) struct Index {
    shards: Box<[Shard]>,
}

impl core::fmt::Debug for Index {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect() }
    }
}

impl Index {
    /// The number with this hash that `same` accepts; `same` decides, for hashes may be equal.
    pub(super) fn find(&self, hash: u64, same: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = &self.shards[shard(hash)];
        shard.place(hash as u32, same).map(|(line, place)| shard.lines[line].numbers[place])
    }

    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        self.shards[shard(hash)].insert(hash as u32, number);
    }

    /// Puts a number in another's place; false when that one is not there.
    pub(super) fn replace(&mut self, hash: u64, number: u32, by: u32) -> bool {
        let shard = &mut self.shards[shard(hash)];
        let Some((line, place)) = shard.place(hash as u32, |held| held == number) else {
            return false;
        };
        shard.lines[line].numbers[place] = by;
        true
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) -> bool {
        self.shards[shard(hash)].remove(hash as u32, number)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len).sum()
    }
}

/// The shard comes from bits that the entry's half does not hold: within a shard the halves differ
/// in all their bits, and none of them is wasted on the choice.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// One table. An entry lies in its home line, or in the first one after it that had room.
#[derive(Default)]
struct Shard {
    lines: Vec<Line>,
    len: usize,
}

/// One cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line {
    halves: [u32; LINE],
    numbers: [u32; LINE],
    /// Entries that it holds, the first ones of both lists.
    len: u32,
    /// Entries that found it full on their way and lie further on: with none a search ends here.
    passed: u32,
}

impl Shard {
    /// The line where the search for this half begins: its share of all halves, of all lines. Any
    /// number of lines serves.
    const fn home(&self, half: u32) -> usize {
        ((half as u64 * self.lines.len() as u64) >> 32) as usize
    }

    const fn after(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    /// Line and place of the first entry with this half whose number `same` accepts.
    fn place(&self, half: u32, mut same: impl FnMut(u32) -> bool) -> Option<(usize, usize)> {
        let mut at = self.home(half);
        for _ in 0..self.lines.len() {
            let line = &self.lines[at];
            for place in 0..line.len as usize {
                if line.halves[place] == half && same(line.numbers[place]) {
                    return Some((at, place));
                }
            }
            if line.passed == 0 {
                break;
            }
            at = self.after(at);
        }
        None
    }

    fn insert(&mut self, half: u32, number: u32) {
        if self.len >= LINE_MEAN_MAX * self.lines.len() {
            self.grow();
        }
        self.put(half, number);
    }

    /// Ends: a table is never full.
    fn put(&mut self, half: u32, number: u32) {
        let mut at = self.home(half);
        while self.lines[at].len as usize == LINE {
            self.lines[at].passed += 1;
            at = self.after(at);
        }
        let line = &mut self.lines[at];
        line.halves[line.len as usize] = half;
        line.numbers[line.len as usize] = number;
        line.len += 1;
        self.len += 1;
    }

    fn remove(&mut self, half: u32, number: u32) -> bool {
        let Some((found, place)) = self.place(half, |held| held == number) else { return false };
        let mut at = self.home(half);
        while at != found {
            self.lines[at].passed -= 1;
            at = self.after(at);
        }
        let line = &mut self.lines[found];
        line.len -= 1;
        let last = line.len as usize;
        line.halves[place] = line.halves[last];
        line.numbers[place] = line.numbers[last];
        self.len -= 1;
        true
    }

    /// By half, so that a table is never much larger than what it holds.
    fn grow(&mut self) {
        let lines = self.lines.len() + self.lines.len() / 2 + 1;
        let before = core::mem::replace(&mut self.lines, alloc::vec![Line::default(); lines]);
        self.len = 0;
        for line in before {
            for place in 0..line.len as usize {
                self.put(line.halves[place], line.numbers[place]);
            }
        }
    }
}

/// The keyed hash of an id: users choose ids, so an unkeyed hash would let them choose collisions.
pub(super) fn id_hash(key: IndexKey, id: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&key.0);
    hasher.write(id);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Few hashes, all of one shard: lines overflow, and equal hashes stand for several numbers.
    fn crowded(hash: u8) -> u64 {
        u64::from(u32::from(hash % 32) << 26 | u32::from(hash))
    }

    proptest! {
        #[test]
        fn an_index_holds_what_was_put_and_not_taken(
            steps in prop::collection::vec((0..4_u8, any::<u8>(), 0..6_u32), 0..600),
        ) {
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (what, hash, number) in steps {
                let (hash, other) = (crowded(hash), number + 6);
                match what {
                    0 | 1 => {
                        if model.insert((hash, number)) {
                            index.insert(hash, number);
                        }
                    }
                    2 => prop_assert_eq!(
                        index.remove(hash, number),
                        model.remove(&(hash, number))
                    ),
                    _ => {
                        if !model.contains(&(hash, other)) {
                            let there = model.remove(&(hash, number));
                            prop_assert_eq!(index.replace(hash, number, other), there);
                            if there {
                                model.insert((hash, other));
                            }
                        }
                    }
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for hash in (0..=u8::MAX).map(crowded) {
                for number in 0..12 {
                    let held = index.find(hash, |found| found == number).is_some();
                    prop_assert_eq!(held, model.contains(&(hash, number)));
                }
            }
        }
    }

    /// A search for what is not there ends, though every line was full once.
    #[test]
    fn a_search_ends_in_a_table_whose_lines_were_all_passed() {
        let mut shard = Shard { lines: alloc::vec![Line::default(); 3], len: 0 };
        let home = |line: u64| ((line << 32) / 3 + 1) as u32;
        for number in 0..8 {
            shard.put(home(0), number);
        }
        for number in 8..15 {
            shard.put(home(1), number);
        }
        for number in 0..7 {
            assert!(shard.remove(home(0), number));
        }
        for number in 15..22 {
            shard.put(home(2), number);
        }
        assert!(shard.lines.iter().all(|line| line.passed > 0), "the case that is meant");
        assert_eq!(shard.place(home(1), |number| number == 99), None);
    }
}
