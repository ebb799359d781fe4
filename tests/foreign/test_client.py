"""The client against Python's `websockets` as the server."""

import contextlib
import json
import queue
import socket
import threading
import time
import unittest

from kit import HOST, Client
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.server import serve

ECHO = {"type": "Echo", "data": {"Message": "h\u00e9llo"}}


class Peer:
    """The server's side of a connection."""

    def __init__(self, connection):
        self.connection = connection
        self.messages = queue.Queue()

    def send(self, **message):
        self.connection.send(json.dumps(message))

    def receive(self):
        return json.loads(self.messages.get(timeout=20))


class Listener:
    """A server of `websockets`."""

    def __init__(self, port=0, ssl=None):
        self.peers = queue.Queue()
        self.server = serve(self._connected, HOST, port, ping_interval=None, ssl=ssl)
        self.port = self.server.socket.getsockname()[1]
        self.url = f"ws://{HOST}:{self.port}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _connected(self, connection):
        peer = Peer(connection)
        self.peers.put(peer)
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                peer.messages.put(message)

    def peer(self):
        """Returns the next connection, whose first message is the greeting."""
        peer = self.peers.get(timeout=20)
        assert peer.receive() == {"type": "Hello", "data": "again"}
        return peer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Connections are closed with code 1001.
        self.server.shutdown()
        self.thread.join()


class Messages(unittest.TestCase):
    def test_messages_go_both_ways(self):
        with Listener() as server:
            with Client(server.url) as client:
                peer = server.peer()
                self.assertEqual(client.event("online")["attempt"], 1)
                client.send("Echo", ECHO["data"])
                message = peer.receive()
                self.assertEqual(message, ECHO)
                # Whole, in fragments, and as bytes in place of text.
                text = json.dumps(message)
                for form in (text, list(text), text.encode()):
                    peer.connection.send(form)
                    self.assertEqual(client.event("echo")["body"], ECHO["data"])
            self.assertEqual(peer.connection.close_code, 1000)

    def test_requests_go_both_ways(self):
        with Listener() as server, Client(server.url) as client:
            peer = server.peer()
            client.ask("Length", "four")
            question = peer.receive()
            self.assertEqual((question["type"], question["data"]), ("Length", "four"))
            peer.send(type="Length", re=question["id"], data=4)
            self.assertEqual(client.event("answer")["body"], 4)
            client.ask("Length", "five")
            peer.send(type="Error", re=peer.receive()["id"], code=3, msg="no idea")
            self.assertIn("no idea", client.event("answer")["error"])

            def answer(**question):
                peer.send(**question)
                return peer.receive()

            right = answer(type="Length", id=7, data="four")
            self.assertEqual(right, {"type": "Length", "re": 7, "data": 4})
            fault = answer(type="Length", id=8, data="x" * 100)
            self.assertEqual((fault["type"], fault["re"], fault["code"]), ("Error", 8, 7))
            fault = answer(type="Nonsense", id=9)
            self.assertEqual((fault["type"], fault["re"], fault["code"]), ("Error", 9, 404))

    def test_pings_are_answered(self):
        with Listener() as server, Client(server.url):
            peer = server.peer()
            for data in (b"", b"ping", bytes(125)):
                self.assertTrue(peer.connection.ping(data).wait(10), data)


class Ends(unittest.TestCase):
    def test_the_client_comes_back_after_each_restart_with_its_greeting_first(self):
        with Listener() as server:
            url, port = server.url, server.port
        with Client(url, "--retry", 20, "--spread", 20) as client:
            self.assertIn("cannot connect", client.event("offline")["cause"])
            for number in range(5):
                client.send("Echo", [number, "queued"])
                with Listener(port) as server:
                    peer = server.peer()
                    client.event("online")
                    client.send("Echo", [number, "online"])
                    self.assertEqual(peer.receive()["data"], [number, "queued"])
                    self.assertEqual(peer.receive()["data"], [number, "online"])
                self.assertEqual(client.event("offline")["code"], 1001)

    def test_a_code_says_whether_the_client_comes_back(self):
        for code in (1000, 1001, 1011, 1012, 1013, 3999):
            with self.subTest(code=code), Listener() as server:
                with Client(server.url, "--retry", 20, "--spread", 20) as client:
                    server.peer().connection.close(code, "back soon")
                    self.assertEqual(client.event("offline")["code"], code)
                    server.peer()
        for code in (1008, 4000, 4999):
            with self.subTest(code=code), Listener() as server:
                with Client(server.url, "--retry", 20) as client:
                    server.peer().connection.close(code, "not you")
                    self.assertEqual(client.event("closed")["code"], code)
                    time.sleep(0.3)
                    self.assertTrue(server.peers.empty(), "it stays away")

    def test_a_server_that_stops_answering_is_offline_after_the_last_ping_in_exact_time(self):
        with socket.create_server((HOST, 0)) as listener:
            url = f"ws://{HOST}:{listener.getsockname()[1]}/"
            with Client(url, "--unanswered", "400,3") as client:
                connection = listener.accept()[0]
                connection.settimeout(20)
                with connection:
                    protocol = ServerProtocol()
                    pings, answered, spoke = 0, 0, time.monotonic()
                    while data := connection.recv(65536):
                        protocol.receive_data(data)
                        for event in protocol.events_received():
                            if isinstance(event, Request):
                                protocol.send_response(protocol.accept(event))
                            elif event.opcode == Opcode.PING:
                                pings += 1
                        if pings <= 3:
                            # The fourth and what follows have no answer.
                            if answers := b"".join(protocol.data_to_send()):
                                answered, spoke = pings, time.monotonic()
                                connection.sendall(answers)
                    took = time.monotonic() - spoke
                self.assertEqual(pings - answered, 3)
                ended = client.event("offline")
                print(f"after {took:.3f} s, {ended['late'] * 1e3:.3f} ms late", end=" ... ")
                self.assertEqual(ended["cause"], "silence")
                self.assertGreaterEqual(ended["silent"], 1.6)
                self.assertTrue(1.6 <= took < 10, took)
