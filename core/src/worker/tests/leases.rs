//! Self-fencing (P7.4) and who may extend a lease (P7.3).

use super::*;

#[test]
fn a_handler_is_asked_at_nine_seconds_and_killed_at_twelve_of_the_last_answered_sending() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let all = bench.live_through(secs(20));
    assert_eq!(timed_signals(&all), [(9_000, 5, Signal::Term), (12_000, 5, Signal::Kill)]);
}

#[test]
fn a_lease_counts_from_the_sending_of_the_heartbeat_not_from_its_answer() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let beats = heartbeats(&bench.advance(secs(3)));
    assert_eq!(beats, [(1, vec![Token(5)])]);
    bench.advance(secs(2));
    bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(5)] });
    // Sent at 3 s, so the handler is asked at 12 s, which is 7 s from here.
    let all = bench.live_through(secs(12));
    assert_eq!(timed_signals(&all), [(7_000, 5, Signal::Term), (10_000, 5, Signal::Kill)]);
}

#[test]
fn a_lease_of_a_new_attempt_counts_from_the_newest_answered_sending() {
    let mut bench = Bench::joined(1);
    bench.advance(secs(2));
    bench.open([5]);
    let all = bench.live_through(secs(20));
    assert_eq!(timed_signals(&all)[0], (7_000, 5, Signal::Term));
}

#[test]
fn a_broken_connection_leaves_handlers_running_until_the_fence() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    assert!(signals(&bench.cut()).is_empty());
    let all = bench.live_through(secs(13));
    assert_eq!(timed_signals(&all), [(9_000, 5, Signal::Term), (12_000, 5, Signal::Kill)]);
}

#[test]
fn a_worker_that_slept_through_its_lease_kills_before_it_listens() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.advance(secs(3));
    bench.advance_clock(secs(60));
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(5)] });
    assert_eq!(signals(&effects), [(5, Signal::Kill)]);
    assert!(effects.contains(&Effect::Note(Note::Fenced { token: Token(5) })));
}

#[test]
fn a_fenced_attempt_is_reported_lost_at_reconnection_never_omitted() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.cut();
    bench.live_through(secs(13));
    bench.end(5, Ending::failure("killed", true));
    let (hello, effects) = bench.join(vec![Token(5)]);
    assert_eq!(hello.tokens, [Token(5)]);
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Lost)]);
}

#[test]
fn a_token_of_a_heartbeat_that_is_not_extended_is_aborted() {
    let mut bench = Bench::joined(2);
    bench.open([5, 6]);
    bench.advance(secs(3));
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(6)] });
    assert_eq!(signals(&effects), [(5, Signal::Term)]);
    let all = bench.live_through(secs(5));
    assert!(timed_signals(&all).contains(&(5_000, 5, Signal::Kill)));
}

#[test]
fn an_attempt_opened_after_a_heartbeat_is_untouched_by_its_answer() {
    let mut bench = Bench::joined(2);
    bench.advance(secs(3));
    bench.open([5]);
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![] });
    assert!(signals(&effects).is_empty());
}

#[test]
fn an_answer_to_a_heartbeat_of_an_older_session_extends_nothing() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.advance(secs(3));
    bench.cut();
    bench.join(vec![Token(5)]);
    bench.advance(secs(1));
    bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![] });
    let all = bench.live_through(secs(20));
    // From the Hello, sent 1 s ago: neither extended nor aborted by the late answer.
    assert_eq!(timed_signals(&all)[0], (8_000, 5, Signal::Term));
}

#[test]
fn shorter_leases_are_fenced_in_proportion() {
    let mut bench = Bench::new(1);
    bench.greet();
    bench.hear(LeaderFrame::Welcome {
        session: SessionId(1),
        lease_ttl_ms: 1_000,
        heartbeat_ms: 200,
        extends: vec![],
    });
    bench.open([5]);
    let all = bench.live_through(secs(2));
    assert_eq!(timed_signals(&all), [(600, 5, Signal::Term), (800, 5, Signal::Kill)]);
}

#[test]
fn an_assignment_under_a_lease_that_is_over_is_handed_back_unstarted() {
    let mut bench = Bench::joined(1);
    bench.advance(secs(3));
    bench.advance_clock(secs(6));
    // The frame waited in a socket while the worker slept.
    let effects = bench.open([5]);
    assert!(starts(&effects).is_empty());
    let (hello, effects) = bench.join(vec![Token(5)]);
    assert_eq!(hello.tokens, [Token(5)]);
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Interrupted)]);
}

fn guards(effects: &[(Duration, Effect)]) -> Vec<(u128, u128)> {
    let begin = Instant::from_micros(50_000_000);
    effects
        .iter()
        .filter_map(|(at, effect)| match effect {
            Effect::Guard { until } => Some((at.as_millis(), until.since(begin).as_millis())),
            _ => None,
        })
        .collect()
}

#[test]
fn the_watchdog_knows_the_lease_before_the_handler_starts() {
    let mut bench = Bench::joined(2);
    let effects = bench.open([5, 6]);
    let until = bench.now.mono + secs(13);
    assert_eq!(effects[0], Effect::Guard { until });
    assert!(matches!(effects[1], Effect::StartHandler(_)));
    assert_eq!(effects.iter().filter(|e| matches!(e, Effect::Guard { .. })).count(), 1);
}

#[test]
fn the_watchdog_waits_for_the_lease_that_ends_first() {
    let mut bench = Bench::joined(2);
    bench.open([5, 6]);
    bench.advance(secs(3));
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(6)] });
    assert!(guards(&[(secs(0), effects[0].clone())]).is_empty());
    // Attempt 5 is not extended: it is killed at 8 s, and only then does 6's lease count.
    let all = bench.live_through(secs(6));
    assert_eq!(guards(&all), [(5_000, 16_000)]);
}

#[test]
fn an_answered_heartbeat_moves_the_watchdog_to_the_sending_plus_the_fence() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.advance(secs(3));
    bench.advance(secs(2));
    let effects = bench.hear(LeaderFrame::Renewed { seq: 1, extends: vec![Token(5)] });
    assert_eq!(guards(&[(secs(0), effects[0].clone())]), [(0, 16_000)]);
}

#[test]
fn an_idle_worker_tells_the_watchdog_nothing() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.succeed(5);
    let all = bench.live_through(secs(10));
    assert_eq!(guards(&all), []);
    let effects = bench.join(vec![]).1;
    assert_eq!(guards(&effects.into_iter().map(|e| (secs(0), e)).collect::<Vec<_>>()), []);
    // The next handler is covered anew.
    assert!(matches!(bench.open([6])[0], Effect::Guard { .. }));
}
