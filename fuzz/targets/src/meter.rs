//! How much memory a piece of work takes: an allocator that counts what each thread holds, so
//! that a decoder that trusts a length from outside is found by the input that shows it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts for the thread that allocates; everything else is the system's.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed; another thread may free them.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that was held since the latest measurement began.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    if held > PEAK.get() {
        PEAK.set(held);
    }
}

// SAFETY: every call goes to the system's allocator with the arguments as they came; counting
// touches thread-local numbers that need neither allocation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Bytes that every decoder may take whatever its input: messages of errors, small tables.
const FIXED: usize = 64 << 10;

/// Does some work on `len` bytes from outside and demands that it never held more than `factor`
/// times as much, and a fixed rest.
pub fn bounded<T>(len: usize, factor: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let done = work();
    let peak = usize::try_from(PEAK.get() - before).unwrap_or(0);
    assert!(peak <= FIXED + factor * len, "{peak} bytes were held for {len} bytes of input");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_for_a_moment_counts() {
        assert_eq!(bounded(1_000, 100, || vec![1_u8; 50_000].len()), 50_000);
        let greedy = || bounded(10, 10, || vec![1_u8; 200_000].len());
        assert!(std::panic::catch_unwind(greedy).is_err());
    }
}
