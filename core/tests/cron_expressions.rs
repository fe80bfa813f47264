//! What expressions mean, one line each: days, names, nicknames, errors, sentences.

use dtask_core::spec::cron::{Calendar, Expression, Part, explain};
use dtask_core::spec::{DstFold, DstGap};
use dtask_core::time::Timestamp;

/// The first fire times after 2026-01-01T00:00:00Z, in UTC.
fn fires(expr: &str, count: usize) -> Vec<String> {
    let calendar = Calendar::parse(expr, "UTC", DstGap::Auto, DstFold::Auto).expect(expr);
    let after = Timestamp::from_seconds(1_767_225_600);
    calendar.after(after).take(count).map(|moment| moment.to_string()).collect()
}

/// The same, days only.
fn days(expr: &str, count: usize) -> Vec<String> {
    fires(expr, count).into_iter().map(|text| text[5..10].to_owned()).collect()
}

#[test]
fn five_six_and_seven_fields_are_read() {
    assert_eq!(fires("30 2 * * *", 1), ["2026-01-01T02:30:00Z"]);
    assert_eq!(fires("15 30 2 * * *", 1), ["2026-01-01T02:30:15Z"]);
    assert_eq!(fires("15 30 2 1 1 * 2031", 2), ["2031-01-01T02:30:15Z"]);
    assert_eq!(fires("  0\t0  1 *   * ", 1), ["2026-02-01T00:00:00Z"]);
}

#[test]
fn nicknames_stand_for_their_fields() {
    for (nickname, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@MIDNIGHT", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ] {
        assert_eq!(fires(nickname, 5), fires(fields, 5), "{nickname}");
    }
}

#[test]
fn sunday_is_zero_and_seven_and_a_range_may_end_with_it() {
    assert_eq!(days("0 0 * * 0", 2), ["01-04", "01-11"]);
    for same in ["0 0 * * 7", "0 0 * * sun", "0 0 * * SUNDAY", "0 0 * * 7-7"] {
        assert_eq!(days(same, 4), days("0 0 * * 0", 4), "{same}");
    }
    assert_eq!(days("0 0 * * 5-7", 4), ["01-02", "01-03", "01-04", "01-09"]);
    assert_eq!(days("0 0 * * fri-sun", 4), days("0 0 * * 5-7", 4));
    assert_eq!(days("0 0 * * sun-tue", 3), ["01-04", "01-05", "01-06"]);
    assert_eq!(days("0 0 * * 7-2", 3), ["01-04", "01-05", "01-06"]);
}

#[test]
fn steps_lists_ranges_and_names_combine() {
    assert_eq!(
        fires("*/20 9-10 * * *", 4),
        ["2026-01-01T09:00:00Z", "2026-01-01T09:20:00Z", "2026-01-01T09:40:00Z"]
            .into_iter()
            .chain(["2026-01-01T10:00:00Z"])
            .collect::<Vec<_>>()
    );
    assert_eq!(days("0 0 25/3 * *", 3), ["01-25", "01-28", "01-31"]);
    assert_eq!(days("0 0 1 feb,Aug *", 3), ["02-01", "08-01", "02-01"]);
    assert_eq!(days("0 0 1 jan-march *", 3), ["02-01", "03-01", "01-01"]);
    assert_eq!(days("0 0 10-20/5 1 *", 3), ["01-10", "01-15", "01-20"]);
}

#[test]
fn two_restricted_day_fields_are_joined_by_or() {
    // Friday the 9th is a Friday, the 13th is a Tuesday.
    assert_eq!(days("0 0 13 1 5", 6), ["01-02", "01-09", "01-13", "01-16", "01-23", "01-30"]);
}

#[test]
fn a_day_field_that_begins_with_a_star_is_joined_by_and() {
    assert_eq!(days("0 0 */2 1 5", 3), ["01-09", "01-23", "01-01"]);
    assert_eq!(days("0 0 13 * */5", 2), ["02-13", "03-13"]);
    assert_eq!(days("0 0 ? * 5", 2), ["01-02", "01-09"]);
    assert_eq!(days("0 0 13 * ?", 2), ["01-13", "02-13"]);
}

#[test]
fn last_days_nearest_weekdays_and_nth_weekdays_are_found() {
    assert_eq!(days("0 0 L * *", 3), ["01-31", "02-28", "03-31"]);
    assert_eq!(days("0 0 L-2 * *", 2), ["01-29", "02-26"]);
    assert_eq!(days("0 0 15,L 2 *", 2), ["02-15", "02-28"]);
    // 31 January 2026 is a Saturday, 28 February too.
    assert_eq!(days("0 0 LW * *", 3), ["01-30", "02-27", "03-31"]);
    // 15 February and 15 March are Sundays, 1 February a Sunday, 1 August a Saturday.
    assert_eq!(days("0 0 15W * *", 3), ["01-15", "02-16", "03-16"]);
    assert_eq!(days("0 0 1W 2 *", 1), ["02-02"]);
    assert_eq!(days("0 0 1W 8 *", 1), ["08-03"]);
    assert_eq!(days("0 0 31W * *", 3), ["01-30", "03-31", "05-29"]);
    assert_eq!(days("0 0 * * 5#2", 2), ["01-09", "02-13"]);
    assert_eq!(days("0 0 * * fri#5", 2), ["01-30", "05-29"]);
    assert_eq!(days("0 0 * * 5L", 2), ["01-30", "02-27"]);
    assert_eq!(days("0 0 * * 7L,monL", 2), ["01-25", "01-26"]);
}

#[test]
fn rare_days_are_found_and_impossible_ones_refused() {
    assert_eq!(fires("0 0 29 2 *", 2), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    assert_eq!(fires("0 0 */29 2 1", 1), ["2027-02-01T00:00:00Z"]);
    assert!(fires("0 0 0 1 1 * 2020", 1).is_empty());
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 29 2 * 2027"] {
        let error = Expression::parse(never).expect_err(never);
        assert_eq!(error.detail, "no day of any year matches");
    }
}

#[test]
fn an_error_names_the_field_its_place_and_a_remedy() {
    for (expr, part, span, detail) in [
        ("61 * * * *", Part::Minute, 0..2, "minute (field 1): 61 is above 59"),
        ("0 25 * * *", Part::Hour, 2..4, "hour (field 2): 25 is above 23"),
        ("0 0 0 * *", Part::DayOfMonth, 4..5, "day of month (field 3): 0 is below 1"),
        ("0 0 0 * 13 *", Part::Month, 8..10, "month (field 5): 13 is above 12"),
        ("0 0 * * 8", Part::DayOfWeek, 8..9, "day of week (field 5): 8 is above 7"),
        (
            "0 0 * * foo",
            Part::DayOfWeek,
            8..11,
            "day of week (field 5): \"foo\" means nothing here",
        ),
        ("0 0 0 1 1 * 1969", Part::Year, 12..16, "year (field 7): 1969 is below 1970"),
        ("*/0 * * * *", Part::Minute, 0..3, "minute (field 1): a step of 0 never moves on"),
        (
            "*/90 * * * *",
            Part::Minute,
            0..4,
            "minute (field 1): a step of 90 is longer than the field",
        ),
        ("0 22-2 * * *", Part::Hour, 2..6, "hour (field 2): the range 22-2 runs backwards"),
        ("0 1,,2 * * *", Part::Hour, 2..6, "hour (field 2): a value is missing"),
        ("0 L * * *", Part::Hour, 2..3, "hour (field 2): \"L\" means nothing here"),
        ("0 0 * * L", Part::DayOfWeek, 8..9, "day of week (field 5): L needs a day before it"),
        (
            "0 0 * * 5#6",
            Part::DayOfWeek,
            8..11,
            "day of week (field 5): \"5#6\" names no week of the month",
        ),
        ("? * * * *", Part::Minute, 0..1, "minute (field 1): \"?\" means nothing here"),
        ("-1 * * * *", Part::Minute, 0..2, "minute (field 1): \"\" means nothing here"),
    ] {
        let error = Expression::parse(expr).expect_err(expr);
        assert_eq!((error.part, error.span), (Some(part), span), "{expr}");
        assert_eq!(error.detail, detail, "{expr}");
        assert!(!error.hint.is_empty(), "{expr}");
    }
    let error = Expression::parse("0 22-2 * * *").expect_err("backwards");
    assert_eq!(error.hint, "write 22-23,0-2");
}

#[test]
fn an_expression_of_the_wrong_shape_is_refused_as_a_whole() {
    for (expr, detail) in [
        ("", "the expression has 0 fields, not 5, 6 or 7"),
        ("* * * *", "the expression has 4 fields, not 5, 6 or 7"),
        ("* * * * * * * *", "the expression has 8 fields, not 5, 6 or 7"),
        ("@reboot", "@reboot is no known nickname"),
        (&"1,".repeat(200), "the expression has 400 characters, at most 256"),
    ] {
        let error = Expression::parse(expr).expect_err(expr);
        assert_eq!((error.part, error.detail.as_str()), (None, detail));
    }
}

#[test]
fn expressions_are_told_in_plain_english() {
    for (expr, sentence) in [
        ("* * * * *", "Every minute."),
        ("*/5 * * * *", "Every 5th minute."),
        ("30 2 * * *", "At 02:30."),
        ("0 9,17 * * mon-fri", "At 09:00 and 17:00, on Monday through Friday."),
        ("*/5 9-17 * * *", "Every 5th minute of hours 9 through 17."),
        ("0 * * * *", "Minute 0 of every hour."),
        ("* * * * * *", "Every second."),
        ("0 0 13 * 5", "At 00:00, on the 13th of the month or on Friday."),
        (
            "0 0 */2 * 5",
            "At 00:00, on every 2nd day from the 1st through the 31st of the month if that is Friday.",
        ),
        ("0 0 L 2 *", "At 00:00, on the last day of the month, in February."),
        ("0 0 * * 5#2", "At 00:00, on the 2nd Friday of the month."),
        (
            "15 30 2 1,15 jan * 2031",
            "At 02:30:15, on the 1st and the 15th of the month, in January, in 2031.",
        ),
        ("@weekly", "At 00:00, on Sunday."),
    ] {
        assert_eq!(explain(expr).expect(expr), sentence, "{expr}");
    }
}
