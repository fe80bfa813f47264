//! The real directory, on a real disk.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use dtask_core::consensus::{ConfState, HardState, LogEntry, SnapshotMeta};
use dtask_core::id::{ClusterId, Incarnation, NodeId};
use dtask_core::log::{LogFact, Persist};

use super::{OpenError, OpenedLog, Options, open};
use crate::serve::ports::Disk as _;

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::new(NodeId(1), Some(vec![NodeId(1)])) }
}

fn opened(path: &std::path::Path) -> (OpenedLog, Receiver<u64>) {
    let (saved, told) = channel();
    let opened = open(path, &options(), move |index| {
        let _ = saved.send(index);
    });
    (opened.expect("a directory of ours"), told)
}

fn persist(n: u64, index: u64, size: usize) -> Persist {
    let data = Bytes::from(vec![index as u8; size]);
    Persist {
        n,
        hard_state: HardState { term: 1, vote: 1, commit: index - 1 },
        entries: vec![LogEntry { index, term: 1, conf_change: false, data }],
        fact: None,
    }
}

fn wait(opened: &mut OpenedLog, n: u64) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while *opened.durable.borrow_and_update() < n {
        assert!(std::time::Instant::now() < until, "persist {n} is not durable");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_durable_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = opened(dir.path());
    let incarnation = log.incarnation;
    assert_eq!((log.recovered.life, log.recovered.entries.len()), (1, 0));
    let formed = LogFact::Formed { cluster: ClusterId(5), voters: vec![(NodeId(1), incarnation)] };
    let fact =
        Persist { n: 1, hard_state: HardState::default(), entries: vec![], fact: Some(formed) };
    log.store.persist(fact);
    for index in 1..=500 {
        log.store.persist(persist(index + 1, index, 700));
    }
    wait(&mut log, 501);
    drop(log);
    let (log, _) = opened(dir.path());
    assert_eq!(log.incarnation, incarnation);
    assert_eq!(log.recovered.life, 2);
    assert_eq!(log.recovered.entries.len(), 500);
    assert_eq!(log.recovered.hard_state.commit, 499);
    assert_eq!(log.recovered.formed, Some((ClusterId(5), vec![(NodeId(1), incarnation)])));
    assert_ne!(incarnation, Incarnation(0));
}

#[test]
fn a_snapshot_is_put_in_place_read_back_and_lets_segments_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, told) = opened(dir.path());
    for index in 1..=500 {
        log.store.persist(persist(index, index, 700));
    }
    wait(&mut log, 500);
    let segments = |dir: &std::path::Path| {
        let names = std::fs::read_dir(dir).expect("listed").filter_map(Result::ok);
        names.filter(|name| name.file_name().to_string_lossy().ends_with(".log")).count()
    };
    assert!(segments(dir.path()) > 3);
    log.store.snapshot_write(490, Bytes::from_static(b"state "));
    log.store.snapshot_write(490, Bytes::from_static(b"at 490"));
    log.store.snapshot_finish(490);
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(490));
    let conf = ConfState { voters: vec![NodeId(1)], ..ConfState::default() };
    let meta = SnapshotMeta { index: 490, term: 1, conf };
    log.store.persist(Persist {
        n: 501,
        hard_state: HardState { term: 1, vote: 1, commit: 499 },
        entries: vec![],
        fact: Some(LogFact::Compacted(meta.clone())),
    });
    wait(&mut log, 501);
    let mut reading = log.store.snapshot_read(490).expect("in place");
    assert_eq!(reading.next(6).expect("read"), "state ");
    assert_eq!(reading.next(100).expect("read"), "at 490");
    assert!(reading.next(100).expect("read").is_empty());
    assert!(log.store.snapshot_read(7).is_none());
    log.store.snapshot_write(495, Bytes::from_static(b"half"));
    drop(log);
    assert!(segments(dir.path()) <= 2);
    let (log, _) = opened(dir.path());
    assert_eq!(log.recovered.meta, Some(meta));
    assert_eq!(log.recovered.snapshot, [Bytes::from_static(b"state at 490")]);
    assert_eq!(log.recovered.entries.len(), 10);
    assert!(!dir.path().join("snapshot-00000000000001ef.tmp").exists(), "a half one is removed");
}

/// The newest segment and how far it is used.
fn newest(dir: &std::path::Path) -> (std::path::PathBuf, usize) {
    let names = std::fs::read_dir(dir).expect("listed").filter_map(Result::ok);
    let segments = names.map(|name| name.path());
    let newest = segments.filter(|path| path.extension().is_some_and(|it| it == "log")).max();
    let newest = newest.expect("a segment");
    let used = std::fs::read(&newest).expect("read").iter().rposition(|byte| *byte != 0);
    (newest, used.map_or(0, |last| last + 1))
}

fn flip(file: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("read");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn a_log_that_falls_idle_vouches_for_its_last_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = opened(dir.path());
    log.store.persist(persist(1, 1, 700));
    wait(&mut log, 1);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    // The entry's bytes are 1; whatever stands behind them is the marker.
    let (file, end) = loop {
        let (file, used) = newest(dir.path());
        let bytes = std::fs::read(&file).expect("read");
        let entry = bytes.windows(700).rposition(|window| window.iter().all(|byte| *byte == 1));
        let end = entry.expect("it is durable") + 700;
        if used > end + 8 {
            break (file, end);
        }
        assert!(std::time::Instant::now() < until, "no marker");
        std::thread::yield_now();
    };
    // Its process is killed: nothing of it says a last word.
    let (copy, life) = (tempfile::tempdir().expect("a directory"), log);
    let copied = copy.path().join(file.file_name().expect("named"));
    std::fs::copy(&file, &copied).expect("copied");
    let whole = open(copy.path(), &options(), |_| ()).expect("whole");
    assert_eq!(whole.recovered.entries.len(), 1);
    drop(whole);
    std::fs::copy(&file, &copied).expect("copied");
    flip(&copied, end - 1);
    let error = open(copy.path(), &options(), |_| ()).expect_err("damaged").to_string();
    assert!(error.contains("a record that was synced is not whole"), "{error}");
    drop(life);
}

#[test]
fn a_log_that_is_closed_vouches_for_its_last_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = opened(dir.path());
    log.store.persist(persist(1, 1, 700));
    wait(&mut log, 1);
    drop(log);
    let (file, _) = newest(dir.path());
    let bytes = std::fs::read(&file).expect("read");
    let entry = bytes.windows(700).position(|window| window.iter().all(|byte| *byte == 1));
    flip(&file, entry.expect("it was durable"));
    let error = open(dir.path(), &options(), |_| ()).expect_err("damaged").to_string();
    assert!(error.contains("a record that was synced is not whole"), "{error}");
}

#[test]
fn a_directory_is_opened_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = opened(dir.path());
    let again = open(dir.path(), &options(), |_| ());
    assert!(matches!(again, Err(OpenError::InUse(_))));
    drop(log);
    opened(dir.path());
}

#[test]
fn another_nodes_directory_is_refused_in_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    opened(dir.path());
    let other = Options { node: NodeId(2), ..options() };
    let error = open(dir.path(), &other, |_| ()).expect_err("foreign").to_string();
    assert!(error.contains("belongs to node 1, not to node 2"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_disk_that_fails_closes_the_durable_number_and_is_not_retried() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = opened(dir.path());
    log.store.persist(persist(1, 1, 10));
    wait(&mut log, 1);
    // A snapshot that cannot be put in place: its name is taken by a directory.
    std::fs::create_dir(dir.path().join("snapshot-0000000000000001.bin")).expect("made");
    log.store.snapshot_write(1, Bytes::from_static(b"x"));
    log.store.snapshot_finish(1);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while log.durable.has_changed().is_ok() {
        assert!(std::time::Instant::now() < until, "the failure is told");
        std::thread::yield_now();
    }
    log.store.persist(persist(2, 2, 10));
    drop(log.store);
    assert_eq!(*log.durable.borrow(), 1, "nothing is acknowledged any more");
}
