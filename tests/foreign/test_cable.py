"""A cable is pulled: no end of the stream and no reset comes, so only the silence shows that the peer is gone."""

import pathlib
import subprocess
import sys
import time
import unittest

from cable import Cable, why_not
from kit import Client, Server

PEER = pathlib.Path(__file__).with_name("cable_peer.py")
WHY_NOT = why_not()


@unittest.skipIf(WHY_NOT, WHY_NOT)
class CablePull(unittest.TestCase):
    def pull(self, pause, *options):
        """Pulls the cable of a client that asks for data after each pause. Returns the report of its end, and how long
        after that it came."""
        with Cable() as cable:
            options = ["--address", cable.HERE, "--keepalive", "500,1500", *options]
            with Server(*options) as server:
                command = [*cable.THERE_RUNS, sys.executable, PEER, cable.HERE]
                command += [str(server.tcp), str(pause)]
                peer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                try:
                    server.event("opened")
                    # Longer than a silent peer lives.
                    time.sleep(2)
                    self.assertTrue(server.events.empty(), "it is connected")
                    pulled = cable.pull()
                    closed = server.event("closed")
                    took = time.monotonic() - pulled
                    print(f"{closed['cause']} after {took:.3f} s", end=" ... ")
                    cable.plug()
                    peer.kill()
                    peer.wait()
                    peer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
                    server.event("opened")
                finally:
                    peer.kill()
                    peer.wait()
        return closed, took

    def test_an_idle_client(self):
        closed, took = self.pull(1_000)
        self.assertEqual(closed["cause"], "silence")
        self.assertGreaterEqual(closed["silent"], 1.5)
        # Its last byte came at most one ping before.
        self.assertTrue(0.7 < took < 10, took)

    def with_data(self, pause):
        # If the system takes nothing further, the client is not read, and the time for writing decides.
        closed, took = self.pull(pause, "--write-within", 1_500)
        self.assertIn(closed["cause"], ("silence", "no byte accepted for too long"))
        self.assertTrue(1.4 < took < 10, took)

    def test_a_client_with_data_on_the_way(self):
        self.with_data(0.01)

    def test_a_client_with_as_much_data_as_it_takes(self):
        self.with_data(0)


@unittest.skipIf(WHY_NOT, WHY_NOT)
class CablePullOfOurClient(unittest.TestCase):
    def pull(self, is_busy, scheme):
        """Pulls the cable between a client and its server. Returns the report of the lost connection, and how long after
        that it came."""
        with Cable() as cable, Server("--address", cable.HERE) as server:
            ports = {"tcp": server.tcp, "ws": server.websocket}
            options = ["--unanswered", "400,2", "--retry", 50]
            url = f"{scheme}://{cable.HERE}:{ports[scheme]}"
            with Client(url, *options, prefix=cable.THERE_RUNS) as client:
                client.event("online")
                # Longer than a silent server lives.
                until = time.monotonic() + 2.2
                while time.monotonic() < until:
                    if is_busy:
                        client.send("Echo", {"Message": "x" * 10_000})
                        client.event("echo")
                    time.sleep(0.01)
                self.assertTrue(client.events.empty(), "it is connected")
                pulled = cable.pull()
                ended = client.event("offline")
                took = time.monotonic() - pulled
                print(f"after {took:.3f} s, {ended['late'] * 1e3:.3f} ms late", end=" ... ")
                # Attempts fail while it is pulled.
                client.event("offline")
                cable.plug()
                client.event("online", within=20)
                client.send("Echo", {"Message": "back"})
                self.assertEqual(client.event("echo")["body"], {"Message": "back"})
        return ended, took

    def test_an_idle_connection(self):
        for scheme in ("tcp", "ws"):
            with self.subTest(scheme):
                ended, took = self.pull(False, scheme)
                self.assertEqual(ended["cause"], "silence")
                self.assertGreaterEqual(ended["silent"], 1.2)
                # The last byte, an answer to a ping, came at most one ping before.
                self.assertTrue(0.5 < took < 10, took)

    def test_a_connection_with_data_on_the_way(self):
        ended, took = self.pull(True, "tcp")
        self.assertEqual(ended["cause"], "silence")
        self.assertGreaterEqual(ended["silent"], 1.2)
        self.assertTrue(0.9 < took < 10, took)


@unittest.skipIf(WHY_NOT, WHY_NOT)
class OneDirection(unittest.TestCase):
    def test_a_connection_that_loses_one_direction_ends_on_both_sides(self):
        # What is not acknowledged holds up what follows, so soon the other direction is silent, too.
        for direction, deaf in [("here", "server"), ("there", "client")]:
            with self.subTest(direction), Cable() as cable:
                with Server("--address", cable.HERE, "--keepalive", "500,1500") as server:
                    url = f"tcp://{cable.HERE}:{server.tcp}"
                    options = ["--unanswered", "500,2", "--retry", 50]
                    with Client(url, *options, prefix=cable.THERE_RUNS) as client:
                        self.lose(cable, direction, deaf, {"server": server, "client": client})

    def lose(self, cable, direction, deaf, sides):
        client = sides["client"]
        client.event("online")
        # Longer than a silent peer lives.
        time.sleep(2)
        self.assertTrue(client.events.empty(), "it is connected")
        lost = cable.lose(direction)
        ends = {"client": client.event("offline"), "server": sides["server"].event("closed")}
        took = time.monotonic() - lost
        print(f"{deaf} after {ends[deaf]['silent']:.3f} s, both after {took:.3f} s", end=" ... ")
        self.assertEqual(ends[deaf]["cause"], "silence")
        self.assertGreaterEqual(ends[deaf]["silent"], 1.5)
        for end in ends.values():
            self.assertIn(end["cause"], ("silence", "end of stream", "reset"))
        # The last byte came at most one ping before.
        self.assertTrue(0.9 < took < 20, took)
        cable.plug()
        client.event("online", within=60)
        client.send("Echo", {"Message": "back"})
        self.assertEqual(client.event("echo")["body"], {"Message": "back"})
