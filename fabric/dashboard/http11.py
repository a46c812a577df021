"""HTTP/1.1 with connections that stay open: one request after the other, as long as both sides know where each ends.

A connection is closed after an answer where its end could not be told otherwise, where the client asks for it, where
more of a refused body than DRAIN_BYTES was not read, and after IDLE_SECONDS without a request.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import WSGIRequestHandler

IDLE_SECONDS = 30.0  # between requests, and within a request's head
DRAIN_BYTES = 256 << 10  # of a body nobody read: taken off, so that the next request can follow
LINGER_SECONDS = 1.0  # of silence, before a client that still sends a refused body is left
LINGER_BYTES_MOST = 10 << 30
TOGETHER_BYTES = 64 << 10  # a shorter first piece leaves in one packet with the head
BLOCK_BYTES = 256 << 10
BODILESS = frozenset({"204", "304"})
TAKES_VIEWS = "fabric.takes_views"
"""Set in the environ where a piece of an answer may be a memoryview, which WSGI does not promise."""

Headers = list[tuple[str, str]]


class Body(io.RawIOBase):
    """One request's body, which ends where its announced length does.

    Args:
        proceed: says "100 Continue" to a client that waits for it; called before the first read.
    """

    def __init__(self, stream: io.BufferedIOBase, length: int, proceed: Callable[[], None] | None) -> None:
        self.left = length
        self._stream, self._proceed = stream, proceed

    @property
    def held_back(self) -> bool:
        """Say whether the client still waits to be told to send it."""
        return self._proceed is not None and self.left > 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; ClientDisconnected where the client stops before it."""
        wanted = self.left if size is None or size < 0 else min(size, self.left)
        if wanted == 0:
            return b""
        if self._proceed is not None:
            self._proceed()
            self._proceed = None
        piece = self._stream.read(wanted)
        self.left -= len(piece)
        if len(piece) < wanted:
            raise ClientDisconnected
        return piece

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def readall(self) -> bytes:
        return self.read()


class Handler(WSGIRequestHandler):
    """Without Nagle's delay (a pushed frame must not wait for an acknowledgement), quiet in the log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Wait for a request and answer it."""
        self.connection.settimeout(IDLE_SECONDS)
        super().handle_one_request()

    def handle_expect_100(self) -> bool:
        """Say nothing yet: a body that will be refused need not be sent (`Body`)."""
        return True

    def run_wsgi(self) -> None:
        """Answer one request by the application."""
        self.connection.settimeout(None)
        length = self._length()
        if length is None:
            self.send_error(400, "Content-Length is not one whole number")
            return
        environ = self.environ = self.make_environ()
        body = Body(self.rfile, length, self._continue if self._expects() else None)
        if environ.get("wsgi.input_terminated"):  # chunked; its end is not looked for
            self.close_connection = True
            if self._expects():
                self._continue()
        else:
            environ |= {"wsgi.input": body, "wsgi.input_terminated": True}
        environ[TAKES_VIEWS] = True
        if "Upgrade" in self.headers:
            self.close_connection = True
        _Answer(self, body).run(environ)
        self._end(body)

    def _length(self) -> int | None:
        """Return the announced length of the body, 0 for none, None for an impossible one."""
        texts = set(self.headers.get_all("Content-Length", ["0"]))
        text = texts.pop().strip()
        return int(text) if not texts and text.isascii() and text.isdigit() else None

    def _expects(self) -> bool:
        return self.headers.get("Expect", "").strip().lower() == "100-continue"

    def _continue(self) -> None:
        self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _end(self, body: Body) -> None:
        """Take off what was not read of the body, so that a next request, or the client's last look, can follow."""
        if body.held_back or not body.left:
            return
        self.connection.settimeout(LINGER_SECONDS)
        most = min(body.left, LINGER_BYTES_MOST)
        with suppress(OSError, ClientDisconnected):
            while body.left and most > 0:
                most -= len(body.read(min(BLOCK_BYTES, body.left)))
        self.close_connection |= body.left > 0

    def log(self, type: str, message: str, *args: Any) -> None:
        """Drop access lines; faults are logged where they are handled."""


class _Answer:
    """One answer on its way: the head leaves with the first piece."""

    def __init__(self, handler: Handler, body: Body) -> None:
        self._handler, self._body = handler, body
        self._status, self._headers = "", cast(Headers, [])
        self._begun = self._chunked = False
        self._left: int | None = None  # of the announced length

    def run(self, environ: dict[str, Any]) -> None:
        """Ask the application and send what it gives; what it raises in the middle ends the connection."""
        pieces: Iterable[bytes | memoryview] = self._handler.server.app(environ, self.start)
        try:
            for piece in pieces:
                self.write(piece)
            self._finish()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """Take status and headers (PEP 3333)."""
        if self._begun and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        assert exc_info or not self._status, "an answer has one head"
        self._status, self._headers = status, headers
        return self.write

    def write(self, piece: bytes | memoryview) -> None:
        """Send the head where it has not left, and ``piece``."""
        head = b"" if self._begun else self._head()
        if self._chunked and len(piece):
            self._send(b"%b%x\r\n%b\r\n" % (head, len(piece), bytes(piece)))
            return
        if self._left is not None:
            self._left -= len(piece)
        if head and len(piece) <= TOGETHER_BYTES:
            self._send(head + piece)
            return
        if head:
            self._send(head)
        self._send(piece)

    def _finish(self) -> None:
        if not self._status:  # a socket was taken over
            self._handler.close_connection = True
            return
        if not self._begun:
            self.write(b"")
        if self._chunked:
            self._send(b"0\r\n\r\n")
        if self._left:  # fewer or more bytes than were announced
            self._handler.close_connection = True

    def _send(self, data: bytes | memoryview) -> None:
        if len(data):
            self._handler.wfile.write(data)

    def _head(self) -> bytes:
        assert self._status, "the head comes first"
        self._begun = True
        handler = self._handler
        named = {name.lower(): value for name, value in self._headers}
        if not self._bodiless():
            self._measure(named.get("content-length"))
        if self._body.held_back or self._body.left > DRAIN_BYTES:
            handler.close_connection = True
        extra: Headers = [("Server", handler.version_string()), ("Date", handler.date_time_string())]
        extra = [pair for pair in extra if pair[0].lower() not in named]
        if self._chunked:
            extra.append(("Transfer-Encoding", "chunked"))
        if "connection" not in named:
            extra.append(("Connection", "close" if handler.close_connection else "keep-alive"))
        lines = [f"HTTP/1.1 {self._status}", *(f"{name}: {value}" for name, value in [*extra, *self._headers])]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _bodiless(self) -> bool:
        return self._handler.command == "HEAD" or self._status[:3] in BODILESS or self._status.startswith("1")

    def _measure(self, length: str | None) -> None:
        """Settle how the client knows where the answer ends: by its length, by chunks, or by the connection's end."""
        if length is not None:
            self._left = int(length)
        elif self._handler.request_version >= "HTTP/1.1":
            self._chunked = True
        else:
            self._handler.close_connection = True
