//! Side work of a small shop on a dispatcher: events with two handlers, delayed ones, retries, a panic, a call over its
//! time, a cancelled reminder, and a dead event that is replayed.
//!
//! ```text
//! cargo run --release --features dispatch --example jobs
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liveness::dispatch::{Backoff, Cancelled, Context, Dispatcher, Emit, On, Topic};

/// What `--help` prints.
const HELP: &str = "\
Runs the side work of a small shop on four threads, and ends after about two seconds.

Usage: jobs [--help]

One line per start of a handler: the time since the beginning, topic and handler, the attempt, how long after its due
time the event started, and the event. The last lines are the account of each topic.

Exit code: 0 if each handler was called as often as it should, no event started early and the accounts balance; 1 if
not; 2 if an argument is wrong.
";

/// An order came in. It is logged, and shipped.
const ORDER: Topic<&str> = Topic::new("order");

/// An order may not be paid yet. It is looked at when its time is up.
const REMINDER: Topic<&str> = Topic::new("reminder");

/// A mail goes out through a server that fails now and then.
const MAIL: Topic<&str> = Topic::new("mail");

/// A picture is converted, which takes too long now and then.
const PICTURE: Topic<&str> = Topic::new("picture");

/// A report is written from a template, which is missing at first.
const REPORT: Topic<&str> = Topic::new("report");

/// The calls that the story has, sorted: topic and handler, the attempt, and the event.
const EXPECTED: [&str; 16] = [
    "mail/send 1 welcome ada",
    "mail/send 2 welcome ada",
    "mail/send 3 welcome ada",
    "order/log 1 order 1",
    "order/log 1 order 2",
    "order/log 1 order 3",
    "order/ship 1 order 1",
    "order/ship 1 order 2",
    "order/ship 1 order 3",
    "picture/convert 1 cat.png",
    "picture/convert 2 cat.png",
    "reminder/check 1 order 1",
    "reminder/check 1 order 2",
    "report/write 1 march",
    "report/write 1 march",
    "report/write 2 march",
];

/// How long the story may take. Only a fault lets it pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// The calls so far.
struct Journal {
    /// When the story began.
    began: Instant,
    /// Topic and handler, the attempt, and the event of each call.
    calls: Mutex<Vec<String>>,
}

impl Journal {
    /// Prints the start of a call, and notes it.
    fn note(&self, context: &Context, event: &str) {
        let name = format!("{}/{}", context.topic(), context.handler());
        let (attempt, late) = (context.attempt(), context.lateness());
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:>6.3} s  {name:<15}  attempt {attempt}  {late:>10.1?} late  {event}");
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(format!("{name} {attempt} {event}"));
    }
}

/// Registers the handlers. Reports can be written once `has_template` is set.
fn register(
    dispatcher: &Dispatcher,
    journal: &Arc<Journal>,
    has_template: &Arc<AtomicBool>,
) -> Result<(), Box<dyn Error>> {
    // Both are called for each order, one after the other.
    for name in ["log", "ship"] {
        let journal = journal.clone();
        dispatcher.on(&ORDER, name, On::new(), move |context, order| {
            journal.note(context, order);
            Ok(())
        })?;
    }

    let (notes, due) = (journal.clone(), journal.began);
    dispatcher.on(&REMINDER, "check", On::new(), move |context, order| {
        notes.note(context, order);
        let delay: u64 = context.header("after-ms").unwrap_or("0").parse()?;
        assert!(
            due.elapsed() >= Duration::from_millis(delay),
            "it started early"
        );
        Ok(())
    })?;

    // Any error is a failure, and the event is tried again after the backoff.
    let notes = journal.clone();
    let soon = Backoff::constant(Duration::from_millis(200));
    let options = On::new().max_attempts(5).backoff(soon);
    dispatcher.on(&MAIL, "send", options, move |context, mail| {
        notes.note(context, mail);
        if context.attempt() < 3 {
            return Err("the server is busy".into());
        }
        Ok(())
    })?;

    // The first call is over its time. It waits for that instead of sleeping, so it ends at once.
    let notes = journal.clone();
    let limit = Duration::from_millis(300);
    let options = On::new().max_duration(limit).backoff(soon);
    dispatcher.on(&PICTURE, "convert", options, move |context, picture| {
        notes.note(context, picture);
        if context.attempt() == 1 && context.wait(PATIENCE) {
            return Err(context
                .cause()
                .map_or_else(String::new, |cause| cause.to_string())
                .into());
        }
        Ok(())
    })?;

    // A panic is a failed attempt, too.
    let (notes, has_template) = (journal.clone(), has_template.clone());
    let options = On::new().max_attempts(2).backoff(soon);
    dispatcher.on(&REPORT, "write", options, move |context, report| {
        notes.note(context, report);
        assert!(
            has_template.load(Ordering::Relaxed),
            "the template is missing"
        );
        Ok(())
    })?;
    Ok(())
}

/// Waits until `is_true`, for at most [`PATIENCE`]. Returns whether it is.
fn wait_until(mut is_true: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_true() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Runs the scenario. Returns whether it went as expected.
fn run() -> Result<bool, Box<dyn Error>> {
    // The panic of the story is caught, and shows as the error of the dead event.
    std::panic::set_hook(Box::new(|panic| println!("          {panic}")));
    let dispatcher = Dispatcher::builder()
        .threads(4)
        .on_notice(|notice| println!("          notice: {notice}"))
        .build()?;
    let journal = Arc::new(Journal {
        began: Instant::now(),
        calls: Mutex::default(),
    });
    let has_template = Arc::new(AtomicBool::new(false));
    register(&dispatcher, &journal, &has_template)?;

    dispatcher.emit_many(&ORDER, ["order 1", "order 2", "order 3"])?;
    dispatcher.emit(&MAIL, "welcome ada")?;
    dispatcher.emit(&PICTURE, "cat.png")?;
    dispatcher.emit(&REPORT, "march")?;
    let mut reminders = Vec::new();
    for (order, ms) in [("order 1", 400), ("order 2", 800), ("order 3", 900)] {
        let later = Emit::after(Duration::from_millis(ms)).header("after-ms", ms.to_string());
        reminders.push(dispatcher.emit_with(&REMINDER, order, later)?);
    }
    // Order 3 is paid.
    let mut is_right = dispatcher.cancel(&REMINDER, reminders[2]) == Cancelled::Waiting;

    // The report fails twice, and is dead. With a template, its next attempt succeeds.
    is_right &= wait_until(|| dispatcher.counts(&REPORT).dead == 1);
    for dead in dispatcher.dead(&REPORT, 10) {
        println!(
            "          dead: {}, {} attempts: {}",
            dead.event, dead.attempts, dead.error
        );
        is_right &= dead.error.contains("the template is missing");
    }
    has_template.store(true, Ordering::Relaxed);
    is_right &= dispatcher.replay(&REPORT, 10) == 1;

    is_right &= wait_until(|| {
        let all = dispatcher.stats().total();
        all.waiting + all.running == 0
    });
    let summary = dispatcher.stop(Duration::from_secs(1));
    is_right &= summary.undone.is_empty() && summary.still_running.is_empty();
    let stats = dispatcher.stats();
    println!("{stats}");
    let all = stats.total();
    is_right &= stats.is_balanced() && (all.emitted, all.done, all.cancelled) == (9, 8, 1);
    is_right &= (all.retried, all.died, all.replayed, all.panics) == (4, 1, 1, 2);

    let mut calls = journal.calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.sort_unstable();
    if *calls != EXPECTED {
        println!("the calls were {calls:#?}");
        is_right = false;
    }
    Ok(is_right)
}

fn main() -> ExitCode {
    match lexopt::Parser::from_env().next() {
        Ok(None) => {}
        Ok(Some(lexopt::Arg::Long("help"))) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Some(other)) => {
            eprintln!("error: {}; see `--help`", other.unexpected());
            return ExitCode::from(2);
        }
        Err(error) => {
            eprintln!("error: {error}; see `--help`");
            return ExitCode::from(2);
        }
    }
    match run() {
        Ok(true) => {
            println!("all went as it should");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("jobs: the story was another one");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
