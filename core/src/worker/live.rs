//! The live output of one attempt: a ring with offsets, and who reads it.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::config::{LIVE_BYTES_MAX, OUTPUT_PIECE_BYTES};
use crate::limits::OUTPUT_TAIL_BYTES_MAX;

/// What an attempt has written, as far as it is kept, and where its reader stands.
#[derive(Debug, Default)]
pub(super) struct Live {
    kept: VecDeque<u8>,
    /// Bytes written since the attempt began.
    written: u64,
    /// Where the reader goes on, while there is one.
    reader: Option<u64>,
}

/// A piece on its way to a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins.
    pub(super) offset: u64,
    /// What was written there.
    pub(super) data: Bytes,
}

impl Live {
    /// Takes in what the handler wrote.
    pub(super) fn write(&mut self, data: &[u8]) {
        self.written += data.len() as u64;
        // Someone who watches gets a deeper ring, so that a burst reaches them whole.
        let max = if self.reader.is_some() { LIVE_BYTES_MAX } else { OUTPUT_TAIL_BYTES_MAX };
        let data = &data[data.len().saturating_sub(max)..];
        let surplus = (self.kept.len() + data.len()).saturating_sub(max);
        self.kept.drain(..surplus);
        self.kept.extend(data);
    }

    /// Bytes written since the attempt began.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// A reader wants everything from `offset` on.
    pub(super) const fn follow(&mut self, offset: u64) {
        self.reader = Some(offset);
    }

    /// The reader has gone.
    pub(super) const fn unfollow(&mut self) {
        self.reader = None;
    }

    /// Tells whether there is a reader.
    pub(super) const fn is_followed(&self) -> bool {
        self.reader.is_some()
    }

    /// Tells whether there is a reader that lacks something.
    pub(super) fn is_owing(&self) -> bool {
        self.reader.is_some_and(|at| at < self.written)
    }

    /// The next piece for the reader, if it lacks something; its `offset` is larger than asked
    /// for when the ring no longer holds what precedes it.
    pub(super) fn next_piece(&mut self) -> Option<Piece> {
        let reader = self.reader.filter(|&at| at < self.written)?;
        let begin = self.written - self.kept.len() as u64;
        let offset = reader.max(begin);
        let skip = usize::try_from(offset - begin).unwrap_or(usize::MAX);
        let data: Bytes = self.kept.iter().skip(skip).take(OUTPUT_PIECE_BYTES).copied().collect();
        self.reader = Some(offset + data.len() as u64);
        Some(Piece { offset, data })
    }

    /// The tail that the report carries.
    pub(super) fn tail(&self) -> Bytes {
        let skip = self.kept.len().saturating_sub(OUTPUT_TAIL_BYTES_MAX);
        self.kept.iter().skip(skip).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_tail_is_what_was_written_last() {
        let mut live = Live::default();
        live.write(&vec![b'a'; OUTPUT_TAIL_BYTES_MAX]);
        live.write(b"end");
        let tail = live.tail();
        assert_eq!(tail.len(), OUTPUT_TAIL_BYTES_MAX);
        assert!(tail.starts_with(b"aaa") && tail.ends_with(b"end"));
        assert_eq!(live.written(), OUTPUT_TAIL_BYTES_MAX as u64 + 3);
    }

    #[test]
    fn one_write_larger_than_the_ring_keeps_its_end() {
        let mut live = Live::default();
        let mut data = vec![b'a'; 3 * OUTPUT_TAIL_BYTES_MAX];
        data.extend_from_slice(b"end");
        live.write(&data);
        assert_eq!(live.tail().len(), OUTPUT_TAIL_BYTES_MAX);
        assert!(live.tail().ends_with(b"end"));
    }

    #[test]
    fn a_reader_resumes_at_its_offset() {
        let mut live = Live::default();
        live.write(b"hello world");
        live.follow(6);
        assert_eq!(
            live.next_piece(),
            Some(Piece { offset: 6, data: Bytes::from_static(b"world") })
        );
        assert_eq!(live.next_piece(), None);
        live.write(b"!");
        assert_eq!(live.next_piece(), Some(Piece { offset: 11, data: Bytes::from_static(b"!") }));
    }

    #[test]
    fn a_reader_that_asks_for_what_is_gone_is_told_where_the_rest_begins() {
        let mut live = Live::default();
        live.write(&vec![b'a'; OUTPUT_TAIL_BYTES_MAX + 10]);
        live.follow(0);
        let piece = live.next_piece().expect("there is output");
        assert_eq!(piece.offset, 10);
        assert_eq!(piece.data.len(), OUTPUT_PIECE_BYTES);
    }

    #[test]
    fn a_watched_burst_larger_than_the_tail_reaches_the_reader_whole() {
        let mut live = Live::default();
        live.follow(0);
        live.write(&vec![b'a'; 3 * OUTPUT_TAIL_BYTES_MAX]);
        let mut got = 0;
        while let Some(piece) = live.next_piece() {
            assert_eq!(piece.offset, got);
            got += piece.data.len() as u64;
        }
        assert_eq!(got, live.written());
    }

    #[test]
    fn a_reader_ahead_of_the_writer_waits() {
        let mut live = Live::default();
        live.write(b"abc");
        live.follow(5);
        assert!(!live.is_owing());
        live.write(b"defg");
        assert_eq!(live.next_piece(), Some(Piece { offset: 5, data: Bytes::from_static(b"fg") }));
    }
}
