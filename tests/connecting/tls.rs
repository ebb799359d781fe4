//! Clients under TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use liveness::client::{Client, ClientBuilder, LinkError, State, Trust};
use liveness::server::{Cause, Closed, Json, Server, Shutdown, Tls, TlsError};
use rcgen::CertificateParams;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Authority, Folder};
use crate::kit::{MS, Peer, SOON, client, close, next, next_that, server, until};

/// By how much a verdict may be late on a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(2);

/// An authority, a certificate of it, and who trusts it.
struct Certified {
    authority: Authority,
    folder: Folder,
    tls: Tls,
    trust: Trust,
}

impl Certified {
    fn new() -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        authority.issue_to(&folder);
        let trust = trusting(&authority, &folder);
        let path = folder.path();
        let tls = Tls::from_files(path.join("chain.pem"), path.join("key.pem")).unwrap();
        Certified {
            authority,
            folder,
            tls,
            trust,
        }
    }

    /// Gives the server a certificate with other properties.
    fn replace(&self, params: &CertificateParams) {
        let (chain, key) = self.authority.sign(params);
        self.folder.put("chain.pem", &chain);
        self.folder.put("key.pem", &key);
        self.tls.reload().unwrap();
    }

    /// A client that trusts the authority.
    fn client(&self, url: &str) -> (ClientBuilder<Json>, Receiver<State>) {
        let (builder, states) = client(url);
        (builder.trust(&self.trust), states)
    }

    /// A listener and a client of it, which are connected under TLS.
    fn raw(&self, setting: impl FnOnce(ClientBuilder<Json>) -> ClientBuilder<Json>) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (builder, states) = self.client(&format!("tcps://{address}"));
        let client = setting(builder).start().unwrap();
        let path = self.folder.path();
        let chain = CertificateDer::pem_file_iter(path.join("chain.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(path.join("key.pem")).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        Raw {
            listener,
            config: Arc::new(config),
            client,
            states,
        }
    }
}

/// A server that does only what the test does, and a client of it.
struct Raw {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    client: Client<Json>,
    states: Receiver<State>,
}

impl Raw {
    /// Accepts the next connection, and completes its handshake.
    fn accept(&self) -> StreamOwned<ServerConnection, TcpStream> {
        let (mut stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut tls = ServerConnection::new(self.config.clone()).unwrap();
        tls.complete_io(&mut stream).unwrap();
        StreamOwned::new(tls, stream)
    }
}

/// Writes the root to a file, and trusts it.
fn trusting(authority: &Authority, folder: &Folder) -> Trust {
    let pem = authority.root().pem();
    Trust::from_file(folder.put("root.pem", &pem)).unwrap()
}

/// Both URLs of a server that listens for TCP and then for WebSocket.
fn urls(addresses: &[SocketAddr], host: &str) -> [String; 2] {
    [
        format!("tcps://{host}:{}", addresses[0].port()),
        format!("wss://{host}:{}/", addresses[1].port()),
    ]
}

/// The next state without a connection.
fn next_error(states: &Receiver<State>) -> LinkError {
    match next_that(states, |state| matches!(state, State::Offline { .. })) {
        State::Offline { error, .. } => error,
        _ => unreachable!(),
    }
}

/// The report in `error`.
fn ended(error: LinkError) -> Closed {
    match error {
        LinkError::Ended(closed) => closed,
        other => panic!("{other}"),
    }
}

/// A server that listens under TLS for TCP and for WebSocket.
fn secured(tls: &Tls) -> Server<Json, ()> {
    server()
        .tcp_tls("127.0.0.1:0", tls)
        .websocket_tls("127.0.0.1:0", tls)
        .start()
        .unwrap()
}

#[test]
fn messages_and_requests_go_both_ways_under_tls_by_name_and_by_address() {
    let it = Certified::new();
    let server = secured(&it.tls);
    for host in ["localhost", "127.0.0.1"] {
        for url in urls(server.local_addrs(), host) {
            let (send, received) = channel();
            let (builder, states) = it.client(&url);
            let client = builder
                .on("Echo", move |_, text: String| send.send(text).unwrap())
                .start()
                .unwrap();
            // Before there is a connection.
            client.send("Echo", "hello").unwrap();
            assert_eq!(client.request::<_, u32>("Double", &21, SOON).unwrap(), 42);
            assert!(matches!(next(&states), State::Connecting));
            assert!(matches!(next(&states), State::Online { attempt: 1 }));
            assert_eq!(received.recv_timeout(SOON).unwrap(), "hello");
            // More than a record, and more than the socket takes at once.
            let large = "x".repeat(60_000);
            for _ in 0..10 {
                client.send("Echo", &large).unwrap();
            }
            for _ in 0..10 {
                assert_eq!(received.recv_timeout(SOON).unwrap(), large);
            }
            close(&client);
            let stats = client.stats();
            assert_eq!((stats.attempts, stats.lost, stats.dropped), (1, 0, 0));
            assert_eq!(stats.accepted, stats.sent);
        }
    }
    until("all have gone", || server.stats().closed == 4);
    let stats = server.stats();
    assert!(stats.is_balanced());
    // The close was announced: by a frame, and by the end of the stream on TCP.
    let ends = (stats.ended_by(Cause::Peer), stats.ended_by(Cause::Eof));
    assert_eq!(ends, (2, 2), "{stats}");
}

#[test]
fn the_authorities_of_the_system_are_trusted_unless_others_are_named() {
    let name = "tls::the_authorities_of_the_system_are_trusted_unless_others_are_named";
    let it = Certified::new();
    // This test is the only one of its process, which is started with other authorities of the system.
    if std::env::var_os(crate::alone::ROLE).is_none() {
        let root = it.folder.path().join("root.pem");
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(crate::alone::ROLE, "alone")
            .env("SSL_CERT_FILE", root)
            .env("LIVENESS_TEST_FOLDER", it.folder.path())
            .spawn()
            .unwrap();
        assert!(crate::alone::succeeds(&mut child));
        return;
    }
    let path = PathBuf::from(std::env::var_os("LIVENESS_TEST_FOLDER").unwrap());
    let tls = Tls::from_files(path.join("chain.pem"), path.join("key.pem")).unwrap();
    let server = secured(&tls);
    for url in urls(server.local_addrs(), "localhost") {
        // Here, `it` is another authority than that of the server.
        let (builder, states) = client(&url);
        let client_1 = builder.start().unwrap();
        next_that(&states, State::is_online);
        close(&client_1);
        let (builder, states) = it.client(&url);
        let client_2 = builder.start().unwrap();
        assert!(matches!(next_error(&states), LinkError::Tls(_)));
        close(&client_2);
    }
}

#[test]
fn a_certificate_that_is_not_accepted_is_named_and_tried_again_until_it_is_renewed() {
    let it = Certified::new();
    let server = secured(&it.tls);
    let day = Duration::from_secs(86_400);
    let valid = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let mut expired = valid.clone();
    expired.not_before = (SystemTime::now() - 3 * day).into();
    expired.not_after = (SystemTime::now() - day).into();
    let mut early = valid.clone();
    early.not_before = (SystemTime::now() + day).into();
    let wrong = CertificateParams::new(["example.org".to_owned(), "::2".to_owned()]).unwrap();
    let no_name = CertificateParams::default();
    for (params, why) in [
        (&expired, "the certificate expired 864"),
        (&early, "the certificate is not valid yet, but in 86"),
        (&wrong, "the certificate is not for `localhost`"),
        (&no_name, "the certificate is not for `localhost`"),
    ] {
        for url in urls(server.local_addrs(), "localhost") {
            it.replace(params);
            let (builder, states) = client(&url);
            // Not one that was used before: with a session that is resumed, no certificate is presented.
            let trust = trusting(&it.authority, &it.folder);
            let client = builder.trust(&trust).start().unwrap();
            client.send("Echo", &1).unwrap();
            for _ in 0..2 {
                let error = next_error(&states);
                assert!(matches!(error, LinkError::Tls(_)), "{error}");
                let text = error.to_string();
                let begin = format!("no TLS with the server: {why}");
                assert!(text.starts_with(&begin), "{text}");
            }
            it.replace(&valid);
            next_that(&states, State::is_online);
            until("what waited is sent", || client.stats().sent == 1);
            close(&client);
        }
    }
}

#[test]
fn an_authority_that_is_not_trusted_is_refused_and_nothing_is_sent() {
    let it = Certified::new();
    let server = secured(&it.tls);
    let other = trusting(&Authority::new(), &Folder::new());
    for url in urls(server.local_addrs(), "localhost") {
        let (builder, states) = client(&url);
        let client = builder
            .trust(&other)
            .greet(|greeting| {
                greeting.send("Login", "secret");
            })
            .start()
            .unwrap();
        client.send("Echo", "secret").unwrap();
        let text = next_error(&states).to_string();
        let why = "the certificate was issued by no authority that is trusted here";
        assert!(text.ends_with(why), "{text}");
        next_error(&states);
        assert_eq!((client.stats().sent, client.stats().opened), (0, 0));
        close(&client);
    }
    until("they are gone", || server.stats().handshaking == 0);
    let stats = server.stats();
    assert!(stats.opened_reports == 0 && stats.received == 0 && stats.is_balanced());
}

#[test]
fn a_certificate_that_signs_itself_is_trusted_if_it_is_no_authority() {
    let folder = Folder::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    for (is_ca, why) in [
        (rcgen::IsCa::ExplicitNoCa, None),
        (
            rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            Some("`basicConstraints=CA:FALSE`"),
        ),
    ] {
        params.is_ca = is_ca;
        let certificate = params.self_signed(&key).unwrap();
        let chain = folder.put("cert.pem", &certificate.pem());
        let key = folder.put("key.pem", &key.serialize_pem());
        let server = secured(&Tls::from_files(&chain, key).unwrap());
        let (builder, states) = client(&urls(server.local_addrs(), "localhost")[1]);
        let trust = Trust::from_file(&chain).unwrap();
        let client = builder.trust(&trust).start().unwrap();
        match why {
            None => drop(next_that(&states, State::is_online)),
            Some(why) => {
                let text = next_error(&states).to_string();
                assert!(text.ends_with(why), "{text}");
            }
        }
        close(&client);
    }
}

#[test]
fn after_each_restart_the_greeting_comes_first_and_then_the_queue_under_tls() {
    let it = Certified::new();
    let first = secured(&it.tls);
    let addresses = first.local_addrs().to_vec();
    drop(first);
    for (index, url) in urls(&addresses, "localhost").iter().enumerate() {
        let (builder, states) = it.client(url);
        let client = builder
            .greet(|greeting| {
                greeting.send("Say", "login");
            })
            .start()
            .unwrap();
        for restart in 0..6 {
            let waiting = [format!("{restart} first"), format!("{restart} second")];
            for text in &waiting {
                client.send("Say", text).unwrap();
            }
            let (send, said) = channel();
            let builder = server().on("Say", move |_: &Peer, text: String| {
                send.send(text).unwrap();
            });
            let address = addresses[index].to_string();
            let server = if index == 0 {
                builder.tcp_tls(address, &it.tls)
            } else {
                builder.websocket_tls(address, &it.tls)
            };
            let server = server.start().unwrap();
            next_that(&states, State::is_online);
            for text in ["login", &waiting[0], &waiting[1]] {
                assert_eq!(said.recv_timeout(SOON).unwrap(), text, "restart {restart}");
            }
            if restart % 2 == 0 {
                server.shutdown(Shutdown::within(SOON));
                let closed = ended(next_error(&states));
                assert_eq!((closed.cause, closed.code), (Cause::Peer, 1001));
            } else {
                drop(server);
                next_error(&states);
            }
        }
        close(&client);
        let stats = client.stats();
        assert_eq!((stats.opened, stats.sent), (6, 18));
        assert_eq!((stats.dropped, stats.lost), (0, 0));
    }
}

#[test]
fn a_server_without_tls_is_named_whatever_it_answers() {
    let it = Certified::new();
    let plain = server().websocket("127.0.0.1:0").start().unwrap();
    let (builder, states) = it.client(&format!("wss://{}/", plain.local_addrs()[0]));
    let client = builder.start().unwrap();
    let text = next_error(&states).to_string();
    assert_eq!(text, "no TLS with the server: the peer does not use TLS");
    close(&client);
    for (answer, why) in [
        (&b"SSH-2.0-x\r\n"[..], "the peer does not use TLS"),
        // A record with the alert that the handshake fails.
        (
            &[21, 3, 3, 0, 2, 2, 40],
            "received fatal alert: HandshakeFailure",
        ),
        // A record with a handshake of zeros.
        (&[22, 3, 3, 0, 4, 0, 0, 0, 0], "no TLS with the server"),
        (&[], "end of stream"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (builder, states) = it.client(&format!("tcps://{}", listener.local_addr().unwrap()));
        let client = builder.start().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1_024]).unwrap() > 0);
        stream.write_all(answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let text = next_error(&states).to_string();
        assert!(text.contains(why), "{text}");
        // It tries again.
        listener.accept().unwrap();
        close(&client);
        assert_eq!(client.stats().opened, 0);
    }
}

#[test]
fn a_server_that_never_speaks_is_given_up_in_time() {
    let it = Certified::new();
    let within = 150 * MS;
    for scheme in ["tcps", "wss"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let (builder, states) = it.client(&url);
        let began = Instant::now();
        let client = builder.connect_within(within).start().unwrap();
        // The first byte is that of a hello.
        let accept = || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut first = [0];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(first[0], 22);
            stream
        };
        let mut streams = vec![accept()];
        let closed = ended(next_error(&states));
        assert!(began.elapsed() >= within, "{:?}", began.elapsed());
        assert_eq!(closed.cause, Cause::TooSlow, "{closed}");
        assert_eq!(closed.reason, "the handshake took too long");
        assert!(closed.late < SLACK, "{closed}");
        // A close does not wait for the handshake that goes on.
        streams.push(accept());
        close(&client);
        // The end is announced.
        for mut stream in streams {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert!(bytes.ends_with(&[21, 3, 3, 0, 2, 1, 0]), "{bytes:?}");
        }
    }
}

#[test]
fn a_silent_server_is_offline_in_exact_time_and_parts_of_records_are_signs_of_life() {
    let it = Certified::new();
    let raw = it.raw(|builder| builder.unanswered(60 * MS, 4));
    let mut server = raw.accept();
    next_that(&raw.states, State::is_online);
    let mut record = Vec::new();
    server.conn.writer().write_all(&[b'x'; 10]).unwrap();
    server.conn.write_tls(&mut record).unwrap();
    let mut last = Instant::now();
    for byte in &record[..record.len() - 1] {
        thread::sleep(15 * MS);
        last = Instant::now();
        server.sock.write_all(&[*byte]).unwrap();
    }
    let closed = ended(next_error(&raw.states));
    let took = last.elapsed();
    assert_eq!(closed.cause, Cause::Silence, "{closed}");
    assert!(closed.silent >= 300 * MS, "{closed}");
    assert!(took >= 300 * MS && took < 300 * MS + SLACK, "{took:?}");
    // Four pings have come, and then the end: a half-open connection is not waited for.
    let mut bytes = Vec::new();
    let _ = server.read_to_end(&mut bytes);
    let pings = bytes.windows(6).filter(|it| it == b"\"Ping\"").count();
    assert_eq!(pings, 4);
    close(&raw.client);
}

#[test]
fn a_close_ends_with_the_notice_after_everything_else() {
    let it = Certified::new();
    let raw = it.raw(|builder| builder);
    let mut server = raw.accept();
    next_that(&raw.states, State::is_online);
    let large = "x".repeat(60_000);
    for _ in 0..5 {
        raw.client.send("Echo", &large).unwrap();
    }
    raw.client.close();
    let mut bytes = Vec::new();
    // Without the notice this is an error.
    server
        .read_to_end(&mut bytes)
        .expect("the end is announced");
    assert!(bytes.len() > 5 * large.len() && bytes.ends_with(b"x\"}"));
    drop(server);
    close(&raw.client);
    assert_eq!(raw.client.stats().sent, 5);
}

#[test]
fn a_record_that_was_changed_on_the_way_ends_the_connection() {
    let it = Certified::new();
    let (send, said) = channel();
    let raw = it.raw(|builder| builder.on("Say", move |_, text: String| send.send(text).unwrap()));
    let mut server = raw.accept();
    next_that(&raw.states, State::is_online);
    let message = br#"{"type":"Say","data":"hello"}"#;
    let mut records = Vec::new();
    for _ in 0..2 {
        let mut writer = server.conn.writer();
        writer.write_all(&[0, message.len() as u8]).unwrap();
        writer.write_all(message).unwrap();
        server.conn.write_tls(&mut records).unwrap();
    }
    *records.last_mut().unwrap() ^= 1;
    server.sock.write_all(&records).unwrap();
    let closed = ended(next_error(&raw.states));
    assert_eq!(closed.cause, Cause::Protocol, "{closed}");
    assert!(closed.reason.contains("decrypt"), "{closed}");
    // What came before is handled.
    assert_eq!(said.recv_timeout(SOON).unwrap(), "hello");
    assert_eq!(closed.received, 1);
    close(&raw.client);
}

#[test]
fn a_session_of_tls_is_resumed_by_the_next_connection() {
    let it = Certified::new();
    let raw = it.raw(|builder| builder);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut server = raw.accept();
        next_that(&raw.states, State::is_online);
        assert_eq!(server.conn.handshake_kind(), Some(expected));
        // The answer shows that the client has read the tickets, which come before it.
        let ping = br#"{"type":"Ping"}"#;
        server.write_all(&[0, ping.len() as u8]).unwrap();
        server.write_all(ping).unwrap();
        server.flush().unwrap();
        assert!(server.read(&mut [0; 100]).unwrap() > 0);
    }
    close(&raw.client);
}

#[test]
fn options_are_refused_with_what_would_be_right() {
    let it = Certified::new();
    let failed = |builder: ClientBuilder<Json>| builder.start().unwrap_err().to_string();
    for url in ["tcp://localhost:1", "ws://localhost/"] {
        let text = failed(Client::builder(url).trust(&it.trust));
        let why = "`trust` must be used with `tcps://` or `wss://` only";
        assert!(text.contains(why), "{text}");
    }
    let text = failed(Client::builder("wss://a..b/").trust(&it.trust));
    assert!(text.contains("a name or an IP address"), "{text}");
    let missing = it.folder.path().join("missing.pem");
    let error = Trust::from_file(&missing).unwrap_err();
    assert!(matches!(&error, TlsError::Read { path, .. } if *path == missing));
    let key = it.folder.path().join("key.pem");
    let error = Trust::from_file(&key).unwrap_err();
    assert!(matches!(error, TlsError::NoCertificate { .. }), "{error}");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = Trust::from_file(it.folder.put("broken.pem", broken)).unwrap_err();
    assert!(
        error.to_string().contains("broken.pem cannot be used"),
        "{error}"
    );
    // Several in one file.
    let root = fs::read_to_string(it.folder.path().join("root.pem")).unwrap();
    let both = Authority::new().root().pem() + &root;
    let both = Trust::from_file(it.folder.put("both.pem", &both)).unwrap();
    assert!(format!("{both:?}").contains("both.pem"));
    let server = secured(&it.tls);
    let (builder, states) = client(&urls(server.local_addrs(), "localhost")[0]);
    let client = builder.trust(&both).start().unwrap();
    next_that(&states, State::is_online);
    close(&client);
}
