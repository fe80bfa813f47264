//! Whatever is lost in a crash, what was acknowledged is recovered, and nothing else.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::disk::Disk;
use super::model::{IDENTITY, Model, owner};
use crate::log::{DiskOp, Found, LogFact, Writer, recover};
use crate::rng::Rng;

const SEGMENT: u64 = 10_000;

fn reopen(disk: &Disk) -> Option<Found> {
    recover(&owner(), &disk.segments(), &disk.others()).expect("nothing is damaged")
}

/// A life: opens, appends `groups` groups, and crashes after `budget` operations, if before.
/// Returns the states that the disk may hold, oldest first: the first is acknowledged.
fn live(disk: &mut Disk, rng: &mut Rng, groups: usize, mut budget: usize) -> (Vec<Model>, usize) {
    let mut spent = 0;
    let mut perform = |disk: &mut Disk, ops: &[DiskOp]| {
        for op in ops {
            if budget == 0 {
                return false;
            }
            budget -= 1;
            spent += 1;
            disk.perform(op);
        }
        true
    };
    let Some(found) = reopen(disk) else {
        perform(disk, &Writer::create(IDENTITY, SEGMENT));
        return ([Model::default()].into(), spent);
    };
    let mut states: Vec<Model> = [Model::of(&found.recovered)].into();
    let (mut writer, ops) = Writer::open(&found, SEGMENT);
    assert_eq!(writer.life(), found.recovered.life);
    if !perform(disk, &ops) {
        return (states, spent);
    }
    writer.synced();
    let mut n = 0;
    for _ in 0..groups {
        let mut model = states.last().expect("one at least").clone();
        let mut group = Vec::new();
        for _ in 0..1 + rng.below(3) {
            n += 1;
            let persist = model.next(n, rng);
            if let Some(LogFact::Compacted(meta) | LogFact::Reset(meta)) = &persist.fact {
                disk.save_snapshot(meta.index);
            }
            model.take(&persist);
            states.push(model.clone());
            group.push(persist);
        }
        let mut ops = Vec::new();
        writer.append(&group, &mut ops);
        if !perform(disk, &ops) {
            return (states, spent);
        }
        writer.synced();
        // Acknowledged: nothing older may be recovered.
        states.drain(..states.len() - 1);
    }
    (states, spent)
}

fn lives(seed: u64, count: usize) {
    let mut rng = Rng::new(seed);
    let mut disk = Disk::default();
    let mut life = 0;
    for _ in 0..count {
        let budget = rng.below(120) as usize;
        let (states, _) = live(&mut disk, &mut rng, 12, budget);
        disk.crash(&mut rng);
        match reopen(&disk) {
            None => assert_eq!(states, [Model::default()], "a made log does not vanish"),
            Some(found) => {
                let recovered = Model::of(&found.recovered);
                assert!(
                    states.contains(&recovered),
                    "seed {seed}: recovered {recovered:?}, none of {states:?}"
                );
                assert!(found.recovered.life >= life, "lives rise");
                life = found.recovered.life;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn crashes_keep_what_was_acknowledged(seed: u64) {
        lives(seed, 8);
    }
}

#[test]
fn a_first_start_that_is_cut_off_again_and_again_makes_a_whole_log() {
    // The name that an earlier attempt left, its sectors torn, is the one that the next one renames.
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let mut disk = Disk::default();
        for _ in 0..4 {
            let budget = rng.below(8) as usize;
            live(&mut disk, &mut rng, 0, budget);
            disk.crash(&mut rng);
            reopen(&disk);
        }
    }
}

#[test]
fn a_crash_after_each_single_operation_keeps_what_was_acknowledged() {
    for seed in 0..6 {
        let mut first = Disk::default();
        live(&mut first, &mut Rng::new(seed), 0, usize::MAX);
        let (_, total) = live(&mut first.clone(), &mut Rng::new(seed), 20, usize::MAX);
        for budget in 0..=total {
            let mut disk = first.clone();
            let mut rng = Rng::new(seed);
            let (states, _) = live(&mut disk, &mut rng, 20, budget);
            disk.crash(&mut rng);
            let found = reopen(&disk).expect("made before");
            assert!(states.contains(&Model::of(&found.recovered)), "seed {seed}, {budget} ops");
        }
    }
}

#[test]
fn records_of_an_older_life_beyond_the_cut_do_not_come_back() {
    // 1. Life 1 writes a and b in one group; a's sector is lost, b's is not.
    // 2. Life 2 cuts before a, and writes a' of the same length where a was.
    // 3. b still lies behind a', whole and at its own offset: it must not follow a'.
    let mut disk = Disk::default();
    let mut rng = Rng::new(3);
    live(&mut disk, &mut rng, 0, usize::MAX);
    let found = reopen(&disk).expect("made");
    let (mut writer, ops) = Writer::open(&found, SEGMENT);
    ops.iter().for_each(|op| disk.perform(op));
    writer.synced();
    let entry = |index, byte: u8| crate::consensus::LogEntry {
        index,
        term: 1,
        conf_change: false,
        data: alloc::vec![byte; 2_000].into(),
    };
    let hard_state = crate::consensus::HardState { term: 1, vote: 1, commit: 0 };
    let persist =
        |n, entry| crate::log::Persist { n, hard_state, entries: [entry].into(), fact: None };
    let mut group = Vec::new();
    writer.append(&[persist(1, entry(1, b'a')), persist(2, entry(2, b'b'))], &mut group);
    let DiskOp::Write { file, offset, bytes } = &group[0] else { panic!("a write comes first") };
    let half = bytes.len() / 2;
    disk.perform(&DiskOp::Write {
        file: *file,
        offset: offset + half as u64,
        bytes: bytes.slice(half..),
    });
    disk.perform(&DiskOp::Sync { file: *file });

    let found = reopen(&disk).expect("made");
    assert!(found.recovered.entries.is_empty(), "a torn group is cut");
    let (mut writer, ops) = Writer::open(&found, SEGMENT);
    ops.iter().for_each(|op| disk.perform(op));
    writer.synced();
    let mut ops = Vec::new();
    // With the opening record before it, this ends exactly where b begins.
    let mut short = entry(1, b'c');
    short.data = short.data.slice(..2_000 - 80);
    writer.append(&[persist(1, short)], &mut ops);
    ops.iter().for_each(|op| disk.perform(op));
    let found = reopen(&disk).expect("made");
    assert_eq!(found.recovered.entries.len(), 1);
    assert_eq!(found.recovered.entries[0].data[0], b'c');
}
