"""A wire that misbehaves on command: an HTTP proxy in front of a real server, which acts on the requests it is told to.

Requests and answers are read whole (up to a part's size) and passed on byte by byte as they came, so signatures stay
valid. What a trigger names happens to as many requests as it says; everything else passes.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import servers

CONNECT_SECONDS = 5.0
HELD_SECONDS_MOST = 60.0  # a request that is never let go ends then
RESET = struct.pack("ii", 1, 0)
ALWAYS = 1 << 30
LEAST_BYTES = 4097  # of an object under test; what is said about one is less


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    method: str
    path: str  # decoded, with its query
    head: bytes
    body: bytes

    @property
    def is_object(self) -> bool:
        return "/objects/" in self.path.partition("?")[0]

    @property
    def reads_object(self) -> bool:
        return self.method == "GET" and self.is_object

    @property
    def writes_object(self) -> bool:
        return self.method in ("PUT", "POST") and self.is_object

    @property
    def carries_object(self) -> bool:
        """Whether it brings an object's bytes, not words about them (an upload's beginning, its list of parts)."""
        return self.writes_object and len(self.body) >= LEAST_BYTES


class Line:
    """One exchange under way: what a misfortune may do with it."""

    def __init__(self, wire: Wire, near: socket.socket, request: Request) -> None:
        self._wire, self._near, self.request = wire, near, request

    def forward(self, request: Request | None = None) -> bytes:
        """Have the server answer; return its answer whole."""
        return self._wire.exchange(request or self.request)

    def answer(self, data: bytes) -> None:
        self._near.sendall(data)

    def refuse(self, status: str, body: bytes = b"", *headers: str) -> None:
        """Answer in the server's place."""
        kept = b"" if self.request.method == "HEAD" else body
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(kept)}", "Content-Type: application/xml", *headers]
        self.answer("\r\n".join(lines).encode() + b"\r\n\r\n" + kept)

    def reset(self) -> None:
        """Break the connection off without a goodbye."""
        self._near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.hang_up()

    def hang_up(self) -> None:
        raise ConnectionAbortedError

    def hold(self) -> None:
        """Say nothing until the wire is mended, then hang up."""
        self._wire.mended.wait(HELD_SECONDS_MOST)
        self.hang_up()


Act = Callable[[Line], None]


@dataclass(slots=True)
class Trigger:
    """Which requests something happens to, and how often."""

    when: Callable[[Request], bool]
    act: Act
    times: int = ALWAYS


@dataclass(slots=True)
class Wire:
    """A proxy in front of ``server``; clients go to ``near``."""

    server: servers.Server
    near: servers.Server
    triggers: list[Trigger] = field(default_factory=list)
    met: int = 0  # requests that something happened to
    mended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, when: Callable[[Request], bool], act: Act, *, times: int = ALWAYS) -> None:
        """Let ``act`` happen to the next ``times`` requests for which ``when`` holds."""
        self.mended.clear()
        self.triggers.append(Trigger(when, act, times))

    def mend(self) -> None:
        """Let everything pass again."""
        self.triggers.clear()
        self.mended.set()

    def exchange(self, request: Request) -> bytes:
        host, _, port = self.server.endpoint.removeprefix("http://").partition(":")
        with closing(socket.create_connection((host, int(port)), CONNECT_SECONDS)) as far:
            far.settimeout(HELD_SECONDS_MOST)
            far.sendall(self._head_for(request.head) + request.body)
            head = _head_of(far)
            while head.split(b" ", 2)[1] == b"100":
                head = _head_of(far)
            return head + _body_of(far, head, answers=request.method)

    def _head_for(self, head: bytes) -> bytes:
        """Return what the server is told: fake-gcs-server goes by the host's name, and nothing there is signed."""
        if self.server.kind != "fake-gcs-server":
            return head
        near, far = (one.endpoint.removeprefix("http://").encode() for one in (self.near, self.server))
        return head.replace(b"Host: " + near, b"Host: " + far, 1)

    def serve(self, near: socket.socket) -> None:
        """Carry one client's requests until it hangs up."""
        with closing(near):
            while (head := _head_of(near)) is not None and head:
                if b"\r\nexpect: 100-continue" in head.lower():
                    near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = _without(head, b"expect")
                method, path, _ = head.split(b" ", 2)
                body = _body_of(near, head)
                self._carry(Line(self, near, Request(method.decode(), unquote(path.decode()), head, body)))

    def _carry(self, line: Line) -> None:
        act = self._act_for(line.request)
        if act is not None:
            act(line)
        else:
            line.answer(line.forward())

    def _act_for(self, request: Request) -> Act | None:
        with self._lock:
            for trigger in self.triggers:
                if trigger.times > 0 and trigger.when(request):
                    trigger.times -= 1
                    self.met += 1
                    return trigger.act
        return None


@contextmanager
def wire(server: servers.Server) -> Iterator[Wire]:
    """Put a wire in front of ``server``."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = Wire(server, replace(server, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread = threading.Thread(target=_accept, args=(listener, made), daemon=True)
        thread.start()
        yield made
        made.mend()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, made: Wire) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(made, near), daemon=True).start()


def _serve(made: Wire, near: socket.socket) -> None:
    try:
        made.serve(near)
    except OSError:
        near.close()  # it hung up, or was made to


def _head_of(link: socket.socket) -> bytes:
    """Read up to the empty line; b"" where the other side has hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = link.recv(1 << 16, socket.MSG_PEEK)
        if not piece:
            return b""
        end = (head + piece).find(b"\r\n\r\n", max(0, len(head) - 3))
        head += link.recv(len(piece) if end < 0 else end + 4 - len(head))
    return head


def _body_of(link: socket.socket, head: bytes, *, answers: str = "") -> bytes:
    """Read what follows ``head``, framed as it says; of an answer (to the method ``answers``), to its end."""
    status = head.split(b" ", 2)[1] if answers else b""
    if answers == "HEAD" or status in (b"204", b"304"):
        return b""
    if b"chunked" in _header(head, b"transfer-encoding").lower():
        return _chunked(link)
    if length := _header(head, b"content-length"):
        return _exactly(link, int(length))
    return _to_the_end(link) if answers else b""


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return b""


def _without(head: bytes, name: bytes) -> bytes:
    kept = [line for line in head.split(b"\r\n") if line.partition(b":")[0].strip().lower() != name]
    return b"\r\n".join(kept)


def _exactly(link: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = link.recv(min(1 << 20, size - len(data)))
        if not piece:
            raise ConnectionAbortedError
        data += piece
    return bytes(data)


def _chunked(link: socket.socket) -> bytes:
    data = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += _exactly(link, 1)
        size = int(line.split(b";")[0], 16)
        data += line
        if size == 0:
            while not data.endswith(b"\r\n\r\n"):
                data += _exactly(link, 1)
            return data
        data += _exactly(link, size + 2)


def _to_the_end(link: socket.socket) -> bytes:
    data = bytearray()
    while piece := link.recv(1 << 20):
        data += piece
    return bytes(data)


# ---------------------------------------------------------------- what may happen to an exchange


def done_but_silent(line: Line) -> None:
    """Have the server do it, and break off before its answer."""
    line.forward()
    line.reset()


def broken_off(line: Line) -> None:
    """Break off: a write before the server has it, a read in the midst of its bytes."""
    if line.request.method == "GET":
        line.answer(_half(line.forward()))
    line.reset()


def held(line: Line) -> None:
    line.hold()


def cut_short(line: Line) -> None:
    """Give half of the bytes that were announced, and hang up properly."""
    line.answer(_half(line.forward()))
    line.hang_up()


def read_flipped(line: Line) -> None:
    line.answer(_flipped(line.forward()))


def write_flipped(line: Line) -> None:
    line.answer(line.forward(replace(line.request, body=_flipped(line.request.body))))


def later(seconds: float) -> Act:
    """Pass everything on after a wait."""

    def act(line: Line) -> None:
        threading.Event().wait(seconds)
        line.answer(line.forward())

    return act


def _half(answer: bytes) -> bytes:
    start = answer.index(b"\r\n\r\n") + 4
    return answer[: start + (len(answer) - start) // 2]


def _flipped(data: bytes) -> bytes:
    wrong = bytearray(data)
    wrong[-max(1, len(data) // 3)] ^= 1
    return bytes(wrong)
