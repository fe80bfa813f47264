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
    /// The node could not use it: sent again at once it would fail again.
    Failed { index: u64, term: u64 },
}

#[derive(Default)]
pub(super) struct InboundSnapshot {
    stage: Stage,
    /// The newest `MsgSnapshot` that waits for its state.
    held: Option<raft::eraftpb::Message>,
    /// Index and term of the last `MsgSnapshot` that met too few pieces, and how far they went.
    short: Option<(u64, u64, u64)>,
}

impl InboundSnapshot {
    /// Whether `piece` is the next one of a snapshot that is worth having; `commit` is ours.
    pub(super) fn accepts(&mut self, from: NodeId, piece: &SnapshotPiece, commit: u64) -> bool {
        let (index, term) = (piece.index, piece.term);
        if index <= commit {
            return false;
        }
        let begins = match self.stage {
            Stage::Idle | Stage::Failed { .. } => piece.offset == 0,
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
            | Stage::Ready { .. }
            | Stage::Failed { .. } => false,
        }
    }

    /// The node could not use snapshot `index`.
    pub(super) fn failed(&mut self, index: u64) {
        match self.stage {
            Stage::Receiving { index: i, term, .. }
            | Stage::Decoding { index: i, term }
            | Stage::Ready { index: i, term }
                if i == index =>
            {
                *self = Self { stage: Stage::Failed { index, term }, ..Self::default() };
            }
            Stage::Idle
            | Stage::Receiving { .. }
            | Stage::Decoding { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. } => {}
        }
    }

    /// The sender says that every piece of this snapshot has arrived. True when this node has
    /// lost some, by a crash or on the way, and waits in vain: raft's word may overtake pieces,
    /// so that it counts only when it comes a second time and no piece came between.
    pub(super) fn lacks(&mut self, index: u64, term: u64) -> bool {
        let have = match self.stage {
            Stage::Receiving { index: i, term: t, next, .. } if (i, t) == (index, term) => next,
            Stage::Decoding { index: i, term: t }
            | Stage::Ready { index: i, term: t }
            | Stage::Failed { index: i, term: t }
                if (i, t) == (index, term) =>
            {
                self.short = None;
                return false;
            }
            Stage::Idle
            | Stage::Receiving { .. }
            | Stage::Decoding { .. }
            | Stage::Ready { .. }
            | Stage::Failed { .. } => 0,
        };
        let short = Some((index, term, have));
        if self.short == short {
            // Said once: the next word about it is the first again.
            self.short = None;
            return true;
        }
        self.short = short;
        false
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
            Stage::Failed { index, .. } if index <= commit => {
                self.stage = Stage::Idle;
                None
            }
            Stage::Idle
            | Stage::Failed { .. }
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
