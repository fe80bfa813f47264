//! What people write about time: a cron expression and a zone, a duration, a moment. Whatever is
//! taken can be asked for its fire times, and these rise, are whole seconds and do not depend on
//! where the asking began.

use dtask_core::spec::cron::{Calendar, Expression, explain};
use dtask_core::spec::schedule::Clockwork;
use dtask_core::spec::text::{format_duration_ms, parse_duration_ms, parse_time};
use dtask_core::spec::zone;
use dtask_core::spec::{DstFold, DstGap, Rule};
use dtask_core::time::Timestamp;

use crate::meter;

/// Moments from which schedules are asked: before everything, around changes of clocks, near the
/// end of what the tables and the calendar know, beyond it.
const MOMENTS: [i64; 8] = [
    i64::MIN,
    -62_135_596_800_000_000,
    0,
    1_774_745_999_999_999,
    1_792_890_000_000_000,
    4_086_000_000_000_000,
    253_402_300_799_000_000,
    i64::MAX,
];

/// Lines: expression, zone, duration, moment. The first byte chooses the rules for changes of
/// clocks and the moment to begin at.
pub(crate) fn run(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut lines = text.splitn(4, '\n');
    let (expr, zone) = (lines.next().unwrap_or(""), lines.next().unwrap_or("UTC"));
    // Fields become lists of numbers: at most some thousand years and seconds.
    meter::bounded(data.len(), 4_096, || calendar(choice, expr, zone));
    duration(lines.next().unwrap_or("1h"));
    moment(lines.next().unwrap_or("2026-03-01T09:00:00Z"), zone);
}

fn calendar(choice: u8, expr: &str, zone: &str) {
    let gap = [DstGap::Auto, DstGap::Skip, DstGap::Next][usize::from(choice) % 3];
    let folds = [DstFold::Auto, DstFold::First, DstFold::Second, DstFold::Both];
    let fold = folds[usize::from(choice) / 3 % 4];
    let parsed = Expression::parse(expr);
    assert_eq!(parsed.is_ok(), explain(expr).is_ok(), "what is taken is explained");
    if let Err(error) = &parsed {
        assert!(!error.detail.is_empty() && !error.hint.is_empty());
        assert!(expr.get(error.span.clone()).is_some(), "{error:?} points into the expression");
    }
    let calendar = match (parsed, Calendar::parse(expr, zone, gap, fold)) {
        (Ok(expression), Ok(calendar)) => {
            assert_eq!(calendar.expression().source(), expression.source());
            calendar
        }
        (Err(_), Ok(_)) => panic!("a calendar of an expression that is refused"),
        (_, Err(error)) => {
            assert!(!error.detail.is_empty() && !error.hint.is_empty());
            return;
        }
    };
    let from = Timestamp::from_micros(MOMENTS[usize::from(choice) / 12 % MOMENTS.len()]);
    let times: Vec<Timestamp> = calendar.after(from).take(4).collect();
    let mut before = from;
    for &at in &times {
        assert!(at > before, "{at} comes after {before}");
        assert_eq!(at.as_micros() % 1_000_000, 0);
        assert_eq!(calendar.next_after(at.plus_micros(-1)), Some(at), "asked just before");
        let middle = i128::midpoint(before.as_micros().into(), at.as_micros().into());
        let middle = Timestamp::from_micros(middle as i64);
        assert_eq!(calendar.next_after(middle), Some(at), "asked from {middle}");
        before = at;
    }
    // The text in its canonical zone is the same rule: so it is kept and read again by leaders.
    let name = zone::canonical_name(calendar.zone());
    let source = calendar.expression().source();
    let rule = Rule::Cron { expr: source.into(), zone: name.into(), gap, fold };
    let clockwork = Clockwork::new(&rule).expect("it was taken before");
    let again = clockwork.next_after(Timestamp::default(), from);
    assert_eq!(again, times.first().copied(), "the stored rule is the same");
}

fn duration(text: &str) {
    match parse_duration_ms("every", text) {
        Ok(ms) => assert_eq!(parse_duration_ms("every", &format_duration_ms(ms)), Ok(ms)),
        Err(error) => assert!(!error.hint.is_empty()),
    }
    if let Ok(ms) = dtask_proto::json::duration::parse(text) {
        let written = dtask_proto::json::duration::format(ms);
        assert_eq!(dtask_proto::json::duration::parse(&written), Ok(ms), "{written}");
    }
}

fn moment(text: &str, zone: &str) {
    if let Ok(at) = parse_time("at", text, Some(zone)) {
        assert_eq!(parse_time("at", &at.to_string(), None), Ok(at), "{at}");
    }
    if let Ok(micros) = dtask_proto::json::moment::parse(text) {
        let written = dtask_proto::json::moment::format(micros).expect("it was read");
        assert_eq!(dtask_proto::json::moment::parse(&written), Ok(micros), "{written}");
    }
}
