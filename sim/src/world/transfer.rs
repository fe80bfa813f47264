//! Snapshots on their way to a follower: the file is read piece by piece, in order, over a stream
//! that may break.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::consensus::{Body, Envelope, SnapshotPiece};
use dtask_core::id::NodeId;
use dtask_core::node::Input;

use super::World;
use super::event::{Event, Life};
use super::store::snapshot_name;
use super::trace::Probe;

/// One transfer.
#[derive(Clone, Debug)]
struct Transfer {
    to: NodeId,
    index: u64,
    term: u64,
    offset: u64,
    /// When the last piece arrives.
    arrives: u64,
}

/// How long it takes to read a piece.
const PIECE_MICROS: u64 = 100;

/// All transfers under way.
#[derive(Debug, Default)]
pub struct Transfers {
    next: u64,
    open: BTreeMap<u64, Transfer>,
}

impl World {
    /// The host begins to send its snapshot file.
    pub(super) fn transfer_start(&mut self, who: usize, to: NodeId, index: u64, term: u64) {
        self.transfers.next += 1;
        let number = self.transfers.next;
        self.transfers.open.insert(number, Transfer { to, index, term, offset: 0, arrives: 0 });
        self.note(who as u32 + 1, "sends a snapshot", [to.0, index, 0]);
        let life = Life { who, life: self.nodes[who].life };
        self.agenda.push(self.at + 1, Event::Transfer(life, number));
    }

    /// The next piece leaves, or the end is reported.
    pub(super) fn transfer_step(&mut self, who: usize, number: u64) {
        let Some(mut transfer) = self.transfers.open.remove(&number) else { return };
        let place = (transfer.to.0 as usize).wrapping_sub(1);
        let file = self.nodes[who].disk.read(&snapshot_name(transfer.index));
        let length = file.map_or(0, <[u8]>::len) as u64;
        let header = self.nodes[who].header.clone();
        let passes = place < self.config.nodes
            && self.net.passes(self.at, who, place)
            && self.nodes[place].is_up()
            && !self.rng.net.chance(1, 200);
        let (Some(file), Some(header), true) = (file, header, passes) else {
            self.probes.hit(Probe::SnapshotBroken);
            let input = Input::SnapshotSent { to: transfer.to, delivered: false };
            self.note(who as u32 + 1, "transfer breaks", [transfer.to.0, transfer.offset, 0]);
            self.node_feed(who, input);
            return;
        };
        let from = transfer.offset as usize;
        let to = (from + self.config.piece_bytes as usize).min(file.len());
        let piece = SnapshotPiece {
            index: transfer.index,
            term: transfer.term,
            offset: transfer.offset,
            data: Bytes::copy_from_slice(&file[from..to]),
            last: to as u64 == length,
        };
        let last = piece.last;
        transfer.offset = to as u64;
        let envelope = Envelope { to: transfer.to, body: Body::Snapshot(piece), ..header };
        // Pieces keep their order, and several are on their way at once.
        let at = (self.at + self.net.delay()).max(transfer.arrives + 1);
        transfer.arrives = at;
        self.agenda.push(at, Event::Peer(place, Box::new(envelope)));
        if last {
            let input = Input::SnapshotSent { to: transfer.to, delivered: true };
            self.node_feed(who, input);
        } else {
            self.transfers.open.insert(number, transfer);
            let life = Life { who, life: self.nodes[who].life };
            self.agenda.push(self.at + PIECE_MICROS, Event::Transfer(life, number));
        }
    }
}
