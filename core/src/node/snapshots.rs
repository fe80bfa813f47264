//! Snapshots (P10.1–P10.3): the walk over this node's own state into a local file, and a received
//! one on its way into a shadow state that is swapped in as a whole.

use alloc::boxed::Box;
use alloc::string::String;

use bytes::Bytes;

use super::Node;
use super::io::{Effect, Note};
use super::request::Rejection;
use crate::consensus::{LogEntry, SnapshotMeta, SnapshotPiece};
use crate::log::Recovered;
use crate::machine::Outbox;
use crate::state::State;
use crate::state::snapshot::{Loader, SnapshotError};

/// What a step of the walk may encode: about a thousand records, a millisecond.
const STEP_BYTES: usize = 128 << 10;
/// Before-images that may wait for the walk: intake slows above this (P10.1).
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// How far the log may grow while a follower is sent a snapshot: intake slows above this rather
/// than the log being cut past the transfer (P10.3).
const TRANSFER_LOG_BYTES_MAX: u64 = 512 << 20;
/// Pages of a replaced state that one turn frees (P10.2).
const PAGES_FREED: usize = 64;

/// The snapshots of one node.
#[derive(Debug)]
pub(super) struct Snapshots {
    log_bytes_min: u64,
    /// Index and term of the entry that was applied last.
    applied: (u64, u64),
    /// The size of the newest snapshot, in bytes.
    size: u64,
    own: Option<Own>,
    /// The own snapshot that is in place while the log still reaches further back: a transfer to
    /// a follower needs it (P10.3).
    saved: Option<SnapshotMeta>,
    received: Option<Received>,
    /// Replaced states, freed in slices.
    replaced: Option<Box<State>>,
}

/// A snapshot of this node's own state.
#[derive(Debug)]
struct Own {
    meta: SnapshotMeta,
    bytes: u64,
    /// The walk is over; the host syncs and renames the file.
    walked: bool,
}

/// A snapshot from a peer.
#[derive(Debug)]
struct Received {
    index: u64,
    bytes: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Pieces arrive.
    Decoding(Box<Loader>),
    /// Complete; the file is being saved, or raft is being asked.
    Complete(Box<State>),
}

impl Snapshots {
    /// What the disk holds.
    pub(super) fn new(log_bytes_min: u64, recovered: &Recovered) -> Self {
        let applied = recovered.meta.as_ref().map_or((0, 0), |meta| (meta.index, meta.term));
        let size = recovered.snapshot.iter().map(|piece| piece.len() as u64).sum();
        Self {
            log_bytes_min,
            applied,
            size,
            own: None,
            saved: None,
            received: None,
            replaced: None,
        }
    }

    /// Whether a turn has something to do although nothing arrives.
    pub(super) fn is_walking(&self) -> bool {
        self.own.as_ref().is_some_and(|own| !own.walked) || self.replaced.is_some()
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, entry: &LogEntry) {
        self.applied = (entry.index, entry.term);
    }
}

/// The state at `index` from a snapshot file's content.
pub(super) fn decode(index: u64, pieces: &[Bytes]) -> Result<State, String> {
    let mut loader = Loader::new();
    for piece in pieces {
        loader.push(piece).map_err(|error| unreadable(&error))?;
    }
    finish(loader, index).map_err(|error| unreadable(&error))
}

/// A snapshot's name and its content come apart only by damage, or from a peer that is out of its
/// mind: entries would then be applied to a state that they do not follow.
fn finish(loader: Loader, index: u64) -> Result<State, SnapshotError> {
    let state = loader.finish()?;
    if state.applied_index() != index {
        return Err(SnapshotError::Inconsistent("it is the state at another index"));
    }
    Ok(state)
}

fn unreadable(error: &impl core::fmt::Display) -> String {
    alloc::format!("the snapshot cannot be read: {error}")
}

impl Node {
    /// Goes on with the walk, or begins one when the log has grown enough (P10.3).
    pub(super) fn walk(&mut self, out: &mut Outbox<Effect>) {
        if let Some(replaced) = &mut self.snapshots.replaced
            && !replaced.dismantle(PAGES_FREED)
        {
            self.snapshots.replaced = None;
        }
        // P5.3: what would show how the state went wrong stays on disk.
        if self.diverged.is_some() {
            return self.abort_own(out);
        }
        if !self.consensus.transferring()
            && let Some(meta) = self.snapshots.saved.take()
        {
            self.consensus.compact(meta);
        }
        if self.snapshots.own.is_none() && self.snapshots.saved.is_none() {
            self.begin_walk();
        }
        let Some(own) = self.snapshots.own.as_mut().filter(|own| !own.walked) else { return };
        let index = own.meta.index;
        match self.state.step_snapshot(STEP_BYTES) {
            Ok(step) => {
                own.bytes += step.data.len() as u64;
                own.walked = step.done;
                out.push(Effect::SnapshotWrite { index, data: step.data });
                if step.done {
                    out.push(Effect::SnapshotFinish { index });
                }
            }
            // The sum over the walked rows is not the digest: such a file never gets its name.
            Err(error) => {
                self.snapshots.own = None;
                out.push(Effect::SnapshotAbort { index });
                out.push(Effect::Note(Note::Warning { text: alloc::format!("{error}") }));
                self.diverge(index, out);
            }
        }
    }

    fn begin_walk(&mut self) {
        let snapshots = &mut self.snapshots;
        let worth = self.consensus.log_bytes() > snapshots.log_bytes_min.max(snapshots.size / 4);
        let (index, term) = snapshots.applied;
        if !worth || snapshots.received.is_some() || index <= self.consensus.snapshot_index() {
            return;
        }
        self.state.begin_snapshot();
        let meta = SnapshotMeta { index, term, conf: self.consensus.conf() };
        snapshots.own = Some(Own { meta, bytes: 0, walked: false });
    }

    /// The host has a snapshot file in place: this node's own, or a received one.
    pub(super) fn snapshot_saved(&mut self, index: u64, out: &mut Outbox<Effect>) {
        let snapshots = &mut self.snapshots;
        if let Some(own) = snapshots.own.take_if(|own| own.walked && own.meta.index == index) {
            snapshots.size = own.bytes;
            out.push(Effect::Note(Note::SnapshotTaken { index }));
            self.snapshots.saved = Some(own.meta);
        } else if snapshots.received.as_ref().is_some_and(|received| received.index == index) {
            // P10.2: raft hears of it when everything was decoded and is durable.
            self.consensus.snapshot_received(index);
        }
    }

    /// A piece of a peer's snapshot: decoded at once, and written to a file.
    pub(super) fn receive_piece(&mut self, piece: SnapshotPiece, out: &mut Outbox<Effect>) {
        let SnapshotPiece { index, term: _, offset, data, last } = piece;
        if offset == 0 {
            self.abort_snapshots(out);
            let stage = Stage::Decoding(Box::new(Loader::new()));
            self.snapshots.received = Some(Received { index, bytes: 0, stage });
        }
        let Some(received) = &mut self.snapshots.received else { return };
        let Stage::Decoding(loader) = &mut received.stage else { return };
        if received.index != index || received.bytes != offset {
            return;
        }
        received.bytes += data.len() as u64;
        let mut decoded = loader.push(&data);
        out.push(Effect::SnapshotWrite { index, data });
        if last && decoded.is_ok() {
            let loader = core::mem::take(&mut **loader);
            decoded = finish(loader, index).map(|state| {
                received.stage = Stage::Complete(Box::new(state));
                out.push(Effect::SnapshotFinish { index });
            });
        }
        if let Err(error) = decoded {
            self.snapshots.received = None;
            out.push(Effect::SnapshotAbort { index });
            self.consensus.snapshot_failed(index);
            out.push(Effect::Note(Note::Warning { text: unreadable(&error) }));
        }
    }

    /// raft has no use for a received snapshot.
    pub(super) fn refuse_snapshot(&mut self, index: u64, out: &mut Outbox<Effect>) {
        if self.snapshots.received.take_if(|received| received.index == index).is_some() {
            // What was written must not stand before the own snapshot of the same index.
            out.push(Effect::SnapshotAbort { index });
        }
    }

    /// raft took the received snapshot: the shadow state becomes the state, in one move.
    pub(super) fn install(&mut self, meta: &SnapshotMeta, out: &mut Outbox<Effect>) {
        let index = meta.index;
        let Some(received) = self.snapshots.received.take_if(|r| r.index == index) else {
            return self.halt(alloc::format!("snapshot {index} was taken but not decoded"), out);
        };
        let Stage::Complete(state) = received.stage else {
            return self.halt(alloc::format!("snapshot {index} was taken half decoded"), out);
        };
        let replaced = core::mem::replace(&mut self.state, *state);
        self.snapshots.replaced = Some(Box::new(replaced));
        self.snapshots.saved = None;
        self.marks.forget_own();
        self.snapshots.applied = (meta.index, meta.term);
        self.snapshots.size = received.bytes;
        out.push(Effect::Note(Note::SnapshotInstalled { index }));
        for (ticket, reply) in self.waits.look_at_all(&self.state) {
            out.push(Effect::Answer { ticket, reply });
        }
    }

    /// Why new work has to wait for a snapshot, if it has to.
    pub(super) fn pressure(&self) -> Option<Rejection> {
        let what = if self.state.snapshot_backlog() > BACKLOG_BYTES_MAX {
            "a snapshot is being taken, and 64 MiB of changes wait for it"
        } else if self.consensus.transferring()
            && self.consensus.log_bytes() > TRANSFER_LOG_BYTES_MAX
        {
            "a snapshot is being sent, and the log has grown to 512 MiB meanwhile"
        } else {
            return None;
        };
        Some(Rejection::Full { what: what.into(), retry_after_ms: 200 })
    }

    fn abort_own(&mut self, out: &mut Outbox<Effect>) {
        if let Some(own) = self.snapshots.own.take() {
            self.state.abort_snapshot();
            out.push(Effect::SnapshotAbort { index: own.meta.index });
        }
    }

    fn abort_snapshots(&mut self, out: &mut Outbox<Effect>) {
        self.abort_own(out);
        if let Some(received) = self.snapshots.received.take() {
            out.push(Effect::SnapshotAbort { index: received.index });
        }
    }
}
