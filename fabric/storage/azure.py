"""A store that is an Azure container, or the keys below a prefix of one.

Reads go through obstore in one request each, everything else through the provider's own client. An object of at most
`SINGLE_MOST_BYTES` is one conditional request; a larger one is staged as blocks whose commit carries the condition. A
tag is the blob's ETag without its quotes; a change of tier does not change it.

Azure knows uncommitted blocks, but no uploads: each upload has a record (see `unfinished.py`), and its blocks carry its
id in their names. Whatever else is written under the same key discards them, and the commit is then refused.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from fabric.core.clock import Clock, SystemClock
from fabric.core.errors import (
    BadInputError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
    RangeError,
)
from fabric.core.failing import undoing
from fabric.storage.azure_clients import AzureClients, AzureTarget
from fabric.storage.azure_errors import translated
from fabric.storage.keys import (
    OpenReading,
    check_class,
    check_key,
    check_metadata,
    check_part_number,
    check_tag,
    nothing_to_close,
    span,
)
from fabric.storage.parts import Upload
from fabric.storage.pieces import blocks
from fabric.storage.pieces import parts as cut
from fabric.storage.room import Reservation, Room
from fabric.storage.store import CHUNK_BYTES, Capabilities, ObjectInfo, Part
from fabric.storage.sums import NoSums
from fabric.storage.unfinished import Unfinished, hidden, is_id

if TYPE_CHECKING:
    from obstore import GetOptions

logger = logging.getLogger(__name__)

SINGLE_MOST_BYTES = 8 << 20
PARTS_IN_FLIGHT = 2  # per writer; memory is (this + 1) parts
UPLOAD_THREADS = 16
PAGE_MOST = 5000
LEASE_SECONDS = 15  # the shortest there is; it ends by itself when this process dies
TIERS_KEPT = 10_000  # last known tiers of objects, for reads, whose answer does not tell
DEFAULT_TYPE = "application/octet-stream"

_TIER = {"hot": "Hot", "cool": "Cool", "cold": "Cold", "archive": "Archive"}
_UNFIT = re.compile(r"[^A-Za-z0-9_]|^[0-9]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class AzureStore(NoSums):
    """Keeps the promises of `Store` on a container.

    Args:
        prefix: keys lie below ``prefix/``; "" means the whole container.
        classes: access tiers in small letters, hot one first: hot, cool, cold, archive.
        capacity_bytes: refuse writes beyond this many bytes (counted by one listing); None: no bound, no count.
    """

    def __init__(
        self,
        name: str,
        target: AzureTarget,
        *,
        prefix: str = "",
        classes: tuple[str, ...] = ("hot",),
        capacity_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.capabilities = Capabilities(class_change=len(classes) > 1)
        self._target = target
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._clients = AzureClients(target)
        self._room = Room(self, capacity_bytes)
        self._unfinished = Unfinished(self)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._senders: ThreadPoolExecutor | None = None
        self._tiers: OrderedDict[str, str] = OrderedDict()

    # --- reading

    def open(
        self, key: str, *, start: int = 0, end: int | None = None, tag: str | None = None
    ) -> AbstractContextManager[OpenReading]:
        check_key(key)
        if start < 0 or (end is not None and end <= start):
            return self._nothing(key, start, end, tag)
        try:
            return nothing_to_close(self._open(key, start, end, tag))
        except RangeError:
            return self._nothing(key, start, end, tag)
        except PreconditionError:
            self.head(key)  # the service says the same of an object that is not there
            raise

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> OpenReading:
        import obstore

        options: GetOptions = {} if tag is None else {"if_match": f'"{tag}"'}
        if start or end is not None:
            options["range"] = {"offset": start} if end is None else (start, end)
        with self._translated("open", key):
            result = obstore.get(self._clients.reads, self._prefix + key, options=options)
            info = self._info_of_stream(key, result)
            return OpenReading(info, self._pieces(key, result.stream(min_chunk_size=CHUNK_BYTES)))

    def _pieces(self, key: str, stream: Iterable[bytes]) -> Iterator[memoryview]:
        with self._translated("open", key):
            for piece in stream:
                view = memoryview(piece)
                for position in range(0, len(view), 2 * CHUNK_BYTES):
                    yield view[position : position + 2 * CHUNK_BYTES]

    def _nothing(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        """Give an empty read where that is what was asked for; RangeError where it was not."""
        info = self.head(key)
        check_tag(self.name, key, tag, info.tag)
        first, last = span(info.size_bytes, start, end, key=key)
        assert first == last, "the server refused a range inside the object"
        return nothing_to_close(OpenReading(info, ()))

    def _info_of_stream(self, key: str, result: Any) -> ObjectInfo:
        notes = dict(result.attributes)
        return ObjectInfo(
            key,
            result.meta["size"],
            _tag(result.meta["e_tag"]),
            result.meta["last_modified"].timestamp(),
            self._known_class(key),
            None,
            {_plain(name): value for name, value in notes.items() if name == name.lower()},
            notes.get("Content-Type") or DEFAULT_TYPE,
        )

    def _known_class(self, key: str) -> str:
        """Return the object's class as last seen; ask where it was not, since the answer to a read does not tell."""
        if len(self.classes) == 1:
            return self.classes[0]
        with self._lock:
            known = self._tiers.get(key)
        return known or self.head(key).storage_class

    def _noted(self, info: ObjectInfo) -> ObjectInfo:
        with self._lock:
            self._tiers[info.key] = info.storage_class
            self._tiers.move_to_end(info.key)
            if len(self._tiers) > TIERS_KEPT:
                self._tiers.popitem(last=False)
        return info

    def head(self, key: str) -> ObjectInfo:
        return self._noted(self._info(check_key(key), self._properties(key)))

    def _properties(self, key: str) -> Any:
        with self._translated("head", key):
            return self._blob(key).get_blob_properties()

    def _info(self, key: str, found: Any) -> ObjectInfo:
        accessed = found.last_accessed_on
        return ObjectInfo(
            key,
            found.size,
            _tag(found.etag),
            found.last_modified.timestamp(),
            self._class_of(found.blob_tier),
            None if accessed is None else accessed.timestamp(),
            {_plain(name): value for name, value in (found.metadata or {}).items()},
            found.content_settings.content_type or DEFAULT_TYPE,
        )

    def list(self, prefix: str = "", *, after: str = "", limit: int | None = None) -> Iterator[ObjectInfo]:
        left = limit
        if left == 0:
            return
        for info in self.everything(prefix, after=after, page=min(PAGE_MOST, (left or PAGE_MOST) + 1)):
            if not hidden(info.key):
                yield info
                left = None if left is None else left - 1
                if left == 0:
                    return

    def everything(self, prefix: str, *, after: str = "", page: int = PAGE_MOST) -> Iterator[ObjectInfo]:
        """List the fabric's own records too. A server that cannot start in the middle is listed from its beginning."""
        options = {"start_from": self._prefix + after} if after else {}
        with self._translated("list", prefix):
            for found in self._clients.container.list_blobs(
                name_starts_with=self._prefix + prefix, include=["metadata"], results_per_page=page, **options
            ):
                key = found.name[len(self._prefix) :]
                folder = key.endswith("/") or (found.metadata or {}).get("hdi_isfolder") == "true"
                if not folder and key.encode() > after.encode():
                    yield self._info(key, found)

    # --- writing

    def put(
        self,
        key: str,
        chunks: Iterable[bytes | memoryview],
        *,
        only_if_absent: bool = False,
        only_if_tag: str | None = None,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> ObjectInfo:
        wanted = check_class(self.name, self.classes, storage_class)
        upload = Upload(_writable(key), wanted, check_metadata(metadata), content_type)
        condition = _condition(only_if_absent, only_if_tag)
        source = blocks(chunks, SINGLE_MOST_BYTES)
        with self._room.reserved() as room:
            room.grow(len(first := next(source)))
            size, answer = self._send(upload, first, source, room, condition)
            room.used(size)
        return self._answered(upload, size, answer)

    def _answered(self, upload: Upload, size_bytes: int, answer: Any) -> ObjectInfo:
        info = ObjectInfo(
            upload.key,
            size_bytes,
            _tag(answer["etag"]),
            answer["last_modified"].timestamp(),
            upload.storage_class,
            None,
            upload.metadata,
            upload.content_type or DEFAULT_TYPE,
        )
        return self._noted(info)

    def _send(
        self,
        upload: Upload,
        first: bytearray,
        rest: Iterator[bytearray],
        room: Reservation,
        condition: dict[str, Any],
    ) -> tuple[int, Any]:
        """Send one request where the object is small, blocks where it is not; return its size and the answer."""
        if len(first) < SINGLE_MOST_BYTES:
            with self._translated("put", upload.key, conditional=bool(condition)):
                blob = self._blob(upload.key)
                return len(first), blob.upload_blob(bytes(first), overwrite=True, **self._said(upload), **condition)
        self._check_before(upload.key, condition)
        upload_id = self._unfinished.begin(upload)
        return self._put_parts(upload, upload_id, first, rest, room, condition)

    def _check_before(self, key: str, condition: dict[str, Any]) -> None:
        """Refuse at once what would be refused after the bytes were sent; the answer that counts comes later."""
        if not condition:
            return
        try:
            found = f'"{self.head(key).tag}"'
        except NotFoundError:
            found = ""
        if found != condition.get("etag", ""):
            raise PreconditionError("the object exists already or was changed", store=self.name, key=key)

    def _put_parts(
        self,
        upload: Upload,
        upload_id: str,
        first: bytearray,
        rest: Iterator[bytearray],
        room: Reservation,
        condition: dict[str, Any],
    ) -> tuple[int, Any]:
        """Send blocks, a few at a time; whatever goes wrong before the end, the upload is forgotten."""
        waiting: deque[Future[Part]] = deque()
        parts: list[Part] = []
        size = 0
        with undoing(lambda: self._forget(upload.key, upload_id, waiting)):
            for number, block in enumerate(cut(first, rest), 1):
                size += len(block)
                room.grow(size)
                waiting.append(self._sender().submit(self._stage, upload.key, upload_id, number, bytes(block)))
                if len(waiting) >= PARTS_IN_FLIGHT:
                    parts.append(waiting.popleft().result())
            parts += [future.result() for future in waiting]
            answer = self._commit(upload, tuple(parts), condition)
        self._unfinished.over(upload.key, upload_id)
        return size, answer

    def _forget(self, key: str, upload_id: str, waiting: Iterable[Future[Part]]) -> None:
        """Abort an upload once nothing is sent to it any more; say so in the failure under way where that fails."""
        failure = sys.exception()
        for future in waiting:
            future.exception()
        try:
            self.abort(key, upload_id)
        except FabricError as second:
            if failure is None:
                raise
            failure.add_note(f"the unfinished upload {upload_id} is left behind: {second}")

    def delete(self, key: str, *, tag: str | None = None) -> None:
        check_key(key)
        try:
            with self._translated("delete", key):
                self._blob(key).delete_blob(**_condition(False, tag))
        except NotFoundError as error:
            if "container" in error.message:
                raise

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        """Change the tier under a short lease: the service takes no condition here, and a lease keeps writers out."""
        check_class(self.name, self.classes, storage_class)
        before = self.head(key)
        check_tag(self.name, key, tag, before.tag)
        if before.storage_class == storage_class:
            return before
        if before.storage_class == "archive":
            hint = "rehydrate it first (az storage blob set-tier), which takes hours, or choose another replica"
            raise ConflictError("the object is archived", hint=hint, store=self.name, key=key)
        with self._translated("set_class", key, conditional=True):
            blob = self._blob(key)
            lease = blob.acquire_lease(LEASE_SECONDS, **_condition(False, before.tag))
            try:
                blob.set_standard_blob_tier(self._tier(storage_class), lease=lease)
            finally:
                self._let_go(key, lease)
        return self.head(key)

    def _let_go(self, key: str, lease: Any) -> None:
        try:
            with self._translated("set_class", key):
                lease.release()
        except FabricError as error:
            extra = {"store": self.name, "key": key, "why": str(error), "seconds": LEASE_SECONDS}
            logger.warning("a lease ends by itself only", extra=extra)

    # --- uploads

    def begin(
        self,
        key: str,
        *,
        storage_class: str | None = None,
        metadata: dict[str, str] | None = None,
        content_type: str | None = None,
    ) -> str:
        wanted = check_class(self.name, self.classes, storage_class)
        return self._unfinished.begin(Upload(_writable(key), wanted, check_metadata(metadata), content_type))

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Stage a block, then see whether the upload is still known: a block of a forgotten one is no part."""
        if not is_id(upload_id):
            raise NotFoundError("there is no such upload", store=self.name, key=key)
        part = self._stage(check_key(key), upload_id, check_part_number(number), bytes(data))
        self._unfinished.check(key, upload_id)
        return part

    def _stage(self, key: str, upload_id: str, number: int, data: bytes) -> Part:
        block = f"{upload_id}{number:05d}{int(self._clock.now() * 1e6):016x}"  # the latest of a number counts
        with self._translated("put", key):
            self._blob(key).stage_block(block, data, length=len(data))
        return Part(number, len(data), block)

    def list_parts(self, key: str, upload_id: str) -> tuple[Part, ...]:
        self._unfinished.get(check_key(key), upload_id)
        committed, staged = self._blocks_of(key, upload_id)
        if committed and not staged:  # it was completed, and who did that died before its record was removed
            self._unfinished.over(key, upload_id)
            raise NotFoundError("there is no such upload", store=self.name, key=key)
        return _latest(staged)

    def _blocks_of(self, key: str, upload_id: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Return the upload's blocks of ``key``: those of the object, and those that wait."""
        try:
            with self._translated("parts", key):
                found = self._blob(key).get_block_list("all")
        except NotFoundError:
            return (), ()
        return _of(upload_id, found[0]), _of(upload_id, found[1])

    def complete(
        self, key: str, upload_id: str, parts: tuple[Part, ...], *, only_if_absent: bool = False
    ) -> ObjectInfo:
        upload = self._unfinished.get(check_key(key), upload_id)
        if not parts or [part.number for part in parts] != sorted({part.number for part in parts}):
            raise BadInputError("parts are given once each, in order", store=self.name, key=key)
        with self._room.reserved() as room:
            room.grow(size := sum(part.size_bytes for part in parts))
            answer = self._commit(upload, parts, _condition(only_if_absent, None))
            room.used(size)
        self._unfinished.over(key, upload_id)
        return self._answered(upload, size, answer)

    def _commit(self, upload: Upload, parts: tuple[Part, ...], condition: dict[str, Any]) -> Any:
        from azure.storage.blob import BlobBlock

        said = [BlobBlock(part.tag) for part in parts]
        try:
            with self._translated("put", upload.key, conditional=True):
                return self._blob(upload.key).commit_block_list(said, **self._said(upload), **condition)
        except BadInputError as error:  # blocks are gone: another write of the key discards them
            self._check_before(upload.key, condition)
            hint = "begin again; two writers of one key discard each other's blocks"
            raise ConflictError("the upload's parts are gone", hint=hint, store=self.name, key=upload.key) from error

    def abort(self, key: str, upload_id: str) -> None:
        check_key(key)
        if self._blocks_of(key, upload_id)[1]:
            self._discard(key)
        self._unfinished.forget(upload_id)

    def _discard(self, key: str) -> None:
        """Free the blocks that wait under ``key``.

        The service drops them when an object is written there, so an empty one is made and removed at once. Where an
        object stands, or nothing may be deleted, that is not done: the service drops the blocks after a week.
        """
        try:
            with suppress(PreconditionError):
                self.delete(key, tag="0x0")  # removes nothing: it tells whether what is made below could be removed
            with self._translated("put", key):
                made = self._blob(key).commit_block_list([], **_condition(True, None))
            self.delete(key, tag=_tag(made["etag"]))
        except (PreconditionError, ForbiddenError):
            logger.info("blocks wait for the service's own end", extra={"store": self.name, "key": key})

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        return self._unfinished.all(prefix)

    # --- the rest

    def usage(self) -> tuple[int, int | None]:
        """Return (bytes, capacity); a container without a declared capacity keeps no cheap count and says 0."""
        if self._room.capacity_bytes is None:
            return 0, None
        return self._room.used(), self._room.capacity_bytes

    def close(self) -> None:
        with self._lock:
            if self._senders is not None:
                self._senders.shutdown(wait=True)
                self._senders = None
        self._clients.close()

    def _sender(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._senders is None:
                self._senders = ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix=f"azure-{self.name}")
            return self._senders

    def _blob(self, key: str) -> Any:
        return self._clients.container.get_blob_client(self._prefix + key)

    def _said(self, upload: Upload) -> dict[str, Any]:
        """Return what is written beside the bytes."""
        from azure.storage.blob import ContentSettings

        said: dict[str, Any] = {
            "metadata": {_fitting(name): value for name, value in upload.metadata.items()},
            "content_settings": ContentSettings(content_type=upload.content_type or DEFAULT_TYPE),
        }
        if upload.storage_class in _TIER:
            said["standard_blob_tier"] = self._tier(upload.storage_class)
        return said

    def _tier(self, storage_class: str) -> Any:
        from azure.storage.blob import StandardBlobTier

        return StandardBlobTier(_TIER.get(storage_class, storage_class.capitalize()))

    def _class_of(self, tier: str | None) -> str:
        """Return our word for a tier; what is not declared is shown as it is, the usual one as the hot class."""
        word = str(getattr(tier, "value", tier)).lower() if tier else ""
        usual = word in ("", "hot") and word not in self.classes
        return self.classes[0] if usual else word

    def _translated(self, act: str, key: str, *, conditional: bool = False) -> AbstractContextManager[None]:
        return translated(
            store=self.name,
            container=self._clients.container_name,
            endpoint=self._clients.address,
            key=key,
            act=act,
            conditional=conditional,
        )


def _writable(key: str) -> str:
    """Return ``key`` if the service keeps it as it is: it turns a backslash into a slash, which is another key."""
    if "\\" in check_key(key):
        raise BadInputError("Azure keeps no backslash in a key", hint="use / between segments", key=key)
    return key


def _tag(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _condition(only_if_absent: bool, only_if_tag: str | None) -> dict[str, Any]:
    from azure.core import MatchConditions

    if only_if_absent:
        return {"match_condition": MatchConditions.IfMissing}
    if only_if_tag is None:
        return {}
    return {"etag": f'"{only_if_tag}"', "match_condition": MatchConditions.IfNotModified}


def _of(upload_id: str, found: Iterable[Any]) -> tuple[Part, ...]:
    """Return an upload's blocks; their names hold its id, their number and when they were sent."""
    return tuple(Part(int(b.id[16:21]), b.size, b.id) for b in found if b.id.startswith(upload_id))


def _latest(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return the last sent part of each number, in order."""
    return tuple({part.number: part for part in sorted(parts, key=lambda part: (part.number, part.tag))}.values())


def _fitting(name: str) -> str:
    """Return a metadata name as the service allows it: what is no letter, digit or _ as ``_x002D_``."""
    return _UNFIT.sub(lambda found: f"_x{ord(found[0]):04X}_", name)


def _plain(name: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name).lower()
