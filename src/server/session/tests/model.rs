//! Random input and commands against naive models.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::server::session::hostile;

/// A piece of what a client sends on WebSocket.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0usize..300).prop_map(|len| text(&format!(r#"{{"type":"A","data":"{}"}}"#, "x".repeat(len)))),
        1 => Just(text(r#"{"type":"Ping","data":{}}"#)),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|it| masked(0x89, &it)),
        1 => Just(masked(0x8A, b"")),
        // A message in fragments, with a ping between them.
        2 => (1usize..20, any::<bool>()).prop_map(|(at, pings)| {
            let (first, second) = br#"{"type":"B","data":"\u00e4"}"#.split_at(at);
            let ping = if pings { masked(0x89, b"p") } else { Vec::new() };
            [masked(0x01, first), ping, masked(0x80, second)].concat()
        }),
        1 => Just(masked(0x88, b"\x03\xe8")),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(first, it)| masked(first, &it)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

/// A piece of what a server sends on WebSocket.
fn server_piece() -> impl Strategy<Value = Vec<u8>> {
    let message = |len| format!(r#"{{"type":"A","data":"{}"}}"#, "x".repeat(len)).into_bytes();
    prop_oneof![
        4 => (0usize..400).prop_map(move |len| unmasked(0x81, &message(len))),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|it| unmasked(0x89, &it)),
        1 => Just([unmasked(0x01, br#"{"type":"B""#), unmasked(0x8A, b"p"), unmasked(0x80, b"}")].concat()),
        1 => Just(unmasked(0x88, b"\x03\xe9")),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(first, it)| unmasked(first, &it)),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

/// The messages that were received, what was written, and the cause of the end.
type Outcome = (Vec<(String, Vec<u8>)>, Vec<u8>, Option<Cause>);

/// Gives `input` to a session in pieces that end at `ends`, without a round in between. Returns the session.
fn run(mut it: Driver<Json>, input: &[u8], ends: &[prop::sample::Index]) -> Outcome {
    it.room = 0;
    let mut ends: Vec<usize> = ends.iter().map(|end| end.index(input.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(input.len());
    let mut start = 0;
    for end in ends {
        it.read(&input[start..end]);
        start = end;
    }
    it.room = usize::MAX;
    it.settle();
    (it.messages.clone(), it.written(), it.session.cause())
}

/// Settings with room for all answers.
fn roomy() -> Settings {
    Settings {
        limits: Limits {
            outbound: 1 << 30,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

/// What happens in a second.
#[derive(Clone, Copy, Debug)]
enum Tick {
    Nothing,
    Byte,
    Pause,
    Resume,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn websocket_input_means_the_same_however_it_is_split(
        pieces in prop::collection::vec(piece(), 1..8),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let input = pieces.concat();
        let whole = run(Driver::websocket(roomy()), &input, &[]);
        prop_assert_eq!(&run(Driver::websocket(roomy()), &input, &ends), &whole);
        // With the request in front.
        let input = [REQUEST, &input].concat();
        let (messages, output, cause) = run(Driver::requesting(roomy()), &input, &ends);
        prop_assert_eq!((&messages, &cause), (&whole.0, &whole.2));
        prop_assert!(output.ends_with(&whole.1));
    }

    #[test]
    fn input_of_a_client_means_the_same_however_it_is_split(
        pieces in prop::collection::vec(server_piece(), 1..8),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let input = pieces.concat();
        let (messages, output, cause) = run(Driver::client(roomy()), &input, &[]);
        let split = run(Driver::client(roomy()), &input, &ends);
        prop_assert_eq!((&split.0, split.1.len(), split.2), (&messages, output.len(), cause));
        // With the answer in front.
        let (same, _, end) = run(Driver::upgrading(roomy()), &[ANSWER, &input].concat(), &ends);
        prop_assert_eq!((same, end), (messages, cause));
    }

    #[test]
    fn tcp_input_means_the_same_however_it_is_split(
        bodies in prop::collection::vec((0usize..300, 0u8..20), 1..8),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let pieces = bodies.into_iter().map(|(len, kind)| match kind {
            0 => vec![0; 2],
            1 => delimited("{"),
            2 => TCP_PING.to_vec(),
            _ => delimited(&format!(r#"{{"type":"A","data":"{}"}}"#, "x".repeat(len))),
        });
        let input = pieces.collect::<Vec<_>>().concat();
        let tcp = || Driver::tcp(roomy(), Framing::U16);
        prop_assert_eq!(run(tcp(), &input, &ends), run(tcp(), &input, &[]));
    }

    #[test]
    fn pings_and_the_drop_come_as_in_the_naive_model(
        ping_after in 1u32..8,
        rest in 1u32..15,
        ticks in prop::collection::vec(prop_oneof![
            12 => Just(Tick::Nothing), 3 => Just(Tick::Byte), 1 => Just(Tick::Pause), 2 => Just(Tick::Resume),
        ], 1..120),
    ) {
        let drop_after = ping_after + rest;
        let keepalive = Keepalive::new(ping_after * S, drop_after * S);
        // A request that is never complete is no message, so its own deadline does not matter here.
        let limits = Limits { message_within: 10_000 * S, ..Limits::default() };
        let settings = Settings { keepalive, limits, ..Settings::default() };
        let mut it = Driver::<Json>::tcp(settings, Framing::Lines);
        // The model: the time since the last byte or since reading began again, while something is read.
        let mut silent = Some(0);
        for tick in ticks {
            it.advance(S);
            let mut is_ping = false;
            let mut is_drop = false;
            if let Some(seconds) = &mut silent {
                *seconds += 1;
                is_drop = *seconds == drop_after;
                is_ping = !is_drop && *seconds % ping_after == 0;
            }
            let output = it.written();
            prop_assert_eq!(it.closed.is_some(), is_drop);
            if is_drop {
                break;
            }
            prop_assert_eq!(!output.is_empty(), is_ping);
            match tick {
                Tick::Byte if silent.is_some() => {
                    it.receive(b"\n");
                    silent = Some(0);
                }
                Tick::Byte | Tick::Nothing => {}
                Tick::Pause => {
                    it.session.pause();
                    it.settle();
                    silent = None;
                }
                Tick::Resume => {
                    it.session.resume();
                    it.settle();
                    silent = silent.or(Some(0));
                }
            }
        }
    }

    #[test]
    fn whatever_comes_a_session_keeps_its_limits_and_ends(data in prop::collection::vec(any::<u8>(), 0..400)) {
        hostile::run(&data);
    }
}

/// The fuzzer's corpus, so that neither the machine nor the corpus rots.
#[test]
fn every_input_of_the_fuzzers_corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/session");
    let Ok(entries) = fs::read_dir(&folder) else {
        // A published package has no corpus.
        assert!(std::env::var_os("CI").is_none(), "no {}", folder.display());
        eprintln!("skipped: no {}", folder.display());
        return;
    };
    let (mut count, mut operations) = (0, 0);
    for entry in entries {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        operations += hostile::run(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count >= 20, "{count} inputs in {}", folder.display());
    assert!(operations > count * 3, "{operations} operations");
}
