"""Python's `websockets` against the server."""

import json
import time
import unittest

from kit import HOST, Bare, Server, http
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ECHO = '{"type":"Echo","data":{"Message":"hello"}}'


def upgrade(host, **headers):
    """Returns an upgrade request."""
    values = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    values.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{name}: {value}" for name, value in values.items() if value]
    return "\n".join(["GET / HTTP/1.1", *lines, "", ""])


class Messages(unittest.TestCase):
    def test_text_and_bytes_are_echoed(self):
        with Server() as server, connect(server.url) as peer:
            self.assertIsNone(peer.subprotocol)
            for message in (ECHO, ECHO.encode()):
                peer.send(message)
                self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_order_is_kept_over_many_messages(self):
        with Server() as server, connect(server.url) as peer:
            for number in range(5_000):
                peer.send(json.dumps({"type": "Echo", "data": {"Message": str(number)}}))
            for number in range(5_000):
                self.assertEqual(json.loads(peer.recv(timeout=20))["data"]["Message"], str(number))

    def test_large_and_fragmented_messages(self):
        with Server("--max-message", 8 << 20, "--outbound", 32 << 20) as server:
            with connect(server.url, max_size=None) as peer:
                message = ECHO.replace("hello", "x" * (4 << 20))
                for size in (len(message), 1 << 20, 1_000):
                    peer.send(message[at : at + size] for at in range(0, len(message), size))
                    self.assertEqual(peer.recv(timeout=20), message)
                peer.send(list(ECHO))
                self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_a_ping_within_a_fragmented_message(self):
        with Server() as server, Bare(server.websocket) as peer:
            peer.protocol.send_text(ECHO[:9].encode(), fin=False)
            peer.protocol.send_ping(b"between")
            peer.protocol.send_continuation(ECHO[9:].encode(), fin=True)
            peer.flush()
            self.assertEqual(peer.frame().data, b"between")
            self.assertEqual(peer.frame().data, ECHO.encode())

    def test_requests_both_ways(self):
        with Server() as server, connect(server.url) as peer:

            def ask(**message):
                peer.send(json.dumps(message))
                return json.loads(peer.recv(timeout=20))

            answer = ask(type="Length", id=7, data={"Message": "four"})
            self.assertEqual(answer, {"type": "Length", "re": 7, "data": {"value": 4}})
            answer = ask(type="Length", id=8, data={"Message": ""})
            self.assertEqual((answer["type"], answer["re"], answer["code"]), ("Error", 8, 4))
            answer = ask(type="Nonsense", id=9)
            self.assertEqual((answer["type"], answer["re"], answer["code"]), ("Error", 9, 404))
            question = ask(type="Ask", data={"Message": "what"})
            self.assertEqual((question["type"], question["data"]), ("Length", {"Message": "what"}))
            answer = ask(type="Length", re=question["id"], data={"value": 4})
            self.assertEqual(answer, {"type": "Asked", "data": {"Message": "4"}})
            question = ask(type="Ask", data={"Message": "what"})
            answer = ask(type="Error", re=question["id"], code=3, msg="no idea")
            self.assertEqual(answer["data"]["Message"], "the peer answered with error 3: no idea")

    def test_data_that_is_missing_is_null_and_text_keeps_its_quotes(self):
        with Server() as server, connect(server.url) as peer:
            for message, echo in [
                ('{"type":"Any"}', '{"type":"Any","data":null}'),
                ('{"type":"Any","data":"text"}', '{"type":"Any","data":"text"}'),
                ('{"data":[1, 2],"x":0,"type":"Any"}', '{"type":"Any","data":[1, 2]}'),
            ]:
                peer.send(message)
                self.assertEqual(peer.recv(timeout=20), echo)


class Keepalive(unittest.TestCase):
    def test_pings_of_the_client_are_answered(self):
        with Server() as server, connect(server.url) as peer:
            for payload in (b"", b"one", b"x" * 125):
                self.assertTrue(peer.ping(payload).wait(10))
            peer.send('{"type":"Ping","data":{}}')
            self.assertEqual(peer.recv(timeout=20), '{"type":"Pong","data":{}}')

    def test_a_client_that_answers_pings_lives_and_a_silent_one_is_dropped_in_its_time(self):
        with Server("--keepalive", "300,900") as server:
            with connect(server.url, ping_interval=None) as alive, Bare(server.websocket) as silent:
                silent.protocol.send_text(ECHO.encode())
                sent = time.monotonic()
                silent.flush()
                self.assertEqual(silent.frame().data, ECHO.encode())
                self.assertEqual(silent.frame().opcode.name, "PING")
                pinged = time.monotonic()
                code, dropped = silent.closed()
                self.assertEqual(code, 1011)
                for name, time_, least in [("pinged", pinged, 0.3), ("dropped", dropped, 0.9)]:
                    self.assertGreaterEqual(time_ - sent, least, name)
                    self.assertLess(time_ - sent, least + 10, name)
                event = server.event("closed")
                self.assertEqual(event["cause"], "silence")
                self.assertGreaterEqual(event["silent"], 0.9)
                # The other one has been idle for longer by now.
                time.sleep(1)
                alive.send(ECHO)
                self.assertEqual(alive.recv(timeout=20), ECHO)

    def test_pings_as_messages(self):
        with Server("--keepalive", "200,10000", "--ping", "message") as server:
            with connect(server.url) as peer:
                self.assertEqual(peer.recv(timeout=20), '{"type":"Ping","data":{}}')


class Ends(unittest.TestCase):
    def end(self, act, *options, **arguments):
        """Returns the close code that a client gets for what `act` does, and the cause that the server reports."""
        with Server(*options) as server, connect(server.url, **arguments) as peer:
            # If the close frame arrives while `act` is sending, `send` raises the exception.
            with self.assertRaises(ConnectionClosed) as closed:
                act(peer, server)
                while True:
                    peer.recv(timeout=20)
            received = closed.exception.rcvd
            return received and received.code, server.event("closed")["cause"]

    def test_the_client_closes(self):
        for code in (1000, 1001, 3000, 4999):
            closed = self.end(lambda peer, _: peer.close(code))
            self.assertEqual(closed, (code, "closed by the peer"))

    def test_the_program_closes(self):
        message = '{"type":"Close","data":{"value":4001}}'
        closed = self.end(lambda peer, _: peer.send(message))
        self.assertEqual(closed, (4001, "closed by the program"))

    def test_the_server_shuts_down(self):
        closed = self.end(lambda _, server: server.shut_down())
        self.assertEqual(closed, (1001, "shutdown"))

    def test_text_for_a_codec_of_bytes(self):
        closed = self.end(lambda peer, _: peer.send(ECHO), subprotocols=["liveness.msgpack"])
        self.assertEqual(closed, (1003, "protocol error"))

    def test_messages_that_are_none(self):
        for message in ("{", "[]", '{"type":"Echo","data":7}', b"\xff"):
            closed = self.end(lambda peer, _: peer.send(message))
            self.assertEqual(closed, (1007, "bad message"))

    def test_a_message_above_the_limit(self):
        big = ECHO.replace("hello", "x" * 100_000)
        closed = self.end(lambda peer, _: peer.send(big))
        self.assertEqual(closed, (1009, "message too big"))
        parts = [big[at : at + 1_000] for at in range(0, len(big), 1_000)]
        closed = self.end(lambda peer, _: peer.send(parts))
        self.assertEqual(closed, (1009, "message too big"))

    def test_frames_that_are_none(self):
        for frame, code, cause in [
            (b"\x81\x01x", 1002, "protocol error"),  # not masked
            (b"\x83\x80\0\0\0\0", 1002, "protocol error"),  # a reserved opcode
            (b"\xc1\x80\0\0\0\0", 1002, "protocol error"),  # a reserved bit
            (b"\x80\x80\0\0\0\0", 1002, "protocol error"),  # a continuation of nothing
            (b"\x81\x81\0\0\0\0\xff", 1007, "text that is not UTF-8"),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009, "message too big"),
        ]:
            with Server() as server, Bare(server.websocket) as peer:
                peer.raw(frame)
                self.assertEqual(peer.closed()[0], code)
                self.assertEqual(server.event("closed")["cause"], cause)


class Handshakes(unittest.TestCase):
    def refused(self, server, path="", **arguments):
        """Returns the status with which a client is refused."""
        with self.assertRaises(InvalidStatus) as refused:
            connect(server.url + path, **arguments)
        return refused.exception.response.status_code

    def test_subprotocols_pick_the_codec(self):
        with Server() as server:
            for offered, picked in [
                (["liveness.msgpack"], "liveness.msgpack"),
                (["liveness.protobuf", "liveness.json"], "liveness.protobuf"),
                (["other", "liveness.json"], "liveness.json"),
                (["other"], None),
            ]:
                with connect(server.url, subprotocols=offered) as peer:
                    self.assertEqual(peer.subprotocol, picked)

    def test_pages_of_other_origins_are_refused(self):
        with Server() as server:
            self.assertEqual(self.refused(server, origin="https://example.org"), 403)
            self.assertEqual(self.refused(server, origin=f"http://{HOST}"), 403)
            with connect(server.url, origin=f"http://{HOST}:{server.websocket}") as peer:
                peer.send(ECHO)
                self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_other_paths_are_refused(self):
        with Server("--path", "/game") as server:
            self.assertEqual(self.refused(server, "lobby"), 404)
            with connect(server.url + "game?level=3"):
                pass

    def test_who_is_not_authorized_is_refused(self):
        with Server("--token", "secret") as server:
            self.assertEqual(self.refused(server), 401)
            wrong = {"Authorization": "Bearer guess"}
            self.assertEqual(self.refused(server, additional_headers=wrong), 401)
            right = {"Authorization": "Bearer secret"}
            with connect(server.url, additional_headers=right) as peer:
                peer.send(ECHO)
                self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_requests_that_are_no_upgrade(self):
        with Server() as server:
            port = server.websocket
            host = f"{HOST}:{port}"
            self.assertEqual(http(port, upgrade(host, Sec_WebSocket_Version="8")), 426)
            self.assertEqual(http(port, upgrade(host, Upgrade=None)), 426)
            self.assertEqual(http(port, upgrade(host, Sec_WebSocket_Key="short")), 400)
            self.assertEqual(http(port, upgrade(None)), 400)
            self.assertEqual(http(port, upgrade(host).replace("GET", "POST")), 405)
            self.assertEqual(http(port, upgrade(host, Cookie="x" * 20_000)), 431)
            self.assertEqual(http(port, f"GET /healthz HTTP/1.1\nHost: {host}\n\n"), 200)
