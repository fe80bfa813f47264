//! What becomes of fire times that passed: each is run or recorded as skipped, exactly once.

use dtask_core::limits::FIRE_ON_TIME_MS;
use dtask_core::spec::schedule::{Clockwork, Decision, decide};
use dtask_core::spec::{DstFold, DstGap, Misfire, Overlap, Recurrence, Rule};
use dtask_core::time::Timestamp;
use proptest::prelude::*;

const T0: i64 = 1_767_225_600; // 2026-01-01T00:00:00Z

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(T0 + seconds)
}

fn recurrence(rule: Rule, misfire: Misfire, catch_up_ms: u64) -> Recurrence {
    Recurrence { rule, misfire, catch_up_ms, overlap: Overlap::Skip }
}

fn every(seconds: u64) -> Rule {
    Rule::Every { period_ms: seconds * 1_000, start: None }
}

fn cron(expr: &str) -> Rule {
    let zone = "UTC".into();
    Rule::Cron { expr: expr.into(), zone, gap: DstGap::Auto, fold: DstFold::Auto }
}

/// Takes decisions until nothing is due, as a leader does.
fn catch_up(recurrence: &Recurrence, due: Timestamp, now: Timestamp) -> Vec<Decision> {
    let clockwork = Clockwork::new(&recurrence.rule).expect("valid");
    let mut decisions = Vec::new();
    let mut next = Some(due);
    while let Some(due) = next.filter(|next| *next <= now) {
        let decision = decide(recurrence, &clockwork, due, now);
        assert!(decision.next > Some(due), "each decision moves on: {decision:?}");
        decisions.push(decision);
        next = decision.next;
    }
    decisions
}

fn ran(decisions: &[Decision]) -> Vec<Timestamp> {
    decisions.iter().filter(|d| !d.skip).map(|d| d.fire_time).collect()
}

fn accounted(decisions: &[Decision]) -> u64 {
    decisions.iter().map(|d| 1 + u64::from(d.also_missed)).sum()
}

#[test]
fn a_fire_time_that_is_on_time_runs_and_names_the_next() {
    let rule = recurrence(every(60), Misfire::Skip, 0);
    let clockwork = Clockwork::new(&rule.rule).expect("valid");
    let decision = decide(&rule, &clockwork, at(60), at(61));
    let expected = Decision { fire_time: at(60), next: Some(at(120)), skip: false, also_missed: 0 };
    assert_eq!(decision, expected);
}

#[test]
fn fire_once_runs_the_latest_missed_fire_time_and_skips_the_earlier_ones() {
    let rule = recurrence(every(60), Misfire::FireOnce, 24 * 3_600_000);
    let decisions = catch_up(&rule, at(60), at(60 * 60 + 30));
    assert_eq!(ran(&decisions), [at(3_600)]);
    assert_eq!(decisions.len(), 2, "one that skips 59 and one that runs");
    assert_eq!(accounted(&decisions), 60);
}

#[test]
fn skip_runs_nothing_that_is_late() {
    let rule = recurrence(cron("0 * * * *"), Misfire::Skip, 24 * 3_600_000);
    let decisions = catch_up(&rule, at(3_600), at(10 * 3_600 + 60));
    assert!(ran(&decisions).is_empty());
    assert_eq!(accounted(&decisions), 10);
}

#[test]
fn a_fire_time_older_than_the_catch_up_window_is_skipped_under_every_policy() {
    let rule = recurrence(cron("0 0 * * *"), Misfire::FireOnce, 3_600_000);
    assert!(ran(&catch_up(&rule, at(86_400), at(86_400 + 3_601))).is_empty());
    assert_eq!(ran(&catch_up(&rule, at(86_400), at(86_400 + 3_600))), [at(86_400)]);
}

#[test]
fn a_long_outage_of_a_short_period_takes_few_decisions() {
    let rule = recurrence(every(1), Misfire::FireOnce, 24 * 3_600_000);
    let decisions = catch_up(&rule, at(1), at(30 * 86_400));
    assert!(decisions.len() < 20, "{} decisions", decisions.len());
    assert_eq!(accounted(&decisions), 30 * 86_400);
}

#[test]
fn the_first_fire_time_follows_the_acceptance_and_keeps_a_named_origin() {
    let first = |start, accepted| {
        let rule = Rule::Every { period_ms: 60_000, start };
        Clockwork::new(&rule).expect("valid").first(accepted)
    };
    assert_eq!(first(None, at(5)), Some(at(65)));
    assert_eq!(first(Some(at(100)), at(5)), Some(at(100)));
    assert_eq!(first(Some(at(0)), at(5)), Some(at(60)));
    assert_eq!(first(Some(at(0)), at(60)), Some(at(60)));
    let daily = Clockwork::new(&cron("@daily")).expect("valid");
    assert_eq!(daily.first(at(5)), Some(at(86_400)));
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![
        (1..100_u64).prop_map(every),
        prop::sample::select(vec!["* * * * *", "*/7 * * * *", "*/5 * * * * *", "3 */2 * * *"])
            .prop_map(cron),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn each_missed_fire_time_is_run_or_skipped_once_and_the_policy_says_which(
        rule in rules(),
        misfire in prop::sample::select(vec![Misfire::Skip, Misfire::FireOnce]),
        catch_up_s in 0..3_000_u64,
        outage_s in 0..5_000_i64,
    ) {
        let recurrence = recurrence(rule, misfire, catch_up_s * 1_000);
        let clockwork = Clockwork::new(&recurrence.rule).expect("valid");
        let due = clockwork.first(at(0)).expect("recurs");
        let now = at(outage_s);
        let decisions = catch_up(&recurrence, due, now);

        // The same by listing every fire time.
        let all: Vec<Timestamp> =
            std::iter::successors(Some(due), |fire| clockwork.next_after(due, *fire))
                .take_while(|fire| *fire <= now)
                .collect();
        prop_assert_eq!(accounted(&decisions), all.len() as u64);
        let late_ms = |fire: &Timestamp| now.since(*fire).as_millis() as u64;
        let expected: Vec<Timestamp> = all
            .iter()
            .filter(|fire| {
                late_ms(fire) <= FIRE_ON_TIME_MS
                    || (misfire == Misfire::FireOnce
                        && Some(*fire) == all.last()
                        && late_ms(fire) <= recurrence.catch_up_ms)
            })
            .copied()
            .collect();
        prop_assert_eq!(ran(&decisions), expected);
    }
}
