"""How a command reaches the engine: over HTTP where one runs, in-process through the same pages where none does."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import msgspec

from fabric.core import errors
from fabric.core.errors import FabricError, UnavailableError, UnknownOutcomeError
from fabric.runtime.folder import EngineMark
from fabric.runtime.link import connection_to

TIMEOUT_SECONDS = 600.0  # one request; long work reports progress in between
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status below 400, headers in lower case, and the body as it streams in."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterable[bytes]

    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return msgspec.json.decode(self.body())


class Client(Protocol):
    """Sends one request; what the engine refuses comes back as the FabricError it was."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Answer]:
        """Open the answer; its body is read while the context is open."""


def call(client: Client, method: str, path: str, *, query: Mapping[str, str] | None = None, json: Any = None) -> Any:
    """Send one request and return its JSON."""
    with client.request(method, path, query=query, json=json) as answer:
        return answer.json()


def act(client: Client, name: str, /, **body: Any) -> Any:
    """Ask the engine to do ``name``; see POST /api/acts/NAME."""
    return call(client, "POST", f"/api/acts/{name}", json=body)


def object_path(key: str) -> str:
    return "/api/objects/" + quote(key)


class HttpClient:
    """Talks to the engine that published itself in a data folder, with its token."""

    def __init__(self, engine: EngineMark) -> None:
        self._engine = engine

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Answer]:
        connection = connection_to(self._engine, TIMEOUT_SECONDS)
        sent = {"Authorization": f"Bearer {self._engine.token}", **(headers or {})}
        payload: Any = body
        if json is not None:
            payload, sent["Content-Type"] = msgspec.json.encode(json), "application/json"
        try:
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # refused before its end: the answer is there
                connection.request(
                    method,
                    _with_query(path, query),
                    payload,
                    sent,
                    encode_chunked=body is not None and "Content-Length" not in sent,
                )
            response = connection.getresponse()
        except (ConnectionRefusedError, http.client.CannotSendRequest) as error:
            raise UnavailableError(
                "the engine does not answer",
                url=self._engine.url,
                pid=self._engine.pid,
                hint="look at its log, or start it again",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnknownOutcomeError(
                "the engine stopped answering", url=self._engine.url, hint="look with: python -m fabric status"
            ) from error
        try:
            if response.status >= 400:
                raise problem_error(response.status, response.read())
            found = {name.lower(): value for name, value in response.getheaders()}
            yield Answer(response.status, found, self._pieces(response))
        finally:
            connection.close()

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while piece := response.read(CHUNK_BYTES):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                "the engine stopped in the middle of its answer", url=self._engine.url, hint="try again"
            ) from error


class LocalClient:
    """Talks to the same pages inside this process, through WSGI; the caller holds the lease."""

    def __init__(self, application: Any, token: str) -> None:
        from werkzeug.test import Client as WsgiClient

        self._client = WsgiClient(application)
        self._token = token

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        body: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Answer]:
        sent = {"Authorization": f"Bearer {self._token}", **(headers or {})}
        options: dict[str, Any] = {"method": method, "headers": sent, "base_url": "http://127.0.0.1"}
        if json is not None:
            options |= {"data": msgspec.json.encode(json), "content_type": "application/json"}
        elif body is not None:
            options["environ_overrides"] = _streamed_input(body, sent)
        response = self._client.open(_with_query(path, query), **options)
        try:
            if response.status_code >= 400:
                raise problem_error(response.status_code, response.get_data())
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status_code, found, response.iter_encoded())
        finally:
            response.close()


def _streamed_input(body: Iterable[bytes], headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the WSGI variables of a body that comes in pieces, with or without its length said before."""
    size = headers.get("Content-Length", "")
    length = {"CONTENT_LENGTH": size} if size else {"HTTP_TRANSFER_ENCODING": "chunked"}
    return {"wsgi.input": _IterStream(body), "wsgi.input_terminated": True, **length}


class _IterStream:
    """A read-only stream over pieces, as WSGI asks for its input."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        wanted = size if size >= 0 else float("inf")
        while len(self._rest) < wanted:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        size = len(self._rest) if size < 0 else size
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)

    def close(self) -> None:
        """Nothing to close: the pieces belong to the caller."""


_BY_CODE = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FabricError)
}


def problem_error(status: int, body: bytes) -> FabricError:
    """Turn a problem document back into the error it came from."""
    try:
        problem = msgspec.json.decode(body)
        code = str(problem["type"]).rsplit(":", 1)[-1]
    except (msgspec.DecodeError, KeyError, TypeError):
        return UnavailableError("the engine's answer cannot be read", status=status)
    known = {"type", "title", "status", "detail", "hint", "instance"}
    facts = {name: value for name, value in problem.items() if name not in known}
    kind = _BY_CODE.get(code, FabricError)
    return kind(str(problem.get("title", "refused")), hint=str(problem.get("hint", "")), **facts)


def _with_query(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path
