//! A watcher, a registry and a dispatcher together: when a service falls silent, somebody is paged. Pages are retried
//! for ten minutes, which are three seconds here, and end when the service comes back. The changes of a list of nodes
//! are events of a topic, too.
//!
//! ```text
//! cargo run --release --all-features --example page_on_silence
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use liveness::dispatch::{Backoff, Dispatcher, Failure, On, Topic};
use liveness::registry::{Policy, Registry, Subscription, Update};
use liveness::{Event, Mode, Watcher};

/// What `--help` prints.
const HELP: &str = "\
Watches three services: one falls silent and comes back, one stays silent, one stays alive. Ends after three seconds.

Usage: page_on_silence [--help]

A service is silent after 300 ms. The first pages get no answer, and are retried every 200 ms for up to 3 s. `mail` comes
back meanwhile, which cancels its page; the page about `shop` gets through at the fifth attempt. The changes of a registry
of the same services are printed as events of a topic.

Exit code: 0 if just that happened, 1 if not, 2 if an argument is wrong.
";

/// The name of a service.
type Service = &'static str;

/// Somebody is to be paged about a service.
const PAGE: Topic<Service> = Topic::new("page");

/// A node of the registry changed.
const NODES: Topic<Update<Service, ()>> = Topic::new("nodes");

/// The services.
const SERVICES: [Service; 3] = ["mail", "shop", "disk"];

/// How long a service may be silent.
const TIMEOUT: Duration = Duration::from_millis(300);

/// The time between two beats of a service.
const BEAT: Duration = Duration::from_millis(25);

/// The time between two attempts to page. In earnest: 20 s.
const RETRY: Duration = Duration::from_millis(200);

/// How many attempts there are. In earnest 30, for ten minutes.
const ATTEMPTS: u32 = 15;

/// How long the story is.
const LENGTH: Duration = Duration::from_secs(3);

/// What happened, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// A service was paged about: the attempt, and whether it got through.
    Page(Service, u32, bool),
    /// A node of the registry changed.
    Node(Service, bool),
    /// A service sends beats again.
    Back(Service),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Page(service, attempt, true) => {
                write!(f, "page about {service}, attempt {attempt}: answered")
            }
            Seen::Page(service, attempt, false) => {
                write!(f, "page about {service}, attempt {attempt}: no answer")
            }
            Seen::Node(service, true) => write!(f, "{service} is listed"),
            Seen::Node(service, false) => write!(f, "{service} is not listed"),
            Seen::Back(service) => write!(f, "{service} is back"),
        }
    }
}

/// Pages by `page` about each service of the watcher that is silent, until it is back.
fn page_on_silence(
    dispatcher: &Dispatcher,
    page: impl Fn(Service, u32) -> Result<(), Failure> + Send + Sync + 'static,
) -> Result<Watcher<Service>, Box<dyn Error>> {
    let retry = On::new()
        .max_attempts(ATTEMPTS)
        .backoff(Backoff::constant(RETRY));
    dispatcher.on(&PAGE, "page", retry, move |it, service| {
        page(service, it.attempt())
    })?;
    let (dispatcher, mut pages) = (dispatcher.clone(), HashMap::new());
    let watcher = Watcher::builder().timeout(TIMEOUT).mode(Mode::Track);
    let watcher = watcher.on_event(move |event| match event {
        Event::Expired(it) => pages.extend(dispatcher.emit(&PAGE, it.key).map(|id| (it.key, id))),
        Event::Recovered(it) => drop(pages.remove(it.key).map(|id| dispatcher.cancel(&PAGE, id))),
        _ => {}
    });
    Ok(watcher.build()?)
}

/// Makes the changes of a registry events of [`NODES`].
fn emit_changes(
    dispatcher: Dispatcher,
    nodes: &Registry<Service, ()>,
) -> Result<Subscription, Box<dyn Error>> {
    let emit = move |update| drop(dispatcher.emit(&NODES, update));
    Ok(nodes.subscribe_with(1_024, emit)?.1)
}

/// Runs the scenario. Returns whether it went as expected.
fn run() -> Result<bool, Box<dyn Error>> {
    let began = Instant::now();
    let (sender, seen) = mpsc::channel();
    let see = move |what: Seen| {
        println!("{:>6.3} s  {what}", began.elapsed().as_secs_f64());
        let _ = sender.send(what);
    };

    let dispatcher = Dispatcher::builder().threads(2).build()?;
    let pager = see.clone();
    let watcher = page_on_silence(&dispatcher, move |service, attempt| {
        let is_answered = service == "shop" && attempt == 5;
        pager(Seen::Page(service, attempt, is_answered));
        is_answered
            .then_some(())
            .ok_or_else(|| "nobody answers".into())
    })?;
    let log = see.clone();
    dispatcher.on(&NODES, "log", On::new().parallel(1), move |_, update| {
        if let Update::Node(it) = update {
            log(Seen::Node(it.status.node.id(), it.status.is_listed()));
        }
        Ok(())
    })?;
    let nodes = Registry::builder().policy(Policy::Fixed(TIMEOUT)).build()?;
    let subscription = emit_changes(dispatcher.clone(), &nodes)?;
    for service in SERVICES {
        nodes.register(service, ())?;
    }

    // `mail` is silent from 0.5 to 1.5 s, `shop` from 0.6 s on.
    let mut was_away = false;
    while began.elapsed() < LENGTH {
        let ms = began.elapsed().as_millis();
        for service in SERVICES {
            let is_away = match service {
                "mail" => (500..1_500).contains(&ms),
                "shop" => ms >= 600,
                _ => false,
            };
            if !is_away {
                if service == "mail" && was_away {
                    see(Seen::Back(service));
                }
                watcher.beat(service)?;
                nodes.beat(&service)?;
            }
            if service == "mail" {
                was_away = is_away;
            }
        }
        thread::sleep(BEAT);
    }
    watcher.close();
    nodes.close();
    drop(subscription);
    dispatcher.flush(Duration::from_secs(5));
    let summary = dispatcher.stop(Duration::from_secs(1));
    let stats = dispatcher.stats();
    println!("{stats}");
    let is_empty = summary.undone.is_empty() && summary.still_running.is_empty();
    Ok(is_empty && stats.is_balanced() && is_expected(&seen.try_iter().collect::<Vec<_>>()))
}

/// Whether that is what was to happen.
fn is_expected(seen: &[Seen]) -> bool {
    let attempts = |about| {
        let attempts = seen.iter().filter_map(move |it| match it {
            Seen::Page(service, attempt, _) if *service == about => Some(*attempt),
            _ => None,
        });
        attempts.collect::<Vec<_>>()
    };
    let listed = |of| {
        let listed = seen.iter().filter_map(move |it| match it {
            Seen::Node(service, is_listed) if *service == of => Some(*is_listed),
            _ => None,
        });
        let mut listed: Vec<_> = listed.collect();
        listed.dedup();
        listed
    };
    let back = seen.iter().position(|it| *it == Seen::Back("mail"));
    let after = seen
        .iter()
        .skip(back.unwrap_or(0))
        .filter(|it| matches!(it, Seen::Page("mail", ..)));
    // One may have begun at the moment at which the service came back.
    let is_right = back.is_some() && after.count() <= 1;
    let mail = attempts("mail");
    is_right
        && (2..=6).contains(&mail.len())
        && attempts("shop") == [1, 2, 3, 4, 5]
        && attempts("disk").is_empty()
        && listed("mail").ends_with(&[true, false, true])
        && listed("shop").ends_with(&[true, false])
        && !listed("disk").iter().skip_while(|it| !**it).any(|it| !it)
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
            println!("pages stopped when `mail` was back, and got through for `shop`");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("page_on_silence: the story was another one");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
