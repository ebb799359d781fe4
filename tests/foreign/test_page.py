"""The bytes and the smallest clients of `docs/server.md`."""

import os
import pathlib
import re
import subprocess
import time
import unittest

from kit import Server, Tcp
from page import PAGE, snippets, with_values


class Bytes(unittest.TestCase):
    def test_the_bytes_of_the_page(self):
        rows = re.findall(r"^\| `(\w+)` in ([\w ]+) \| `(.*?)` \|$", PAGE.read_text(), re.M)
        self.assertEqual(len(rows), 9)
        for codec in ("JSON", "MessagePack", "Protocol Buffers"):
            bytes_ = {
                name: row.encode() if codec == "JSON" else bytes.fromhex(row)
                for name, of, row in rows
                if of == codec
            }
            option = {"MessagePack": "msgpack", "Protocol Buffers": "protobuf"}.get(codec, "json")
            options = ["--codec", option, "--keepalive", "700,10000"]
            with Server(*options) as server, Tcp(server.tcp) as peer:
                peer.send(bytes_["Echo"])
                self.assertEqual(peer.receive(), bytes_["Echo"])
                peer.send(bytes_["Ping"])
                self.assertEqual(peer.receive(), bytes_["Pong"])
                self.assertEqual(peer.receive(), bytes_["Ping"])


class SmallestClients(unittest.TestCase):
    def lives(self, server, command):
        """Runs a client that must be connected for three times as long as a silent one, and returns what it prints."""
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            server.event("opened")
            time.sleep(3)
            self.assertTrue(server.events.empty(), "it is still connected")
        finally:
            os.killpg(process.pid, 9)
            output = process.communicate()[0]
        self.assertIn(server.event("closed")["cause"], ("end of stream", "reset"))
        return output

    def test_the_shell(self):
        lines, lengths = snippets("The smallest client", "sh")
        for snippet, framing in [(lines, "lines"), (lengths, "u16")]:
            with Server("--framing", framing, "--keepalive", "600,1000") as server:
                values = {"7000": server.tcp, "sleep 20": "sleep 0.2"}
                output = self.lives(server, ["sh", "-c", with_values(snippet, values)])
                self.assertEqual(output, "", "it is not pinged")

    def test_python(self):
        (snippet,) = snippets("The smallest client", "python")
        with Server("--keepalive", "300,1000") as server:
            values = {"7000": server.tcp, "timeout=45": "timeout=1"}
            output = self.lives(server, ["python3", "-c", with_values(snippet, values)])
            self.assertEqual(output, "{'type': 'Echo', 'data': {'Message': 'hello'}}\n")

    def test_javascript(self):
        (snippet,) = snippets("The smallest client", "js")
        modules = pathlib.Path(os.environ["FOREIGN_HOME"], "node", "node_modules")
        for ping in ([], ["--ping", "message"]):
            with Server("--keepalive", "300,1000", *ping) as server:
                program = with_values(snippet, {"7001": server.websocket})
                # Old versions of Node.js have no WebSocket of their own.
                program = f"globalThis.WebSocket ??= require('{modules}/ws');\n{program}"
                output = self.lives(server, ["node", "-e", program])
                self.assertEqual(output, "{ type: 'Echo', data: { Message: 'hello' } }\n")

    def test_the_python_client_notices_that_the_server_is_gone(self):
        (snippet,) = snippets("The smallest client", "python")
        with Server("--keepalive", "300,1000") as server:
            program = with_values(snippet, {"7000": server.tcp, "timeout=45": "timeout=1"})
            client = subprocess.Popen(["python3", "-c", program], stderr=subprocess.PIPE, text=True)
            server.event("opened")
            server.process.send_signal(19)  # SIGSTOP
            try:
                self.assertIn("timed out", client.communicate(timeout=20)[1])
            finally:
                server.process.send_signal(18)  # SIGCONT
