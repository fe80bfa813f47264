//! Live output (P7.9).

use super::*;

fn write(bench: &mut Bench, data: &'static [u8]) -> Vec<Effect> {
    bench.say(Input::Output { token: Token(5), data: Bytes::from_static(data) })
}

fn pieces(effects: &[Effect]) -> Vec<(u64, Bytes, bool)> {
    frames(effects)
        .into_iter()
        .filter_map(|frame| match frame {
            WorkerFrame::Output { offset, data, end, .. } => Some((offset, data, end)),
            _ => None,
        })
        .collect()
}

#[test]
fn output_is_sent_only_while_someone_reads() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    assert!(pieces(&write(&mut bench, b"one ")).is_empty());
    let effects = bench.hear(LeaderFrame::Follow { token: Token(5), offset: 0 });
    assert_eq!(pieces(&effects), [(0, Bytes::from_static(b"one "), false)]);
    bench.advance(secs(1));
    let effects = write(&mut bench, b"two ");
    assert_eq!(pieces(&effects), [(4, Bytes::from_static(b"two "), false)]);
    bench.hear(LeaderFrame::Unfollow { token: Token(5) });
    bench.advance(secs(1));
    assert!(pieces(&write(&mut bench, b"three")).is_empty());
}

#[test]
fn a_chatty_handler_is_paced() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.hear(LeaderFrame::Follow { token: Token(5), offset: 0 });
    assert_eq!(pieces(&write(&mut bench, b"a")).len(), 1);
    assert!(pieces(&write(&mut bench, b"b")).is_empty());
    assert!(pieces(&write(&mut bench, b"c")).is_empty());
    assert_eq!(bench.driver.sleep(bench.now), Some(config::OUTPUT_PERIOD));
    let effects = bench.advance(config::OUTPUT_PERIOD);
    assert_eq!(pieces(&effects), [(1, Bytes::from_static(b"bc"), false)]);
}

#[test]
fn the_end_of_output_goes_ahead_of_the_report() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.hear(LeaderFrame::Follow { token: Token(5), offset: 0 });
    write(&mut bench, b"a");
    write(&mut bench, b"b");
    let effects = bench.succeed(5);
    assert_eq!(pieces(&effects), [(1, Bytes::from_static(b"b"), false), (2, Bytes::new(), true)]);
    assert!(matches!(frames(&effects).last(), Some(WorkerFrame::Reports(_))));
    assert_eq!(&reports(&effects)[0].tail[..], b"ab");
}

#[test]
fn a_reader_of_an_ended_attempt_gets_the_tail_and_the_end() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    write(&mut bench, b"hello");
    bench.succeed(5);
    let effects = bench.hear(LeaderFrame::Follow { token: Token(5), offset: 2 });
    assert_eq!(pieces(&effects), [(2, Bytes::from_static(b"llo"), true)]);
}

#[test]
fn a_reader_of_an_unknown_attempt_is_told_that_nothing_comes() {
    let mut bench = Bench::joined(1);
    let effects = bench.hear(LeaderFrame::Follow { token: Token(8), offset: 7 });
    assert_eq!(pieces(&effects), [(7, Bytes::new(), true)]);
}

#[test]
fn readers_end_with_the_session_and_resume_by_offset() {
    let mut bench = Bench::joined(1);
    bench.open([5]);
    bench.hear(LeaderFrame::Follow { token: Token(5), offset: 0 });
    write(&mut bench, b"abc");
    bench.cut();
    write(&mut bench, b"def");
    let (_, effects) = bench.join(vec![Token(5)]);
    assert!(pieces(&effects).is_empty());
    bench.advance(secs(1));
    let effects = bench.hear(LeaderFrame::Follow { token: Token(5), offset: 3 });
    assert_eq!(pieces(&effects), [(3, Bytes::from_static(b"def"), false)]);
}
