//! What the owner of a session holds: bytes that it has encrypted, and parts of what it cannot decrypt yet.

use super::*;
use crate::server::session::Session;

fn limited() -> Settings {
    Settings {
        limits: Limits {
            outbound: 1_000,
            overflow: Overflow::DropNew,
            write_within: S * 20,
            message_within: S * 30,
            ..Limits::default()
        },
        keepalive: Keepalive::new(S * 100, S * 200),
        ..Settings::default()
    }
}

/// Sets what is held.
fn hold(it: &mut Driver<Json>, held: usize) {
    it.session.hold(held);
    it.settle();
}

#[test]
fn bytes_that_are_held_count_for_the_limit_and_make_a_peer_stuck() {
    let mut it = Driver::<Json>::tcp(limited(), Framing::U16);
    hold(&mut it, 900);
    assert_eq!(it.session.queued(), 900);
    assert!(!it.send("News", format!("\"{}\"", "x".repeat(100)).as_bytes()));
    it.advance(S * 20 - NS);
    // The socket has accepted one.
    hold(&mut it, 899);
    it.advance(S * 20 - NS);
    assert!(it.closed.is_none());
    it.advance(NS);
    let closed = it.closed.as_ref().unwrap();
    assert_eq!((closed.cause, closed.unsent), (Cause::Stuck, 899));
}

#[test]
fn bytes_that_the_socket_has_accepted_are_no_longer_timed() {
    let mut it = Driver::<Json>::tcp(limited(), Framing::U16);
    hold(&mut it, 900);
    hold(&mut it, 0);
    it.advance(S * 60);
    assert!(it.closed.is_none());
    assert_eq!(it.session.queued(), 0);
}

#[test]
fn an_end_waits_for_what_is_held() {
    let mut it = Driver::<Json>::tcp(limited(), Framing::U16);
    hold(&mut it, 1);
    let now = it.at();
    it.session.close(Cause::App, None, String::new(), now);
    it.settle();
    assert!(!it.is_shut);
    hold(&mut it, 0);
    assert!(it.is_shut);
}

#[test]
fn a_part_is_a_sign_of_life_and_must_be_complete_in_time() {
    let mut it = Driver::<Json>::tcp(limited(), Framing::U16);
    for _ in 0..3 {
        it.advance(S * 10 - NS);
        let now = it.at();
        it.session.set_partial(true);
        it.session.hear_part(now);
        it.settle();
        assert_eq!(it.session.last_heard(), now);
    }
    // The time began with the first one.
    it.advance(S * 10 + NS);
    assert!(it.session.is_open());
    it.advance(NS);
    assert_eq!(it.session.cause(), Some(Cause::TooSlow));
    let message = String::from_utf8(it.written()).unwrap();
    assert!(message.contains("incomplete for too long"), "{message}");
}

#[test]
fn a_message_that_is_complete_ends_the_time_of_its_part_and_begins_that_of_the_next() {
    let mut it = Driver::<Json>::tcp(limited(), Framing::U16);
    for is_partial in [true, true, false] {
        it.session.set_partial(is_partial);
        it.receive(&delimited(r#"{"type":"A"}"#));
        it.advance(S * 29);
    }
    it.advance(S * 29);
    assert!(it.closed.is_none() && it.session.is_open());
}

#[test]
fn a_session_that_opens_after_a_handshake_of_its_owner_is_silent_before() {
    let settings = std::sync::Arc::new(limited());
    let new = || Session::tcp_after_handshake(&settings, Framing::U16, Json, at(0));
    let mut it = Driver::new(new());
    assert!(it.session.awaits_owner() && !it.session.is_open());
    it.advance(S * 5 - NS);
    let now = it.at();
    it.session.open(now);
    it.settle();
    assert!(it.session.is_open() && !it.session.awaits_owner());
    it.advance(S * 10);
    assert!(it.session.is_open());

    let mut it = Driver::new(new());
    it.advance(S * 5);
    assert_eq!(it.session.cause(), Some(Cause::TooSlow));
    assert!(it.written().is_empty() && it.is_shut);
}
