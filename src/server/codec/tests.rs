//! The bytes of hotpot, both ways, and bytes that are no messages.

use super::*;

/// Splits `message` and joins it again.
fn rejoin<C: Codec>(codec: C, message: &[u8]) -> Vec<u8> {
    let Envelope { name, body, id, re } = codec.split(message).unwrap();
    let mut out = b"before".to_vec();
    let head = Head::new(&name).id(id).re(re);
    let joined = codec.join(head, &mut out, |out| {
        out.extend_from_slice(body);
        Ok(())
    });
    joined.unwrap();
    out.split_off(6)
}

fn id(number: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(number)
}

fn fault_of<C: Codec>(codec: C, fault: &Fault, re: Option<NonZeroU64>) -> Vec<u8> {
    let mut out = Vec::new();
    codec.join_fault(fault, re, &mut out).unwrap();
    let envelope = codec.split(&out).unwrap();
    assert_eq!((&*envelope.name, envelope.re), (Fault::NAME, re));
    assert_eq!(codec.split_fault(envelope.body).as_ref(), Some(fault));
    out
}

#[cfg(feature = "json")]
mod json {
    use serde::{Deserialize, Serialize};

    use super::super::json::Json;
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Echo {
        #[serde(rename = "Message")]
        message: String,
    }

    #[test]
    fn the_bytes_of_hotpot_are_read_and_written() {
        let bytes = br#"{"type":"Echo","data":{"Message":"hello"}}"#;
        assert_eq!(rejoin(Json, bytes), bytes);
        let envelope = Json.split(bytes).unwrap();
        let echo = Echo::decode(Json, envelope.body).unwrap();
        assert_eq!(echo.message, "hello");
        let mut out = Vec::new();
        let encode = |out: &mut Vec<u8>| echo.encode(Json, out);
        Json.join(Head::new("Echo"), &mut out, encode).unwrap();
        assert_eq!(out, bytes);
        assert_eq!(
            rejoin(Json, br#"{"type":"Ping","data":{}}"#),
            br#"{"type":"Ping","data":{}}"#
        );
    }

    #[test]
    fn requests_answers_and_faults_have_their_numbers() {
        let request = br#"{"type":"Login","id":7,"data":null}"#;
        assert_eq!(rejoin(Json, request), request);
        let answer = br#"{"type":"Login","re":18446744073709551615,"data":[1]}"#;
        assert_eq!(rejoin(Json, answer), answer);
        let fault = Fault::new(1, "no \"such\" room");
        let bytes = fault_of(Json, &fault, None);
        assert_eq!(
            bytes,
            br#"{"type":"Error","code":1,"msg":"no \"such\" room"}"#
        );
        let bytes = fault_of(Json, &fault, id(9));
        assert_eq!(
            bytes,
            br#"{"type":"Error","re":9,"code":1,"msg":"no \"such\" room"}"#
        );
    }

    #[test]
    fn order_and_other_fields_are_free_and_data_may_be_missing() {
        let envelope =
            Json.split(br#" { "id" : 0, "x":{"type":1}, "data" : "text" , "type":"\u0041" } "#);
        let envelope = envelope.unwrap();
        assert_eq!(
            (&*envelope.name, envelope.body, envelope.id),
            ("A", &b"\"text\""[..], None)
        );
        assert_eq!(Json.split(br#"{"type":"A"}"#).unwrap().body, b"null");
        assert_eq!(
            Json.split(br#"{"type":"A","data":null}"#).unwrap().body,
            b"null"
        );
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let deep = format!(
            r#"{{"type":"A","data":{}{}}}"#,
            "[".repeat(200),
            "]".repeat(200)
        );
        let cases: [&[u8]; 10] = [
            b"",
            b"{",
            b"null",
            b"[]",
            br#"{"data":1}"#,
            br#"{"type":1}"#,
            br#"{"type":"A","type":"B"}"#,
            br#"{"type":"A","id":-1}"#,
            br#"{"type":"A"} {}"#,
            deep.as_bytes(),
        ];
        for case in cases {
            let split = Json.split(case);
            let is_refused = split.map_or(true, |it| {
                serde_json::from_slice::<serde_json::Value>(it.body).is_err()
            });
            assert!(is_refused, "{}", String::from_utf8_lossy(case));
        }
    }
}

#[cfg(feature = "msgpack")]
mod msgpack {
    use serde::{Deserialize, Serialize};

    use super::super::msgpack::MsgPack;
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Echo {
        #[serde(rename = "Message")]
        message: String,
    }

    /// `{"Message":"hi"}`.
    const BODY: &[u8] = b"\x81\xa7Message\xa2hi";

    #[test]
    fn the_bytes_of_hotpot_are_read_and_written() {
        let ping = b"\x92\xa4\x50\x69\x6e\x67\xd4\x1b\x80";
        assert_eq!(rejoin(MsgPack, ping), ping);
        assert_eq!(MsgPack.split(ping).unwrap().body, MsgPack.empty());
        let echo = [b"\x92\xa4Echo\xc7\x0c\x1b", BODY].concat();
        assert_eq!(rejoin(MsgPack, &echo), echo);
        let body = MsgPack.split(&echo).unwrap().body;
        let value = Echo::decode(MsgPack, body).unwrap();
        assert_eq!(value.message, "hi");
        let mut out = Vec::new();
        value.encode(MsgPack, &mut out).unwrap();
        assert_eq!(out, BODY);
    }

    #[test]
    fn a_body_may_be_bytes_or_a_value_in_place() {
        for place in [&b"\xc4\x0c"[..], b"\xc5\0\x0c", b""] {
            let message = [b"\x92\xa4Echo", place, BODY].concat();
            assert_eq!(MsgPack.split(&message).unwrap().body, BODY);
        }
        let inline = b"\x94\xa1A\x92\x01\x81\xc0\xcb\0\0\0\0\0\0\0\0\x05\xcc\xff";
        let envelope = MsgPack.split(inline).unwrap();
        assert_eq!(envelope.body, b"\x92\x01\x81\xc0\xcb\0\0\0\0\0\0\0\0");
        assert_eq!((envelope.id, envelope.re), (id(5), id(255)));
    }

    #[test]
    fn bodies_of_every_length_come_back() {
        for len in [1, 2, 3, 4, 8, 15, 16, 17, 255, 256, 65_535, 65_536] {
            let mut out = Vec::new();
            let joined = MsgPack.join(Head::new("A").id(id(7)), &mut out, |out| {
                out.resize(out.len() + len, 1);
                Ok(())
            });
            joined.unwrap();
            let envelope = MsgPack.split(&out).unwrap();
            assert_eq!((envelope.body.len(), envelope.id), (len, id(7)));
        }
        let long = "n".repeat(300);
        let message = rejoin(
            MsgPack,
            &[b"\x92\xda\x01\x2c", long.as_bytes(), b"\x80"].concat(),
        );
        assert_eq!(MsgPack.split(&message).unwrap().name, long);
    }

    #[test]
    fn only_requests_and_answers_have_four_elements() {
        assert_eq!(
            fault_of(MsgPack, &Fault::new(404, "no route"), None)[0],
            0x92
        );
        assert_eq!(
            fault_of(MsgPack, &Fault::new(404, "no route"), id(200))[0],
            0x94
        );
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let deep = [&b"\x92\xa1A"[..], &[0x91; 200], b"\x01"].concat();
        let cases: [&[u8]; 11] = [
            b"",
            b"\x92",
            b"\x91\xa1A",
            b"\x93\xa1A\x80\x01",
            b"\x92\x01\x80",
            b"\x92\xa1\xff\x80",
            b"\x92\xa1A\xc1",
            b"\x92\xa1A\xdd\xff\xff\xff\xff\x01",
            b"\x92\xa1A\xc6\xff\xff\xff\xff",
            b"\x92\xa1A\x80\x80",
            &deep,
        ];
        for case in cases {
            assert!(MsgPack.split(case).is_err(), "{case:x?}");
        }
    }
}

#[cfg(feature = "protobuf")]
mod protobuf {
    use super::super::protobuf::Protobuf;
    use super::*;

    #[test]
    fn the_bytes_of_hotpot_are_read_and_written() {
        let ping = b"\x0a\x04\x50\x69\x6e\x67";
        assert_eq!(rejoin(Protobuf, ping), ping);
        // A body `Echo { string message = 1 }`, which `String` stands for.
        let echo = b"\x0a\x04Echo\x12\x04\x0a\x02hi";
        assert_eq!(rejoin(Protobuf, echo), echo);
        let body = Protobuf.split(echo).unwrap().body;
        let value: String = Decode::<Protobuf>::decode(Protobuf, body).unwrap();
        assert_eq!(value, "hi");
        let mut out = Vec::new();
        Encode::<Protobuf>::encode(&value, Protobuf, &mut out).unwrap();
        assert_eq!(out, body);
    }

    #[test]
    fn numbers_follow_and_other_fields_are_skipped() {
        let request = b"\x0a\x01A\x18\x07";
        assert_eq!(rejoin(Protobuf, request), request);
        let odd = b"\x2d\0\0\0\0\x31\0\0\0\0\0\0\0\0\x7a\x01x\x80\x01\x05\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x01A";
        let envelope = Protobuf.split(odd).unwrap();
        assert_eq!((&*envelope.name, envelope.re), ("A", id(u64::MAX)));
        let long = [0; 300];
        let mut out = Vec::new();
        let joined = Protobuf.join(Head::new("A"), &mut out, |out| {
            out.extend(long);
            Ok(())
        });
        joined.unwrap();
        assert_eq!(Protobuf.split(&out).unwrap().body, long);
        fault_of(Protobuf, &Fault::new(404, "no route"), id(3));
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        let cases: [&[u8]; 8] = [
            b"\x0a",
            b"\x0a\x05A",
            b"\x0a\x01\xff",
            b"\x08\x01",
            b"\x1a\x01A",
            b"\x0b",
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
        ];
        for case in cases {
            assert!(Protobuf.split(case).is_err(), "{case:x?}");
        }
    }
}

#[cfg(all(feature = "json", feature = "msgpack"))]
#[test]
fn a_subprotocol_picks_the_codec() {
    type Both = Either<json::Json, msgpack::MsgPack>;
    use super::{json, msgpack};
    assert_eq!(Both::default().subprotocol(), "liveness.json");
    let picked = Both::pick("liveness.msgpack").unwrap();
    assert!(!picked.is_text());
    assert_eq!(Both::pick("liveness.protobuf"), None);
    let mut out = Vec::new();
    picked
        .join(Head::new("A"), &mut out, |out| 7u8.encode(picked, out))
        .unwrap();
    assert_eq!(out, b"\x92\xa1A\xd4\x1b\x07");
    assert_eq!(
        u8::decode(picked, picked.split(&out).unwrap().body).unwrap(),
        7
    );
}
