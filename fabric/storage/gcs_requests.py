"""One request to a Google Cloud Storage bucket, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fabric.storage.gcs_clients import GcsClients, GcsTarget
from fabric.storage.gcs_errors import answer_error, said, translated


class Requests:
    """Asks the server in a store's name; safe from many threads."""

    def __init__(self, name: str, target: GcsTarget) -> None:
        self.name = name
        self.clients = GcsClients(target)
        self._target = target

    def json(self, act: str, key: str, method: str, url: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask(act, key, method, url, **options).data)
        return found

    def ask(
        self,
        act: str,
        key: str,
        method: str,
        url: str,
        *,
        conditional: bool = False,
        good: tuple[int, ...] = (200, 204, 206),
        **options: Any,
    ) -> Any:
        """Send one request; return its answer, or raise what an answer outside ``good`` means."""
        with translated(store=self.name, endpoint=self._target.base, conditional=conditional):
            answer = self.clients.send(method, url, **options)
            if answer.status in good:
                return answer
            found = said(answer)
            answer.close()  # a server may end the connection after a refusal, and the next request must not meet that
        raise answer_error(
            found, store=self.name, bucket=self._target.bucket, key=key, act=act, conditional=conditional
        )

    def pieces(self, answer: Any, size_bytes: int) -> Iterator[bytes]:
        """Yield the bytes of a streamed answer, as they lie on the server."""
        with translated(store=self.name, endpoint=self._target.base):
            yield from answer.stream(size_bytes, decode_content=False)

    def close(self) -> None:
        self.clients.close()
