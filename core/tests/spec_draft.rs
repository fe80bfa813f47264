//! Submitted tasks, field by field: what is accepted, with which defaults, and what is refused.

use bytes::Bytes;
use dtask_core::spec::draft::{parse_word, words};
use dtask_core::spec::{
    Backoff, Draft, DstFold, DstGap, FieldError, InvalidReason, Misfire, Overlap, Rule, Schedule,
};
use dtask_core::time::Timestamp;

fn draft() -> Draft<'static> {
    Draft { id: "nightly", kind: "exec", ..Draft::default() }
}

fn only_fault(draft: Draft<'_>) -> FieldError {
    let mut faults = draft.check().expect_err("a fault");
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn what_is_left_out_takes_the_documented_defaults() {
    let task = draft().check().expect("valid");
    assert_eq!((&*task.id, &*task.name, task.priority), ("nightly", "", 5));
    assert_eq!(task.schedule, Schedule::Now);
    assert_eq!((&*task.profile.kind, &*task.profile.queue), ("exec", "default"));
    assert_eq!(task.profile.run_timeout_ms, 24 * 3_600_000);
    let retry = task.profile.retry;
    assert_eq!((retry.max_retries, retry.backoff), (3, Backoff::Exponential));
    assert_eq!((retry.backoff_base_ms, retry.backoff_max_ms), (1_000, 600_000));
}

#[test]
fn a_cron_task_keeps_its_text_and_its_zone_in_canonical_spelling() {
    let task = Draft { cron: Some(" 30 2 * * 1-5 "), timezone: Some("europe/paris"), ..draft() };
    let Schedule::Recurring(recurrence) = task.check().expect("valid").schedule else {
        panic!("it recurs");
    };
    assert_eq!(
        recurrence.rule,
        Rule::Cron {
            expr: "30 2 * * 1-5".into(),
            zone: "Europe/Paris".into(),
            gap: DstGap::Auto,
            fold: DstFold::Auto,
        }
    );
    assert_eq!((recurrence.misfire, recurrence.overlap), (Misfire::FireOnce, Overlap::Skip));
    assert_eq!(recurrence.catch_up_ms, 24 * 3_600_000);
}

#[test]
fn a_repeated_every_task_without_an_origin_is_the_same_spec() {
    let make = || Draft { every_ms: Some(60_000), ..draft() }.check().expect("valid");
    assert_eq!(make(), make());
    let Schedule::Recurring(recurrence) = make().schedule else { panic!("it recurs") };
    assert_eq!(recurrence.rule, Rule::Every { period_ms: 60_000, start: None });
}

#[test]
fn each_bound_is_refused_with_its_field_and_its_number() {
    let long = "x".repeat(129);
    let codes: Vec<i32> = (0..65).collect();
    let cases: Vec<(Draft<'_>, &str, &str)> = vec![
        (Draft { id: "", ..draft() }, "id", "it is empty"),
        (Draft { id: "a b", ..draft() }, "id", "' ' at position 2 is not allowed"),
        (Draft { id: "-a", ..draft() }, "id", "'-' at position 1 is not allowed"),
        (Draft { id: "né", ..draft() }, "id", "'é' at position 2 is not allowed"),
        (Draft { id: &long, ..draft() }, "id", "129 characters, at most 128"),
        (Draft { name: &long, ..draft() }, "name", "129 characters, at most 128"),
        (
            Draft { name: "a\nb", ..draft() },
            "name",
            "the character at position 2 is a control character",
        ),
        (Draft { kind: "", ..draft() }, "type", "it is empty"),
        (Draft { queue: " q", ..draft() }, "queue", "it begins or ends with a space"),
        (Draft { priority: Some(10), ..draft() }, "priority", "10 is above the largest value, 9"),
        (
            Draft { max_retries: Some(10_001), ..draft() },
            "max_retries",
            "10001 is above the largest value, 10000",
        ),
        (
            Draft { backoff_base_ms: Some(3_000), backoff_max_ms: Some(2_000), ..draft() },
            "backoff_base",
            "3s is longer than backoff_max, 2s",
        ),
        (Draft { backoff_max_ms: Some(-1), ..draft() }, "backoff_max", "-1 ms is negative"),
        (Draft { run_timeout_ms: Some(0), ..draft() }, "timeout", "0s is too short"),
        (
            Draft { run_timeout_ms: Some(i64::MAX), ..draft() },
            "timeout",
            "106751991167d7h12m55s807ms is too long",
        ),
        (Draft { every_ms: Some(999), ..draft() }, "every", "999ms is too short"),
        (Draft { no_retry_exit: &codes, ..draft() }, "no_retry_exit", "65 codes, at most 64"),
        (
            Draft { starts_at: Some(Timestamp::default()), ..draft() },
            "starts_at",
            "it is the origin of every, which is not given",
        ),
        (
            Draft { overlap: Some(Overlap::Allow), ..draft() },
            "overlap",
            "it needs every or cron_expr, and neither is given",
        ),
        (
            Draft { dst_gap: Some(DstGap::Skip), ..draft() },
            "dst_gap",
            "it needs cron_expr, which is not given",
        ),
    ];
    for (draft, field, detail) in cases {
        let fault = only_fault(draft);
        assert_eq!((fault.field.as_str(), fault.detail.as_str()), (field, detail));
        assert_eq!(fault.reason, InvalidReason::FieldInvalid);
        assert!(!fault.hint.is_empty());
    }
}

#[test]
fn reasons_tell_a_bad_cron_a_bad_zone_and_a_large_payload_apart() {
    let fault = only_fault(Draft { cron: Some("0 25 * * *"), ..draft() });
    assert_eq!((fault.reason.as_str(), fault.field.as_str()), ("CRON_INVALID", "cron_expr"));
    assert_eq!(fault.detail, "hour (field 2): 25 is above 23");
    let fault =
        only_fault(Draft { cron: Some("@daily"), timezone: Some("Europe/Pariss"), ..draft() });
    assert_eq!((fault.reason.as_str(), fault.field.as_str()), ("TIMEZONE_UNKNOWN", "timezone"));
    assert_eq!(fault.hint, "did you mean Europe/Paris?");
    let payload = Bytes::from(vec![0; (1 << 20) + 1]);
    let fault = only_fault(Draft { payload, ..draft() });
    assert_eq!(fault.reason.as_str(), "PAYLOAD_TOO_LARGE");
    assert_eq!(fault.detail, "1048577 bytes, at most 1048576");
}

#[test]
fn only_one_schedule_may_be_given() {
    let fault = only_fault(Draft { cron: Some("@daily"), every_ms: Some(60_000), ..draft() });
    assert_eq!(fault.detail, "more than one of at, every and cron_expr is given");
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults =
        Draft { id: "", kind: "", priority: Some(99), cron: Some("x"), ..Draft::default() }
            .check()
            .expect_err("four faults");
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["id", "type", "priority", "cron_expr"]);
}

#[test]
fn a_large_base_of_the_backoff_lifts_the_default_of_its_bound() {
    let task = Draft { backoff_base_ms: Some(3_600_000), ..draft() }.check().expect("valid");
    assert_eq!(task.profile.retry.backoff_max_ms, 3_600_000);
}

#[test]
fn a_word_that_is_none_of_the_choices_is_refused_with_the_list() {
    assert_eq!(parse_word("misfire", "skip", &words::MISFIRE), Ok(Misfire::Skip));
    let fault = parse_word("misfire", "fire_all", &words::MISFIRE).expect_err("not yet a choice");
    assert_eq!(
        fault.to_string(),
        "misfire: \"fire_all\" is none of its values (use one of skip, fire_once)"
    );
}
