"""How an object is made in a Google Cloud Storage bucket: in one request, through a session, or of other objects."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fabric.core.errors import FabricError, UnavailableError
from fabric.core.failing import undoing
from fabric.storage.gcs_requests import Requests
from fabric.storage.keys import DEFAULT_TYPE, Condition
from fabric.storage.pieces import even
from fabric.storage.remote import SINGLE_MOST_BYTES, Outgoing
from fabric.storage.store import Part

COMPOSE_MOST = 32  # objects that one request makes one

Resource = dict[str, Any]  # what the server says, or is told, of one object


class Writes:
    """Makes objects in one bucket; a resource that is written names the object, ``prefix`` included."""

    def __init__(self, requests: Requests, prefix: str) -> None:
        self._requests = requests
        self._prefix = prefix

    def single(self, resource: Resource, data: bytes, condition: Condition) -> Resource:
        """Send a resource and its bytes in one request."""
        mark = secrets.token_hex(16)
        head = f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
        kind = f"--{mark}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        body = b"".join((head.encode(), kind.encode(), data, f"\r\n--{mark}--\r\n".encode()))
        return self._requests.json(
            "put",
            self._key_of(resource),
            "POST",
            self._requests.clients.objects(upload=True),
            query={"uploadType": "multipart", **said_of(condition)},
            headers={"Content-Type": f"multipart/related; boundary={mark}"},
            body=body,
            conditional=bool(condition),
        )

    def stream(self, resource: Resource, outgoing: Outgoing, condition: Condition) -> Resource:
        """Send pieces through a session, in order; whatever goes wrong before the end, the session is given up."""
        key, sent = self._key_of(resource), 0
        session = self._session(key, resource, condition)
        with undoing(lambda: self._give_up(key, session)):
            for piece, last in even(outgoing.first, outgoing.rest, SINGLE_MOST_BYTES):
                outgoing.room.grow(sent + len(piece))
                if last:
                    break
                self._send_piece(key, session, piece, sent)
                sent += len(piece)
            return self._send_last(key, session, piece, sent, condition)

    def _session(self, key: str, resource: Resource, condition: Condition) -> str:
        answer = self._requests.ask(
            "put",
            key,
            "POST",
            self._requests.clients.objects(upload=True),
            query={"uploadType": "resumable", **said_of(condition)},
            headers={"Content-Type": "application/json; charset=UTF-8"},
            body=json.dumps(resource).encode(),
        )
        return str(answer.headers["Location"])

    def _send_piece(self, key: str, session: str, piece: bytes, start: int) -> None:
        """Send one piece that is not the last; the server says how much of it came to rest."""
        kept = start
        while kept < start + len(piece):
            data = piece[kept - start :]
            headers = {"Content-Range": f"bytes {kept}-{kept + len(data) - 1}/*"}
            answer = self._requests.ask("put", key, "PUT", session, headers=headers, body=data, good=(308,))
            before, kept = kept, int(answer.headers.get("Range", "bytes=0--1").rpartition("-")[2]) + 1
            if kept <= before:
                raise UnavailableError("the server keeps nothing of what is sent", store=self._requests.name, key=key)

    def _send_last(self, key: str, session: str, piece: bytes, start: int, condition: Condition) -> Resource:
        size, conditional = start + len(piece), bool(condition)
        headers = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
        return self._requests.json("put", key, "PUT", session, headers=headers, body=piece, conditional=conditional)

    def _give_up(self, key: str, session: str) -> None:
        failure = sys.exception()
        try:
            self._requests.ask("put", key, "DELETE", session, good=(204, 404, 410, 499))
        except FabricError as second:
            if failure is None:
                raise
            failure.add_note(f"the upload's session ends by itself within a week: {second}")

    def compose(self, resource: Resource, folder: str, parts: Sequence[Part], condition: Condition) -> Resource:
        """Make the parts in ``folder`` one, `COMPOSE_MOST` at a time; only the last request touches the key."""
        base = self._prefix + folder
        sources = [{"name": f"{base}{part.number:05d}", "generation": part.tag} for part in parts]
        level = 0
        while len(sources) > COMPOSE_MOST:
            level += 1
            groups = [sources[at : at + COMPOSE_MOST] for at in range(0, len(sources), COMPOSE_MOST)]
            sources = [
                {"name": f"{base}c{level}-{number:05d}", "generation": self._join(base, level, number, group)}
                for number, group in enumerate(groups)
            ]
        return self._make_one(resource, sources, condition)

    def _join(self, base: str, level: int, number: int, sources: Sequence[dict[str, str]]) -> str:
        resource = {"name": f"{base}c{level}-{number:05d}", "storageClass": "STANDARD", "contentType": DEFAULT_TYPE}
        return str(self._make_one(resource, sources, Condition())["generation"])

    def _make_one(self, resource: Resource, sources: Sequence[dict[str, str]], condition: Condition) -> Resource:
        destination = {field: value for field, value in resource.items() if field != "name"}
        return self._requests.json(
            "put",
            self._key_of(resource),
            "POST",
            f"{self._requests.clients.objects(resource['name'])}/compose",
            query=said_of(condition),
            headers={"Content-Type": "application/json"},
            body=json.dumps({"sourceObjects": sources, "destination": destination}).encode(),
            conditional=True,
        )

    def rewrite(
        self,
        act: str,
        source: str,
        resource: Resource,
        query: dict[str, str],
        brought: Callable[[int], None] | None = None,
    ) -> Resource:
        """Have the server copy the object at the address ``source``; a large one takes several requests.

        Nothing of it is there before the last of them; what was begun and is not gone on with is dropped by the server.
        """
        to = self._requests.clients.objects(resource["name"]).rpartition("/storage/v1")[2]
        said = {field: value for field, value in resource.items() if field != "name"}
        token: dict[str, str] = {}
        while True:
            answer = self._requests.json(
                act,
                self._key_of(resource),
                "POST",
                f"{source}/rewriteTo{to}",
                query=query | token,
                headers={"Content-Type": "application/json"},
                body=json.dumps(said).encode(),
                conditional=True,
            )
            if brought is not None:
                brought(int(answer.get("totalBytesRewritten", 0)))
            if answer.get("done"):
                return dict(answer["resource"])
            token = {"rewriteToken": answer["rewriteToken"]}

    def _key_of(self, resource: Resource) -> str:
        return str(resource["name"])[len(self._prefix) :]


def said_of(condition: Condition) -> dict[str, str]:
    """Return the query that states a condition."""
    if condition.only_if_absent:
        return {"ifGenerationMatch": "0"}
    return {} if condition.only_if_tag is None else {"ifGenerationMatch": condition.only_if_tag}
