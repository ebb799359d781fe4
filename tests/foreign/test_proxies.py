"""nginx and HAProxy, configured as `docs/server.md` says but for ports and times, between clients and the server."""

import contextlib
import json
import pathlib
import socket
import subprocess
import tempfile
import time
import unittest

from kit import HOST, Server
from page import snippets, with_values
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ECHO = '{"type":"Echo","data":{"Message":"hello"}}'


def free_port():
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(command, port):
    """Runs a proxy until the end of the block, from when it listens."""
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 10
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((HOST, port)).close()
                break
            assert process.poll() is None and time.monotonic() < end, "the proxy does not start"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def nginx(server, idle):
    """Runs nginx in front of the server, with this many seconds for idle connections, and yields its port."""
    port = free_port()
    (snippet,) = snippets("Behind a proxy", "nginx")
    values = {
        "listen 80;": f"listen {HOST}:{port};",
        "127.0.0.1:7001": f"{HOST}:{server.websocket}",
        "60s": f"{idle}s",
    }
    with tempfile.TemporaryDirectory() as home:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {home}/{kind};\n" for kind in kinds)
        path = pathlib.Path(home, "nginx.conf")
        path.write_text(
            f"daemon off; pid {home}/pid; error_log {home}/log; events {{}}\n"
            f"http {{ access_log off;\n{paths}{with_values(snippet, values)} }}\n"
        )
        # The log that is open until the configuration has been read.
        with running(["nginx", "-e", f"{home}/log", "-c", str(path)], port):
            yield port


@contextlib.contextmanager
def haproxy(server, idle, changes={}):
    """The same with HAProxy, and with further changes to its configuration."""
    port = free_port()
    (snippet,) = snippets("Behind a proxy", "haproxy")
    values = {
        ":80": f"{HOST}:{port}",
        "127.0.0.1:7001 check": f"{HOST}:{server.websocket} check inter 100",
        "60s": f"{idle}s",
        **changes,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write(with_values(snippet, values))
        file.flush()
        with running(["haproxy", "-db", "-q", "-f", file.name], port):
            yield port


def connect_through(port, **arguments):
    return connect(f"ws://{HOST}:{port}/", ping_interval=None, **arguments)


class Proxies(unittest.TestCase):
    def assert_lives(self, peer):
        """Checks that an idle connection lives for three times as long as the proxy allows."""
        for _ in range(2):
            time.sleep(3)
            peer.send(ECHO)
            self.assertEqual(peer.recv(timeout=20), ECHO)

    def test_an_idle_connection_lives_by_the_pings_of_the_server(self):
        for proxy in (nginx, haproxy):
            with Server("--keepalive", "500,1500") as server, proxy(server, 1) as port:
                with connect_through(port) as peer:
                    self.assert_lives(peer)

    def test_without_pings_the_proxy_closes_it(self):
        # Otherwise the test above shows nothing.
        for proxy in (nginx, haproxy):
            with Server("--keepalive", "20000,30000") as server, proxy(server, 1) as port:
                with connect_through(port) as peer, self.assertRaises(ConnectionClosed):
                    peer.recv(timeout=20)

    def test_a_client_that_talks_only_one_way_lives_by_heartbeats(self):
        # With this option, HAProxy counts the directions apart, unless there is a timeout for tunnels.
        apart = {"    timeout tunnel 1s\n": "    option independent-streams\n"}
        for heartbeat, proxy, arguments, must_live in [
            (True, haproxy, [apart], True),
            (False, haproxy, [apart], False),
            (False, haproxy, [{"    timeout tunnel 1s\n": ""}], True),
            (False, haproxy, [], True),
            (False, nginx, [], True),
        ]:
            options = ["--heartbeat-out", "400"] if heartbeat else []
            options = ["--keepalive", "2000,5000", *options]
            with Server(*options) as server, proxy(server, 1, *arguments) as port:
                with connect_through(port) as peer:
                    try:
                        for _ in range(15):
                            # No route takes it, so nothing comes back.
                            peer.send('{"type":"Position"}')
                            time.sleep(0.2)
                        lives = True
                    except ConnectionClosed:
                        lives = False
                    self.assertEqual(lives, must_live, (heartbeat, proxy, arguments))

    def test_the_address_of_the_client_is_what_a_trusted_proxy_saw(self):
        for proxy in (nginx, haproxy):
            for options, seen in [(["--trust", "127.0.0.1"], "127.0.0.2"), ([], "127.0.0.1")]:
                with Server(*options) as server, proxy(server, 60) as port:
                    raw = socket.create_connection((HOST, port), source_address=("127.0.0.2", 0))
                    forged = {"X-Forwarded-For": "203.0.113.9"}
                    with connect_through(port, sock=raw, additional_headers=forged):
                        self.assertEqual(server.event("opened")["client"], seen)

    def test_a_page_of_the_proxy_s_host_may_connect(self):
        for proxy in (nginx, haproxy):
            with Server() as server, proxy(server, 60) as port:
                with connect_through(port, origin=f"http://{HOST}:{port}") as peer:
                    peer.send(json.dumps({"type": "Any"}))
                    self.assertEqual(peer.recv(timeout=20), '{"type":"Any","data":null}')
