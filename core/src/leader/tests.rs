//! A leadership by itself: what it plans, and what it leaves.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Leader, Terms};
use crate::codec::flat::{EntryBuilder, EntryRef};
use crate::id::{ClusterId, InstanceId, NodeId, Token};
use crate::limits;
use crate::machine::Outbox;
use crate::spec::{AttemptOutcome, Backoff, Profile, Retry};
use crate::state::{Changes, Command, Create, IndexKey, LEVEL, Start, State};
use crate::time::{Instant, Now, Timestamp};

const WORKER: InstanceId = InstanceId(91);
const TTL: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> Now {
    let wall = Timestamp::from_seconds(1_000).plus_micros(seconds as i64 * 1_000_000);
    Now { mono: Instant::from_micros(seconds * 1_000_000), wall }
}

/// A state with one running attempt, by a worker that nobody hears of.
fn one_attempt() -> State {
    let profile = Profile {
        kind: "exec".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries: 0,
            backoff: Backoff::Fixed,
            backoff_base_ms: 0,
            backoff_max_ms: 0,
            no_retry_exit: Vec::new(),
        },
        run_timeout_ms: 3_600_000,
    };
    let mut entry = EntryBuilder::new(1, Timestamp::from_seconds(1_000));
    entry.intern(&profile);
    entry.push(&Command::RegisterInstance { instance: WORKER, name: "w1" });
    entry.push(&Command::Create(Create {
        id: "a",
        name: "",
        payload: b"",
        profile: 0,
        priority: 5,
        retry: false,
        start: Start::Ready,
        open: Some(WORKER),
    }));
    let mut state = State::new(IndexKey([7; 16]));
    state.apply(1, &entry.finish(), &mut Changes::default()).expect("the level is ours");
    assert_eq!(state.attempts_running(), 1);
    state
}

fn leading(state: &State) -> Leader {
    let terms = Terms {
        cluster: ClusterId(1),
        node: NodeId(1),
        addresses: ("".into(), "".into()),
        lease_ttl: TTL,
        heartbeat: TTL / 5,
        level: LEVEL,
        inflight_bytes_max: limits::INFLIGHT_BYTES_MAX,
        outbox_bytes_max: limits::OUTBOX_BYTES_MAX,
        ended_kept: 10,
    };
    let mut leader = Leader::new(terms, 2, at(0));
    leader.wake(at(0), state, &mut Outbox::new());
    leader
}

/// The outcomes of the attempts that a turn proposes to end.
fn ended(leader: &mut Leader, now: Now, state: &State) -> Vec<(Token, AttemptOutcome)> {
    leader.plan(now, state, &mut Vec::new(), &mut Outbox::new());
    let mut ended = Vec::new();
    let mut index = 1;
    while let Some(data) = leader.next_proposal() {
        index += 1;
        leader.proposed(2, index);
        let entry = EntryRef::parse(&data).expect("it was just written");
        for command in entry.commands() {
            if let Command::Close(close) = command.expect("it was just written") {
                ended.push((close.token, close.outcome));
            }
        }
    }
    ended
}

#[test]
fn split_leader_ends_no_lease_until_a_majority_agrees() {
    let state = one_attempt();
    let mut leader = leading(&state);
    leader.stand_still(true);
    assert_eq!(ended(&mut leader, at(60), &state), []);
    leader.stand_still(false);
    assert_eq!(ended(&mut leader, at(61), &state), [(Token(1), AttemptOutcome::Lost)]);
}
