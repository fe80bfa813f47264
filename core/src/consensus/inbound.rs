//! A snapshot on its way to this node: pieces in order, then raft's word.
//!
//! `MsgSnapshot` is stepped only when the state it stands for was decoded and its file saved
//! (P10.2); until then it is kept here. Of several snapshots only the newest begun counts.

use super::message::SnapshotPiece;
use crate::id::NodeId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// Pieces up to `next` were handed out.
    Receiving { from: NodeId, index: u64, term: u64, next: u64 },
    /// The node decodes and saves.
    Decoding { index: u64, term: u64 },
    /// Decoded and saved: raft may take it.
    Ready { index: u64, term: u64 },
}

#[derive(Default)]
pub(super) struct InboundSnapshot {
    stage: Stage,
    /// The newest `MsgSnapshot` that waits for its state.
    held: Option<raft::eraftpb::Message>,
}

impl InboundSnapshot {
    /// Whether `piece` is the next one of a snapshot that is worth having; `commit` is ours.
    pub(super) fn accepts(&mut self, from: NodeId, piece: &SnapshotPiece, commit: u64) -> bool {
        let (index, term) = (piece.index, piece.term);
        if index <= commit {
            return false;
        }
        let begins = match self.stage {
            Stage::Idle => piece.offset == 0,
            Stage::Receiving { from: sender, index: i, term: t, next } => {
                if (sender, i, t, next) == (from, index, term, piece.offset) {
                    self.moved(from, piece);
                    return true;
                }
                piece.offset == 0
            }
            // The sender repeats what is already here.
            Stage::Decoding { index: i, term: t } | Stage::Ready { index: i, term: t } => {
                piece.offset == 0 && (i, t) != (index, term)
            }
        };
        if begins {
            self.moved(from, piece);
        }
        begins
    }

    /// The node decoded and saved snapshot `index`; true when that is the one awaited.
    pub(super) fn decoded(&mut self, index: u64) -> bool {
        match self.stage {
            Stage::Decoding { index: i, term } if i == index => {
                self.stage = Stage::Ready { index, term };
                true
            }
            Stage::Idle
            | Stage::Receiving { .. }
            | Stage::Decoding { .. }
            | Stage::Ready { .. } => false,
        }
    }

    /// The node could not use snapshot `index`.
    pub(super) fn failed(&mut self, index: u64) {
        match self.stage {
            Stage::Receiving { index: i, .. }
            | Stage::Decoding { index: i, .. }
            | Stage::Ready { index: i, .. }
                if i == index =>
            {
                *self = Self::default();
            }
            Stage::Idle
            | Stage::Receiving { .. }
            | Stage::Decoding { .. }
            | Stage::Ready { .. } => {}
        }
    }

    pub(super) fn hold(&mut self, message: raft::eraftpb::Message) {
        self.held = Some(message);
    }

    /// The held message, once its state is ready.
    pub(super) fn release(&mut self) -> Option<raft::eraftpb::Message> {
        let meta = self.held.as_ref()?.get_snapshot().get_metadata();
        if self.stage == (Stage::Ready { index: meta.index, term: meta.term }) {
            return self.held.take();
        }
        None
    }

    /// Forgets a snapshot that `commit` has overtaken or that was just taken; says which state
    /// the node may drop.
    pub(super) fn overtaken(&mut self, commit: u64) -> Option<u64> {
        if self.held.as_ref().is_some_and(|held| held.get_snapshot().get_metadata().index <= commit)
        {
            self.held = None;
        }
        match self.stage {
            Stage::Receiving { index, .. }
            | Stage::Decoding { index, .. }
            | Stage::Ready { index, .. }
                if index <= commit =>
            {
                self.stage = Stage::Idle;
                Some(index)
            }
            Stage::Idle
            | Stage::Receiving { .. }
            | Stage::Decoding { .. }
            | Stage::Ready { .. } => None,
        }
    }

    fn moved(&mut self, from: NodeId, piece: &SnapshotPiece) {
        let (index, term) = (piece.index, piece.term);
        self.stage = if piece.last {
            Stage::Decoding { index, term }
        } else {
            let next = piece.offset.saturating_add(piece.data.len() as u64);
            Stage::Receiving { from, index, term, next }
        };
    }
}
