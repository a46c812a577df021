"""``/api/objects`` and ``/api/events``: the object API over HTTP, streaming both ways in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from typing import TypeVar, cast

from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import ClientDisconnected

from fabric.catalog.heads import Head, Version
from fabric.consistency.levels import Outcome
from fabric.consistency.ports import Chunk
from fabric.consistency.replication import Condition, WriteResult
from fabric.core.clock import iso
from fabric.core.errors import BadInputError, ForbiddenError, PreconditionError, TooLargeError, UnauthorisedError
from fabric.core.words import Classification, Criticality, LatencyClass, ObjectPolicy
from fabric.plane.objects import LIST_MOST, Caller, Found, Objects, PutOptions
from fabric.plane.ports import DecoderView, IntakeView, PrincipalView
from fabric.plane.ranges import parse_range, parse_tags
from fabric.runtime.problems import problem_response
from fabric.storage.store import CHUNK_BYTES

EVENTS_BODY_MOST = 16 << 20
HEADER_TEXT_MOST = 8 << 10  # of all X-Fabric-Meta- headers
COUNTER_MOST = 1 << 62  # of a causal context; what is stored holds no more than 64 bits
META = "X-Fabric-Meta-"
TAKES_VIEWS = "fabric.takes_views"  # in the environ of a server that sends memoryviews too
LIST_DEFAULT = 100
HARMLESS = {  # an object that is a page runs nothing on this origin
    "Content-Security-Policy": "sandbox",
    "X-Content-Type-Options": "nosniff",
}

Word = TypeVar("Word", Classification, Criticality, LatencyClass)
PrincipalOf = Callable[[Request], PrincipalView]


def object_api(
    objects: Objects,
    events: IntakeView,
    principal_of: PrincipalOf,
    *,
    decode: DecoderView,
    policy_of: Callable[[str], ObjectPolicy],
) -> Blueprint:
    """Return the routes. FabricErrors become problem+json by the application (`runtime.problems`).

    Args:
        principal_of: says who asks, from the request's token; UnauthorisedError for one that is not known.
        decode: turns a body of ``POST /api/events`` into a batch.
        policy_of: the prefix policy of a key, which X-Fabric- headers override.
    """
    blueprint = Blueprint("objects", __name__)
    handler = _Handler(objects, events, principal_of, decode, policy_of)
    path = "/api/objects/<path:key>"
    blueprint.add_url_rule(path, "put", handler.put, methods=["PUT"])
    blueprint.add_url_rule(path, "get", handler.get, methods=["GET", "HEAD"])
    blueprint.add_url_rule(path, "delete", handler.delete, methods=["DELETE"])
    blueprint.add_url_rule("/api/objects", "list", handler.listing, methods=["GET"])
    blueprint.add_url_rule("/api/events", "events", handler.take_events, methods=["POST"])
    return blueprint


class _Handler:
    def __init__(
        self,
        objects: Objects,
        events: IntakeView,
        principal_of: PrincipalOf,
        decode: DecoderView,
        policy_of: Callable[[str], ObjectPolicy],
    ) -> None:
        self._objects = objects
        self._events = events
        self._principal_of = principal_of
        self._decode = decode
        self._policy_of = policy_of

    def put(self, key: str) -> Response:
        """Write the request's body under ``key``: 201 new, 200 replaced, 504 unknown."""
        caller = self._writer()
        options = PutOptions(
            policy=self._policy(key),
            condition=_condition(),
            context=_context(request.headers.get("X-Fabric-Context", "")),
            idempotency_key=request.headers.get("Idempotency-Key", ""),
            content_type=request.headers.get("Content-Type", "application/octet-stream"),
            metadata=_metadata(),
            size_bytes=request.content_length if request.content_length is not None else -1,
            expected_sha256=request.headers.get("X-Fabric-SHA256", ""),
        )
        return _written(self._objects.put(key, _body(), options, caller))

    def delete(self, key: str) -> Response:
        """Delete ``key``: 204, or 504 where the outcome is not known."""
        result = self._objects.delete(
            key, self._writer(), condition=_condition(), idempotency_key=request.headers.get("Idempotency-Key", "")
        )
        if result.outcome is Outcome.UNKNOWN:
            return _written(result)
        return Response(status=204, headers={"X-Fabric-Trace": result.version_id} | _warning(result))

    def get(self, key: str) -> Response:
        """Send the object or a range of it; for HEAD its figures alone."""
        caller = self._caller()
        if self._objects.adopted(key) is not None:
            return self._get_adopted(key, caller)
        head = self._objects.head(key, caller)
        asked = request.args.get("version", "")
        siblings = [version for version in head.versions if not version.tombstone]
        if len(siblings) > 1 and not asked:
            return self._siblings(head, siblings)
        version = self._objects.version(head, asked)
        headers = self._headers(head, version)
        if (unchanged := _unchanged(version.id, headers)) is not None:
            return unchanged
        part = _range(version.size_bytes, version.id)
        start, end = part or (0, version.size_bytes)
        headers |= _range_headers(part, version.size_bytes)
        if request.method == "HEAD":
            return Response(status=206 if part else 200, headers=headers)
        reading = self._objects.open(head, version, caller, start=start, end=end)
        response = Response(_sent(reading), status=206 if part else 200, headers=headers, direct_passthrough=True)
        response.call_on_close(reading.close)
        return response

    def listing(self) -> Response:
        """Send one page of objects in key order."""
        limit = _whole_number("limit", LIST_DEFAULT, most=LIST_MOST)
        caller = self._caller()
        cursor = request.args.get("cursor", "")
        found = self._objects.listing(caller, prefix=request.args.get("prefix", ""), after=cursor, limit=limit)
        more = found[-1].key if len(found) == limit else None
        return _json({"objects": [_row(one) for one in found], "cursor": more})

    def take_events(self) -> Response:
        """Store accesses durably and say where they lie in the event log."""
        self._writer()
        body = bytearray()
        for piece in _body():
            body += piece
            if len(body) > EVENTS_BODY_MOST:
                raise TooLargeError("the batch is too long", hint=f"send at most {EVENTS_BODY_MOST} bytes at once")
        offset, count = self._events.accept(self._decode(bytes(body), request.headers.get("Content-Type", "")))
        return _json({"offset": offset, "count": count})

    def _get_adopted(self, key: str, caller: Caller) -> Response:
        found = self._objects.adopted(key)
        assert found is not None
        member, inner = found
        info = self._objects.stat_adopted(member, inner, caller)
        part = _range(info.size_bytes, info.tag)
        start, end = part or (0, info.size_bytes)
        headers = {"Content-Type": info.content_type, "ETag": _quoted(info.tag), "Accept-Ranges": "bytes"}
        headers |= {"Last-Modified": formatdate(info.modified, usegmt=True), "X-Fabric-Managed": "no"} | HARMLESS
        if (unchanged := _unchanged(info.tag, headers)) is not None:
            return unchanged
        headers |= _range_headers(part, info.size_bytes)
        if request.method == "HEAD":
            return Response(status=206 if part else 200, headers=headers)
        opened = self._objects.open_adopted(member, info, caller, start=start, end=end)

        def pieces() -> Iterator[Chunk]:
            with opened as reading:
                yield from reading

        return Response(_sent(pieces()), status=206 if part else 200, headers=headers, direct_passthrough=True)

    def _siblings(self, head: Head, siblings: list[Version]) -> Response:
        rows = [
            {
                "version": version.id,
                "etag": _quoted(version.id),
                "size_bytes": version.size_bytes,
                "sha256": version.sha256,
                "created": iso(version.created),
                "url": f"{request.path}?version={version.id}",
            }
            for version in siblings
        ]
        response = _json({"key": head.key, "siblings": rows}, status=300)
        response.headers["X-Fabric-Context"] = json.dumps(self._objects.seen(head), separators=(",", ":"))
        return response

    def _headers(self, head: Head, version: Version) -> dict[str, str]:
        headers = {
            "Content-Type": version.content_type,
            "ETag": _quoted(version.id),
            "Last-Modified": formatdate(version.created, usegmt=True),
            "Accept-Ranges": "bytes",
            "X-Fabric-SHA256": version.sha256,
            "X-Fabric-Trace": version.id,
            "X-Fabric-Class": head.policy.classification.value,
            "X-Fabric-Criticality": head.policy.criticality.value,
            "X-Fabric-Latency": head.policy.latency.value,
            "X-Fabric-Context": json.dumps(self._objects.seen(head), separators=(",", ":")),
            "X-Fabric-Copies": f"{sum(r.state == 'live' for r in version.replicas)}/{head.copies_asked}",
        }
        headers |= HARMLESS
        return headers | {META + name: value for name, value in version.metadata.items()}

    def _policy(self, key: str) -> ObjectPolicy | None:
        names = ("X-Fabric-Class", "X-Fabric-Criticality", "X-Fabric-Latency")
        if not any(name in request.headers for name in names):
            return None
        base = self._policy_of(key)
        return ObjectPolicy(
            _word("X-Fabric-Class", Classification, base.classification),
            _word("X-Fabric-Criticality", Criticality, base.criticality),
            _word("X-Fabric-Latency", LatencyClass, base.latency),
            base.regions,
            base.merge,
        )

    def _writer(self) -> Caller:
        caller = self._caller()
        if caller.principal.anonymous:
            raise UnauthorisedError("changing objects needs a token", hint="send Authorization: Bearer TOKEN")
        if not caller.principal.may("write"):
            raise ForbiddenError("your role does not change objects", hint="use a token with the role operator")
        return caller

    def _caller(self) -> Caller:
        return Caller(
            self._principal_of(request),
            agent=request.headers.get("User-Agent", "")[:200],
            request_id=request.headers.get("X-Request-ID", "")[:200],
        )


def _body() -> Iterator[bytes]:
    """Yield the request's body as it comes; BadInputError when the client stops before its end."""
    request.max_content_length = None  # objects have no bound; the application's is for documents
    stream = request.stream
    try:
        while piece := stream.read(CHUNK_BYTES):
            yield piece
    except (ClientDisconnected, OSError) as error:
        raise BadInputError("the body ended before its announced length; nothing was kept", hint="send it again") from (
            error
        )


def _sent(pieces: Iterable[Chunk]) -> Iterator[bytes]:
    """Yield the pieces as they are where the server takes memoryviews, else as the bytes that WSGI asks for."""
    if request.environ.get(TAKES_VIEWS):
        return cast(Iterator[bytes], iter(pieces))
    return (piece if isinstance(piece, bytes) else bytes(piece) for piece in pieces)


def _written(result: WriteResult) -> Response:
    if result.outcome is Outcome.UNKNOWN:
        assert result.error is not None
        response = problem_response(result.error.problem())
    else:
        body: dict[str, object] = {
            "version": result.version_id,
            "outcome": result.outcome.value,
            "conflict": result.conflict,
        }
        if result.version is not None:
            body |= {"size_bytes": result.version.size_bytes, "sha256": result.version.sha256}
            body |= {"copies": [replica.place for replica in result.version.replicas if replica.state == "live"]}
            body |= {"copies_owed": [r.place for r in result.version.replicas if r.state == "intended"]}
        if result.warning:
            body["warning"] = result.warning
        response = _json(body, status=201 if result.created else 200)
        response.headers["ETag"] = _quoted(result.version_id)
        if result.version is not None:
            response.headers["X-Fabric-SHA256"] = result.version.sha256
    response.headers["X-Fabric-Trace"] = result.version_id
    response.headers.update(_warning(result))
    return response


def _warning(result: WriteResult) -> dict[str, str]:
    return {"X-Fabric-Warning": result.warning} if result.warning else {}


def _condition() -> Condition:
    return Condition(
        parse_tags(request.headers.get("If-Match", "")), parse_tags(request.headers.get("If-None-Match", ""))
    )


def _unchanged(tag: str, headers: dict[str, str]) -> Response | None:
    """Return 304 where the client has the version; PreconditionError where it insists on another."""
    wanted, had = parse_tags(request.headers.get("If-Match", "")), parse_tags(request.headers.get("If-None-Match", ""))
    if wanted and "*" not in wanted and tag not in wanted:
        raise PreconditionError("the object is another version now", hint="leave out If-Match to read it", current=tag)
    if "*" in had or tag in had:
        kept = ("ETag", "Last-Modified", "X-Fabric-Trace", "X-Fabric-Context")
        return Response(status=304, headers={name: headers[name] for name in kept if name in headers})
    return None


def _range(size_bytes: int, tag: str) -> tuple[int, int] | None:
    header = request.headers.get("Range", "")
    if not header or request.headers.get("If-Range", _quoted(tag)) != _quoted(tag):
        return None
    return parse_range(header, size_bytes)


def _range_headers(part: tuple[int, int] | None, size_bytes: int) -> dict[str, str]:
    if part is None:
        return {"Content-Length": str(size_bytes)}
    start, end = part
    return {"Content-Length": str(end - start), "Content-Range": f"bytes {start}-{end - 1}/{size_bytes}"}


def _metadata() -> dict[str, str]:
    found = {name[len(META) :].lower(): text for name, text in request.headers if name.lower().startswith(META.lower())}
    if sum(len(name) + len(text) for name, text in found.items()) > HEADER_TEXT_MOST:
        raise BadInputError(f"the {META} headers are longer than {HEADER_TEXT_MOST} bytes together")
    return found


def _context(header: str) -> dict[str, int] | None:
    if not header:
        return None
    try:
        found = json.loads(header)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(
        type(counter) is int and 0 <= counter <= COUNTER_MOST for counter in found.values()
    ):
        raise BadInputError("X-Fabric-Context is not what a read returned", hint="send it back as it came")
    return found


def _word(header: str, kind: type[Word], otherwise: Word) -> Word:
    text = request.headers.get(header)
    if text is None:
        return otherwise
    try:
        return kind(text.strip().lower())
    except ValueError:
        raise BadInputError(f"{header} has no such value", given=text, hint=f"one of {', '.join(kind)}") from None


def _whole_number(name: str, otherwise: int, *, most: int) -> int:
    text = request.args.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise BadInputError(f"{name} is a whole number from 1 to {most}", given=text)
    return int(text)


def _row(found: Found) -> dict[str, object]:
    return {
        "key": found.key,
        "size_bytes": found.size_bytes,
        "version": found.version_id,
        "sha256": found.sha256,
        "modified": iso(found.modified),
        "class": found.classification.value,
        "place": found.place,
        "managed": found.managed,
        "siblings": found.siblings,
        "copies": found.copies,
        "copies_asked": found.copies_asked,
    }


def _quoted(tag: str) -> str:
    return f'"{tag}"'


def _json(body: dict[str, object], *, status: int = 200) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status=status, mimetype="application/json")
