use super::*;
use crate::server::session::Session;

#[test]
fn an_idle_session_is_small_and_holds_no_buffer() {
    let size = size_of::<Session<Json>>();
    assert!(size <= 144, "{size} bytes");
    for mut it in [
        Driver::<Json>::websocket(Settings::default()),
        Driver::tcp(Settings::default(), Framing::U16),
    ] {
        it.echoes = true;
        let message = format!(r#"{{"type":"A","data":"{}"}}"#, "x".repeat(32 << 10));
        let bytes = if it.session.wire().link == crate::server::wire::Link::WebSocket {
            text(&message)
        } else {
            delimited(&message)
        };
        for piece in bytes.chunks(1_000) {
            it.receive(piece);
        }
        assert_eq!(
            it.written().len(),
            message.len() + if bytes[0] == 0x81 { 4 } else { 2 }
        );
        assert_eq!(it.session.held(), 0);
        assert_eq!(it.session.outbox.held(), 0);
    }
}
