"""Root key -> class keys -> object keys -> data keys: what opens what, and where it lies.

A *class key* (one per classification) is wrapped by the root key, an *object key* by its class key; both lie in the
*key table*. A *data key* encrypts one version and lies in that version's header, wrapped by the object key. So the
root key is changed by rewrapping a handful of class keys, and destroying one object key makes every replica of
every version unreadable without touching a store. Each level exists twice: once for the first custodian and once
for the second, whose keys only MILITARY asks for.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fabric.core.clock import Clock
from fabric.core.errors import ConfigError, CorruptError, NotFoundError
from fabric.core.ids import new_id
from fabric.core.words import Classification
from fabric.security.commit import GroupCommit
from fabric.security.keyfile import ClassRecord, KeyFiles, ObjectRecord, Record, ShredRecord, TableRecord
from fabric.security.roots import KEY_BYTES, RootKey

logger = logging.getLogger(__name__)

FORMAT = 1
NONCE_BYTES = 12
WRAP_BYTES = NONCE_BYTES + 16  # what wrapping adds


def wrap(outer: bytes, inner: bytes, context: str) -> bytes:
    """Return ``inner`` encrypted under ``outer``: nonce, ciphertext, tag (Tink's AES-GCM, output prefix RAW)."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(outer).encrypt(nonce, inner, context.encode())


def unwrap(outer: bytes, wrapped: bytes, context: str) -> bytes:
    """Undo `wrap`; CorruptError where key, bytes and context do not belong together."""
    try:
        return AESGCM(outer).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], context.encode())
    except (InvalidTag, ValueError) as error:
        raise CorruptError("a wrapped key cannot be opened", context=context, hint="restore the key table") from error


class KeyTable:
    """The object keys, in memory and in a file that is kept the same in every one of ``folders``.

    A key is in every folder, flushed, before anything is encrypted with it. Safe from any thread; one process at a
    time (the one that holds the lease on the data folder).

    Args:
        folders: where the copies lie; at least two, best on different disks. Made if missing.

    Raises:
        ConfigError: fewer than two folders, or the root key is not the one of this table.
        CorruptError: no copy is whole.
    """

    def __init__(self, folders: tuple[Path, ...], root: RootKey, clock: Clock) -> None:
        if len({folder.resolve() for folder in folders}) < 2:
            raise ConfigError(
                "the key table needs two folders", hint="name at least two different ones in security.key_folders"
            )
        self._files = KeyFiles(folders)
        self._root, self._clock = root, clock
        self._lock = threading.Lock()
        self._commit: GroupCommit[Record] = GroupCommit(self._store)
        self._making: dict[str, tuple[str, Future[None]]] = {}
        self._table = TableRecord(FORMAT, *root.marks(), made=clock.now())
        self._classes: dict[str, ClassRecord] = {}
        self._class_keys: dict[str, tuple[bytes, bytes]] = {}
        self._objects: dict[str, ObjectRecord] = {}
        self._by_key: dict[str, str] = {}
        self._shredded: dict[str, ShredRecord] = {}
        self._open()

    def key_for(self, key: str, classification: Classification = Classification.PRIVATE) -> str:
        """Return the id of the object key of ``key``; make and persist it on first use.

        Raises:
            CapacityError, UnavailableError: a folder could not be written; nothing may be encrypted with it.
        """
        with self._lock:
            known = self._by_key.get(key)
            if known is not None:
                return known
            key_id, future = self._making.get(key) or self._begin(key, classification)
        try:
            self._commit.settle(future)
        finally:
            with self._lock:
                self._making.pop(key, None)
        return key_id

    def key_id_of(self, key: str) -> str | None:
        """Return the id of the living object key of ``key``, None where there is none."""
        return self._by_key.get(key)

    def has(self, key_id: str) -> bool:
        """Say whether the object key is alive."""
        return key_id in self._objects

    def object_keys(self, key_id: str) -> tuple[bytes, bytes]:
        """Return the object key of each custodian.

        Raises:
            NotFoundError: destroyed, or never in this table.
        """
        record = self._objects.get(key_id)
        if record is None:
            done = key_id in self._shredded
            raise NotFoundError(
                "the object's key was destroyed" if done else "the object's key is not in the key table",
                key_id=key_id,
                hint="its bytes cannot be read by anyone" if done else "restore the key table from its other copy",
            )
        first, second = self._class_keys[record.class_id]
        context = f"object:{key_id}"
        return unwrap(first, record.wrapped, context), unwrap(second, record.second, context)

    def shred(self, key_id: str) -> None:
        """Destroy every copy of an object key: each file is rewritten without it and flushed, the old one overwritten.

        Destroying what is destroyed already is success. Copies made by ``backup`` are beyond reach.

        Raises:
            CapacityError, UnavailableError: a folder could not be written; the key is gone from memory and from the
                folders before it; repeat to finish.
        """
        self._commit.settle(self._commit.add(self._shred_record(key_id)))

    def export_key(self, key: str) -> dict[str, object]:
        """Return what a foreign client needs to decrypt every version of ``key`` (docs/design/format.md).

        Raises:
            NotFoundError: the object has no living key.
        """
        key_id = self.key_id_of(key)
        if key_id is None:
            raise NotFoundError("the object has no key", key=key, hint="public objects are not encrypted")
        first, second = self.object_keys(key_id)
        return {
            "format": FORMAT,
            "key": key,
            "key_id": key_id,
            "object_key": base64.b64encode(first).decode(),
            "second_object_key": base64.b64encode(second).decode(),
            "description": "docs/design/format.md",
        }

    def rotate_root(self, root: RootKey) -> None:
        """Wrap every class key by ``root`` instead; no object and no store is touched.

        Keep the old root until this returns; afterwards only ``root`` opens the table.
        """
        with self._commit.exclusive(), self._lock:
            classes = {class_id: self._class_record(class_id, root) for class_id in self._classes}
            table = TableRecord(FORMAT, *root.marks(), made=self._table.made)
            self._files.replace([table, *classes.values(), *self._objects.values(), *self._shredded.values()])
            self._table, self._classes, self._root = table, classes, root

    def state(self) -> dict[str, object]:
        """Return the figures of the table for the report."""
        with self._lock:
            return {
                "format": FORMAT,
                "object_keys": len(self._objects),
                "class_keys": len(self._classes),
                "destroyed": len(self._shredded),
                "copies": [str(path) for path in self._files.paths],
                "copies_whole": self._files.whole,
                "root_key": self._root.origin,
            }

    def _begin(self, key: str, classification: Classification) -> tuple[str, Future[None]]:
        class_id = self._class_for(classification)
        key_id = new_id(self._clock.now())
        first, second = self._class_keys[class_id]
        context = f"object:{key_id}"
        record = ObjectRecord(
            key_id=key_id,
            key=key,
            class_id=class_id,
            wrapped=wrap(first, secrets.token_bytes(KEY_BYTES), context),
            second=wrap(second, secrets.token_bytes(KEY_BYTES), context),
            made=self._clock.now(),
        )
        self._making[key] = key_id, self._commit.add(record)
        return self._making[key]

    def _class_for(self, classification: Classification) -> str:
        for class_id, known in self._classes.items():
            if known.classification == classification:
                return class_id
        class_id = new_id(self._clock.now())
        self._class_keys[class_id] = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
        self._classes[class_id] = ClassRecord(class_id, str(classification), b"", b"")
        self._classes[class_id] = record = self._class_record(class_id, self._root)
        self._commit.add(record)  # lies before the first object record that needs it
        return class_id

    def _class_record(self, class_id: str, root: RootKey) -> ClassRecord:
        first, second = self._class_keys[class_id]
        context = f"class:{class_id}"
        return ClassRecord(
            class_id,
            self._classes[class_id].classification,
            wrap(root.first, first, context),
            wrap(root.second, second, context),
        )

    def _shred_record(self, key_id: str) -> ShredRecord:
        record = self._objects.get(key_id)
        known = self._shredded.get(key_id)
        if known is not None:
            return known
        digest = "" if record is None else hashlib.sha256(record.key.encode()).hexdigest()
        return ShredRecord(key_id, digest, self._clock.now())

    def _store(self, group: list[Record]) -> None:
        """Make a group durable, then known. A group that destroys a key rewrites the files whole."""
        shreds = [record for record in group if isinstance(record, ShredRecord)]
        others = [record for record in group if not isinstance(record, ShredRecord)]
        if others:
            self._files.append(others, whole=self._records)
            self._learn(others)
        if shreds:
            self._learn(shreds)
            self._files.replace(self._records())

    def _records(self) -> list[Record]:
        with self._lock:
            return [self._table, *self._classes.values(), *self._objects.values(), *self._shredded.values()]

    def _learn(self, records: Sequence[Record]) -> None:
        with self._lock:
            for record in records:
                self._learn_one(record)

    def _learn_one(self, record: Record) -> None:
        if isinstance(record, ClassRecord):
            self._classes.setdefault(record.class_id, record)
        elif isinstance(record, ObjectRecord) and record.key_id not in self._shredded:
            self._objects[record.key_id] = record
            self._by_key[record.key] = record.key_id
        elif isinstance(record, ShredRecord):
            self._shredded[record.key_id] = record
            gone = self._objects.pop(record.key_id, None)
            if gone is not None and self._by_key.get(gone.key) == record.key_id:
                del self._by_key[gone.key]

    def _open(self) -> None:
        records = self._files.load()
        for record in records:
            if isinstance(record, TableRecord):
                self._check(record)
        self._learn(records)
        for class_id, record in self._classes.items():
            context = f"class:{class_id}"
            self._class_keys[class_id] = (
                unwrap(self._root.first, record.wrapped, context),
                unwrap(self._root.second, record.second, context),
            )
        if not self._files.same:
            self._files.replace(self._records())

    def _check(self, found: TableRecord) -> None:
        if found.format > FORMAT:
            raise CorruptError("the key table is of a newer format", hint="install that release", format=found.format)
        if (found.root_mark, found.custodian_mark) != self._root.marks():
            raise ConfigError(
                "the root key is not the one of this key table",
                root_key=self._root.origin,
                key_table=str(self._files.paths[0]),
                hint="put back the root key (and custodian key) that was made with it",
            )
        self._table = found
