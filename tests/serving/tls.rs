//! Connections under TLS.

mod ca;

use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use liveness::server::{
    Cause, Json, Keepalive, Overflow, SendError, ServerBuilder, Shutdown, Tls, TlsError,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::authority::{Authority, Folder};
use crate::kit::{
    MS, Peer, Report, SOON, connect, framed, get, get_frame, head, next_end, put, put_frame,
    reporting, try_get, until, upgrade,
};
use ca::{certified, presented, read_to_notice, secure, trusting};

const HELLO: &str = r#"{"type":"Echo","data":"hello"}"#;

/// The listeners of the servers: plain TCP, plain WebSocket, TCP and WebSocket under TLS.
fn secured(tls: &Tls) -> (ServerBuilder<Json, ()>, Receiver<Report>) {
    let (builder, reports) = reporting();
    let builder = builder
        .tcp_tls("127.0.0.1:0", tls)
        .websocket_tls("127.0.0.1:0", tls);
    (builder, reports)
}

/// The first bytes of a handshake.
fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config.clone(), name).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn an_echo_comes_back_over_both_transports_beside_plain_ones() {
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder.start().unwrap();
    let [plain, _, tcp, websocket] = server.local_addrs() else {
        panic!("four listeners");
    };
    let mut stream = connect(*plain);
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);

    let mut stream = secure(*tcp, &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);

    let mut stream = secure(*websocket, &client).unwrap();
    let answer = upgrade(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    put_frame(&mut stream, 1, HELLO.as_bytes());
    assert_eq!(get_frame(&mut stream), (1, HELLO.as_bytes().to_vec()));
    put_frame(&mut stream, 8, &1000_u16.to_be_bytes());
    assert_eq!(get_frame(&mut stream), (8, 1000_u16.to_be_bytes().to_vec()));
    assert!(read_to_notice(&mut stream).is_empty());
    drop(stream);
    assert_eq!(next_end(&reports).cause, Cause::Peer);
    until("it is counted", || server.stats().closed == 1);
    let stats = server.stats();
    assert!(stats.is_balanced() && stats.open == 2, "{stats:?}");
}

#[test]
fn the_state_of_the_server_is_answered_under_tls() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls).0.start().unwrap();
    let mut stream = secure(server.local_addrs()[3], &client).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    read_to_notice(&mut stream);
}

#[test]
fn large_messages_arrive_whole_in_both_directions_and_their_memory_is_counted() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls)
        .0
        .max_message(1 << 20)
        .outbound(4 << 20)
        .start()
        .unwrap();
    let mut stream = secure(server.local_addrs()[3], &client).unwrap();
    upgrade(&mut stream);
    let text = "x".repeat(60_000);
    let message = format!(r#"{{"type":"Echo","data":"{text}"}}"#);
    for _ in 0..20 {
        put_frame(&mut stream, 1, message.as_bytes());
    }
    // Nothing is read until the buffers of the system are full, so that records wait half written.
    thread::sleep(MS * 100);
    for _ in 0..20 {
        let (opcode, payload) = get_frame(&mut stream);
        assert!(opcode == 1 && payload == message.as_bytes());
    }
    until("nothing waits", || server.stats().queued_bytes == 0);
}

#[test]
fn a_client_refuses_a_certificate_of_another_authority_and_the_server_goes_on() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls).0.start().unwrap();
    let other = trusting(&Authority::new());
    for (address, count) in server.local_addrs()[2..].iter().zip(1..) {
        let error = secure(*address, &other).unwrap_err();
        assert!(
            error.to_string().contains("invalid peer certificate"),
            "{error}"
        );
        until("it is refused", || server.stats().refused == count);
    }
    let stats = server.stats();
    assert_eq!(stats.ended_by(Cause::Protocol), 2, "{stats}");
    assert!(stats.is_balanced() && stats.opened_reports == 0);
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);
}

#[test]
fn plain_bytes_on_a_port_under_tls_end_with_an_alert() {
    let (_authority, _folder, tls, _client) = certified();
    let (builder, _reports) = secured(&tls);
    let server = builder.start().unwrap();
    for (address, count) in server.local_addrs()[2..].iter().zip(1..) {
        let mut stream = connect(*address);
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        // A record with a fatal alert.
        assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7));
        drop(stream);
        until("it is refused", || server.stats().refused == count);
        assert_eq!(server.stats().ended_by(Cause::Protocol), count);
    }
}

#[test]
fn a_peer_that_ends_its_direction_of_tls_gets_its_answers() {
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let slow = |agent: &Peer, number: u32| {
        std::thread::sleep(MS * 20);
        agent.send("Slow", &number)
    };
    let server = builder.on("Slow", slow).start().unwrap();
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    for number in 0..3 {
        put(
            &mut stream,
            &format!(r#"{{"type":"Slow","data":{number}}}"#),
        );
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    for number in 0..3 {
        assert_eq!(
            get(&mut stream),
            format!(r#"{{"type":"Slow","data":{number}}}"#)
        );
    }
    assert!(read_to_notice(&mut stream).is_empty());
    assert_eq!(next_end(&reports).cause, Cause::Eof);
}

#[test]
fn a_handshake_on_a_plain_port_ends_with_a_cause() {
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder.start().unwrap();
    let error = secure(server.local_addrs()[0], &client).unwrap_err();
    assert_eq!(next_end(&reports).cause, Cause::Protocol, "{error}");
    secure(server.local_addrs()[1], &client).unwrap_err();
    until("it is refused", || server.stats().refused == 1);
    assert_eq!(server.stats().ended_by(Cause::Refused), 1);
}

#[test]
fn a_handshake_that_is_not_completed_ends_in_time_or_with_the_stream() {
    let within = MS * 150;
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls).0.handshake_within(within).start().unwrap();
    let hello = hello(&client);
    for (address, count) in server.local_addrs()[2..].iter().zip(1..) {
        let mut stream = connect(*address);
        let began = Instant::now();
        stream.write_all(&hello[..hello.len() / 2]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(began.elapsed() >= within);
        // The end is announced even now.
        assert_eq!((answer[0], answer[5..].to_vec()), (21, vec![1, 0]));
        drop(stream);
        until("it is refused", || server.stats().refused == 2 * count - 1);
        assert_eq!(server.stats().ended_by(Cause::TooSlow), count);

        let mut stream = connect(*address);
        stream.write_all(&hello[..hello.len() / 2]).unwrap();
        drop(stream);
        until("it is refused", || server.stats().refused == 2 * count);
        let stats = server.stats();
        let gone = stats.ended_by(Cause::Eof) + stats.ended_by(Cause::Reset);
        assert_eq!(gone, count, "{stats}");
    }
    assert!(server.stats().is_balanced());
}

#[test]
fn an_alert_after_the_end_of_a_handshake_that_took_too_long_harms_nobody() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls)
        .0
        .reactors(1)
        .handshake_within(MS * 100)
        .start()
        .unwrap();
    for address in &server.local_addrs()[2..] {
        let mut stream = connect(*address);
        stream.write_all(&hello(&client)).unwrap();
        // The server's part of the handshake, and the end.
        stream.read_to_end(&mut Vec::new()).unwrap();
        // A record with the notice of the other direction's end.
        stream.write_all(&[21, 3, 3, 0, 2, 1, 0]).unwrap();
    }
    until("they are gone", || server.stats().refused == 2);
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);
}

#[test]
fn slow_handshakes_hold_up_nobody_and_their_number_is_limited() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls)
        .0
        .reactors(1)
        .max_handshaking(20)
        .handshake_within(SOON * 2)
        .start()
        .unwrap();
    let address = server.local_addrs()[2];
    let hello = hello(&client);
    let mut slow: Vec<_> = (0..19).map(|_| connect(address)).collect();
    for at in 0..50 {
        for stream in &mut slow {
            stream.write_all(&hello[at..=at]).unwrap();
        }
        if at % 10 == 0 {
            let mut stream = secure(address, &client).unwrap();
            put(&mut stream, HELLO);
            assert_eq!(get(&mut stream), HELLO);
        }
    }
    slow.push(connect(address));
    until("all wait", || server.stats().handshaking == 20);
    assert!(secure(address, &client).is_err());
    assert_eq!(server.stats().refused, 1);
}

#[test]
fn silence_is_exact_and_parts_of_records_are_signs_of_life() {
    let (ping, silent) = (MS * 300, MS * 900);
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder
        .keepalive(Keepalive::new(ping, silent))
        .start()
        .unwrap();
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    until("it is open", || server.stats().open == 1);
    let mut record = Vec::new();
    stream.conn.writer().write_all(&framed(HELLO)).unwrap();
    stream.conn.write_tls(&mut record).unwrap();
    let (last, first) = record.split_last().unwrap();
    let began = Instant::now();
    for byte in first {
        stream.sock.write_all(&[*byte]).unwrap();
        thread::sleep(MS * 20);
    }
    assert!(began.elapsed() > silent, "{} bytes", record.len());
    assert_eq!(server.stats().ended_by(Cause::Silence), 0);
    stream.sock.write_all(&[*last]).unwrap();
    let began = Instant::now();
    while get(&mut stream) != HELLO {}
    let closed = next_end(&reports);
    assert!(began.elapsed() >= silent);
    assert_eq!(closed.cause, Cause::Silence, "{closed}");
    assert!(
        closed.silent >= silent && closed.late < MS * 2_000,
        "{closed}"
    );
    // Pings, then the fault that says why, then the notice.
    assert_eq!(get(&mut stream), r#"{"type":"Ping","data":{}}"#);
    let rest = String::from_utf8(read_to_notice(&mut stream)).unwrap();
    assert!(rest.contains("1011"), "{rest}");
}

#[test]
fn a_record_that_is_not_completed_in_time_ends_the_connection() {
    let within = MS * 200;
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder.message_within(within).start().unwrap();
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);
    let mut record = Vec::new();
    stream.conn.writer().write_all(&framed(HELLO)).unwrap();
    stream.conn.write_tls(&mut record).unwrap();
    let began = Instant::now();
    stream.sock.write_all(&record[..record.len() - 1]).unwrap();
    let closed = next_end(&reports);
    assert!(began.elapsed() >= within);
    assert_eq!(closed.cause, Cause::TooSlow, "{closed}");
    assert_eq!(closed.received, 1);
    let rest = String::from_utf8(read_to_notice(&mut stream)).unwrap();
    assert!(rest.contains("1013"), "{rest}");
}

#[test]
fn a_shutdown_says_1001_and_ends_with_the_notice() {
    let (_authority, _folder, tls, client) = certified();
    let server = secured(&tls).0.start().unwrap();
    let mut websocket = secure(server.local_addrs()[3], &client).unwrap();
    upgrade(&mut websocket);
    let mut tcp = secure(server.local_addrs()[2], &client).unwrap();
    // Its handshake is going on, and does not hold up the end.
    let mut half = connect(server.local_addrs()[2]);
    half.write_all(&hello(&client)[..20]).unwrap();
    until("all are there", || {
        let stats = server.stats();
        (stats.opened_reports, stats.handshaking) == (2, 1)
    });
    let reading = thread::spawn(move || {
        let (opcode, payload) = get_frame(&mut websocket);
        assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
        put_frame(&mut websocket, 8, &payload);
        assert!(read_to_notice(&mut websocket).is_empty());
        let fault = get(&mut tcp);
        assert!(fault.contains("1001"), "{fault}");
        assert!(read_to_notice(&mut tcp).is_empty());
        let mut alert = Vec::new();
        half.read_to_end(&mut alert).unwrap();
        assert_eq!(alert[0], 21);
    });
    let report = server.shutdown(Shutdown::within(SOON));
    assert!(report.unreported.is_empty() && report.still_running.is_empty());
    reading.join().unwrap();
    let stats = server.stats();
    assert_eq!(stats.ended_by(Cause::Shutdown), 3, "{stats}");
    assert!(stats.is_balanced());
}

#[test]
fn a_peer_that_does_not_read_is_bounded_by_the_limit_and_then_stuck() {
    let limit = 100_000;
    let within = MS * 300;
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder
        .outbound(limit)
        .overflow(Overflow::DropNew)
        .write_within(within)
        .start()
        .unwrap();
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);
    let agent = server.agents().pop().unwrap();
    let text = "x".repeat(20_000);
    let began = Instant::now();
    loop {
        match agent.send("News", &text) {
            Ok(()) => thread::yield_now(),
            // The system takes some megabytes first, and the reactor may be behind.
            Err(SendError::Full) if agent.is_open() => thread::sleep(MS),
            Err(error) => {
                assert!(matches!(error, SendError::Closed), "{error}");
                break;
            }
        }
        assert!(agent.queued() <= limit);
        assert!(server.stats().queued_bytes <= limit as u64);
    }
    assert!(began.elapsed() >= within);
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::Stuck, "{closed}");
    assert!(closed.unsent > 0 && closed.unsent <= limit as u64);
}

#[test]
fn a_slow_reader_that_takes_something_is_not_stuck() {
    let within = MS * 400;
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder
        .outbound(16 << 20)
        .max_message(8 << 20)
        .write_within(within)
        .start()
        .unwrap();
    let mut stream = secure(server.local_addrs()[3], &client).unwrap();
    upgrade(&mut stream);
    until("it is open", || server.stats().opened_reports == 1);
    let agent = server.agents().pop().unwrap();
    agent.send("News", &"x".repeat(8_000_000)).unwrap();
    let began = Instant::now();
    let mut some = vec![0; 200_000];
    while began.elapsed() < within * 4 {
        let count = stream.sock.read(&mut some).unwrap();
        assert!(count > 0);
        thread::sleep(MS * 50);
    }
    assert!(agent.is_open());
    drop(stream);
    assert_ne!(next_end(&reports).cause, Cause::Stuck);
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_connection() {
    let (_authority, _folder, tls, client) = certified();
    let (builder, reports) = secured(&tls);
    let server = builder.start().unwrap();
    let mut stream = secure(server.local_addrs()[2], &client).unwrap();
    put(&mut stream, HELLO);
    assert_eq!(get(&mut stream), HELLO);
    let mut records = Vec::new();
    for _ in 0..2 {
        stream.conn.writer().write_all(&framed(HELLO)).unwrap();
        stream.conn.write_tls(&mut records).unwrap();
    }
    *records.last_mut().unwrap() ^= 1;
    stream.sock.write_all(&records).unwrap();
    let closed = next_end(&reports);
    assert_eq!(closed.cause, Cause::Protocol, "{closed}");
    // What came before is handled.
    assert_eq!(closed.received, 2);
    assert!(closed.reason.contains("decrypt"), "{closed}");
    let error = loop {
        if let Err(error) = try_get(&mut stream) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    drop(server);
}

#[test]
fn a_certificate_is_replaced_for_new_connections_and_kept_if_the_files_are_wrong() {
    let (authority, folder, tls, client) = certified();
    let server = secured(&tls).0.start().unwrap();
    let address = server.local_addrs()[2];
    let mut first = secure(address, &client).unwrap();
    authority.issue_to(&folder);
    let old = presented(&secure(address, &client).unwrap());
    assert_eq!(old, presented(&first));
    tls.reload().unwrap();
    let new = presented(&secure(address, &client).unwrap());
    assert_ne!(old, new);
    // The key of another certificate.
    folder.put("key.pem", &authority.issue().1);
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }), "{error}");
    assert_eq!(presented(&secure(address, &client).unwrap()), new);
    put(&mut first, HELLO);
    assert_eq!(get(&mut first), HELLO);
}

#[test]
fn errors_name_the_file_and_what_it_needs() {
    let authority = Authority::new();
    let folder = Folder::new();
    let (chain, key) = authority.issue();
    let chain = folder.put("chain.pem", &chain);
    let key = folder.put("key.pem", &key);
    let both = folder.put("both.pem", &(read(&chain) + &read(&key)));
    Tls::from_files(&both, &both).unwrap();
    let failed =
        |chain: &PathBuf, key: &PathBuf| Tls::from_files(chain, key).unwrap_err().to_string();
    let missing = folder.path().join("missing.pem");
    let text = failed(&missing, &key);
    assert!(text.contains("missing.pem") && text.contains("cannot read"));
    let text = failed(&key, &key);
    assert!(text.contains("key.pem has no certificate") && text.contains("BEGIN CERTIFICATE"));
    let text = failed(&chain, &chain);
    assert!(text.contains("chain.pem has no private key") && text.contains("BEGIN PRIVATE KEY"));
    let encrypted = read(&key).replace("PRIVATE", "ENCRYPTED PRIVATE");
    let text = failed(&chain, &folder.put("encrypted.pem", &encrypted));
    assert!(text.contains("encrypted.pem is encrypted") && text.contains("openssl pkey"));
    let other = folder.put("other.pem", &authority.issue().1);
    let text = failed(&chain, &other);
    assert!(text.contains("other.pem is not that of the first certificate in"));
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let text = failed(&folder.put("broken.pem", broken), &key);
    assert!(text.contains("broken.pem cannot be used"), "{text}");
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let text = failed(&chain, &folder.put("broken.pem", broken));
    assert!(text.contains("broken.pem cannot be used"), "{text}");
}

/// Reads a file.
fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
