"""Plain sockets of Python, and `nc`, against the server."""

import json
import shutil
import socket
import struct
import subprocess
import time
import unittest

from kit import HOST, Server, Tcp

ECHO = b'{"type":"Echo","data":{"Message":"hello"}}'
PING = b'{"type":"Ping","data":{}}'


class Framing(unittest.TestCase):
    def test_a_length_of_two_bytes(self):
        with Server() as server, Tcp(server.tcp) as peer:
            peer.send(ECHO)
            self.assertEqual(peer.receive(), ECHO)
            # Many at once, and one byte at a time.
            peer.socket.sendall((struct.pack(">H", len(ECHO)) + ECHO) * 1_000)
            for _ in range(1_000):
                self.assertEqual(peer.receive(), ECHO)
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in struct.pack(">H", len(ECHO)) + ECHO:
                peer.socket.sendall(bytes([byte]))
                time.sleep(0.001)
            self.assertEqual(peer.receive(), ECHO)

    def test_a_length_of_four_bytes(self):
        options = ["--framing", "u32", "--max-message", 1 << 20, "--outbound", 4 << 20]
        with Server(*options) as server, Tcp(server.tcp, ">I") as peer:
            message = ECHO.replace(b"hello", b"x" * 500_000)
            peer.send(message)
            self.assertEqual(peer.receive(), message)

    def test_lengths_that_are_none_say_why(self):
        for bytes_, cause, code in [
            (b"\0\0", "protocol error", 1002),
            (b"\xff\xff", "message too big", 1009),
            (b"\0\x03abc", "bad message", 1007),
        ]:
            with Server("--max-message", 60_000) as server, Tcp(server.tcp) as peer:
                peer.socket.sendall(bytes_)
                error = json.loads(peer.receive())
                self.assertEqual((error["type"], error["code"]), ("Error", code))
                self.assertRaises(EOFError, peer.receive)
                self.assertEqual(server.event("closed")["cause"], cause)

    def test_lines_by_nc(self):
        nc = shutil.which("nc")
        with Server("--framing", "lines") as server:
            command = [nc, HOST, str(server.tcp)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(command, **pipes) as peer:
                for end in (b"\n", b"\r\n"):
                    peer.stdin.write(ECHO + end + end)
                    peer.stdin.flush()
                    self.assertEqual(peer.stdout.readline(), ECHO + b"\n")
                peer.terminate()
            self.assertEqual(server.event("closed")["cause"], "end of stream")


class Keepalive(unittest.TestCase):
    def test_the_session_of_hotpot(self):
        # An echo, `Ping` after 6 seconds, and the end after 12.
        options = ["--codec", "json", "--keepalive", "6000,12000", "--ping", "message"]
        with Server(*options) as server, Tcp(server.tcp) as peer:
            peer.send(ECHO)
            sent = time.monotonic()
            self.assertEqual(peer.receive(), ECHO)
            self.assertEqual(peer.receive(), PING)
            pinged = time.monotonic() - sent
            self.assertEqual(json.loads(peer.receive())["code"], 1011)
            self.assertRaises(EOFError, peer.receive)
            dropped = time.monotonic() - sent
            closed = server.event("closed")
            print(f"pinged after {pinged:.4f} s, dropped after {dropped:.4f} s", end=" ... ")
            self.assertTrue(6 <= pinged < 10, pinged)
            self.assertTrue(12 <= dropped < 20, dropped)
            self.assertEqual(closed["cause"], "silence")
            self.assertTrue(12 <= closed["silent"] < 20, closed)
            self.assertTrue(0 <= closed["late"] < 8, closed)

    def test_a_pong_or_any_message_keeps_the_connection(self):
        with Server("--keepalive", "200,1200") as server, Tcp(server.tcp) as peer:
            for answer in (b'{"type":"Pong","data":{}}', b'{"type":"Pong"}', ECHO):
                for _ in range(3):
                    while (message := peer.receive()) == ECHO:
                        pass
                    self.assertEqual(message, PING)
                    peer.send(answer)
            # The peer pings, too.
            peer.send(b'{"type":"Ping"}')
            while (message := peer.receive()) in (ECHO, PING):
                pass
            self.assertEqual(message, b'{"type":"Pong","data":{}}')
