use super::*;

#[test]
fn hotpots_session_is_pinged_after_6_seconds_and_dropped_after_12() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.echoes = true;
    it.advance(S);
    let echo = delimited(r#"{"type":"Echo","data":{"Message":"hello"}}"#);
    it.receive(&echo);
    assert_eq!(it.written(), echo);
    it.advance(6 * S - NS);
    assert_eq!(it.written(), b"");
    it.advance(NS);
    assert_eq!(it.written(), TCP_PING);
    it.advance(6 * S - NS);
    assert!(it.closed.is_none() && it.written().is_empty());
    it.advance(NS);
    let last = it.written();
    assert_eq!(
        &last[2..],
        br#"{"type":"Error","code":1011,"msg":"silent for 12s"}"#
    );
    let closed = closed(&it);
    assert_eq!((closed.cause, closed.code), (Cause::Silence, 1011));
    assert_eq!((closed.silent, closed.opened_for), (12 * S, 13 * S));
    assert_eq!((closed.received, closed.sent), (1, 1));
}

#[test]
fn any_byte_begins_the_silence_again_but_nothing_that_is_sent_does() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.advance(11 * S);
    assert_eq!(it.written(), TCP_PING);
    // Half a length.
    it.receive(b"\0");
    it.advance(6 * S - NS);
    assert_eq!(it.written(), b"");
    it.advance(NS);
    assert_eq!(it.written(), TCP_PING);
    it.advance(3 * S);
    assert!(it.send("News", b"1"));
    it.advance(3 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn a_websocket_is_pinged_by_a_control_frame_whose_pong_is_timed() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.advance(25 * S);
    let ping = it.written();
    assert_eq!((ping.len(), ping[0], ping[1]), (10, 0x89, 8));
    it.advance(S / 10);
    it.receive(&masked(0x8A, b"another"));
    assert_eq!(it.session.rtt(), None);
    it.receive(&masked(0x8A, &ping[2..]));
    assert_eq!(it.session.rtt(), Some(S / 10));
    assert_eq!(it.session.pings(), 0);
    it.advance(45 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    let output = it.written();
    assert_eq!(&output[10..14], b"\x88\x10\x03\xf3");
    assert_eq!(&output[14..], b"silent for 45s");
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn a_ping_message_is_answered_and_a_pong_message_is_swallowed() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.receive(&[TCP_PING, TCP_PING].concat());
    assert_eq!(it.written(), TCP_PONG);
    it.advance(6 * S);
    assert_eq!(it.written(), TCP_PING);
    it.advance(S);
    it.receive(TCP_PONG);
    assert_eq!(it.session.rtt(), Some(S));
    assert!(it.messages.is_empty() && it.written().is_empty());
}

#[test]
fn bytes_of_the_last_look_outweigh_the_watchers_report() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.advance(12 * S - NS);
    it.now += 1;
    let mut fired = Vec::new();
    it.watcher
        .poll(at(it.now), |event| fired.extend(event.key().copied()));
    let [kind] = fired[..] else {
        panic!("{fired:?}");
    };
    it.session.fired(kind);
    // A round passes before the report is judged.
    it.settle();
    it.read(b"\0");
    it.session.expired(kind, it.at(), S);
    it.settle();
    assert_eq!(it.session.cause(), None);
    it.advance(12 * S - NS);
    assert_eq!(it.session.cause(), None);
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn the_drop_is_timed_from_the_moment_the_ping_is_written() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.room = 0;
    it.advance(8 * S);
    assert_eq!(it.written(), b"");
    it.room = usize::MAX;
    it.settle();
    assert_eq!(it.written(), TCP_PING);
    it.advance(6 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).silent, 14 * S);
}

#[test]
fn no_one_is_judged_while_nothing_is_read() {
    let mut it = Driver::<Json>::tcp(hotpot(), Framing::U16);
    it.advance(7 * S);
    it.session.pause();
    it.settle();
    assert!(!it.session.wants_read() && it.watcher.is_empty());
    it.advance(100 * S);
    it.written();
    it.session.resume();
    it.settle();
    it.advance(6 * S - NS);
    assert_eq!(it.written(), b"");
    it.advance(NS);
    assert_eq!(it.written(), TCP_PING);
    it.advance(6 * S - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn with_messages_as_life_a_trickle_is_silence() {
    let settings = Settings {
        keepalive: Keepalive::hotpot().alive_by(Alive::Messages),
        ..Settings::default()
    };
    let mut it = Driver::<Json>::tcp(settings, Framing::U16);
    for byte in delimited(r#"{"type":"A"}"#).iter().take(11) {
        it.receive(&[*byte]);
        it.advance(S);
    }
    assert!(it.closed.is_none());
    it.advance(S);
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn a_message_must_be_complete_in_time_however_often_bytes_come() {
    let mut it = Driver::<Json>::websocket(Settings::default());
    it.receive(&masked(0x01, b"{"));
    for second in 0..29 {
        it.advance(S);
        // Control frames, and more of the same message.
        it.receive(&masked(0x89, b""));
        it.receive(&masked(0x00, &[b' '; 1]));
        assert_eq!(it.session.cause(), None, "{second}");
    }
    it.advance(S - NS);
    assert_eq!(it.session.cause(), None);
    it.advance(NS);
    assert_eq!(it.session.cause(), Some(Cause::TooSlow));
    it.advance(2 * S);
    assert_eq!(closed(&it).code, 1013);
}

#[test]
fn each_message_has_its_own_time() {
    let mut it = Driver::<Json>::tcp(Settings::default(), Framing::U16);
    let message = delimited(r#"{"type":"A"}"#);
    // Each read ends in the middle of the next message.
    it.receive(&message[..5]);
    for _ in 0..100 {
        it.advance(S);
        it.receive(&[&message[5..], &message[..5]].concat());
    }
    assert_eq!(it.messages.len(), 100);
    it.receive(&message[5..]);
    it.advance(20 * S);
    assert_eq!(it.session.cause(), None);
}

#[test]
fn a_heartbeat_is_written_although_the_peer_talks() {
    let settings = Settings {
        keepalive: Keepalive::default().heartbeat_out(4 * S),
        ..Settings::default()
    };
    let mut it = Driver::<Json>::websocket(settings);
    for _ in 0..3 {
        it.advance(3 * S);
        it.receive(&text(r#"{"type":"A"}"#));
    }
    // At 4 and 8 seconds.
    assert_eq!(it.written().len(), 20);
    it.send("News", b"1");
    it.written();
    it.advance(4 * S - NS);
    assert_eq!(it.written(), b"");
    it.advance(NS);
    assert_eq!(it.written()[0], 0x89);
}

#[test]
fn both_and_off_do_as_they_say() {
    let with = |ping| Settings {
        keepalive: Keepalive::hotpot().ping(ping),
        ..Settings::default()
    };
    let mut it = Driver::<Json>::websocket(with(Ping::Both));
    it.advance(6 * S);
    let output = it.written();
    assert_eq!((output[0], output[10]), (0x89, 0x81));
    let mut it = Driver::<Json>::websocket(with(Ping::Off));
    it.advance(12 * S - NS);
    assert!(it.written().is_empty() && it.closed.is_none());
    it.advance(NS);
    assert_eq!(closed(&it).cause, Cause::Silence);
}

#[test]
fn more_messages_than_the_rate_allows_are_not_read_for_a_while_or_close() {
    let with = |rate| Settings {
        limits: Limits {
            rate: Some(rate),
            ..Limits::default()
        },
        ..Settings::default()
    };
    let message = delimited(r#"{"type":"A"}"#);
    let mut it = Driver::<Json>::tcp(with(Rate::new(1).burst(2)), Framing::U16);
    it.receive(&message.repeat(2));
    assert!(it.session.wants_read());
    it.receive(&message);
    assert!(!it.session.wants_read());
    // A message each second, and one is owed.
    it.advance(2 * S - NS);
    assert!(!it.session.wants_read());
    it.advance(S / 10);
    assert!(it.session.wants_read());
    assert_eq!(it.messages.len(), 3);
    // What was not read was not silence.
    it.advance(25 * S - S / 10 - NS);
    assert!(it.written().is_empty());
    it.advance(S / 10);
    assert!(!it.written().is_empty());
    let rate = Rate::new(1).excess(Excess::Close);
    let mut it = Driver::<Json>::tcp(with(rate), Framing::U16);
    it.receive(&message.repeat(2));
    it.advance(2 * S);
    assert_eq!(
        (closed(&it).cause, closed(&it).code),
        (Cause::RateLimit, 1008)
    );
}
