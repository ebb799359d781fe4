"""The cases of the Autobahn test suite but for compression, which is not offered."""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

from kit import HOST, Server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

KOSOKU = pathlib.Path(sys.executable).with_name("kosoku")

# Every case is as the protocol asks; these say nothing about us, or are measurements.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


class Conformance(unittest.TestCase):
    def kosoku(self, role, mode, address):
        """Returns the command for all cases in this mode, and the folder of its reports."""
        reports = pathlib.Path(os.environ["FOREIGN_HOME"], "conformance", role)
        shutil.rmtree(reports, ignore_errors=True)
        command = [KOSOKU, "-m", mode, address, "-x", "12.*", "-x", "13.*", "-o", str(reports)]
        return command, reports

    def check(self, reports):
        (cases,) = json.loads((reports / "index.json").read_text()).values()
        counted = collections.Counter(case["behavior"] for case in cases.values())
        print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()), end=" ... ")
        self.assertGreater(len(cases), 300)
        for number, case in cases.items():
            wanted = "INFORMATIONAL" if number in INFORMATIONAL else "OK"
            verdicts = [case["behavior"], case["behaviorClose"]]
            self.assertEqual(verdicts, [wanted] * 2, f"{number}: {reports / case['reportfile']}")

    def test_the_server(self):
        options = ["--codec", "raw", "--max-message", 16 << 20, "--outbound", 64 << 20]
        with Server(*options) as server:
            address = f"{HOST}:{server.websocket}"
            command, reports = self.kosoku("server", "fuzzingclient", address)
            subprocess.run(command, timeout=500, stdout=subprocess.PIPE)
        self.check(reports)

    def test_the_client(self):
        command, reports = self.kosoku("client", "fuzzingserver", f"{HOST}:0")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as server:
            try:
                url = re.search(r"ws://\S+", server.stderr.readline())[0]
                with connect(f"{url}/getCaseCount") as peer:
                    count = int(peer.recv(timeout=20))
                for case in range(1, count + 1):
                    path = f"{url}/runCase?case={case}&agent=liveness"
                    client = [os.environ["FOREIGN_CLIENT"], "--codec", "raw", path]
                    subprocess.run(client, timeout=200, check=True, stdout=subprocess.PIPE)
                with connect(f"{url}/updateReports?agent=liveness") as peer:
                    with self.assertRaises(ConnectionClosed):
                        peer.recv(timeout=20)
                # It fails if a case does, which its reports say better.
                server.communicate(timeout=20)
            finally:
                server.kill()
        self.check(reports)
