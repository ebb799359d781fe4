"""A cable between this host and another one, which is a network namespace, and which can be pulled. Needs root.

Other tests use it as well:

    with Cable() as cable:
        server = Server("--address", cable.HERE)
        client = subprocess.Popen([*cable.THERE_RUNS, "client", f"tcp://{cable.HERE}:{server.tcp}"])
        cable.pull()
        cable.plug()
"""

import itertools
import os
import subprocess
import time

_NUMBERS = itertools.count(os.getpid())


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Cable:
    def __init__(self):
        # Another one for each cable, in a network that is set apart for tests.
        number = next(_NUMBERS)
        self.HERE, self.THERE = (f"198.18.{number % 256}.{host}" for host in (1, 2))
        self.namespace = f"liveness{number}"
        self.end = f"lv{number}"
        # What stands before a command that runs on the other host.
        self.THERE_RUNS = ["ip", "netns", "exec", self.namespace]

    def __enter__(self):
        _ip("netns", "add", self.namespace)
        try:
            _ip("link", "add", self.end, "type", "veth", "peer", "name", "v", "netns", self.namespace)
            _ip("address", "add", f"{self.HERE}/30", "dev", self.end)
            _ip("-n", self.namespace, "address", "add", f"{self.THERE}/30", "dev", "v")
            _ip("-n", self.namespace, "link", "set", "lo", "up")
            _ip("-n", self.namespace, "link", "set", "v", "up")
            self.plug()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for command in (["link", "delete", self.end], ["netns", "delete", self.namespace]):
            subprocess.run(["ip", *command], capture_output=True)

    def pull(self):
        """Pulls the cable, and returns when. Either side only sees that nothing comes."""
        _ip("-n", self.namespace, "link", "set", "v", "down")
        return time.monotonic()

    def _neighbours(self):
        """The arguments that select the neighbour of either end, by the direction to it."""
        return {
            "there": ([], ["to", self.THERE, "dev", self.end]),
            "here": (["-n", self.namespace], ["to", self.HERE, "dev", "v"]),
        }

    def lose(self, direction):
        """Loses what is sent in one direction, `"here"` or `"there"`, and returns when."""
        namespace, neighbour = self._neighbours()[direction]
        # The network card that frames are sent to is another one.
        _ip(*namespace, "neighbour", "replace", *neighbour, "lladdr", "02:00:00:00:00:01", "nud", "permanent")
        return time.monotonic()

    def plug(self):
        """Plugs it in again, and loses nothing."""
        for namespace, neighbour in self._neighbours().values():
            subprocess.run(["ip", *namespace, "neighbour", "delete", *neighbour], capture_output=True)
        _ip("-n", self.namespace, "link", "set", "v", "up")
        _ip("link", "set", self.end, "up")


def why_not():
    """Returns why there is no cable on this machine, or `None` if there is."""
    try:
        with Cable():
            return None
    except subprocess.CalledProcessError as error:
        return f"a network namespace needs rights that are missing here: {error.stderr.strip()}"
