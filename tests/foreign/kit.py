"""The server and the client under test, and peers that do only what they are asked to."""

import json
import os
import queue
import socket
import struct
import subprocess
import threading
import time

from websockets.client import ClientProtocol
from websockets.uri import parse_uri

HOST = "127.0.0.1"


class Program:
    """A process that writes events, which ends with the `with` block and must end well."""

    def __init__(self, *command):
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.events = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def event(self, name, within=30):
        """Returns the next event of this name; others are dropped."""
        end = time.monotonic() + within
        while True:
            event = self.events.get(timeout=max(0, end - time.monotonic()))
            if event["event"] == name:
                return event

    def shut_down(self):
        """Begins the shutdown."""
        self.process.stdin.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.shut_down()
            code = self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.reader.join()
            self.process.stdout.close()
        # What has failed already is worth more than what follows from it.
        assert kind or code == 0, f"the program ended with {code}"


class Server(Program):
    """A process of `server.rs`."""

    def __init__(self, *options, prefix=()):
        super().__init__(*prefix, os.environ["FOREIGN_SERVER"], *options)
        listening = self.event("listening")
        self.tcp, self.websocket = listening["tcp"], listening["websocket"]
        self.url = f"ws://{HOST}:{self.websocket}/"
        # With `--tls`: TCP and WebSocket.
        self.tls = listening["tls"]


class Client(Program):
    """A process of `client.rs`, which connects to a URL."""

    def __init__(self, url, *options, prefix=()):
        super().__init__(*prefix, os.environ["FOREIGN_CLIENT"], url, *options)

    def _say(self, **command):
        print(json.dumps(command), file=self.process.stdin, flush=True)

    def send(self, name, body):
        """Sends a message."""
        self._say(send=[name, body])

    def ask(self, name, body):
        """Sends a request; its answer is an event."""
        self._say(request=[name, body])


class Tcp:
    """A TCP connection with a length of two bytes, or of four, before each message."""

    def __init__(self, port, length=">H"):
        self.socket = socket.create_connection((HOST, port), timeout=20)
        self.length = length

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, message):
        self.socket.sendall(struct.pack(self.length, len(message)) + message)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def receive(self):
        (count,) = struct.unpack(self.length, self._exactly(struct.calcsize(self.length)))
        return self._exactly(count)


class Bare:
    """A WebSocket without a life of its own: it reads when it is asked to, and answers no ping that it has not read."""

    def __init__(self, port, path="/", over=None, **options):
        self.socket = over or socket.create_connection((HOST, port), timeout=20)
        self.protocol = ClientProtocol(parse_uri(f"ws://{HOST}:{port}{path}"), **options)
        self.protocol.send_request(self.protocol.connect())
        self.flush()
        self.frames = []
        while self.protocol.handshake_exc is None and not self.protocol.state.name == "OPEN":
            self._read()
        if self.protocol.handshake_exc:
            raise self.protocol.handshake_exc

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        """Sends what the protocol wants to be sent."""
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)

    def raw(self, data):
        """Sends bytes past the protocol."""
        self.socket.sendall(data)

    def _read(self):
        data = self.socket.recv(65536)
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if hasattr(event, "opcode"):
                self.frames.append(event)
        return bool(data)

    def frame(self):
        """Returns the next frame, without an answer to it."""
        while not self.frames:
            if not self._read():
                raise EOFError
        return self.frames.pop(0)

    def closed(self):
        """Reads to the end, and returns the close code and the time of its arrival."""
        while self.protocol.close_rcvd is None:
            if not self._read():
                return None, time.monotonic()
        return self.protocol.close_rcvd.code, time.monotonic()


def http(port, request):
    """Returns the status of the answer to a request."""
    with socket.create_connection((HOST, port), timeout=20) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return int(answer.split(b" ", 2)[1])
