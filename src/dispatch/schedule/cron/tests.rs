//! The calendar, by times that are passed in.

use super::*;

/// The clock time at which each schedule begins, ns.
const START: u64 = 1_000_000_000_000;

const HOUR: u64 = 3_600 * 1_000_000_000;

/// Central European time, without a database.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// A point of the wall clock.
fn at(text: &str) -> SystemTime {
    text.parse::<Timestamp>().unwrap().into()
}

/// The first `count` occurrences of `expression` in `zone` after `from`.
fn occurrences(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::cron_in(expression, zone).unwrap();
    let Kind::Cron(cron) = schedule.kind else {
        panic!("it is by the calendar")
    };
    let next = |from: &SystemTime| cron.after(*from);
    let occurrences = std::iter::successors(next(&at(from)), next).take(count);
    occurrences
        .map(|at| Timestamp::try_from(at).unwrap().to_string())
        .collect()
}

/// A schedule by `expression` that begins at `wall`, and when it is looked at first.
fn started(expression: &str, wall: &str) -> (Schedule, u64) {
    let mut schedule = Schedule::cron(expression).unwrap();
    let due = schedule.start(START, at(wall));
    (schedule, due)
}

#[test]
fn an_occurrence_is_taken_from_its_first_nanosecond_on() {
    let (mut schedule, due) = started("0 9 * * 1-5", "2026-11-27T08:59:59Z");
    assert_eq!(due, START + 1_000_000_000);
    let early = schedule.look(due, due - 1, at("2026-11-27T08:59:59.999999999Z"));
    assert_eq!((early.tick, early.skipped, early.next), (None, 0, due));
    let on_time = schedule.clone().look(due, due, at("2026-11-27T09:00:00Z"));
    assert_eq!((on_time.tick, on_time.skipped), (Some(due), 0));
    let late = schedule.look(due, due + 7, at("2026-11-27T09:00:00.000000007Z"));
    assert_eq!((late.tick, late.skipped), (Some(due), 0), "due when it was");
    assert_eq!(late.next, due + 7 + HOUR, "the next one is on Monday");
}

#[test]
fn a_schedule_that_begins_at_an_occurrence_waits_for_the_next() {
    let (_, due) = started("* * * * *", "2026-11-27T09:00:00Z");
    assert_eq!(due, START + 60_000_000_000);
    let (_, due) = started("*/10 * * * * *", "2026-11-27T09:00:09.5Z");
    assert_eq!(due, START + 500_000_000);
}

#[test]
fn missed_occurrences_are_skipped_but_for_the_earliest_and_counted() {
    let (mut schedule, due) = started("*/15 * * * *", "2026-11-27T09:00:00Z");
    let late = due + HOUR;
    let look = schedule.look(due, late, at("2026-11-27T10:15:00Z"));
    assert_eq!((look.tick, look.skipped), (Some(due), 4));
    assert_eq!(look.next, late + HOUR / 4);
}

#[test]
fn of_very_many_missed_occurrences_some_are_counted() {
    let (mut schedule, due) = started("* * * * *", "2026-11-27T09:00:00Z");
    let look = schedule.look(due, due, at("2027-11-27T09:00:30Z"));
    assert_eq!((look.tick, look.skipped), (Some(0), MOST_SKIPPED));
    assert_eq!(look.next, due + 30_000_000_000);
}

#[test]
fn a_step_forward_is_noticed_within_an_hour() {
    let (mut schedule, due) = started("0 9 * * *", "2026-11-27T09:00:00Z");
    assert_eq!(due, START + HOUR);
    let look = schedule.look(due, due, at("2026-11-28T09:30:00Z"));
    let half = HOUR / 2;
    assert_eq!(
        (look.tick, look.skipped, look.next),
        (Some(due - half), 0, due + HOUR)
    );
}

#[test]
fn after_a_step_back_no_occurrence_is_taken_again() {
    let (mut schedule, due) = started("0 * * * *", "2026-11-27T09:30:00Z");
    let look = schedule.look(due, due, at("2026-11-27T10:00:00Z"));
    assert_eq!((look.tick, look.skipped), (Some(due), 0));
    let mut now = due;
    for minutes in [0, 30, 59] {
        now += HOUR;
        let wall = at("2026-11-27T09:00:00Z") + Duration::from_secs(minutes * 60);
        let look = schedule.look(now, now, wall);
        assert_eq!((look.tick, look.next), (None, now + HOUR));
    }
    let look = schedule.look(now, now, at("2026-11-27T11:00:00Z"));
    assert_eq!((look.tick, look.skipped), (Some(now), 0));
}

#[test]
fn a_wall_clock_that_goes_slower_makes_no_tick_early() {
    let (mut schedule, due) = started("* * * * *", "2026-11-27T09:00:00Z");
    let look = schedule.look(due, due, at("2026-11-27T09:00:59.75Z"));
    assert_eq!((look.tick, look.next), (None, due + 250_000_000));
}

#[test]
fn months_end_where_they_end() {
    let days = |expression, from| occurrences(expression, "UTC", from, 4).join(" ");
    assert_eq!(
        days("0 0 L * *", "2027-11-15T00:00:00Z"),
        "2027-11-30T00:00:00Z 2027-12-31T00:00:00Z 2028-01-31T00:00:00Z 2028-02-29T00:00:00Z"
    );
    assert_eq!(
        days("0 0 31 * *", "2027-11-15T00:00:00Z"),
        "2027-12-31T00:00:00Z 2028-01-31T00:00:00Z 2028-03-31T00:00:00Z 2028-05-31T00:00:00Z"
    );
    assert_eq!(
        days("0 0 29 2 *", "2092-11-15T00:00:00Z"),
        "2096-02-29T00:00:00Z 2104-02-29T00:00:00Z 2108-02-29T00:00:00Z 2112-02-29T00:00:00Z"
    );
    assert_eq!(
        days("59 23 * * 5L", "2027-11-15T00:00:00Z"),
        "2027-11-26T23:59:00Z 2027-12-31T23:59:00Z 2028-01-28T23:59:00Z 2028-02-25T23:59:00Z"
    );
    assert_eq!(
        days("0 0 13 * FRI", "2026-11-01T00:00:00Z"),
        "2026-11-06T00:00:00Z 2026-11-13T00:00:00Z 2026-11-20T00:00:00Z 2026-11-27T00:00:00Z"
    );
}

#[test]
fn sunday_is_zero_and_seven() {
    let sundays = ["0", "7", "SUN"].map(|day| {
        let expression = format!("0 0 * * {day}");
        occurrences(&expression, "UTC", "2026-11-27T00:00:00Z", 2)
    });
    assert_eq!(
        sundays,
        [(); 3].map(|()| ["2026-11-29T00:00:00Z", "2026-12-06T00:00:00Z"])
    );
}

#[test]
fn a_time_that_a_summer_begins_without_comes_after_the_gap() {
    // 02:30 does not exist on 29 March 2026.
    assert_eq!(
        occurrences("30 2 * * *", BERLIN, "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    assert_eq!(
        occurrences("*/30 * * * *", BERLIN, "2026-03-29T00:00:00Z", 3),
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z"
        ]
    );
}

#[test]
fn a_time_that_comes_twice_when_summer_ends_ticks_once() {
    // 02:30 comes twice on 25 October 2026.
    assert_eq!(
        occurrences("30 2 * * *", BERLIN, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        occurrences("0 * * * *", BERLIN, "2026-10-24T23:30:00Z", 3),
        [
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z"
        ]
    );
}

#[test]
fn an_offset_is_a_zone() {
    assert_eq!(
        occurrences("0 9 * * *", "-03:30", "2026-11-27T00:00:00Z", 1),
        ["2026-11-27T12:30:00Z"]
    );
}

#[test]
fn what_never_comes_is_an_error() {
    for expression in [
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "0 0 31W 2 *",
        "* * * 31 4 *",
    ] {
        let error = Schedule::cron(expression).unwrap_err();
        assert_eq!(error, ScheduleError::Never(expression.to_owned()));
        assert_eq!(
            error.to_string(),
            format!(
                "`{expression}` never comes: no month has such a day; choose a day that its month has"
            )
        );
    }
}

#[test]
fn an_error_names_the_field_that_is_wrong_and_what_would_be_right() {
    for (expression, expected) in [
        ("60 * * * *", "the minute `60` must be from 0 to 59"),
        ("* 5-1 * * *", "the hour `5-1` must be from 0 to 23"),
        (
            "* * 0 * *",
            "the day of month `0` must be from 1 to 31, or `L` for the last",
        ),
        (
            "* * * MAI *",
            "the month `MAI` must be from 1 to 12, or `JAN` to `DEC`",
        ),
        (
            "* * * * 8",
            "the day of week `8` must be from 0 to 7, or `SUN` to `SAT`; 0 and 7 are Sunday",
        ),
        ("x * * * * *", "the second `x` must be from 0 to 59"),
        ("*/0 * * * *", "the minute `*/0` must be from 0 to 59"),
        ("* 1,,2 * * *", "the hour `1,,2` must be from 0 to 23"),
        (", * * * *", "the minute `,` must be from 0 to 59"),
    ] {
        let error = Schedule::cron(expression).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("`{expression}` is not a cron expression: {expected}")
        );
    }
    for (expression, count) in [
        ("", 0),
        ("* * * *", 4),
        ("@never", 1),
        ("0 0 0 1 1 * 2020", 7),
    ] {
        let error = Schedule::cron(expression).unwrap_err().to_string();
        assert!(error.contains(&format!("it has {count} fields; use five")));
    }
    let error = Schedule::cron_in("* * * * *", "Berlin").unwrap_err();
    assert_eq!(error, ScheduleError::Zone("Berlin".to_owned()));
}
