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
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Unpack

from msgspec.structs import replace

from fabric.core.errors import (
    BadInputError,
    ConflictError,
    FabricError,
    ForbiddenError,
    NotFoundError,
    PreconditionError,
)
from fabric.storage.azure_between import BlobCopy, end_copy, is_under_way
from fabric.storage.azure_clients import AzureClients, AzureTarget
from fabric.storage.azure_errors import translated
from fabric.storage.between import Carried
from fabric.storage.keys import (
    DEFAULT_TYPE,
    Condition,
    OpenReading,
    check_class,
    check_key,
    check_part_number,
    check_tag,
    nothing_to_close,
)
from fabric.storage.obstore_reading import bare_tag, read
from fabric.storage.parts import Upload
from fabric.storage.recorded import RecordedStore
from fabric.storage.remote import Options, Outgoing, Workers
from fabric.storage.sending import UPLOAD_THREADS, Sending, send_parts
from fabric.storage.store import ObjectInfo, Part, Store

logger = logging.getLogger(__name__)

PAGE_MOST = 5000
LEASE_SECONDS = 15  # the shortest there is; it ends by itself when this process dies
TIERS_KEPT = 10_000  # last known tiers of objects, for reads, whose answer does not tell

_TIER = {"hot": "Hot", "cool": "Cool", "cold": "Cold", "archive": "Archive"}
_UNFIT = re.compile(r"[^A-Za-z0-9_]|^[0-9]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class AzureStore(RecordedStore):
    """Keeps the promises of `Store` on a container; its classes are the access tiers hot, cool, cold and archive."""

    def __init__(self, name: str, target: AzureTarget, **options: Unpack[Options]) -> None:
        self._target = target
        self._clients = AzureClients(target)
        workers = Workers(f"azure-{name}", UPLOAD_THREADS)
        super().__init__(name, self._clients, workers, hot="hot", page_most=PAGE_MOST, options=options)
        self._lock = threading.Lock()
        self._tiers: OrderedDict[str, str] = OrderedDict()

    # --- reading

    def _open(self, key: str, start: int, end: int | None, tag: str | None) -> AbstractContextManager[OpenReading]:
        try:
            return nothing_to_close(self._read(key, start, end, tag))
        except PreconditionError:
            self.head(key)  # the service says the same of an object that is not there
            raise

    def _read(self, key: str, start: int, end: int | None, tag: str | None) -> OpenReading:
        return read(
            self._clients,
            self._prefix + key,
            start=start,
            end=end,
            tag=tag,
            info=partial(self._info_of_stream, key),
            translated=partial(self._translated, "open", key),
        )

    def _info_of_stream(self, key: str, result: Any) -> ObjectInfo:
        notes = dict(result.attributes)
        return ObjectInfo(
            key,
            result.meta["size"],
            bare_tag(result.meta["e_tag"]),
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
            bare_tag(found.etag),
            found.last_modified.timestamp(),
            self._class_of(found.blob_tier),
            None if accessed is None else accessed.timestamp(),
            {_plain(name): value for name, value in (found.metadata or {}).items()},
            found.content_settings.content_type or DEFAULT_TYPE,
        )

    def everything(self, prefix: str, *, after: str = "", page: int | None = None) -> Iterator[ObjectInfo]:
        """List the fabric's own records too. A server that cannot start in the middle is listed from its beginning."""
        options = {"start_from": self._prefix + after} if after else {}
        with self._translated("list", prefix):
            for found in self._clients.container.list_blobs(
                name_starts_with=self._prefix + prefix,
                include=["metadata"],
                results_per_page=page or PAGE_MOST,
                **options,
            ):
                key = found.name[len(self._prefix) :]
                folder = key.endswith("/") or (found.metadata or {}).get("hdi_isfolder") == "true"
                if not folder and key.encode() > after.encode():
                    yield self._info(key, found)

    # --- writing

    def _writable(self, key: str) -> str:
        """Return ``key`` if the service keeps it as it is: it turns a backslash into a slash, which is another key."""
        if "\\" in check_key(key):
            raise BadInputError("Azure keeps no backslash in a key", hint="use / between segments", key=key)
        return key

    def _send(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> ObjectInfo:
        """Send one request where the object is small, blocks where it is not."""
        if not outgoing.is_small:
            self._check_before(upload.key, condition)
            return self._send_blocks(upload, outgoing, condition)
        with self._translated("put", upload.key, conditional=bool(condition)):
            data, options = bytes(outgoing.first), self._said(upload) | _said_of(condition)
            answer = self._blob(upload.key).upload_blob(data, overwrite=True, **options)
        return self._answered(upload, len(data), answer)

    def _send_blocks(self, upload: Upload, outgoing: Outgoing, condition: Condition) -> ObjectInfo:
        upload_id = self._unfinished.begin(upload)
        sending = Sending(
            upload_id,
            put=lambda number, block: self._stage(upload.key, upload_id, number, bytes(block)),
            complete=lambda parts: self._commit(upload, parts, condition),
            abort=lambda: self.abort(upload.key, upload_id),
        )
        size, answer = send_parts(outgoing, self._workers, sending)
        self._unfinished.over(upload.key, upload_id)
        return self._answered(upload, size, answer)

    def _answered(self, upload: Upload, size_bytes: int, answer: Any) -> ObjectInfo:
        info = ObjectInfo(
            upload.key,
            size_bytes,
            bare_tag(answer["etag"]),
            answer["last_modified"].timestamp(),
            upload.storage_class,
            None,
            upload.metadata,
            upload.content_type or DEFAULT_TYPE,
        )
        return self._noted(info)

    def delete(self, key: str, *, tag: str | None = None) -> None:
        check_key(key)
        try:
            try:
                self._delete(key, tag)
            except PreconditionError:
                left = end_copy(self._blob(key), partial(self._translated, "delete", key))
                if not left:
                    raise
                self._delete(key, left)
        except NotFoundError as error:
            if "container" in error.message:
                raise

    def _delete(self, key: str, tag: str | None) -> None:
        with self._translated("delete", key):
            self._blob(key).delete_blob(**_said_of(Condition(only_if_tag=tag)))

    def set_class(self, key: str, storage_class: str, *, tag: str | None = None) -> ObjectInfo:
        """Change the tier under a short lease: the service takes no condition here, and a lease keeps writers out."""
        check_class(self.name, self.classes, storage_class)
        before = self.head(key)
        check_tag(self.name, key, tag, before.tag)
        if before.storage_class == storage_class:
            return before
        self._refuse_archived(before)
        with self._translated("set_class", key, conditional=True):
            blob = self._blob(key)
            lease = blob.acquire_lease(LEASE_SECONDS, **_said_of(Condition(only_if_tag=before.tag)))
            try:
                blob.set_standard_blob_tier(self._tier(storage_class), lease=lease)
            finally:
                self._let_go(key, lease)
        return self.head(key)

    def _refuse_archived(self, info: ObjectInfo) -> None:
        if info.storage_class == "archive":
            hint = "rehydrate it first (az storage blob set-tier), which takes hours, or choose another replica"
            raise ConflictError("the object is archived", hint=hint, store=self.name, key=info.key)

    def _let_go(self, key: str, lease: Any) -> None:
        try:
            with self._translated("set_class", key):
                lease.release()
        except FabricError as error:
            extra = {"store": self.name, "key": key, "why": str(error), "seconds": LEASE_SECONDS}
            logger.warning("a lease ends by itself only", extra=extra)

    # --- copies inside the service

    def shares_server(self, other: Store) -> bool:
        return isinstance(other, AzureStore) and other is not self and self._target.server == other._target.server

    def carried(self, key: str, tag: str) -> Carried:
        info = self.head(key)
        check_tag(self.name, key, tag, info.tag)
        self._refuse_archived(info)
        return Carried(info, self._blob(key).url, {})

    def is_under_way(self, to: str) -> bool:
        try:
            return is_under_way(self._properties(check_key(to)))
        except NotFoundError:
            return False

    def put_copy(self, source: Carried, to: str, storage_class: str, brought: Callable[[int], None]) -> ObjectInfo:
        wanted, size = check_class(self.name, self.classes, storage_class), source.info.size_bytes
        copying = BlobCopy(self._blob(self._writable(to)), partial(self._translated, "put", to), brought)
        with self._room.reserved() as room:
            room.grow(size)
            tag, modified = copying.run(source, self._tier(wanted) if wanted in _TIER else None)
            room.used(size)
        return self._noted(replace(source.info, key=to, tag=tag, modified=modified, storage_class=wanted))

    # --- uploads

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | memoryview) -> Part:
        """Stage a block, then see whether the upload is still known: a block of a forgotten one is no part."""
        self._check_id(key, upload_id)
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
        upload = self._completing(key, upload_id, parts)
        with self._room.reserved() as room:
            room.grow(size := sum(part.size_bytes for part in parts))
            answer = self._commit(upload, parts, Condition(only_if_absent))
            room.used(size)
        self._unfinished.over(key, upload_id)
        return self._answered(upload, size, answer)

    def _commit(self, upload: Upload, parts: tuple[Part, ...], condition: Condition) -> Any:
        from azure.storage.blob import BlobBlock

        said = [BlobBlock(part.tag) for part in parts]
        try:
            with self._translated("put", upload.key, conditional=True):
                return self._blob(upload.key).commit_block_list(said, **self._said(upload), **_said_of(condition))
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
                made = self._blob(key).commit_block_list([], **_said_of(Condition(only_if_absent=True)))
            self.delete(key, tag=bare_tag(made["etag"]))
        except (PreconditionError, ForbiddenError):
            logger.info("blocks wait for the service's own end", extra={"store": self.name, "key": key})

    # --- the rest

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


def _said_of(condition: Condition) -> dict[str, Any]:
    from azure.core import MatchConditions

    if condition.only_if_absent:
        return {"match_condition": MatchConditions.IfMissing}
    if condition.only_if_tag is None:
        return {}
    return {"etag": f'"{condition.only_if_tag}"', "match_condition": MatchConditions.IfNotModified}


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
