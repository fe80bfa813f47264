//! Snapshots on their way to followers.
//!
//! raft's `MsgSnapshot` leaves only once the host has delivered every piece, and again until the
//! follower answers, because the follower steps it only after the pieces were decoded (P10.2). A
//! follower that has lost pieces answers that, and is sent them again.

use alloc::collections::BTreeMap;

use super::message::RaftMessage;
use super::turn::SendSnapshot;
use crate::id::NodeId;

/// Ticks between repeats of a delivered snapshot's message.
const REPEAT_TICKS: u64 = 10;
/// Ticks after which a follower that does not answer at all is probed again: decoding ten million tasks
/// takes seconds.
const PATIENCE_TICKS: u64 = 600;

struct Outbound {
    message: RaftMessage,
    /// When the pieces were delivered and when the message left last, in ticks.
    delivered: Option<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct OutboundSnapshots {
    to: BTreeMap<NodeId, Outbound>,
}

impl OutboundSnapshots {
    /// raft wants a follower to have the snapshot that `message` describes.
    pub(super) fn begin(&mut self, to: NodeId, message: RaftMessage) -> Option<SendSnapshot> {
        let meta = message.snapshot.as_ref()?;
        let send = SendSnapshot { to, index: meta.index, term: meta.term };
        self.to.insert(to, Outbound { message, delivered: None });
        Some(send)
    }

    /// Every piece has reached the follower: the message that must follow them now.
    pub(super) fn delivered(&mut self, to: NodeId, tick: u64) -> Option<RaftMessage> {
        let outbound = self.to.get_mut(&to)?;
        outbound.delivered = Some((tick, tick));
        Some(outbound.message.clone())
    }

    /// The transfer is over, for good or bad.
    pub(super) fn end(&mut self, to: NodeId) -> bool {
        self.to.remove(&to).is_some()
    }

    /// Whether the pieces have been delivered and the answer is awaited.
    pub(super) fn awaits_answer(&self, to: NodeId) -> bool {
        self.to.get(&to).is_some_and(|outbound| outbound.delivered.is_some())
    }

    /// A follower has lost pieces of the snapshot at `index`: true when that one was delivered to
    /// it, whose transfer is over now.
    pub(super) fn lost(&mut self, to: NodeId, index: u64) -> bool {
        let this = self.to.get(&to).is_some_and(|outbound| {
            outbound.delivered.is_some()
                && outbound.message.snapshot.as_ref().is_some_and(|meta| meta.index == index)
        });
        this && self.end(to)
    }

    /// A lost term ends all transfers.
    pub(super) fn clear(&mut self) {
        self.to.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    /// Forgets transfers for which `open` is false: raft has heard of the follower's success.
    pub(super) fn retain(&mut self, mut open: impl FnMut(NodeId) -> bool) {
        self.to.retain(|id, _| open(*id));
    }

    /// Messages to repeat now.
    pub(super) fn repeats(&mut self, tick: u64, mut send: impl FnMut(NodeId, RaftMessage)) {
        for (to, outbound) in &mut self.to {
            if let Some((_, last)) = &mut outbound.delivered
                && tick >= *last + REPEAT_TICKS
            {
                *last = tick;
                send(*to, outbound.message.clone());
            }
        }
    }

    /// A follower whose patience has run out, taken off the list.
    pub(super) fn expired(&mut self, tick: u64) -> Option<NodeId> {
        let to = self.to.iter().find_map(|(to, outbound)| match outbound.delivered {
            Some((since, _)) if tick >= since + PATIENCE_TICKS => Some(*to),
            _ => None,
        })?;
        self.to.remove(&to);
        Some(to)
    }
}
