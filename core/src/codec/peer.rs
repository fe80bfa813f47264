//! Envelopes between nodes ([`crate::consensus::message`]) to the generated messages of
//! `peer.proto` and back. raft's messages travel field by field, so that rust-protobuf's parser
//! never sees the network.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use dtask_proto::v1 as pb;
use dtask_proto::v1::peer_envelope::Body as Wire;

use crate::consensus::{
    Body, ConfState, Envelope, LogEntry, Mark, RaftMessage, SnapshotMeta, SnapshotPiece, Vitals,
};
use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::time::Timestamp;

/// Why a message is not an envelope. The sender's mistake: the receiver ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The oneof is empty or holds something newer than this program.
    #[error("the message holds nothing that this version knows")]
    Unknown,
    /// raft-rs numbers its messages below 256.
    #[error("there is no raft message {0}")]
    Kind(u32),
}

/// Wraps an envelope for the wire.
pub fn encode_envelope(envelope: Envelope) -> pb::PeerEnvelope {
    let body = match envelope.body {
        Body::Introduce { voters, ask } => {
            Wire::Introduce(pb::PeerIntroduce { voters: numbers(voters), ask })
        }
        Body::Reject { reason } => Wire::Reject(pb::PeerReject { reason: reason.into() }),
        Body::Announce { grpc, http } => {
            Wire::Announce(pb::PeerAnnounce { grpc: grpc.into(), http: http.into() })
        }
        Body::Raft(messages) => Wire::Raft(pb::PeerRaft {
            messages: messages.into_iter().map(encode_message).collect(),
        }),
        Body::Snapshot(piece) => Wire::Snapshot(pb::PeerSnapshotPiece {
            index: piece.index,
            term: piece.term,
            offset: piece.offset,
            data: piece.data,
            last: piece.last,
        }),
    };
    pb::PeerEnvelope {
        group_id: envelope.group.0,
        cluster_id: envelope.cluster.map(|id| id.0),
        from: envelope.from.0.0,
        incarnation: envelope.from.1.0,
        to: envelope.to.0,
        body: Some(body),
        vitals: envelope.vitals.map(|vitals| encode_vitals(*vitals)),
    }
}

/// Reads an envelope.
///
/// # Errors
/// When it holds nothing known; the stream ends.
pub fn decode_envelope(message: pb::PeerEnvelope) -> Result<Envelope, EnvelopeError> {
    let body = match message.body.ok_or(EnvelopeError::Unknown)? {
        Wire::Introduce(pb::PeerIntroduce { voters, ask }) => {
            Body::Introduce { voters: nodes(voters), ask }
        }
        Wire::Reject(pb::PeerReject { reason }) => {
            Body::Reject { reason: String::into_boxed_str(reason) }
        }
        Wire::Announce(pb::PeerAnnounce { grpc, http }) => {
            Body::Announce { grpc: grpc.into(), http: http.into() }
        }
        Wire::Raft(raft) => Body::Raft(
            raft.messages.into_iter().map(decode_message).collect::<Result<_, EnvelopeError>>()?,
        ),
        Wire::Snapshot(piece) => Body::Snapshot(SnapshotPiece {
            index: piece.index,
            term: piece.term,
            offset: piece.offset,
            data: piece.data,
            last: piece.last,
        }),
    };
    Ok(Envelope {
        group: GroupId(message.group_id),
        cluster: message.cluster_id.map(ClusterId),
        from: (NodeId(message.from), Incarnation(message.incarnation)),
        to: NodeId(message.to),
        body,
        vitals: message.vitals.map(|vitals| Box::new(decode_vitals(vitals))),
    })
}

fn encode_vitals(vitals: Vitals) -> pb::PeerVitals {
    let Vitals { wall, mark, echo, marks, sync } = vitals;
    pb::PeerVitals {
        wall: wall.as_micros(),
        mark,
        echo: echo.map(|(mark, age)| pb::PeerEcho { mark, age_micros: micros(age) }),
        marks: marks.into_iter().map(encode_mark).collect(),
        sync_micros: micros(sync),
    }
}

fn decode_vitals(vitals: pb::PeerVitals) -> Vitals {
    let pb::PeerVitals { wall, mark, echo, marks, sync_micros } = vitals;
    Vitals {
        wall: Timestamp::from_micros(wall),
        mark,
        echo: echo.map(|echo| (echo.mark, Duration::from_micros(echo.age_micros))),
        marks: marks.into_iter().map(decode_mark).collect(),
        sync: Duration::from_micros(sync_micros),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a digest")]
const fn encode_mark(Mark { index, level, digest }: Mark) -> pb::PeerMark {
    let (digest_high, digest_low) = ((digest >> 64) as u64, digest as u64);
    pb::PeerMark { index, level, digest_high, digest_low }
}

fn decode_mark(mark: pb::PeerMark) -> Mark {
    let pb::PeerMark { index, level, digest_high, digest_low } = mark;
    let digest = u128::from(digest_high) << 64 | u128::from(digest_low);
    Mark { index, level, digest }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn encode_message(message: RaftMessage) -> pb::PeerMessage {
    pb::PeerMessage {
        kind: u32::from(message.kind),
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.into_iter().map(encode_entry).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: message.snapshot.map(encode_meta),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    }
}

fn decode_message(message: pb::PeerMessage) -> Result<RaftMessage, EnvelopeError> {
    Ok(RaftMessage {
        kind: u8::try_from(message.kind).map_err(|_| EnvelopeError::Kind(message.kind))?,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.into_iter().map(decode_entry).collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot: message.snapshot.map(decode_meta),
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    })
}

fn encode_entry(entry: LogEntry) -> pb::PeerEntry {
    let LogEntry { index, term, conf_change, data } = entry;
    pb::PeerEntry { index, term, conf_change, data }
}

fn decode_entry(entry: pb::PeerEntry) -> LogEntry {
    let pb::PeerEntry { index, term, conf_change, data } = entry;
    LogEntry { index, term, conf_change, data }
}

fn encode_meta(meta: SnapshotMeta) -> pb::PeerSnapshotMeta {
    pb::PeerSnapshotMeta {
        index: meta.index,
        term: meta.term,
        voters: numbers(meta.conf.voters),
        learners: numbers(meta.conf.learners),
        voters_outgoing: numbers(meta.conf.voters_outgoing),
        learners_next: numbers(meta.conf.learners_next),
        auto_leave: meta.conf.auto_leave,
    }
}

fn decode_meta(meta: pb::PeerSnapshotMeta) -> SnapshotMeta {
    SnapshotMeta {
        index: meta.index,
        term: meta.term,
        conf: ConfState {
            voters: nodes(meta.voters),
            learners: nodes(meta.learners),
            voters_outgoing: nodes(meta.voters_outgoing),
            learners_next: nodes(meta.learners_next),
            auto_leave: meta.auto_leave,
        },
    }
}

fn numbers(ids: Vec<NodeId>) -> Vec<u64> {
    ids.into_iter().map(|id| id.0).collect()
}

fn nodes(numbers: Vec<u64>) -> Vec<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use bytes::Bytes;
    use prost::Message;

    use super::*;

    #[track_caller]
    fn crosses(body: Body) {
        let envelope = Envelope {
            group: GroupId(1),
            cluster: Some(ClusterId(u64::MAX)),
            from: (NodeId(2), Incarnation(7)),
            to: NodeId(3),
            body,
            vitals: Some(Box::new(Vitals {
                wall: Timestamp::from_micros(-7),
                mark: 1 << 40,
                echo: Some((u64::MAX, Duration::from_micros(11))),
                marks: alloc::vec![Mark { index: 8, level: 1, digest: u128::MAX - 5 }],
                sync: Duration::from_micros(13),
            })),
        };
        let bytes = encode_envelope(envelope.clone()).encode_to_vec();
        let message = pb::PeerEnvelope::decode(bytes.as_slice()).expect("it was just encoded");
        assert_eq!(decode_envelope(message), Ok(envelope));
    }

    #[test]
    fn every_body_crosses_unchanged() {
        crosses(Body::Introduce { voters: vec![NodeId(1), NodeId(2)], ask: true });
        crosses(Body::Reject { reason: "an empty disk".into() });
        crosses(Body::Announce { grpc: "a:7100".into(), http: "".into() });
        crosses(Body::Snapshot(SnapshotPiece {
            index: 9,
            term: 3,
            offset: 1 << 40,
            data: Bytes::from_static(b"piece"),
            last: true,
        }));
        let conf = ConfState {
            voters: vec![NodeId(1)],
            learners: vec![NodeId(4)],
            voters_outgoing: vec![NodeId(2)],
            learners_next: vec![NodeId(5)],
            auto_leave: true,
        };
        crosses(Body::Raft(vec![
            RaftMessage::default(),
            RaftMessage {
                kind: 18,
                term: 1,
                log_term: 2,
                index: 3,
                entries: vec![LogEntry {
                    index: 4,
                    term: 2,
                    conf_change: true,
                    data: Bytes::from_static(b"entry"),
                }],
                commit: 5,
                commit_term: 6,
                snapshot: Some(SnapshotMeta { index: 7, term: 8, conf }),
                request_snapshot: 9,
                reject: true,
                reject_hint: 10,
                context: Bytes::from_static(b"context"),
                priority: -11,
            },
        ]));
    }

    #[test]
    fn message_of_a_newer_program_is_refused() {
        let empty = pb::PeerEnvelope::default();
        assert_eq!(decode_envelope(empty), Err(EnvelopeError::Unknown));
        let raft = pb::PeerRaft {
            messages: vec![pb::PeerMessage { kind: 256, ..pb::PeerMessage::default() }],
        };
        let newer =
            pb::PeerEnvelope { body: Some(Wire::Raft(raft)), ..pb::PeerEnvelope::default() };
        assert_eq!(decode_envelope(newer), Err(EnvelopeError::Kind(256)));
    }
}
