//! The endpoints of a page and its feed, without a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use liveness::dispatch::{Dispatcher, On, Topic};
use liveness::observe::{CONTENT_TYPE, Observer, Page};
use liveness::registry::{Policy, Registry};
use liveness::server::StartError;
use liveness::{ManualClock, Mode, Watcher};

use crate::kit::{Parts, until};

const BILL: Topic<u64> = Topic::new("bill");

/// The answer to `GET target` at `host`, with more headers.
fn get(address: SocketAddr, target: &str, host: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// A connection as a page makes it.
struct Client {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let heard = Vec::new();
        Client { stream, heard }
    }

    /// Waits until `text` was heard.
    fn hears(&mut self, text: &str) {
        self.hears_what(text, |heard| heard.contains(text));
    }

    /// Waits until it was heard that the member `label` of `part` has changed to `state`, told as `what`.
    fn hears_story(&mut self, part: &str, label: &str, state: u8, what: &str) {
        let start = format!(r#""label":"{label}","part":"{part}","state":{state},"t":"#);
        let rest = format!(r#","what":"{what}"#);
        self.hears_what(&format!("{start}{rest}"), |heard| {
            let mut stories = heard.split(&start).skip(1);
            stories.any(|story| {
                let story = story.trim_start_matches(|digit: char| digit.is_ascii_digit());
                story.starts_with(&rest)
            })
        });
    }

    /// Waits until what was heard `holds`.
    fn hears_what(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        until(what, || {
            let mut scratch = vec![0; 65_536];
            while let Ok(length @ 1..) = self.stream.read(&mut scratch) {
                self.heard.extend_from_slice(&scratch[..length]);
            }
            holds(&String::from_utf8_lossy(&self.heard))
        });
    }

    /// Says `text`, masked with zeros.
    fn says(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).unwrap();
    }
}

#[test]
fn the_endpoints_answer() {
    let parts = Parts::start();
    let page = Page::builder(&parts.observer)
        .title("a test")
        .start()
        .unwrap();
    let address = page.local_addr();
    let html = get(address, "/", "localhost", "");
    assert!(status(&html) == "200" && html.contains("<title>") && html.ends_with("</html>\n"));
    for other in ["src=\"", "href=\"http", "@import", "url("] {
        assert!(!html.contains(other), "the page loads something by {other}");
    }
    let metrics = get(address, "/metrics", "localhost", "");
    assert!(metrics.contains(&format!("Content-Type: {CONTENT_TYPE}\r\n")));
    assert!(metrics.contains("\nliveness_watcher_keys{name=\"keys\",state=\"up\"} 5.0\n"));
    until("there is a status", || {
        get(address, "/status.json", "localhost", "").contains("\"kind\"")
    });
    let status_json = get(address, "/status.json", "localhost", "");
    let body = status_json.split("\r\n\r\n").nth(1).unwrap();
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(value["title"], "a test");
    assert!(value["parts"].as_array().unwrap().len() >= 6);
    assert_eq!(status(&get(address, "/healthz", "anything", "")), "200");
    parts.server.drain();
    let health = get(address, "/healthz", "localhost", "");
    assert!(status(&health) == "503" && health.contains("server main is draining"));
    let health = get(address, "/healthz", "elsewhere", "");
    assert!(
        status(&health) == "503" && !health.contains("main"),
        "others learn no names"
    );
}

#[test]
fn names_that_lead_here_are_refused_and_a_token_is_asked_for() {
    let observer = Observer::new();
    let page = Page::builder(&observer).start().unwrap();
    for target in ["/", "/metrics", "/status.json"] {
        assert_eq!(
            status(&get(page.local_addr(), target, "evil.example", "")),
            "403"
        );
    }
    let page = Page::builder(&observer).token("a-secret").start().unwrap();
    let address = page.local_addr();
    for target in ["/", "/metrics", "/status.json"] {
        assert_eq!(status(&get(address, target, "localhost", "")), "401");
        let wrong = "Authorization: Bearer a-secre\r\n";
        assert_eq!(status(&get(address, target, "localhost", wrong)), "401");
        let right = "Authorization: Bearer a-secret\r\n";
        assert_eq!(status(&get(address, target, "any.example", right)), "200");
        let right = format!("{target}?token=a-secret");
        assert_eq!(status(&get(address, &right, "any.example", "")), "200");
    }
    let mut client = Client::connect(address);
    client.hears("HTTP/1.1 401 ");
}

#[test]
fn an_address_for_others_needs_a_token() {
    let observer = Observer::new();
    for (address, token) in [
        ("0.0.0.0:0", None),
        ("0.0.0.0:0", Some("")),
        ("127.0.0.1:0", Some("")),
    ] {
        let mut page = Page::builder(&observer).address(address);
        if let Some(token) = token {
            page = page.token(token);
        }
        assert!(
            matches!(page.start(), Err(StartError::Option(_))),
            "{address} {token:?}"
        );
    }
    assert!(
        Page::builder(&observer)
            .address("0.0.0.0:0")
            .token("x")
            .start()
            .is_ok()
    );
    let error = Page::builder(&observer).address("no such host:1").start();
    assert!(matches!(error, Err(StartError::Listen { .. })));
}

#[test]
fn dead_events_are_replayed_and_purged_only_if_that_was_allowed() {
    let jobs = Dispatcher::builder().build().unwrap();
    jobs.on(&BILL, "bill", On::new().max_attempts(1), |_, number| {
        Err(format!("{number} has \"no\" address").into())
    })
    .unwrap();
    jobs.emit(&BILL, 7).unwrap();
    until("it is dead", || jobs.counts(&BILL).dead == 1);
    let observer = Observer::new();
    observer.dispatcher("jobs", jobs.clone());
    observer.dead_events("jobs", jobs.clone(), &BILL);
    let purge = r#"{"type":"Purge","data":{"dispatcher":"jobs","topic":"bill"}}"#;

    let page = Page::builder(&observer).start().unwrap();
    let mut client = Client::connect(page.local_addr());
    client.hears(r#""is_writable":false"#);
    client.hears(r#"7 has \"no\" address"#);
    client.says(purge);
    until("it is no route", || page.server().stats().unknown == 1);
    assert_eq!(jobs.counts(&BILL).dead, 1);
    drop(page);

    let page = Page::builder(&observer).writable(true).start().unwrap();
    let mut client = Client::connect(page.local_addr());
    client.hears(r#""is_writable":true"#);
    client.says(r#"{"type":"Purge","data":{"dispatcher":"jobs","topic":"other"}}"#);
    client.says(&purge.replace("Purge", "Replay"));
    until("it was replayed", || jobs.stats().total().replayed == 1);
    until("it is dead again", || jobs.counts(&BILL).dead == 1);
    client.says(purge);
    until("it is purged", || jobs.counts(&BILL).dead == 0);
    client.hears(r#""events":[]"#);
    let _ = jobs.stop(Duration::from_secs(1));
}

#[test]
fn a_page_that_opens_gets_members_and_then_what_changes() {
    let parts = Parts::start();
    let page = Page::builder(&parts.observer).start().unwrap();
    let mut first = Client::connect(page.local_addr());
    first.hears(r#""name":"keys""#);
    first.hears(r#""full":true"#);
    first.hears(r#""kind":"registry","name":"nodes""#);
    let mut second = Client::connect(page.local_addr());
    second.hears(r#""full":true"#);
    parts.registry.register(77, ()).unwrap();
    for client in [&mut first, &mut second] {
        client.hears(r#"["77",1,"#);
        client.hears(r#""label":"77""#);
    }
    let server = page.server().clone();
    drop(page);
    assert!(server.stats().is_balanced());
    assert_eq!(server.stats().open, 0);
}

#[test]
fn what_comes_and_goes_between_two_looks_is_shown_if_it_is_reported() {
    let clock = ManualClock::new();
    let observer = Observer::new();
    let show = observer.events("keys");
    let watcher = Watcher::<u64>::builder()
        .timeout(Duration::from_secs(5))
        .mode(Mode::Track)
        .clock(clock.clone())
        .on_event(move |event| show(&event))
        .build()
        .unwrap();
    let watcher = Arc::new(watcher);
    observer.watcher("keys", &watcher);
    let registry = Registry::<u64, ()>::builder()
        .policy(Policy::Fixed(Duration::from_secs(5)))
        .fall(1)
        .clock(clock.clone())
        .build()
        .unwrap();
    let registry = Arc::new(registry);
    observer.registry("nodes", &registry);
    let page = Page::builder(&observer).start().unwrap();

    watcher.beat(17).unwrap();
    watcher.flush().unwrap();
    registry.register(18, ()).unwrap();
    registry.beat(&18).unwrap();
    clock.advance(Duration::from_secs(6));
    watcher.flush().unwrap();
    registry.flush().unwrap();
    watcher.beat(17).unwrap();
    watcher.flush().unwrap();
    registry.beat(&18).unwrap();
    // The page opens when all is over, and yet gets the story.
    let mut client = Client::connect(page.local_addr());
    for (part, label) in [("keys", "17"), ("nodes", "18")] {
        for (state, what) in [(4, "is down"), (0, "is back after ")] {
            client.hears_story(part, label, state, what);
        }
    }
    client.hears(r#"["17",0,"#);
}
