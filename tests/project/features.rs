//! The optional features: what `serde` writes, and what `log` says.

#[cfg(feature = "serde")]
mod with_serde {
    use std::time::Duration;

    use liveness::{EventKind, LocalWatcher, Mode, Options};
    use serde_json::{json, to_value};

    const TIMEOUT: Duration = Duration::from_millis(1_500);

    #[test]
    fn an_event_is_written_with_all_its_fields() {
        let mut watcher = LocalWatcher::<String, u8>::builder()
            .timeout(TIMEOUT)
            .build()
            .unwrap();
        let options = Options::new().extra(7);
        watcher
            .beat_with("db-1".to_owned(), Duration::from_secs(1), options)
            .unwrap();
        let mut written = Vec::new();
        watcher.poll(Duration::from_secs(3), |event| {
            written.push(to_value(event).unwrap());
        });
        let expected = json!({ "Expired": {
            "key": "db-1",
            "extra": 7,
            "generation": 1,
            "mode": "Once",
            "joined": { "secs": 1, "nanos": 0 },
            "last_beat": { "secs": 1, "nanos": 0 },
            "timeout": { "secs": 1, "nanos": 500_000_000 },
            "deadline": { "secs": 2, "nanos": 500_000_000 },
            "detected": { "secs": 3, "nanos": 0 },
            "delivered": { "secs": 3, "nanos": 0 },
            "misses": 1,
            "down_for": null,
        }});
        assert_eq!(written, [expected]);
    }

    #[test]
    fn a_status_is_written_with_all_its_fields() {
        let mut watcher = LocalWatcher::<u64>::builder()
            .timeout(Duration::MAX)
            .mode(Mode::Repeat)
            .build()
            .unwrap();
        watcher.beat(1u64, Duration::from_secs(1)).unwrap();
        let expected = json!({
            "extra": null,
            "as_of": { "secs": 1, "nanos": 0 },
            "generation": 1,
            "mode": "Repeat",
            "joined": { "secs": 1, "nanos": 0 },
            "last_beat": { "secs": 1, "nanos": 0 },
            "timeout": { "secs": u64::MAX, "nanos": 999_999_999 },
            "deadline": null,
            "misses": 0,
        });
        assert_eq!(to_value(watcher.status(&1).unwrap()).unwrap(), expected);
    }

    #[test]
    fn stats_are_written_with_their_histograms() {
        let mut watcher = LocalWatcher::<u64>::builder()
            .timeout(TIMEOUT)
            .build()
            .unwrap();
        watcher.beat(1u64, Duration::ZERO).unwrap();
        watcher.beat(2u64, TIMEOUT).unwrap();
        watcher.poll(TIMEOUT + Duration::from_nanos(8), drop);
        let written = to_value(watcher.stats()).unwrap();
        let late = json!({ "secs": 0, "nanos": 8 });
        assert_eq!(
            written["detection"],
            json!({ "count": 1, "sum": late, "p50": late, "p99": late, "p999": late, "max": late })
        );
        assert_eq!(
            (&written["live"], &written["delivered"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(written["live_by_worker"], json!([1]));
    }

    #[test]
    fn kinds_are_written_by_name() {
        let kinds = [EventKind::Joined, EventKind::Stalled];
        assert_eq!(to_value(kinds).unwrap(), json!(["Joined", "Stalled"]));
    }
}

#[cfg(feature = "log")]
mod with_log {
    use std::hash::{Hash, Hasher};
    use std::sync::{Mutex, Once};
    use std::thread;
    use std::time::{Duration, Instant};

    use crossbeam_channel::bounded;
    use liveness::{Event, ManualClock, Watcher};
    use log::{Level, LevelFilter, Log, Metadata, Record};

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Keeps what is logged, with the name of the thread that logged it.
    struct Memory(Mutex<Vec<(String, Level, String)>>);

    static MEMORY: Memory = Memory(Mutex::new(Vec::new()));

    impl Log for Memory {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            let line = (thread, record.level(), record.args().to_string());
            self.0.lock().unwrap().push(line);
        }

        fn flush(&self) {}
    }

    /// Begins to listen, once for all tests of this process.
    fn listen() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            log::set_logger(&MEMORY).unwrap();
            log::set_max_level(LevelFilter::Trace);
        });
    }

    /// The lines of `level` that the threads of the watcher `name` logged.
    fn lines(name: &str, level: Level) -> Vec<String> {
        let memory = MEMORY.0.lock().unwrap();
        let of_name = memory
            .iter()
            .filter(|line| line.0.starts_with(name) && line.1 == level);
        of_name.map(|line| line.2.clone()).collect()
    }

    #[test]
    fn a_callback_that_panics_is_an_error() {
        listen();
        for in_worker in [false, true] {
            let name = if in_worker {
                "log-panic-w"
            } else {
                "log-panic-d"
            };
            let clock = ManualClock::new();
            let builder = Watcher::<u64>::builder()
                .timeout(TIMEOUT)
                .thread_name(name)
                .clock(clock.clone());
            let unwind = |_: Event<u64>| std::panic::resume_unwind(Box::new("for the test"));
            let watcher = if in_worker {
                builder.on_event_in_worker(unwind).build().unwrap()
            } else {
                builder.on_event(unwind).build().unwrap()
            };
            watcher.beat(1u64).unwrap();
            watcher.flush().unwrap();
            clock.advance(TIMEOUT);
            assert_eq!(watcher.close().panics, 1);
            let errors = lines(name, Level::Error);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].contains("panicked"), "{errors:?}");
        }
    }

    #[cfg(all(feature = "observe", feature = "registry"))]
    #[test]
    fn an_observer_logs_changes_of_nodes_and_no_beat() {
        use std::sync::Arc;

        use liveness::observe::Observer;
        use liveness::registry::{Policy, Registry};

        listen();
        let clock = ManualClock::new();
        let registry = Registry::<&str, ()>::builder()
            .policy(Policy::Fixed(TIMEOUT))
            .fall(1)
            .clock(clock.clone())
            .build()
            .unwrap();
        let registry = Arc::new(registry);
        let observer = Observer::new();
        observer.registry("backends", &registry);
        registry.register("web-1", ()).unwrap();
        for _ in 0..10 {
            registry.beat(&"web-1").unwrap();
        }
        clock.advance(TIMEOUT);
        registry.flush().unwrap();
        registry.beat(&"web-1").unwrap();
        registry.leave(&"web-1").unwrap();
        let began = Instant::now();
        let changes = || lines("subscriber", Level::Debug);
        while changes().last().is_none_or(|line| !line.contains("left")) {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", changes());
            thread::sleep(Duration::from_millis(1));
        }
        let of_web_1 = |what: &str| format!("registry backends: web-1 {what}");
        assert_eq!(lines("subscriber", Level::Warn), [of_web_1("is down")]);
        let expected = ["is registered", "is up", "is back after 0.0 s", "has left"];
        assert_eq!(changes(), expected.map(of_web_1));
    }

    #[cfg(all(feature = "server", feature = "json"))]
    #[test]
    fn a_panic_of_a_handler_is_an_error_and_an_end_is_not() {
        use std::io::{Read, Write};

        use liveness::server::{Json, Server, Shutdown};

        listen();
        let server = Server::<Json, ()>::builder()
            .tcp("127.0.0.1:0")
            .thread_name("log-server")
            .on("Panic", |_, ()| {
                std::panic::resume_unwind(Box::new("for the test"))
            })
            .start()
            .unwrap();
        let mut peer = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
        let message = br#"{"type":"Panic"}"#;
        peer.write_all(&[0, message.len() as u8]).unwrap();
        peer.write_all(message).unwrap();
        let _ = peer.read(&mut [0; 64]); // until the connection ends
        let _ = server.shutdown(Shutdown::within(TIMEOUT));
        let errors = lines("log-server", Level::Error);
        assert_eq!(errors, ["a handler of agent 1 panicked"]);
        let ends = lines("log-server", Level::Debug);
        assert!(
            ends.iter()
                .any(|line| line.starts_with("agent 1 has ended: ")),
            "{ends:?}"
        );
        assert!(lines("log-server", Level::Warn).is_empty());
    }

    #[cfg(feature = "pacemaker")]
    #[test]
    fn a_peer_that_is_offline_is_a_warning_once() {
        use liveness::pacemaker::{BoxError, Pacemaker};

        listen();
        let (send, calls) = std::sync::mpsc::channel();
        let pacemaker = Pacemaker::every(Duration::from_millis(10)).offline_after(2);
        let pacemaker = pacemaker.start(move || -> Result<(), BoxError> {
            let _ = send.send(());
            Err("no route for the test".into())
        });
        for _ in 0..6 {
            calls.recv_timeout(TIMEOUT).unwrap();
        }
        drop(pacemaker);
        let memory = MEMORY.0.lock().unwrap();
        let told = memory
            .iter()
            .filter(|line| line.2.ends_with("no route for the test"));
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].1, Level::Warn);
    }

    #[test]
    fn a_stall_is_a_warning() {
        listen();
        let watcher = Watcher::<u64>::builder()
            .timeout(Duration::from_nanos(1))
            .workers(1)
            .stall_threshold(Duration::from_millis(10))
            .thread_name("log-stall")
            .on_event_in_worker(|_| thread::sleep(Duration::from_millis(50)))
            .build()
            .unwrap();
        watcher.beat(1u64).unwrap();
        let began = Instant::now();
        while lines("log-stall", Level::Warn).is_empty() {
            assert!(began.elapsed() < TIMEOUT * 2);
            thread::yield_now();
        }
        let warnings = lines("log-stall", Level::Warn);
        assert!(warnings[0].contains("did not run for"), "{warnings:?}");
    }

    #[test]
    fn a_sink_that_is_gone_is_a_warning_once() {
        listen();
        let clock = ManualClock::new();
        let (watcher, events) = Watcher::<u64>::builder()
            .timeout(TIMEOUT)
            .workers(1)
            .thread_name("log-gone")
            .clock(clock.clone())
            .build_with_channel(1)
            .unwrap();
        drop(events);
        for _ in 0..3 {
            watcher.beat_many(0..3u64).unwrap();
            watcher.flush().unwrap();
            clock.advance(TIMEOUT);
            watcher.flush().unwrap();
        }
        let warnings = lines("log-gone", Level::Warn);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("sink is gone"), "{warnings:?}");
    }

    /// A key that panics when the worker compares it.
    #[derive(Clone)]
    struct Bad;

    impl Hash for Bad {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    impl PartialEq for Bad {
        fn eq(&self, _: &Self) -> bool {
            std::panic::resume_unwind(Box::new("for the test"))
        }
    }

    impl Eq for Bad {}

    #[test]
    fn a_worker_that_fails_is_an_error() {
        listen();
        let watcher = Watcher::<Bad>::builder()
            .workers(1)
            .thread_name("log-fail")
            .build()
            .unwrap();
        watcher.beat(Bad).unwrap();
        watcher.beat(Bad).unwrap();
        assert!(watcher.flush().is_err());
        watcher.close();
        let errors = lines("log-fail", Level::Error);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("worker 0 has failed"), "{errors:?}");
    }

    #[test]
    fn a_quiet_life_logs_no_more_than_its_beginning_and_its_end() {
        listen();
        let (tell, told) = bounded(1);
        let watcher = Watcher::<u64>::builder()
            .timeout(Duration::from_millis(1))
            .workers(1)
            .thread_name("log-quiet")
            .on_event(move |_| tell.send(()).unwrap())
            .build()
            .unwrap();
        watcher.beat(1u64).unwrap();
        told.recv_timeout(TIMEOUT * 2).unwrap();
        watcher.close();
        assert!(lines("log-quiet", Level::Error).is_empty());
        assert!(lines("log-quiet", Level::Info).is_empty());
        let debug = lines("log-quiet", Level::Debug);
        assert_eq!(debug, ["worker 0 runs", "worker 0 ended"]);
    }
}
