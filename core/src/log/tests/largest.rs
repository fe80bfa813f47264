//! P1.3: the largest legal entries go through every path that an entry takes in the core.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use dtask_proto::v1 as pb;
use prost::Message as _;

use super::disk::Disk;
use super::model::{IDENTITY, owner};
use crate::codec::peer::{decode_envelope, encode_envelope};
use crate::consensus::{Body, Envelope, HardState, LogEntry, RaftMessage};
use crate::id::{ClusterId, GroupId, Incarnation, NodeId};
use crate::leader::draft::{Drafts, Origin};
use crate::limits;
use crate::log::{LogFact, Persist, Writer, recover};
use crate::spec::{Backoff, Profile, Retry};
use crate::state::{Changes, Command, Create, IndexKey, LEVEL, Start, State};
use crate::time::Timestamp;

/// One command with the largest payload, then as many commands as an entry takes, and one more.
fn entries() -> Vec<Bytes> {
    let at = Timestamp::from_seconds(1);
    let mut drafts = Drafts::new(LEVEL);
    let payload = vec![b'x'; limits::PAYLOAD_BYTES_MAX];
    let profile = Profile {
        kind: "noop".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries: 0,
            backoff: Backoff::Fixed,
            backoff_base_ms: 1,
            backoff_max_ms: 1,
            no_retry_exit: Vec::new(),
        },
        run_timeout_ms: 1,
    };
    let largest = Create {
        id: "largest",
        name: "largest",
        payload: &payload,
        profile: 0,
        priority: 0,
        start: Start::Ready,
        open: None,
    };
    drafts.create(at, &profile, largest, Origin::Retire);
    for _ in 0..=limits::ENTRY_COMMANDS_MAX {
        drafts.push(at, &Command::HistoryDropped { through: 0 }, Origin::Dropped);
    }
    drafts.finish().into_iter().map(|draft| draft.data).collect()
}

#[test]
fn largest_entries_are_applied_whole() {
    let mut state = State::new(IndexKey::default());
    let mut answers = Vec::new();
    for (index, entry) in (1..).zip(entries()) {
        let mut changes = Changes::default();
        state.apply(index, &entry, &mut changes).expect("its level is known");
        answers.push(changes.answers.len());
    }
    assert_eq!(answers, [1, limits::ENTRY_COMMANDS_MAX, 1]);
    let task = state.find("largest").and_then(|task| state.task_view(task)).expect("accepted");
    assert_eq!(task.payload.len(), limits::PAYLOAD_BYTES_MAX);
}

#[test]
fn largest_entries_fit_a_message_between_peers() {
    let entries: Vec<LogEntry> = (1..)
        .zip(entries())
        .map(|(index, data)| LogEntry { index, term: 1, conf_change: false, data })
        .collect();
    let envelope = Envelope {
        group: GroupId(1),
        cluster: Some(ClusterId(9)),
        from: (NodeId(2), Incarnation(77)),
        to: NodeId(3),
        body: Body::Raft(vec![RaftMessage { entries, ..RaftMessage::default() }]),
    };
    let bytes = encode_envelope(envelope.clone()).encode_to_vec();
    assert!(bytes.len() < limits::MESSAGE_BYTES_MAX);
    let message = pb::PeerEnvelope::decode(bytes.as_slice()).expect("it was just encoded");
    assert_eq!(decode_envelope(message), Ok(envelope));
}

#[test]
fn largest_entries_are_recovered_from_the_log() {
    const SEGMENT: u64 = 1 << 20;
    let mut disk = Disk::default();
    let perform = |disk: &mut Disk, ops: &[crate::log::DiskOp]| {
        for op in ops {
            disk.perform(op);
        }
    };
    perform(&mut disk, &Writer::create(IDENTITY, SEGMENT));
    let look = |disk: &Disk| {
        let found = recover(&owner(), &disk.segments(), &disk.others()).expect("sound");
        found.expect("it was made")
    };
    let (mut writer, ops) = Writer::open(&look(&disk), SEGMENT);
    perform(&mut disk, &ops);
    writer.synced();
    let voters = (1..=3).map(|id| (NodeId(id), Incarnation(70 + id))).collect();
    let formed = LogFact::Formed { cluster: ClusterId(9), voters };
    let facts = [Some(formed), None, None, None];
    let mut data = entries().into_iter();
    let mut written = Vec::new();
    for (n, fact) in (0..).zip(facts) {
        let entries: Vec<LogEntry> = match &fact {
            Some(_) => Vec::new(),
            None => data
                .next()
                .map(|data| LogEntry { index: n, term: 1, conf_change: false, data })
                .into_iter()
                .collect(),
        };
        written.extend(entries.iter().cloned());
        let hard_state = HardState { term: 1, vote: 0, commit: 0 };
        let mut ops = Vec::new();
        writer.append(&[Persist { n: n + 1, hard_state, entries, fact }], &mut ops);
        perform(&mut disk, &ops);
        writer.synced();
    }
    assert_eq!(written.len(), 3);
    assert_eq!(look(&disk).recovered.entries, written);
}
