//! Cron expressions: parsed and computed by `croner`, in time zones of `jiff`.
//!
//! An occurrence is a wall-clock time, and workers sleep by another clock. A schedule is therefore checked when the
//! next occurrence is expected, and at least every hour. A check before the occurrence takes nothing and plans another
//! check. The next occurrence follows from the one before, not from the time, so none is taken twice when the wall
//! clock is set back.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;

use super::{Kind, Look, Schedule};
use crate::clock::{NEVER, nanos};

/// The longest time for which a step of the wall clock remains undetected.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

/// How many skipped occurrences are counted at a time, as they are computed one by one under the dispatcher's lock:
/// those of a week if there is one a minute.
const MOST_SKIPPED: u64 = 10_000;

/// The fields of an expression, and what each may be.
const FIELDS: [(&str, &str); 6] = [
    ("second", "from 0 to 59"),
    ("minute", "from 0 to 59"),
    ("hour", "from 0 to 23"),
    ("day of month", "from 1 to 31, or `L` for the last"),
    ("month", "from 1 to 12, or `JAN` to `DEC`"),
    (
        "day of week",
        "from 0 to 7, or `SUN` to `SAT`; 0 and 7 are Sunday",
    ),
];

impl Schedule {
    /// Returns a schedule that ticks when the wall clock matches `expression`, in UTC.
    ///
    /// The five fields of an expression are minute, hour, day of month, month and day of week; a field before them is
    /// the second. Each is `*`, a number, a range `1-5`, a step `*/15`, or a list of those with commas. Months and days
    /// of the week may be names: `JAN`, `MON`. `L` is the last day of a month, `5L` its last Friday, `5#2` its second
    /// Friday, and `15W` the weekday nearest to the 15th. If both days are restricted, a date that matches either one
    /// is enough. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` are names of common expressions.
    ///
    /// Ticks follow [`Clock::system_time`](crate::Clock::system_time). No tick is early by the wall clock, and none is
    /// taken twice. A step of the wall clock is detected within an hour. If a step forward passes several occurrences,
    /// only the earliest is taken, and at most 10,000 skipped ones are counted. After a step back, the next tick is the
    /// first occurrence after the latest one that was taken. A tick costs a worker some microseconds.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`] if the expression is invalid, or never matches. Detecting that an expression never
    /// matches takes up to about 0.3 s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use liveness::ManualClock;
    /// use liveness::dispatch::{Dispatcher, On, Schedule, Topic};
    ///
    /// const REPORT: Topic<()> = Topic::new("report");
    /// let clock = ManualClock::new();
    /// let dispatcher = Dispatcher::builder().clock(clock.clone()).build()?;
    /// dispatcher.on(&REPORT, "print", On::new(), |_, ()| Ok(()))?;
    /// dispatcher.schedule(&REPORT, "quarterly", Schedule::cron("*/15 * * * *")?, || ())?;
    /// clock.advance(Duration::from_secs(15 * 60));
    /// dispatcher.flush(Duration::from_secs(60));
    /// assert_eq!(dispatcher.stats().total().done, 1);
    ///
    /// let error = Schedule::cron("0 24 * * *").unwrap_err();
    /// assert_eq!(error.to_string(), "`0 24 * * *` is not a cron expression: the hour `24` must be from 0 to 23");
    /// assert!(Schedule::cron("0 0 30 2 *").unwrap_err().to_string().starts_with("`0 0 30 2 *` never comes"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "cron")))]
    pub fn cron(expression: &str) -> Result<Self, ScheduleError> {
        Schedule::cron_by(expression, TimeZone::UTC)
    }

    /// Returns a schedule that ticks when the wall clock of the time zone `zone` matches `expression`. See
    /// [`cron`](Schedule::cron) for the expression.
    ///
    /// The zone is a name of the IANA database, such as `Europe/Berlin`, an offset, such as `+02:00`, or a rule as in
    /// POSIX, such as `CET-1CEST,M3.5.0,M10.5.0/3`. Names are looked up in the database of the operating system.
    ///
    /// Where clocks are set forward, an hour and minute that do not exist on that day tick at the first moment after
    /// the gap. Where clocks are set back, an hour and minute that come twice tick the first time. An expression whose
    /// minute or hour is `*` or a step continues at its interval.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`] if the expression is invalid or never matches, or the zone is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveness::dispatch::Schedule;
    ///
    /// let nine_on_weekdays = Schedule::cron_in("0 9 * * 1-5", "-03:00")?;
    /// let error = Schedule::cron_in("0 9 * * 1-5", "Mars/Olympus").unwrap_err();
    /// assert!(error.to_string().starts_with("`Mars/Olympus` is not a known time zone"));
    /// # Ok::<(), liveness::dispatch::ScheduleError>(())
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "cron")))]
    pub fn cron_in(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        match DateTimeParser::new().parse_time_zone(zone) {
            Ok(zone) => Schedule::cron_by(expression, zone),
            Err(_) => Err(ScheduleError::Zone(zone.to_owned())),
        }
    }

    /// Returns a schedule that ticks when the wall clock of the time zone of the operating system matches `expression`.
    /// See [`cron_in`](Schedule::cron_in) for changes of the clock.
    ///
    /// # Errors
    ///
    /// Returns a [`ScheduleError`] if the expression is invalid or never matches, or the operating system has no time
    /// zone.
    ///
    /// # Examples
    ///
    /// ```
    /// use liveness::dispatch::Schedule;
    ///
    /// assert!(Schedule::cron_local("@noon").is_err());
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "cron")))]
    pub fn cron_local(expression: &str) -> Result<Self, ScheduleError> {
        match TimeZone::try_system() {
            Ok(zone) => Schedule::cron_by(expression, zone),
            Err(_) => Err(ScheduleError::Zone("local".to_owned())),
        }
    }

    /// A schedule by `expression` in `zone`.
    fn cron_by(expression: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let parsed = parse(expression).ok_or_else(|| ScheduleError::Invalid {
            expression: expression.to_owned(),
            reason: reason(expression),
        })?;
        let cron = Cron {
            expression: Arc::new(parsed),
            zone,
            next: None,
        };
        // What matches once matches again, as there is no field for the year.
        if cron.after(SystemTime::UNIX_EPOCH).is_none() {
            return Err(ScheduleError::Never(expression.to_owned()));
        }
        Ok(Schedule {
            kind: Kind::Cron(cron),
        })
    }
}

/// Parses an expression of five or six fields, none of which lists an empty item: `croner` treats an empty item as a
/// field that matches nothing, and searches for seconds before it fails.
fn parse(expression: &str) -> Option<croner::Cron> {
    let mut fields = expression.split_whitespace();
    if fields.any(|field| field.split(',').any(str::is_empty)) {
        return None;
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Optional)
        .year(Year::Disallowed);
    parser.build().parse(expression).ok()
}

/// Describes the error in the invalid `expression`, and the valid form.
fn reason(expression: &str) -> String {
    let fields: Vec<_> = expression.split_whitespace().collect();
    let count = fields.len();
    if !(5..=6).contains(&count) {
        return format!(
            "it has {count} fields; use five (minute, hour, day of month, month, day of week), such as `0 9 * * 1-5`, \
             or six that begin with the second"
        );
    }
    let names = &FIELDS[FIELDS.len() - count..];
    let wrong = (0..count).find_map(|at| {
        let mut alone = vec!["*"; count];
        alone[at] = fields[at];
        let (name, range) = names[at];
        let is_wrong = parse(&alone.join(" ")).is_none();
        is_wrong.then(|| format!("the {name} `{}` must be {range}", fields[at]))
    });
    wrong.unwrap_or_else(|| "its fields do not go together".to_owned())
}

/// A schedule by the calendar.
#[derive(Clone, Debug)]
pub(super) struct Cron {
    /// The expression.
    expression: Arc<croner::Cron>,
    /// The time zone.
    zone: TimeZone,
    /// The next occurrence; `None` before the start, and at the end of the calendar, the year 5000.
    next: Option<SystemTime>,
}

impl Cron {
    /// Begins at `now` ns, which is `wall` by the wall clock. Returns the time of the first check, ns.
    pub(super) fn start(&mut self, now: u64, wall: SystemTime) -> u64 {
        self.next = self.after(wall);
        self.plan(now, wall)
    }

    /// Takes the occurrence that is due at `wall`, which is `now` ns.
    pub(super) fn look(&mut self, now: u64, wall: SystemTime) -> Look {
        let (mut tick, mut skipped) = (None, 0);
        if let Some(due) = self.next
            && let Ok(late) = wall.duration_since(due)
        {
            tick = Some(now.saturating_sub(nanos(late)));
            self.next = self.after(due);
            while let Some(missed) = self.next.filter(|next| *next <= wall) {
                skipped += 1;
                let is_counted = skipped < MOST_SKIPPED;
                self.next = self.after(if is_counted { missed } else { wall });
            }
        }
        Look {
            tick,
            skipped,
            next: self.plan(now, wall),
        }
    }

    /// The time of the next check after a check at `now` ns, which is `wall` by the wall clock.
    fn plan(&self, now: u64, wall: SystemTime) -> u64 {
        self.next.map_or(NEVER, |next| {
            let left = next.duration_since(wall).unwrap_or_default();
            now.saturating_add(nanos(left.min(LONGEST_SLEEP)).max(1))
        })
    }

    /// The first occurrence after `wall`.
    fn after(&self, wall: SystemTime) -> Option<SystemTime> {
        let wall = Timestamp::try_from(wall).ok()?;
        let wall = wall.to_zoned(self.zone.clone());
        let next = self.expression.find_next_occurrence(&wall, false).ok()?;
        Some(next.timestamp().into())
    }
}

/// The error of an invalid cron expression or time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression is invalid.
    Invalid {
        /// The expression.
        expression: String,
        /// The error and the valid form.
        reason: String,
    },
    /// No date matches this expression.
    Never(String),
    /// This time zone is not known; `local` if the operating system has none.
    Zone(String),
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::Invalid { expression, reason } => {
                write!(f, "`{expression}` is not a cron expression: {reason}")
            }
            ScheduleError::Never(expression) => write!(
                f,
                "`{expression}` never comes: no month has such a day; choose a day that its month has"
            ),
            ScheduleError::Zone(zone) => write!(
                f,
                "`{zone}` is not a known time zone; use a name of the IANA database, such as `Europe/Berlin`, or an \
                 offset, such as `+02:00`"
            ),
        }
    }
}

impl Error for ScheduleError {}

#[cfg(test)]
mod tests;
