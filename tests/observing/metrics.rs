//! Metrics of every kind of source: names, values, labels, and what `promtool` thinks of them.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use liveness::observe::Observer;
use liveness::server::{Json, Server};
use liveness::{ManualClock, Mode, Watcher};

use crate::kit::{Parts, promtool, until};

/// The names of all samples in `text`, with those of histograms as one.
fn names(text: &str) -> BTreeSet<String> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = kinds.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// The names of metrics that `text` mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_name(letter));
    let names = words.filter(|word| word.starts_with("liveness_") && *word != "liveness_");
    let names = names.map(|name| {
        let stem = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        stem.unwrap_or(name).to_owned()
    });
    names.collect()
}

/// The value of the sample that begins with `start`.
fn value(text: &str, start: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no sample {start} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let parts = Parts::start();
    let exist = names(&parts.observer.render());
    let page = include_str!("../../docs/observe.md");
    let rows = page.lines().filter(|line| line.starts_with("| `liveness_"));
    let mut documented: BTreeSet<String> = rows
        .filter_map(|line| line.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    if !parts.has_redis() {
        documented.retain(|name| !name.starts_with("liveness_shared_watcher"));
    }
    assert_eq!(exist, documented);
}

#[test]
fn every_metric_of_the_dashboard_and_of_the_alerts_exists() {
    let parts = Parts::start();
    let exist = names(&parts.observer.render());
    let files = [
        include_str!("../../docs/observe/dashboard.json"),
        include_str!("../../docs/observe/alerts.yml"),
    ];
    for file in files {
        let mut used = mentioned(file);
        used.remove("liveness_.+"); // the query of a variable
        if !parts.has_redis() {
            used.retain(|name| !name.starts_with("liveness_shared_watcher"));
        }
        assert!(used.len() > 10, "{used:?}");
        let unknown: Vec<_> = used.difference(&exist).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

#[test]
fn the_checker_of_prometheus_finds_no_fault() {
    let Some(program) = promtool() else { return };
    let parts = Parts::start();
    let mut checker = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = parts.observer.render();
    let mut input = checker.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = checker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn the_checker_of_prometheus_accepts_the_alerts() {
    let Some(program) = promtool() else { return };
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observe/alerts.yml");
    let output = Command::new(program)
        .args(["check", "rules", rules])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn samples_have_the_values_of_the_statistics() {
    let clock = ManualClock::new();
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(5))
        .mode(Mode::Track)
        .clock(clock.clone())
        .build()
        .unwrap();
    let watcher = Arc::new(watcher);
    watcher.beat_many(0..10).unwrap();
    clock.advance(Duration::from_secs(4));
    watcher.beat_many(0..3).unwrap();
    watcher.flush().unwrap();
    clock.advance(Duration::from_secs(1));
    watcher.flush().unwrap();
    let observer = Observer::new();
    observer.watcher("a \"quoted\" name", &watcher);
    let text = observer.render();
    let label = r#"name="a \"quoted\" name""#;
    for (start, expected) in [
        (
            format!("liveness_watcher_keys{{{label},state=\"up\"}}"),
            3.0,
        ),
        (
            format!("liveness_watcher_keys{{{label},state=\"down\"}}"),
            7.0,
        ),
        (
            format!("liveness_watcher_beats_total{{{label},result=\"applied\"}}"),
            13.0,
        ),
        (format!("liveness_watcher_expiries_total{{{label}}}"), 7.0),
        (
            format!("liveness_watcher_detection_seconds_count{{{label}}}"),
            7.0,
        ),
        (
            format!("liveness_watcher_detection_seconds_bucket{{{label},le=\"+Inf\"}}"),
            7.0,
        ),
    ] {
        let found = value(&text, &start);
        assert!((found - expected).abs() < f64::EPSILON, "{start} {found}");
    }
    // Buckets are cumulative, and none has more values than there are.
    let start = "liveness_watcher_detection_seconds_bucket";
    let buckets = text.lines().filter(|line| line.starts_with(start));
    let counts: Vec<u64> = buckets
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(counts.len(), 19);
    assert!(counts.is_sorted() && counts[18] == 7, "{counts:?}");
}

#[test]
fn a_source_that_is_gone_is_forgotten_and_a_name_is_used_once() {
    let observer = Observer::new();
    let first = Arc::new(Watcher::<u64>::builder().build().unwrap());
    let second = Arc::new(Watcher::<&str>::builder().build().unwrap());
    observer.watcher("keys", &first);
    observer.watcher("keys", &second);
    second.beat("a").unwrap();
    second.flush().unwrap();
    let text = observer.render();
    let samples = text.matches("liveness_watcher_episodes_total{").count();
    assert_eq!(samples, 1);
    assert!((value(&text, "liveness_watcher_episodes_total") - 1.0).abs() < f64::EPSILON);
    drop(second);
    assert_eq!(observer.render(), "");
    observer.watcher("keys", &first);
    observer.forget("keys");
    assert_eq!(observer.render(), "");
    assert_eq!(format!("{observer:?}"), "{}");
}

#[test]
fn a_client_is_counted_by_outcome_and_ends_with_its_last_handle() {
    use liveness::client::Client;

    let server = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .on_request("Double", |_, number: u32| Ok(number * 2))
        .on("Hush", |_, ()| ())
        .start()
        .unwrap();
    let url = format!("tcp://{}", server.local_addrs()[0]);
    let client = Client::<Json>::builder(url).start().unwrap();
    let observer = Observer::new();
    observer.client("to \"main\"", &client);
    for number in 0..3_u32 {
        let doubled: u32 = client
            .request("Double", &number, Duration::from_secs(20))
            .unwrap();
        assert_eq!(doubled, number * 2);
    }
    // The server has no such route that answers.
    let silent: Result<(), _> = client.request("Hush", &(), Duration::from_millis(20));
    assert!(silent.is_err());
    let text = observer.render();
    let label = r#"name="to \"main\"""#;
    for (start, expected) in [
        (
            format!("liveness_client_connection{{{label},state=\"online\"}}"),
            1.0,
        ),
        (
            format!("liveness_client_connection{{{label},state=\"offline\"}}"),
            0.0,
        ),
        (
            format!("liveness_client_attempts_total{{{label},result=\"opened\"}}"),
            1.0,
        ),
        (
            format!("liveness_client_requests_total{{{label},result=\"answered\"}}"),
            3.0,
        ),
        (
            format!("liveness_client_messages_total{{{label},direction=\"out\"}}"),
            4.0,
        ),
        (format!("liveness_client_queued_messages{{{label}}}"), 0.0),
    ] {
        let found = value(&text, &start);
        assert!((found - expected).abs() < f64::EPSILON, "{start} {found}");
    }
    drop(server);
    let offline = format!("liveness_client_connection{{{label},state=\"online\"}}");
    until("it is not online", || {
        value(&observer.render(), &offline) < 0.5
    });
    drop(client);
    until("it is forgotten", || observer.render().is_empty());
}

#[test]
fn topics_beyond_a_hundred_are_added_up() {
    use liveness::dispatch::{Dispatcher, On, Topic};

    let jobs = Dispatcher::builder().build().unwrap();
    let observer = Observer::new();
    observer.dispatcher("jobs", jobs.clone());
    for number in 0..101 {
        if number == 100 {
            assert_eq!(
                observer
                    .render()
                    .matches("liveness_dispatcher_emitted_total{")
                    .count(),
                100
            );
        }
        let name: &'static str = format!("topic-{number}").leak();
        let topic = Topic::<u64>::new(name);
        jobs.on(&topic, "count", On::new(), |_, _| Ok(())).unwrap();
        jobs.emit(&topic, number).unwrap();
    }
    let text = observer.render();
    let emitted = value(
        &text,
        "liveness_dispatcher_emitted_total{name=\"jobs\",topic=\"\"}",
    );
    assert!((emitted - 101.0).abs() < f64::EPSILON);
    assert_eq!(
        text.matches("liveness_dispatcher_emitted_total{").count(),
        1
    );
    let _ = jobs.stop(Duration::from_secs(1));
}

#[test]
fn problems_are_named_while_they_last() {
    let parts = Parts::start();
    assert_eq!(parts.observer.problems(), Vec::<String>::new());
    parts.server.drain();
    assert_eq!(parts.observer.problems(), ["server main is draining"]);
}

#[test]
fn a_thread_that_is_blocked_is_a_problem_until_it_returns() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let server = Server::<Json, ()>::builder()
        .tcp("127.0.0.1:0")
        .stall_after(Duration::from_millis(50))
        .on("Block", move |_, ()| held.lock().unwrap().recv())
        .start()
        .unwrap();
    let server = Arc::new(server);
    let observer = Observer::new();
    observer.server("main", &server);
    let mut peer = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
    let message = br#"{"type":"Block","data":null}"#;
    peer.write_all(&[0, message.len() as u8]).unwrap();
    peer.write_all(message).unwrap();
    until("it is found", || !observer.problems().is_empty());
    let problem = observer.problems().remove(0);
    assert!(
        problem.starts_with("server main is blocked in server-h"),
        "{problem}"
    );
    assert!(
        (value(&observer.render(), "liveness_server_blocked_threads") - 1.0).abs() < f64::EPSILON
    );
    release.send(()).unwrap();
    until("it is over", || observer.problems().is_empty());
}

#[test]
fn scrapes_from_many_threads_see_whole_texts() {
    let parts = Parts::start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let text = parts.observer.render();
                    assert!(text.ends_with('\n') && text.contains("liveness_group_jobs"));
                }
            });
        }
        for number in 0..50 {
            let name = format!("more-{number}");
            let more = Arc::new(Watcher::<u64>::builder().workers(1).build().unwrap());
            parts.observer.watcher(&name, &more);
        }
    });
}
