"""A small web server with an access log, its clients, and what ships the log: a live source of events for demo 3.

Requests go over real sockets on loopback; the server appends one line of JSON per answer to its log, and the shipper
sends the new lines as they are to ``POST /api/events``. Clients keep their connections and send several requests
before they read the answers, so that a thousand requests a second fit beside everything else on a small machine.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

from fabric.core.errors import UnavailableError

RANGE_BYTES = 512  # what a client asks of a file
PACE_SECONDS = 0.05  # a client sends what is due this often
PIPELINED_MOST = 100  # requests sent before their answers are read
SHIP_SECONDS = 0.2
END_SECONDS = 5.0


class Origin:
    """Serves ``files`` (path -> bytes) on a free port of loopback, from a thread of its own."""

    def __init__(self, files: Mapping[str, bytes], log: Path) -> None:
        self._files, self._log = files, log
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="origin", daemon=True)
        self.port = 0
        self.answered = 0

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        if not self._ready.wait(END_SECONDS):
            raise UnavailableError("the demo's web server did not start")

    def stop(self) -> None:
        """End the thread; what was answered is in the log."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_SECONDS)

    def answer(self, request: bytes) -> bytes:
        """Return the answer to one request's head, and log it."""
        line, _, headers = request.partition(b"\r\n")
        path = line.split(b" ")[1].decode().lstrip("/")
        start, end = _range(headers)
        whole = self._files.get(path)
        body, status = (whole[start:end], 206) if whole is not None else (b"", 404)
        self._write_line(path, len(body), 0 if whole is None else len(whole), status)
        return b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)

    def _write_line(self, path: str, sent: int, size: int, status: int) -> None:
        row = {"time": time.time(), "key": path, "op": "read", "bytes": sent, "size": size, "status": status}
        self._file.write(json.dumps(row) + "\n")
        self.answered += 1

    def _run(self) -> None:
        with self._log.open("a", encoding="utf-8") as self._file:
            server = self._loop.run_until_complete(self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            self._loop.run_forever()
            server.close()
            self._loop.close()

    def flush(self) -> None:
        """Let readers of the log see every line so far."""
        self._file.flush()


class _Connection(asyncio.Protocol):
    def __init__(self, origin: Origin) -> None:
        self._origin, self._rest = origin, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._rest = (self._rest + data).split(b"\r\n\r\n")
        self._transport.write(b"".join(map(self._origin.answer, requests)))
        self._origin.flush()


def _range(headers: bytes) -> tuple[int, int]:
    """Return the half-open range of a request that asks ``Range: bytes=FIRST-LAST``."""
    _, _, asked = headers.partition(b"bytes=")
    first, _, last = asked.partition(b"\r\n")[0].partition(b"-")
    return int(first), int(last) + 1


class Clients:
    """``count`` clients that read ``paths`` in turn, together ``rate`` times a second; the rate may change."""

    def __init__(self, port: int, paths: Sequence[str], rate: float, count: int = 4) -> None:
        self.rate = rate
        self.answers = [0] * count
        self._port, self._paths, self._count = port, paths, count
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,), name=f"client-{n}") for n in range(count)]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._ended.set()
        for thread in self._threads:
            thread.join(END_SECONDS)

    def _client(self, number: int) -> None:
        due, at = 0.0, time.monotonic()
        with socket.create_connection(("127.0.0.1", self._port)) as connection, connection.makefile("rb") as answers:
            while not self._ended.wait(PACE_SECONDS):
                now = time.monotonic()
                due, at = min(PIPELINED_MOST, due + (now - at) * self.rate / self._count), now
                many, due = int(due), due - int(due)
                connection.sendall(b"".join(self._request(self.answers[number] + n) for n in range(many)))
                for _ in range(many):
                    _read_answer(answers)
                self.answers[number] += many

    def _request(self, turn: int) -> bytes:
        path = self._paths[turn % len(self._paths)]
        return f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-{RANGE_BYTES - 1}\r\n\r\n".encode()


def _read_answer(answers: BufferedReader) -> None:
    answers.readline()
    length = int(answers.readline().partition(b":")[2])
    answers.readline()
    answers.read(length)


class Shipper:
    """Sends the new lines of a log to ``POST /api/events`` as they come; ``shipped`` counts those acknowledged."""

    def __init__(self, log: Path, url: str, token: str) -> None:
        self._log, self._host, self._token = log, urlsplit(url).netloc, token
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper")
        self.shipped = 0

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def stop(self) -> None:
        """Ship what is left and end."""
        self._ended.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=END_SECONDS)
        with self._log.open("rb") as log:
            rest, last = b"", False
            while not last:
                last = self._ended.wait(SHIP_SECONDS)
                lines, newline, rest = (rest + log.read()).rpartition(b"\n")
                if newline:
                    self.shipped += self._post(connection, lines)
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, lines: bytes) -> int:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/x-ndjson"}
        connection.request("POST", "/api/events", lines, headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise UnavailableError("the fabric did not take the log's lines", status=answer.status)
        return int(json.loads(body)["count"])
