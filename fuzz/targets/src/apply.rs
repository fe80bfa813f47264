//! Arbitrary entries applied to a state: decodable commands in any order, planned on what is
//! there, on what was there, or on nothing; and bytes that are no entry. The state stays
//! consistent, replaying gives the same state, and a snapshot taken meanwhile is the state.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use bytes::Bytes;
use dtask_core::codec::flat::EntryRef;
use dtask_core::state::{Changes, IndexKey, LEVEL, State};

use crate::commands::Planner;
use crate::snapshot::load;

/// Entries of one input.
const ENTRIES_MAX: usize = 40;

/// Applies what the bytes say.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut life = Life::new();
    for _ in 0..ENTRIES_MAX {
        if u.is_empty() || life.step(&mut u).is_err() {
            break;
        }
    }
    life.end();
}

struct Life {
    state: State,
    planner: Planner,
    entries: Vec<(u64, Bytes)>,
    /// A walk's output so far, and how many entries it holds.
    walk: Option<(Vec<u8>, usize)>,
    index: u64,
}

impl Life {
    fn new() -> Self {
        Self {
            state: State::new(IndexKey([7; 16])),
            planner: Planner::default(),
            entries: Vec::new(),
            walk: None,
            index: 0,
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let kind = u8::arbitrary(u)?;
        if kind & 0x30 == 0x30 {
            self.begin_walk();
        }
        self.go_on(usize::from(kind >> 6) * 200 + 1);
        let entry = match kind & 0x0f {
            0 => Bytes::new(),
            1 => {
                let len = usize::from(u8::arbitrary(u)?).min(u.len());
                Bytes::copy_from_slice(u.bytes(len)?)
            }
            _ => self.planner.entry(u, &self.state)?,
        };
        // raft's indexes rise; now and then one comes again.
        self.index += u64::from(kind & 0x0f != 2);
        self.apply(entry);
        Ok(())
    }

    fn apply(&mut self, entry: Bytes) {
        let mut changes = Changes::default();
        let before = (self.state.applied_index(), self.state.at(), self.state.digest());
        let applied = self.state.apply(self.index, &entry, &mut changes);
        let parsed = EntryRef::parse(&entry).ok();
        if applied.is_err() {
            let level = parsed.map_or(0, |entry| entry.level());
            assert!(level > LEVEL, "only an entry of a newer program halts");
            let after = (self.state.applied_index(), self.state.at(), self.state.digest());
            assert_eq!(after, before);
            return;
        }
        if self.index > before.0 {
            let commands = parsed.map_or(0, |entry| entry.len());
            assert_eq!(changes.answers.len(), commands, "one answer a command");
            assert_eq!(self.state.applied_index(), self.index);
        } else {
            assert!(changes.answers.is_empty());
            assert_eq!(self.state.digest(), before.2);
        }
        assert!(self.state.at() >= before.1, "S16");
        self.state.audit().expect("consistent between entries");
        let mut after = self.state.stored();
        while let Some(batch) = self.state.history_batch(after, 5) {
            assert!(batch.through > after);
            after = batch.through;
        }
        assert_eq!(after, self.state.changes(), "history can be brought up to date");
        self.entries.push((self.index, entry));
    }

    fn begin_walk(&mut self) {
        self.state.begin_snapshot();
        self.walk = Some((Vec::new(), self.entries.len()));
    }

    fn go_on(&mut self, bytes: usize) {
        let Some((mut stream, begun)) = self.walk.take() else { return };
        let step = self.state.step_snapshot(bytes).expect("the walk's digest is the state's");
        stream.extend_from_slice(&step.data);
        if !step.done {
            self.walk = Some((stream, begun));
            return;
        }
        let mut replica = load(&stream, 61).expect("it was just walked");
        replica.audit().expect("what was loaded is consistent");
        for (index, entry) in &self.entries[begun..] {
            let mut changes = Changes::default();
            replica.apply(*index, entry, &mut changes).expect("it was applied before");
        }
        assert_eq!(replica.digest(), self.state.digest(), "S6: snapshot and tail are the state");
        assert_eq!(replica.changes(), self.state.changes());
    }

    /// Replay equality.
    fn end(mut self) {
        for _ in 0..100 {
            self.go_on(10_000);
        }
        let mut replica = State::new(IndexKey([7; 16]));
        for (index, entry) in &self.entries {
            let mut changes = Changes::default();
            replica.apply(*index, entry, &mut changes).expect("it was applied before");
        }
        assert_eq!(replica.digest(), self.state.digest(), "S6: a replay gives the same state");
    }
}
