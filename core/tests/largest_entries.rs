//! P1.3: the largest legal entries go through every path that an entry takes in the core.

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_proto::v1 as pb;
use prost::Message as _;

use dtask_core::codec::peer::{decode_envelope, encode_envelope};
use dtask_core::consensus::{Body, Envelope, HardState, LogEntry, RaftMessage};
use dtask_core::id::{ClusterId, GroupId, Incarnation, NodeId};
use dtask_core::leader::draft::{Drafts, Origin};
use dtask_core::limits;
use dtask_core::log::{DiskOp, File, Found, Identity, LogFact, Owner, Persist, Writer, recover};
use dtask_core::spec::{Backoff, Profile, Retry};
use dtask_core::state::{Changes, Command, Create, IndexKey, LEVEL, Start, State};
use dtask_core::time::Timestamp;

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
        retry: false,
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
        vitals: None,
    };
    let bytes = encode_envelope(envelope.clone()).encode_to_vec();
    assert!(bytes.len() < limits::MESSAGE_BYTES_MAX);
    let message = pb::PeerEnvelope::decode(bytes.as_slice()).expect("it was just encoded");
    assert_eq!(decode_envelope(message), Ok(envelope));
}

/// A disk that never loses anything.
type Disk = BTreeMap<File, Vec<u8>>;

fn perform(disk: &mut Disk, ops: &[DiskOp]) {
    for op in ops {
        match op {
            DiskOp::Create { file, len } => {
                disk.insert(*file, vec![0; *len as usize]);
            }
            DiskOp::Write { file, offset, bytes } => {
                let at = *offset as usize;
                let content = disk.get_mut(file).expect("it was made");
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
            DiskOp::Rename { from, to } => {
                let content = disk.remove(from).expect("it was made");
                disk.insert(*to, content);
            }
            DiskOp::Remove { file } => {
                disk.remove(file);
            }
            DiskOp::Sync { .. } | DiskOp::SyncDir => {}
        }
    }
}

fn look(disk: &Disk) -> Found {
    let owner =
        Owner { group: GroupId(1), node: NodeId(2), voters: Some((1..=3).map(NodeId).collect()) };
    let segments = disk
        .iter()
        .filter_map(|(file, content)| match file {
            File::Segment(number) => Some((*number, content.clone())),
            File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => None,
        })
        .collect();
    recover(&owner, &segments, &[]).expect("sound").expect("it was made")
}

#[test]
fn largest_entries_are_recovered_from_the_log() {
    const SEGMENT: u64 = 1 << 20;
    let identity = Identity { group: GroupId(1), node: NodeId(2), incarnation: Incarnation(72) };
    let mut disk = Disk::default();
    perform(&mut disk, &Writer::create(identity, SEGMENT));
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
