//! Frames of a worker's session, both ways: a frame that is taken keeps to its bounds and is the
//! same after a second crossing.

use dtask_core::codec::worker::{
    decode_leader_frame, decode_worker_frame, encode_leader_frame, encode_worker_frame,
};
use dtask_core::limits;
use dtask_core::worker::{LeaderFrame, WorkerFrame};
use dtask_proto::v1;
use prost::Message as _;

use crate::meter;

/// An empty report takes two bytes on the wire and some two hundred here, several times over.
const FACTOR: usize = 800;

/// The first byte says who speaks; the rest is the message.
pub(crate) fn run(data: &[u8]) {
    let Some((first, message)) = data.split_first() else { return };
    meter::bounded(data.len(), FACTOR, || {
        if first & 1 == 0 { worker(message) } else { leader(message) }
    });
}

fn worker(data: &[u8]) {
    let Ok(message) = v1::WorkerToLeader::decode(data) else { return };
    let Ok((session, frame)) = decode_worker_frame(message) else { return };
    worker_bounds(&frame);
    let bytes = encode_worker_frame(session, frame.clone()).encode_to_vec();
    let message = v1::WorkerToLeader::decode(bytes.as_slice()).expect("it was just encoded");
    assert_eq!(decode_worker_frame(message), Ok((session, frame)));
}

fn worker_bounds(frame: &WorkerFrame) {
    match frame {
        WorkerFrame::Hello(hello) => {
            assert!((1..=limits::WORKER_SLOTS_MAX).contains(&hello.slots));
            assert!(!hello.name.is_empty() && hello.instance.0 != 0);
            assert!(hello.kinds.len().max(hello.queues.len()) <= limits::WORKER_KINDS_MAX);
            assert!(hello.labels.len() <= limits::WORKER_LABELS_MAX);
            assert!(hello.tokens.len() <= limits::WORKER_HELD_MAX);
            let names = hello.kinds.iter().chain(&hello.queues).chain(&hello.labels);
            for name in names.chain([&hello.name]) {
                assert!((1..=limits::NAME_CHARS_MAX).contains(&name.chars().count()));
            }
        }
        WorkerFrame::Heartbeat { tokens, .. } => assert!(tokens.len() <= limits::WORKER_HELD_MAX),
        WorkerFrame::Started(list) => assert!(list.len() <= limits::WORKER_HELD_MAX),
        WorkerFrame::Reports(list) => {
            assert!(list.len() <= limits::WORKER_HELD_MAX);
            for report in list {
                assert!(report.output.len() <= limits::RESULT_BYTES_MAX);
                assert!(report.error.len() <= limits::ERROR_BYTES_MAX);
                assert!(report.tail.len() <= limits::OUTPUT_TAIL_BYTES_MAX);
            }
        }
        WorkerFrame::Output { data, .. } => assert!(data.len() <= limits::RESULT_BYTES_MAX),
        WorkerFrame::Draining => {}
    }
}

fn leader(data: &[u8]) {
    let Ok(message) = v1::LeaderToWorker::decode(data) else { return };
    let Ok(frame) = decode_leader_frame(message) else { return };
    if let LeaderFrame::Acknowledged(ranges) = &frame {
        assert!(ranges.iter().all(|(first, last)| first <= last));
    }
    let bytes = encode_leader_frame(frame.clone()).encode_to_vec();
    let message = v1::LeaderToWorker::decode(bytes.as_slice()).expect("it was just encoded");
    assert_eq!(decode_leader_frame(message), Ok(frame));
}
