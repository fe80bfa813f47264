//! Shutting down.

use super::*;

fn drain(bench: &mut Bench, within: u64) -> Vec<Effect> {
    bench.say(Input::Drain { within: secs(within) })
}

fn farewell(effects: &[Effect]) -> Option<Farewell> {
    effects.iter().find_map(|effect| match effect {
        Effect::Done(farewell) => Some(farewell.clone()),
        _ => None,
    })
}

#[test]
fn an_idle_worker_leaves_once_the_leader_has_read_that_it_drains() {
    let mut bench = Bench::joined(1);
    let effects = drain(&mut bench, 30);
    assert_eq!(
        frames(&effects),
        [WorkerFrame::Draining, WorkerFrame::Heartbeat { seq: 1, tokens: vec![] }]
    );
    assert_eq!(farewell(&effects), None);
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![] });
    assert_eq!(farewell(&effects), Some(Farewell::Drained));
    assert_eq!(effects[0], Effect::Disconnect { connection: ConnectionId(1) });
}

#[test]
fn a_worker_without_a_session_and_without_attempts_leaves_at_once() {
    let mut bench = Bench::new(1);
    assert_eq!(farewell(&drain(&mut bench, 30)), Some(Farewell::Drained));
}

#[test]
fn a_draining_worker_hands_new_attempts_back() {
    let mut bench = Bench::joined(2);
    drain(&mut bench, 30);
    let effects = bench.open([5]);
    assert!(starts(&effects).is_empty());
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Interrupted)]);
}

#[test]
fn running_attempts_finish_within_the_drain_and_are_acknowledged() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    drain(&mut bench, 30);
    bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(5)] });
    let effects = bench.succeed(5);
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Succeeded)]);
    assert_eq!(farewell(&effects), None);
    let effects = bench.hear(LeaderFrame::Acknowledged(vec![(Token(5), Token(5))]));
    assert_eq!(farewell(&effects), Some(Farewell::Drained));
}

#[test]
fn what_still_runs_after_the_drain_is_handed_back() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    drain(&mut bench, 2);
    let all = bench.live_through(secs(3));
    assert_eq!(timed_signals(&all), [(2_000, 5, Signal::Term)]);
    let effects = bench.end(5, Ending::failure("signal 15", true));
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Interrupted)]);
}

#[test]
fn a_second_drain_can_only_hurry() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    drain(&mut bench, 2);
    assert!(signals(&drain(&mut bench, 60)).is_empty());
    assert_eq!(signals(&drain(&mut bench, 0)), [(5, Signal::Term)]);
}

#[test]
fn results_that_nobody_acknowledges_are_waited_for_but_not_for_ever() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.cut();
    drain(&mut bench, 30);
    bench.succeed(5);
    let all = bench.live_through(secs(10));
    let effects: Vec<_> = all.into_iter().map(|(_, effect)| effect).collect();
    assert_eq!(farewell(&effects), Some(Farewell::Unacknowledged { results: 1 }));
}

#[test]
fn a_drain_outlives_its_session() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    drain(&mut bench, 30);
    bench.cut();
    let (hello, _) = bench.join(vec![Token(5)]);
    assert!(hello.draining);
    bench.succeed(5);
    let effects = bench.hear(LeaderFrame::Acknowledged(vec![(Token(5), Token(5))]));
    assert_eq!(farewell(&effects), Some(Farewell::Drained));
}
