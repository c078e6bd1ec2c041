"""Sends the first half of so many HTTP requests to a port, and waits until its input ends: ``half_sent.py PORT COUNT``.

A process of its own, since others, such as pynetdicom, cannot watch descriptors beyond 1023 (select(2)).
"""

import contextlib
import resource
import socket
import sys

port, count = map(int, sys.argv[1:])
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
connections = []
for _ in range(count):
    connections.append(socket.create_connection(("127.0.0.1", port), timeout=60))
    with contextlib.suppress(OSError):  # it was dropped already
        connections[-1].sendall(b"GET /metrics HTTP/1.1\r\n")
sys.stdout.write("sent\n")
sys.stdout.flush()
sys.stdin.read()
