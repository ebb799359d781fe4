use super::*;

/// A message of `len` bytes on TCP with its length.
fn body(len: usize) -> Vec<u8> {
    let rest = len - 2 - br#"{"type":"News","data":""}"#.len();
    format!("\"{}\"", "x".repeat(rest)).into_bytes()
}

fn limited(overflow: Overflow) -> Settings {
    Settings {
        limits: Limits {
            outbound: 1_000,
            overflow,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

#[test]
fn more_than_the_limit_closes_a_slow_consumer_without_a_gap() {
    let mut it = Driver::<Json>::tcp(limited(Overflow::Close), Framing::U16);
    it.room = 10;
    assert!(it.send("News", &body(500)));
    assert!(it.send("News", &body(500)));
    assert_eq!(it.session.queued(), 990);
    it.room = 0;
    assert!(!it.send("News", &body(500)));
    assert!(!it.send("News", &body(100)), "once over, never again");
    assert_eq!(closed(&it).cause, Cause::SlowConsumer);
}

#[test]
fn the_limit_is_exact() {
    let mut it = Driver::<Json>::tcp(limited(Overflow::DropNew), Framing::U16);
    it.room = 0;
    assert!(it.send("News", &body(600)));
    assert!(!it.send("News", &body(401)));
    assert!(it.send("News", &body(400)));
    assert!(!it.send("News", &body(50)));
    it.room = 1_000;
    it.settle();
    assert_eq!((it.session.queued(), it.traffic.sent), (0, 2));
    assert!(it.send("News", &body(1_000)));
}

#[test]
fn an_answer_above_the_limit_is_taken_back_or_closes() {
    let message = delimited(&format!(r#"{{"type":"A","data":"{}"}}"#, "x".repeat(500)));
    let mut it = Driver::<Json>::tcp(limited(Overflow::DropNew), Framing::U16);
    it.echoes = true;
    it.room = 0;
    it.receive(&[&message[..], &message, &message].concat());
    assert_eq!((it.messages.len(), it.session.queued()), (3, message.len()));
    it.room = usize::MAX;
    it.settle();
    assert_eq!(it.written(), message);
    let mut it = Driver::<Json>::tcp(limited(Overflow::Close), Framing::U16);
    it.echoes = true;
    it.room = 0;
    it.receive(&[&message[..], &message].concat());
    assert_eq!(closed(&it).cause, Cause::SlowConsumer);
}

#[test]
fn pongs_pass_the_limit_and_what_waits() {
    let mut it = Driver::<Json>::websocket(limited(Overflow::DropNew));
    it.room = 5;
    assert!(it.send("News", &body(400)));
    assert!(it.send("News", &body(400)));
    let queued = it.session.queued();
    // Not read while much waits, so by hand.
    for payload in [b"1", b"2", b"3"] {
        let now = it.at();
        it.session
            .receive(&mut masked(0x89, payload), now, &mut it.traffic, |_| {});
    }
    assert_eq!(it.session.queued(), queued);
    it.room = usize::MAX;
    it.settle();
    let output = it.written();
    let pongs = b"\x8a\x011\x8a\x012\x8a\x013";
    let at = output.windows(pongs.len()).position(|it| it == pongs);
    assert!(
        at.is_some_and(|at| at < 450),
        "behind the frame that was begun, before the next: {at:?}"
    );
}

#[test]
fn each_ping_is_answered_but_of_more_than_can_wait_only_the_last() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    let (mut pings, mut pongs) = (Vec::new(), Vec::new());
    for number in 0..10u8 {
        pings.append(&mut masked(0x89, &[number; 125]));
        pongs.extend([0x8A, 125].into_iter().chain([number; 125]));
    }
    it.receive(&pings);
    assert_eq!(it.written(), pongs);
    it.receive(&pings.repeat(1_000));
    let output = it.written();
    assert!(output.len() < 16_384, "{}", output.len());
    assert!(output.ends_with(&[9; 125]));
}

#[test]
fn a_peer_that_does_not_take_what_waits_is_not_read_and_not_called_silent() {
    let mut it = Driver::<Json>::tcp(limited(Overflow::DropNew), Framing::U16);
    it.room = 0;
    assert!(it.send("News", &body(600)));
    assert!(!it.session.wants_read());
    // A byte every 15 seconds is progress.
    for _ in 0..10 {
        it.advance(15 * S);
        it.room = 1;
        it.settle();
    }
    assert_eq!(it.session.cause(), None);
    it.advance(20 * S - NS);
    assert_eq!(it.session.cause(), None);
    it.advance(NS);
    let closed = closed(&it);
    assert_eq!((closed.cause, closed.unsent), (Cause::Stuck, 590));
}

#[test]
fn reading_goes_on_once_at_most_a_quarter_of_the_limit_waits() {
    let mut it = Driver::<Json>::tcp(limited(Overflow::DropNew), Framing::U16);
    it.room = 0;
    assert!(it.send("News", &body(251)));
    assert!(!it.session.wants_read());
    it.room = 1;
    it.settle();
    assert!(it.session.wants_read());
    it.room = usize::MAX;
    it.settle();
    it.advance(25 * S - NS);
    it.written();
    it.advance(NS);
    assert_eq!(it.written(), TCP_PING);
}

#[test]
fn shared_frames_and_own_ones_keep_their_order() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::Lines);
    it.room = 0;
    let mut expected = Vec::new();
    for number in 0..500 {
        let body = "x".repeat(number % 70 * 10);
        let body = format!("[{number},\"{body}\"]");
        assert!(it.send("N", body.as_bytes()));
        expected.extend(format!("{{\"type\":\"N\",\"data\":{body}}}\n").into_bytes());
        if number % 7 == 0 {
            it.room = number;
            it.settle();
            it.room = 0;
        }
    }
    it.room = usize::MAX;
    it.settle();
    assert_eq!(it.written(), expected);
    assert_eq!(it.traffic.sent, 500);
}
