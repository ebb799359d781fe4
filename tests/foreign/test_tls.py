"""Python's `ssl` and `websockets`, and certificates of `openssl`, against the server and the client."""

import pathlib
import re
import shlex
import socket
import ssl
import struct
import subprocess
import tempfile
import unittest

from kit import HOST, Bare, Client, Server
from test_client import Listener
from websockets.sync.client import connect

ECHO = '{"type":"Echo","data":{"Message":"hello"}}'
KEYS = {
    "rsa": ["rsa:2048"],
    "ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ed25519": ["ed25519"],
}


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder, kind):
    """Writes a root, and a chain for `localhost` that it signs, whose key is of `kind`."""
    root = ["-x509", "-newkey", *KEYS["ecdsa"], "-nodes", "-keyout", "root.key", "-days", "2"]
    openssl(folder, "req", *root, "-out", "root.pem", "-subj", "/CN=root")
    openssl(folder, "req", "-newkey", *KEYS[kind], "-nodes", "-keyout", "key.pem", "-out", "csr", "-subj", "/CN=it")
    with open(f"{folder}/names", "w", encoding="utf-8") as names:
        names.write("subjectAltName=DNS:localhost\n")
    sign = ["-req", "-in", "csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2"]
    openssl(folder, "x509", *sign, "-extfile", "names", "-out", "chain.pem")


class Tls(unittest.TestCase):
    kind = "ecdsa"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        certify(folder.name, self.kind)
        self.options = ["--tls", f"{folder.name}/chain.pem,{folder.name}/key.pem"]
        self.context = ssl.create_default_context(cafile=f"{folder.name}/root.pem")

    def websocket(self, server):
        """Connects by WebSocket. One thread uses the socket: those of Python 3.11 under TLS may not be shared."""
        raw = socket.create_connection((HOST, server.tls[1]), timeout=20)
        return Bare(server.tls[1], over=self.context.wrap_socket(raw, server_hostname="localhost"))

    def tcp(self, server, name="localhost"):
        """Connects by TCP. An end that is not announced is an error."""
        raw = socket.create_connection((HOST, server.tls[0]), timeout=20)
        return self.context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False)

    def echo(self, server):
        """Exchanges a message of each length over both transports."""
        for length in (5, 20_000, 60_000):
            message = ECHO.replace("hello", "x" * length)
            with self.websocket(server) as peer:
                peer.protocol.send_text(message.encode())
                peer.flush()
                self.assertEqual(peer.frame().data.decode(), message)
            with self.tcp(server) as peer:
                peer.sendall(struct.pack(">H", len(message)) + message.encode())
                answer = b""
                while len(answer) < 2 + len(message):
                    answer += peer.recv(65536)
                self.assertEqual(answer[2:], message.encode())
                # Returns after the notice of the server.
                peer.unwrap().close()


class Versions(Tls):
    def test_both_versions_and_a_plain_connection_beside_them(self):
        with Server(*self.options) as server:
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                self.context.minimum_version = self.context.maximum_version = version
                self.echo(server)
            with connect(server.url) as peer:
                peer.send(ECHO)
                self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_a_wrong_name_and_a_wrong_authority_are_refused_by_the_client(self):
        with Server(*self.options) as server:
            with self.assertRaises(ssl.SSLCertVerificationError):
                self.tcp(server, name="example.org")
            self.context = ssl.create_default_context()
            with self.assertRaises(ssl.SSLCertVerificationError):
                self.tcp(server)

    def test_the_end_of_the_server_is_announced(self):
        with Server(*self.options) as server:
            with self.websocket(server) as peer, self.tcp(server) as other:
                server.event("opened")
                server.event("opened")
                server.shut_down()
                self.assertEqual(peer.closed()[0], 1001)
                rest = b""
                while data := other.recv(65536):
                    rest += data
                self.assertIn(b"1001", rest)


class Clients(Tls):
    def listen(self, chain="chain.pem", key="key.pem", port=0):
        """Starts a server of `websockets`, and returns it with the URL by its name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{self.folder}/{chain}", f"{self.folder}/{key}")
        server = Listener(port, ssl=context)
        return server, f"wss://localhost:{server.port}/"

    def test_messages_go_both_ways_and_sessions_are_resumed(self):
        server, url = self.listen()
        with server, Client(url, "--trust", f"{self.folder}/root.pem", "--retry", 20) as client:
            for was_reused in (False, True):
                peer = server.peer()
                self.assertEqual(peer.connection.socket.session_reused, was_reused)
                for length in (5, 20_000, 60_000):
                    body = "x" * length
                    client.send("Echo", body)
                    self.assertEqual(peer.receive(), {"type": "Echo", "data": body})
                    peer.send(type="Echo", data=body)
                    self.assertEqual(client.event("echo")["body"], body)
                peer.connection.close(1011)
                self.assertEqual(client.event("offline")["code"], 1011)

    def test_the_client_comes_back_after_a_restart(self):
        server, url = self.listen()
        with Client(url, "--trust", f"{self.folder}/root.pem", "--retry", 20, "--spread", 20) as client:
            with server:
                server.peer()
            self.assertEqual(client.event("offline")["code"], 1001)
            with self.listen(port=server.port)[0] as again:
                again.peer()

    def test_a_wrong_name_and_a_wrong_authority_are_refused(self):
        server, url = self.listen()
        other = url.replace("localhost", HOST)
        with server, tempfile.TemporaryDirectory() as folder:
            certify(folder, self.kind)
            with Client(other, "--trust", f"{self.folder}/root.pem") as client:
                self.assertIn(f"the certificate is not for `{HOST}`", client.event("offline")["cause"])
            with Client(url, "--trust", f"{folder}/root.pem") as client:
                self.assertIn("no authority that is trusted", client.event("offline")["cause"])
            self.assertTrue(server.peers.empty())

    def test_the_certificate_of_the_documentation_is_trusted_by_both(self):
        page = pathlib.Path(__file__).parents[2] / "docs" / "server.md"
        command = re.search(r"openssl (req -x509.*?)\n```", page.read_text("utf-8"), re.DOTALL).group(1)
        openssl(self.folder, *shlex.split(command.replace("\\\n", " ")))
        server, url = self.listen(chain="cert.pem")
        with server, Client(url, "--trust", f"{self.folder}/cert.pem"):
            server.peer()
        self.options = ["--tls", f"{self.folder}/cert.pem,{self.folder}/key.pem"]
        self.context = ssl.create_default_context(cafile=f"{self.folder}/cert.pem")
        with Server(*self.options) as server:
            self.echo(server)


class Rsa(Tls):
    kind = "rsa"

    def test_a_key_of_this_kind(self):
        with Server(*self.options) as server:
            self.echo(server)


class Ed25519(Rsa):
    kind = "ed25519"
