"""The cases of the Autobahn test suite but for compression, which the server does not offer."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

from kit import HOST, Server

# Every case is as the protocol asks; these say nothing about a server, or are measurements.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


class Conformance(unittest.TestCase):
    def test_the_cases_of_autobahn(self):
        reports = pathlib.Path(os.environ["FOREIGN_HOME"], "conformance")
        shutil.rmtree(reports, ignore_errors=True)
        options = ["--codec", "raw", "--max-message", 16 << 20, "--outbound", 64 << 20]
        with Server(*options) as server:
            command = [pathlib.Path(sys.executable).with_name("kosoku"), "-m", "fuzzingclient"]
            command += [f"{HOST}:{server.websocket}", "-x", "12.*", "-x", "13.*", "-o", str(reports)]
            subprocess.run(command, timeout=500, stdout=subprocess.PIPE)
        (cases,) = json.loads((reports / "index.json").read_text()).values()
        counted = collections.Counter(case["behavior"] for case in cases.values())
        print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()), end=" ... ")
        self.assertGreater(len(cases), 300)
        for number, case in cases.items():
            wanted = "INFORMATIONAL" if number in INFORMATIONAL else "OK"
            verdicts = [case["behavior"], case["behaviorClose"]]
            self.assertEqual(verdicts, [wanted] * 2, f"{number}: {reports / case['reportfile']}")
