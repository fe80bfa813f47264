//! Records in fixed pages: growth allocates one page and moves nothing. The lowest free slot is
//! used first, so that pages at the end empty out and bitmaps stay dense.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::record::Record;

const PAGE: usize = 256;
const WORD: usize = 64;

/// The paged slab.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// One that has not held a record yet is empty: a snapshot may begin far up.
    pages: Vec<Box<[Option<Record>]>>,
    /// One bit a slot: set when free. Derived.
    free: FreeSlots,
    len: usize,
}

impl Slab {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// One past the highest slot that was ever used.
    pub(super) fn end(&self) -> u32 {
        (self.pages.len() * PAGE) as u32
    }

    /// Puts a record into the lowest free slot. `None` when every slot number is used.
    pub(super) fn insert(&mut self, record: Record) -> Option<u32> {
        let slot = match self.free.lowest() {
            Some(slot) => slot,
            None => {
                self.grow()?;
                self.free.lowest()?
            }
        };
        self.put(slot, record);
        Some(slot)
    }

    /// Puts a record into a certain slot, as a snapshot names it. False when it is taken.
    pub(super) fn insert_at(&mut self, slot: u32, record: Record) -> bool {
        while self.end() <= slot {
            if self.grow().is_none() {
                return false;
            }
        }
        if self.at(slot).is_some() {
            return false;
        }
        self.put(slot, record);
        true
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Record> {
        self.pages.get(slot as usize / PAGE)?.get(slot as usize % PAGE)?.as_ref()
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Record> {
        self.pages.get_mut(slot as usize / PAGE)?.get_mut(slot as usize % PAGE)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Record> {
        let record =
            self.pages.get_mut(slot as usize / PAGE)?.get_mut(slot as usize % PAGE)?.take()?;
        self.free.set(slot);
        self.len -= 1;
        Some(record)
    }

    /// Drops up to `pages` pages; false when none is left. Only for a state that is thrown away.
    pub(super) fn dismantle(&mut self, pages: usize) -> bool {
        self.pages.truncate(self.pages.len().saturating_sub(pages));
        !self.pages.is_empty()
    }

    fn put(&mut self, slot: u32, record: Record) {
        let page = &mut self.pages[slot as usize / PAGE];
        if page.is_empty() {
            let mut fresh = Vec::with_capacity(PAGE);
            fresh.resize_with(PAGE, || None);
            *page = fresh.into_boxed_slice();
        }
        page[slot as usize % PAGE] = Some(record);
        self.free.clear(slot);
        self.len += 1;
    }

    fn grow(&mut self) -> Option<()> {
        let first = u32::try_from(self.pages.len() * PAGE).ok()?;
        // Keeps `end` and the "no slot" number representable.
        first.checked_add(2 * PAGE as u32)?;
        self.pages.push(Box::default());
        self.free.grow(PAGE / WORD);
        Some(())
    }
}

/// A bitmap of free slots with one summary bit a word, so that finding the lowest costs two scans
/// of a few words. `hint` is a summary word below which nothing is free.
#[derive(Debug, Default)]
struct FreeSlots {
    words: Vec<u64>,
    summary: Vec<u64>,
    hint: usize,
}

impl FreeSlots {
    fn lowest(&mut self) -> Option<u32> {
        while let Some(&summary) = self.summary.get(self.hint) {
            if summary != 0 {
                let word = self.hint * WORD + summary.trailing_zeros() as usize;
                return Some((word * WORD) as u32 + self.words[word].trailing_zeros());
            }
            self.hint += 1;
        }
        None
    }

    fn set(&mut self, slot: u32) {
        let word = slot as usize / WORD;
        self.words[word] |= 1 << (slot as usize % WORD);
        self.summary[word / WORD] |= 1 << (word % WORD);
        self.hint = self.hint.min(word / WORD);
    }

    fn clear(&mut self, slot: u32) {
        let word = slot as usize / WORD;
        self.words[word] &= !(1 << (slot as usize % WORD));
        if self.words[word] == 0 {
            self.summary[word / WORD] &= !(1 << (word % WORD));
        }
    }

    fn grow(&mut self, words: usize) {
        for _ in 0..words {
            let word = self.words.len();
            self.words.push(u64::MAX);
            if word / WORD == self.summary.len() {
                self.summary.push(0);
            }
            self.summary[word / WORD] |= 1 << (word % WORD);
            self.hint = self.hint.min(word / WORD);
        }
    }
}
