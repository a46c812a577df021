"""A store on a cloud that keeps no uploads of its own: what was begun is recorded (see `unfinished.py`) and hidden."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice

from fabric.core.errors import BadInputError, NotFoundError
from fabric.storage.keys import check_key
from fabric.storage.parts import Upload
from fabric.storage.remote import Closing, Options, RemoteStore, Workers
from fabric.storage.store import ObjectInfo, Part
from fabric.storage.sums import NoSums
from fabric.storage.unfinished import Unfinished, hidden, is_id


class RecordedStore(NoSums, RemoteStore):
    """Keeps an upload's record; a driver keeps its parts.

    Args:
        page_most: objects in one page of a listing.
    """

    def __init__(
        self, name: str, clients: Closing, workers: Workers, *, hot: str, page_most: int, options: Options
    ) -> None:
        super().__init__(name, clients, workers, hot=hot, options=options)
        self._page_most = page_most
        self._unfinished = Unfinished(self)

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        page = min(self._page_most, (limit or self._page_most) + 1)
        found = self.everything(prefix, after=after, page=page)
        return islice((info for info in found if not hidden(info.key)), limit)

    @abstractmethod
    def everything(self, prefix: str, *, after: str = "", page: int | None = None) -> Iterator[ObjectInfo]:
        """List the fabric's own records and parts too."""

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._unfinished.all(prefix)

    def _begin(self, upload: Upload) -> str:
        return self._unfinished.begin(upload)

    def _check_id(self, key: str, upload_id: str) -> None:
        """Refuse an id that is none before anything is sent under it."""
        if not is_id(upload_id):
            raise NotFoundError("there is no such upload", store=self.name, key=key)

    def _completing(self, key: str, upload_id: str, parts: tuple[Part, ...]) -> Upload:
        """Return the upload to complete; BadInputError where ``parts`` are not given once each, in order."""
        upload = self._unfinished.get(check_key(key), upload_id)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self.name, key=key)
        return upload
