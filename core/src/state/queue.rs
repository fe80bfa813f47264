//! A first-in-first-out queue in chunks, addressed by the running number of each element: a deque
//! that doubles would copy tens of megabytes in one step.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

const CHUNK: usize = 2_048;

/// The queue. Elements are numbered by `first`, `first + 1`, …
#[derive(Debug)]
pub(super) struct Queue<T> {
    chunks: VecDeque<Vec<T>>,
    /// The number of the oldest element.
    first: u64,
    /// Elements already taken from the oldest chunk.
    taken: usize,
    len: usize,
}

impl<T: Copy> Queue<T> {
    /// An empty queue whose next element gets the number `first`.
    pub(super) const fn starting_at(first: u64) -> Self {
        Self { chunks: VecDeque::new(), first, taken: 0, len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The number of the oldest element.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The number that the next element gets.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.len as u64
    }

    pub(super) fn push(&mut self, element: T) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push_back(chunk);
            }
        }
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let chunk = self.chunks.front()?;
        let element = *chunk.get(self.taken)?;
        self.taken += 1;
        if self.taken == chunk.len() {
            // A short chunk is the only one; it is empty and goes too.
            self.chunks.pop_front();
            self.taken = 0;
        }
        self.first += 1;
        self.len -= 1;
        Some(element)
    }

    /// The element with this number.
    pub(super) fn at(&self, number: u64) -> Option<T> {
        let offset = usize::try_from(number.checked_sub(self.first)?).ok()?;
        if offset >= self.len {
            return None;
        }
        let place = self.taken + offset;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK).copied()
    }

    /// Replaces the element with this number.
    pub(super) fn set(&mut self, number: u64, element: T) -> bool {
        let Some(offset) = number.checked_sub(self.first).and_then(|n| usize::try_from(n).ok())
        else {
            return false;
        };
        if offset >= self.len {
            return false;
        }
        let place = self.taken + offset;
        match self.chunks.get_mut(place / CHUNK).and_then(|chunk| chunk.get_mut(place % CHUNK)) {
            Some(held) => {
                *held = element;
                true
            }
            None => false,
        }
    }
}
