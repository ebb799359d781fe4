"""The bytes of each codec, as other libraries write and read them, on TCP and WebSocket."""

import json
import unittest

import msgpack
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from kit import Server, Tcp
from websockets.sync.client import connect


def message_types():
    """Returns the types of `envelope.proto`, which Python reads only with a compiler of schemas."""
    string, bytes_, uint32, uint64 = 9, 12, 13, 4
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", syntax="proto3")
    for name, fields in {
        "Envelope": [("name", string), ("data", bytes_), ("id", uint64), ("re", uint64)],
        "Echo": [("message", string)],
        "Error": [("code", uint32), ("msg", string)],
        "Number": [("value", uint32)],
    }.items():
        message = file.message_type.add(name=name)
        for number, (field, type_) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=type_, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [
        message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("Envelope", "Echo", "Error", "Number")
    ]


Envelope, Echo, Error, Number = message_types()


class Json:
    name = "json"
    PING = b'{"type":"Ping","data":{}}'
    PONG = b'{"type":"Pong","data":{}}'
    ECHO = b'{"type":"Echo","data":{"Message":"hello"}}'
    ANSWER = b'{"type":"Length","re":7,"data":{"value":5}}'

    def pack(self, name, body, **numbers):
        message = {"type": name, **numbers, "data": body}
        return json.dumps(message, separators=(",", ":")).encode()

    def echo(self, text):
        return {"Message": text}

    def error(self, message):
        error = json.loads(message)
        return error["type"], error.get("re", 0), error["code"]


class MsgPack:
    name = "msgpack"
    PING = b"\x92\xa4Ping\xd4\x1b\x80"
    PONG = b"\x92\xa4Pong\xd4\x1b\x80"
    ECHO = b"\x92\xa4Echo\xc7\x0f\x1b\x81\xa7Message\xa5hello"
    ANSWER = b"\x94\xa6Length\xd7\x1b\x81\xa5value\x05\x00\x07"

    def pack(self, name, body, id=0, re=0):
        message = [name, msgpack.ExtType(0x1B, msgpack.packb(body))]
        return msgpack.packb(message + [id, re] if id or re else message)

    def echo(self, text):
        return {"Message": text}

    def error(self, message):
        name, body, *numbers = msgpack.unpackb(message)
        return name, numbers[1] if numbers else 0, msgpack.unpackb(body.data)["code"]


class Protobuf:
    name = "protobuf"
    PING = b"\x0a\x04Ping"
    PONG = b"\x0a\x04Pong"
    ECHO = b"\x0a\x04Echo\x12\x07\x0a\x05hello"
    ANSWER = b"\x0a\x06Length\x12\x02\x08\x05\x20\x07"

    def pack(self, name, body, **numbers):
        return Envelope(name=name, data=body.SerializeToString(), **numbers).SerializeToString()

    def echo(self, text):
        return Echo(message=text)

    def error(self, message):
        envelope = Envelope.FromString(message)
        return envelope.name, envelope.re, Error.FromString(envelope.data).code


CODECS = [Json(), MsgPack(), Protobuf()]


class WebSocket:
    """A WebSocket with the face of `Tcp`."""

    def __init__(self, server, codec):
        self.subprotocol = f"liveness.{codec.name}"
        self.connecting = connect(server.url, subprotocols=[self.subprotocol])
        self.is_text = codec.name == "json"

    def __enter__(self):
        self.peer = self.connecting.__enter__()
        assert self.peer.subprotocol == self.subprotocol
        return self

    def __exit__(self, *exception):
        self.connecting.__exit__(*exception)

    def send(self, message):
        self.peer.send(message.decode() if self.is_text else message)

    def receive(self):
        message = self.peer.recv(timeout=20)
        assert isinstance(message, str) == self.is_text
        return message.encode() if self.is_text else message


class Bytes(unittest.TestCase):
    def each(self, *options):
        """Yields each codec with a connection on TCP and one on WebSocket."""
        for codec in CODECS:
            with Server("--codec", codec.name, *options) as server:
                with Tcp(server.tcp) as peer:
                    yield codec, peer
            with Server(*options) as server:
                with WebSocket(server, codec) as peer:
                    yield codec, peer

    def test_an_echo_is_the_bytes_that_the_library_writes(self):
        for codec, peer in self.each():
            echo = codec.pack("Echo", codec.echo("hello"))
            self.assertEqual(echo, codec.ECHO)
            peer.send(echo)
            self.assertEqual(peer.receive(), echo)
            for text in ("", "ä" * 100, "x" * 300, "y" * 60_000):
                peer.send(codec.pack("Echo", codec.echo(text)))
                self.assertIn(text.encode(), peer.receive())

    def test_a_ping_is_answered_and_an_idle_peer_is_pinged(self):
        for codec, peer in self.each("--keepalive", "200,10000", "--ping", "message"):
            peer.send(codec.PING)
            # On a busy machine it is idle before it sends anything.
            self.assertEqual({peer.receive(), peer.receive()}, {codec.PONG, codec.PING})

    def test_numbers_of_requests_and_answers(self):
        for codec, peer in self.each():
            peer.send(codec.pack("Length", codec.echo("hello"), id=7))
            self.assertEqual(peer.receive(), codec.ANSWER)
            peer.send(codec.pack("Length", codec.echo(""), id=300))
            self.assertEqual(codec.error(peer.receive()), ("Error", 300, 4))
            peer.send(codec.pack("Nonsense", codec.echo(""), id=1 << 63))
            self.assertEqual(codec.error(peer.receive()), ("Error", 1 << 63, 404))

    def test_a_body_of_message_pack_may_be_bytes_or_a_value(self):
        with Server("--codec", "msgpack") as server, Tcp(server.tcp) as peer:
            body = {"Message": "hello"}
            for message in (["Echo", msgpack.packb(body)], ["Echo", body], ["Echo", body, 0, None]):
                peer.send(msgpack.packb(message))
                self.assertEqual(peer.receive(), MsgPack.ECHO)

    def test_unknown_fields_of_protobuf_are_skipped(self):
        with Server("--codec", "protobuf") as server, Tcp(server.tcp) as peer:
            peer.send(b"\x2a\x02xx\x12\x07\x0a\x05hello\x31\0\0\0\0\0\0\0\0\x0a\x04Echo")
            self.assertEqual(peer.receive(), Protobuf.ECHO)
