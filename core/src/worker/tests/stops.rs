//! Cancel and timeout (P7.6).

use super::*;

#[test]
fn a_cancelled_handler_is_asked_then_killed_after_the_grace() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let effects = bench.hear(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled });
    assert_eq!(signals(&effects), [(5, Signal::Term)]);
    assert!(signals(&bench.advance(Duration::from_millis(4_999))).is_empty());
    assert_eq!(signals(&bench.advance(Duration::from_millis(1))), [(5, Signal::Kill)]);
    let report = reports(&bench.end(5, Ending::failure("signal 9", true))).swap_remove(0);
    assert_eq!((report.outcome, report.retryable), (AttemptOutcome::Cancelled, false));
    assert!(report.error.contains("stopped on request; signal 9"));
}

#[test]
fn a_repeated_stop_neither_asks_again_nor_moves_the_kill() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let stop = LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled };
    bench.hear(stop.clone());
    bench.advance(secs(2));
    assert!(signals(&bench.hear(stop)).is_empty());
    assert_eq!(signals(&bench.advance(secs(3))), [(5, Signal::Kill)]);
}

#[test]
fn a_stop_that_overtakes_its_attempt_is_remembered() {
    let mut bench = Bench::joined(1);
    bench.hear(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled });
    let effects = bench.open([5]);
    assert!(starts(&effects).is_empty());
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Cancelled)]);
}

#[test]
fn remembered_stops_are_bounded() {
    let mut bench = Bench::joined(2);
    let max = config::EARLY_STOPS_MAX as u64;
    for token in 1..=max + 1 {
        bench.hear(LeaderFrame::Stop { token: Token(token), why: StopWhy::Cancelled });
    }
    assert_eq!(starts(&bench.open([1])), [1], "the oldest is forgotten");
    assert_eq!(starts(&bench.open([2])), [0_u64; 0], "the others are not");
}

#[test]
fn a_stop_after_the_end_changes_nothing() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    assert_eq!(outcomes(&bench.succeed(5)), [(5, AttemptOutcome::Succeeded)]);
    let effects = bench.hear(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled });
    assert_eq!(effects, []);
}

#[test]
fn the_run_timeout_is_measured_on_the_workers_own_clock() {
    let mut bench = Bench::joined(1);
    let attempt = Assignment { run_timeout_ms: 1_500, ..assignment(5) };
    bench.hear(LeaderFrame::Open(vec![attempt]));
    // The wall clock steps; the deadline does not.
    bench.now.wall = Timestamp::from_seconds(1_000_000);
    let all = bench.live_through(Duration::from_millis(6_600));
    assert_eq!(timed_signals(&all), [(1_500, 5, Signal::Term), (6_500, 5, Signal::Kill)]);
    let effects = bench.end(5, Ending::success(Bytes::new()));
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::TimedOut)]);
}

#[test]
fn a_timed_out_attempt_may_be_retried() {
    let mut bench = Bench::joined(1);
    let attempt = Assignment { run_timeout_ms: 1_000, ..assignment(5) };
    bench.hear(LeaderFrame::Open(vec![attempt]));
    bench.advance(secs(1));
    let report = reports(&bench.end(5, Ending::failure("", false))).swap_remove(0);
    assert_eq!((report.outcome, report.retryable), (AttemptOutcome::TimedOut, true));
    assert_eq!(&*report.error, "the run timeout of 1000 ms passed");
}

#[test]
fn a_cancel_outweighs_a_timeout_that_came_first() {
    let mut bench = Bench::joined(1);
    let attempt = Assignment { run_timeout_ms: 1_000, ..assignment(5) };
    bench.hear(LeaderFrame::Open(vec![attempt]));
    bench.advance(secs(1));
    bench.hear(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled });
    assert_eq!(outcomes(&bench.succeed(5)), [(5, AttemptOutcome::Cancelled)]);
}

#[test]
fn the_fence_cuts_a_grace_short() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    // 8 s after the last answered sending: the grace would reach to 13 s, the fence is at 12 s.
    bench.advance_clock(secs(8));
    bench.hear(LeaderFrame::Stop { token: Token(5), why: StopWhy::Cancelled });
    let all = bench.live_through(secs(10));
    assert_eq!(timed_signals(&all), [(4_000, 5, Signal::Kill)]);
}
