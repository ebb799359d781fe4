"""The client at the other end of the cable, which answers pings: `HOST PORT PAUSE`. It asks for 30 KB after each pause."""

import socket
import struct
import sys
import threading
import time

host, port, pause = sys.argv[1:]
peer = socket.create_connection((host, int(port)))
stream = peer.makefile("rb")


def send(message):
    peer.sendall(struct.pack(">H", len(message)) + message)


def ask():
    message = b'{"type":"Any","data":"' + b"x" * 30_000 + b'"}'
    while True:
        time.sleep(float(pause))
        send(message)


threading.Thread(target=ask, daemon=True).start()
while length := stream.read(2):
    message = stream.read(*struct.unpack(">H", length))
    if b'"Ping"' in message:
        send(b'{"type":"Pong"}')
