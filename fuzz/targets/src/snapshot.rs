//! A snapshot from arbitrary bytes, cut into pieces anywhere. Its digest is mended, so that the
//! rows behind it are reached: rows of any content are read or refused, never a panic. What then is
//! a consistent state walks to a snapshot that gives the same digest, and takes further entries.
//! Rows that contradict each other under a digest that fits them are no damage but a forgery by a
//! member, which P5.3 does not claim to find: the audit names what is wrong, and that is all.

use dtask_core::codec::flat::EntryBuilder;
use dtask_core::id::{InstanceId, RecordRef, Serial, Slot, Token};
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::snapshot::{Loader, SnapshotError};
use dtask_core::state::{Changes, Close, Command, LEVEL, Open, Rerun, State, Wish};
use dtask_core::time::Timestamp;

use crate::meter;

/// The head of an item: its kind, its length.
const ITEM_HEAD: usize = 5;
/// A row's structures beside its bytes: its page of 256 records above all.
const FACTOR: usize = 3_000;
/// What a record far up costs whatever the input's length: places of empty pages and a bitmap,
/// and as much again while they move to a larger place.
const SPARSE: usize = 24 << 20;
/// A stream may say that many changes wait for history; that many are then kept in memory, so
/// streams with more are not followed further.
const CHANGES_MAX: u64 = 100_000;

/// The first byte says how the stream is cut; the rest is the stream.
pub(crate) fn run(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let piece = 1 + usize::from(cut) * 3;
    let loaded = meter::bounded(data.len() + SPARSE / FACTOR, FACTOR, || load(stream, piece));
    let (state, mended) = match loaded {
        Ok(state) => (state, false),
        Err(SnapshotError::Diverged { walked, .. }) => {
            let digest = digest_at(stream);
            let number =
                |at: usize| u64::from_le_bytes(stream[at..at + 8].try_into().expect("eight bytes"));
            // Before the digest: the newest change, the stored one, the first ended id.
            if number(digest - 24) - number(digest - 16) > CHANGES_MAX {
                return;
            }
            let mut stream = stream.to_vec();
            stream[digest..digest + 16].copy_from_slice(&walked.to_le_bytes());
            (load(&stream, usize::MAX).expect("its digest is mended"), true)
        }
        Err(_) => return,
    };
    match state.audit() {
        Ok(()) => go_on(state),
        Err(what) => assert!(mended, "the stream's own digest fits, yet: {what}"),
    }
}

/// Where the header, the first item, keeps the digest: at its end.
fn digest_at(stream: &[u8]) -> usize {
    let len: [u8; 4] = stream[1..ITEM_HEAD].try_into().expect("a header was read");
    ITEM_HEAD + u32::from_le_bytes(len) as usize - 16
}

/// Loads a stream in pieces.
pub(crate) fn load(stream: &[u8], piece: usize) -> Result<State, SnapshotError> {
    let mut loader = Loader::new();
    for piece in stream.chunks(piece) {
        loader.push(piece)?;
    }
    loader.finish()
}

/// Walks a state to its end.
pub(crate) fn walk(state: &mut State, step: usize) -> Vec<u8> {
    state.begin_snapshot();
    let mut stream = Vec::new();
    loop {
        let step = state.step_snapshot(step).expect("the walk's digest is the state's");
        stream.extend_from_slice(&step.data);
        if step.done {
            return stream;
        }
    }
}

fn go_on(mut state: State) {
    let stream = walk(&mut state, 512);
    let mut replica = load(&stream, 4_096).expect("it was just walked");
    assert_eq!(replica.digest(), state.digest());
    let mut builder = EntryBuilder::new(LEVEL, state.at().plus_micros(3_600_000_000));
    for n in 0..3_u32 {
        let target = RecordRef { slot: Slot(n), serial: Serial(u64::from(n) + 1) };
        let instance = InstanceId(u64::from(n));
        builder.push(&Command::Open(Open { target, attempt: 1, instance }));
        builder.push(&Command::Close(Close {
            slot: Slot(n),
            token: Token(u64::from(n) + 1),
            outcome: AttemptOutcome::Failed,
            started_at: None,
            finished_at: Some(Timestamp::from_seconds(1)),
            exit_code: Some(1),
            retryable: true,
            output: b"",
            error: "e",
            tail: b"",
        }));
        builder.push(&Command::Trigger {
            target,
            rerun: Rerun { wish: Wish::Trigger, key: None, open: None },
        });
        builder.push(&Command::Cancel { target, key: None });
    }
    let entry = builder.finish();
    let index = state.applied_index().saturating_add(1);
    for state in [&mut state, &mut replica] {
        let mut changes = Changes::default();
        state.apply(index, &entry, &mut changes).expect("the level is ours");
        state.audit().expect("what was applied keeps it consistent");
    }
    assert_eq!(replica.digest(), state.digest());
}
