//! What is started, what is reported, and how long a result is kept (P7.2, P7.5, P7.8).

use super::*;

#[test]
fn a_token_starts_at_most_once_in_a_life() {
    let mut bench = Bench::joined(4);
    assert_eq!(starts(&bench.open([5])), [5]);
    assert_eq!(starts(&bench.open([5])), [0_u64; 0], "while it runs");
    bench.succeed(5);
    assert_eq!(starts(&bench.open([5])), [0_u64; 0], "while its result waits");
    bench.hear(LeaderFrame::Acknowledged(vec![(Token(5), Token(5))]));
    assert_eq!(starts(&bench.open([5])), [0_u64; 0], "after it is forgotten");
}

#[test]
fn attempts_of_one_turn_leave_in_one_frame() {
    let mut bench = Bench::joined(500);
    bench.driver.feed(
        bench.now,
        Input::Frame {
            connection: bench.connection,
            frame: LeaderFrame::Open((1..=300).map(assignment).collect()),
        },
    );
    for token in 1..=300 {
        let ending = Ending::success(Bytes::new());
        bench.driver.feed(bench.now, Input::Ended { token: Token(token), ending });
    }
    let effects = bench.turn();
    assert_eq!(frames(&effects).len(), 1);
    assert_eq!(reports(&effects).len(), 300);
}

#[test]
fn large_results_are_spread_over_frames_below_the_message_bound() {
    let mut bench = Bench::joined(20);
    bench.open(1..=20);
    for token in 1..=20 {
        let ending = Ending::success(Bytes::from(vec![b'x'; limits::RESULT_BYTES_MAX]));
        bench.driver.feed(bench.now, Input::Ended { token: Token(token), ending });
    }
    let effects = bench.turn();
    assert_eq!(reports(&effects).len(), 20);
    for frame in frames(&effects) {
        let WorkerFrame::Reports(list) = frame else { continue };
        let bytes: usize = list.iter().map(|report| report.output.len()).sum();
        assert!(bytes < limits::MESSAGE_BYTES_MAX / 2, "{bytes}");
    }
}

#[test]
fn a_result_is_kept_and_named_until_it_is_acknowledged() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    assert_eq!(outcomes(&bench.succeed(5)), [(5, AttemptOutcome::Succeeded)]);
    assert_eq!(heartbeats(&bench.advance(secs(3))), [(1, vec![Token(5)])]);
    bench.cut();
    let (hello, effects) = bench.join(vec![Token(5)]);
    assert_eq!(hello.tokens, [Token(5)]);
    assert_eq!(outcomes(&effects), [(5, AttemptOutcome::Succeeded)], "reported again");
    bench.hear(LeaderFrame::Acknowledged(vec![(Token(1), Token(9))]));
    assert_eq!(heartbeats(&bench.advance(secs(3))), [(2, vec![])]);
}

#[test]
fn a_range_forgets_results_but_not_what_runs_within_it() {
    let mut bench = Bench::joined(3);
    bench.open([5, 6, 7]);
    bench.succeed(5);
    bench.succeed(7);
    bench.hear(LeaderFrame::Acknowledged(vec![(Token(5), Token(7))]));
    assert_eq!(bench.driver.machine().tokens(), [Token(6)]);
}

#[test]
fn a_result_that_the_welcome_does_not_extend_is_forgotten() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.succeed(5);
    bench.cut();
    let (_, effects) = bench.join(vec![]);
    assert!(outcomes(&effects).is_empty());
    assert_eq!(bench.driver.machine().tokens(), []);
}

#[test]
fn an_attempt_beyond_the_slots_is_handed_back() {
    let mut bench = Bench::joined(1);
    let effects = bench.open([5, 6]);
    assert_eq!(starts(&effects), [5]);
    assert_eq!(outcomes(&effects), [(6, AttemptOutcome::Interrupted)]);
}

#[test]
fn an_oversize_result_fails_for_good_and_keeps_its_tail() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.say(Input::Output { token: Token(5), data: Bytes::from_static(b"almost done") });
    let big = Bytes::from(vec![b'x'; limits::RESULT_BYTES_MAX + 1]);
    let report = reports(&bench.end(5, Ending::success(big))).swap_remove(0);
    assert_eq!((report.outcome, report.retryable), (AttemptOutcome::Failed, false));
    assert!(report.error.starts_with("RESULT_TOO_LARGE"));
    assert_eq!(&report.tail[..], b"almost done");
}

#[test]
fn a_start_is_announced_once_a_session_and_only_while_the_handler_runs() {
    let mut bench = Bench::joined(2);
    bench.open([5, 6]);
    bench.driver.feed(bench.now, Input::Started { token: Token(5) });
    bench.driver.feed(bench.now, Input::Started { token: Token(6) });
    let started = bench.now.wall;
    let effects = bench.succeed(6);
    assert_eq!(frames(&effects)[0], WorkerFrame::Started(vec![(Token(5), started)]));
    assert_eq!(reports(&effects)[0].started_at, Some(started));
    bench.cut();
    let (_, effects) = bench.join(vec![Token(5), Token(6)]);
    assert_eq!(frames(&effects)[0], WorkerFrame::Started(vec![(Token(5), started)]));
}

#[test]
fn an_exit_code_is_reported_as_it_came() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    let ending = Ending { exit_code: Some(75), ..Ending::failure("exit code 75", true) };
    let report = reports(&bench.end(5, ending)).swap_remove(0);
    assert_eq!((report.outcome, report.exit_code), (AttemptOutcome::Failed, Some(75)));
    assert!(report.retryable);
}
