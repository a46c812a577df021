"""The server's own HTTP/1.1: connections that stay open, and when they do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.exceptions import ClientDisconnected

from fabric.dashboard.http11 import DRAIN_BYTES
from fabric.dashboard.serve import _Server


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/refuse":
        start_response("412 Precondition Failed", [("Content-Length", "2")])
        return [b"no"]
    if path == "/chunks":
        start_response("200 OK", [])
        return [b"one", b"", memoryview(b"two")]  # type: ignore[list-item]
    if path == "/short":
        start_response("200 OK", [("Content-Length", "10")])
        return [b"123"]
    if path == "/breaks":
        start_response("200 OK", [("Content-Length", "10")])
        return breaking()
    start_response("200 OK", [("Content-Length", "5")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]


def breaking() -> Iterator[bytes]:
    yield b"123"
    raise ClientDisconnected


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(listener, application, None)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        server.shutdown()
        server.server_close()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        yield connection


def received(connection: socket.socket, until: bytes) -> bytes:
    data = b""
    while until not in data:
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def ended(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def test_one_connection_serves_many_requests_one_after_the_other(port: int) -> None:
    with connected(port) as connection:
        for _ in range(3):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"Connection: keep-alive" in received(connection, b"hello")
            connection.sendall(b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
            assert received(connection, b"body").startswith(b"HTTP/1.1 200")


def test_requests_sent_at_once_are_answered_in_order(port: int) -> None:
    with connected(port) as connection:
        request = b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
        connection.sendall(request + b"1" + request + b"2" + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = ended(connection)
    assert [answers.find(text) > 0 for text in (b"\r\n\r\n1HTTP", b"\r\n\r\n2HTTP", b"\r\n\r\nhello")] == [True] * 3


def test_a_client_that_asks_for_the_end_gets_it(port: int) -> None:
    for request in (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        with connected(port) as connection:
            connection.sendall(request)
            assert b"Connection: close" in ended(connection)


def test_a_short_refused_body_is_taken_off_and_the_next_request_is_read_right(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"PUT /refuse HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET /evil")
        assert b"keep-alive" in received(connection, b"no")
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert received(connection, b"hello").startswith(b"HTTP/1.1 200")


def test_a_long_refused_body_ends_the_connection_after_the_client_saw_why(port: int) -> None:
    length = DRAIN_BYTES * 8
    with connected(port) as connection:
        connection.sendall(b"PUT /refuse HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % length + bytes(length))
        answer = ended(connection)
    assert answer.startswith(b"HTTP/1.1 412")
    assert b"Connection: close" in answer


def test_a_client_that_waits_to_be_told_sends_no_body_that_is_refused(port: int) -> None:
    head = b" HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with connected(port) as connection:
        connection.sendall(b"PUT /refuse" + head)
        assert b"100 Continue" not in ended(connection)
    with connected(port) as connection:
        connection.sendall(b"PUT /echo" + head)
        assert received(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert received(connection, b"body").startswith(b"HTTP/1.1 200")


def test_an_answer_of_unknown_length_comes_in_chunks_and_the_connection_stays(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET /chunks HTTP/1.1\r\n\r\n")
        assert received(connection, b"0\r\n\r\n").endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"200 OK" in received(connection, b"hello")
    with connected(port) as connection:
        connection.sendall(b"GET /chunks HTTP/1.0\r\n\r\n")
        assert ended(connection).endswith(b"\r\n\r\nonetwo")


def test_an_answer_that_ends_early_ends_the_connection(port: int) -> None:
    for path in (b"/short", b"/breaks"):
        with connected(port) as connection:
            connection.sendall(b"GET " + path + b" HTTP/1.1\r\n\r\n")
            assert ended(connection).endswith(b"\r\n\r\n123")


def test_a_head_request_is_answered_without_bytes_and_the_connection_stays(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
        assert received(connection, b"\r\n\r\n").endswith(b"\r\n\r\n")
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"200 OK" in received(connection, b"hello")


@pytest.mark.parametrize("length", [b"-1", b"4, 4", b"+4", b"4\r\nContent-Length: 5"])
def test_a_body_whose_length_is_not_one_whole_number_is_refused(port: int, length: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(b"PUT /echo HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\nbody")
        assert ended(connection).startswith(b"HTTP/1.1 400")


def test_a_body_in_chunks_is_read_and_the_connection_ends(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"PUT /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        assert ended(connection).endswith(b"body")
