"""Looks at what a run left behind without the code that moved it: plain clients, a foreign decryptor, SHA-256."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "system"))

import foreign_client
import servers
from crash_pairs import Pair

from fabric.catalog.heads import Head, Replica
from fabric.core.failing import Carried

READ_TRIES = 3
_client, _container = cache(servers.client), cache(servers.container)  # one of each server for all runs


class Raw(Protocol):
    """A store as its own tools show it; names are those below the run's prefix."""

    def names(self) -> list[str]:
        """Return everything that lies there, finished or not."""

    def read(self, blob: str) -> bytes: ...
    def unfinished(self) -> list[str]: ...
    def wipe(self) -> None: ...


class RawFolder:
    """Files; the first folder is the class."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        found = [path for path in self._root.rglob("*") if path.is_file()]
        names = [path.relative_to(self._root).as_posix() for path in found]
        return [name if name.startswith(".fabric/") else name.partition("/")[2] for name in names]

    def read(self, blob: str) -> bytes:
        (path,) = self._root.glob(f"*/{blob}")
        return path.read_bytes()

    def unfinished(self) -> list[str]:
        return [str(path) for kind in ("uploads", "temp") for path in (self._root / ".fabric" / kind).glob("*")]

    def wipe(self) -> None:
        """Removed with its folder."""


class RawS3:
    """Objects by botocore alone."""

    def __init__(self, server: servers.Server, prefix: str) -> None:
        self._client: Any = _client(server)
        self._at = {"Bucket": server.bucket}
        self._prefix = f"{prefix}/"

    def names(self) -> list[str]:
        page = self._client.list_objects_v2(**self._at, Prefix=self._prefix)
        return [entry["Key"][len(self._prefix) :] for entry in page.get("Contents", ()) if entry["Key"][-1] != "/"]

    def read(self, blob: str) -> bytes:
        found: bytes = self._client.get_object(**self._at, Key=self._prefix + blob)["Body"].read()
        return found

    def unfinished(self) -> list[str]:
        page = self._client.list_multipart_uploads(**self._at, Prefix=self._prefix)
        return [f"{entry['Key']} {entry['UploadId']}" for entry in page.get("Uploads", ())]

    def wipe(self) -> None:
        for name in self.names():
            self._client.delete_object(**self._at, Key=self._prefix + name)


class RawAzure:
    """Blobs by the provider's own client."""

    def __init__(self, server: servers.Server, prefix: str) -> None:
        self._client = _container(server)
        self._prefix = f"{prefix}/"

    def names(self) -> list[str]:
        found = self._client.list_blobs(name_starts_with=self._prefix)
        return [blob.name[len(self._prefix) :] for blob in found]

    def read(self, blob: str) -> bytes:
        found: bytes = self._client.download_blob(self._prefix + blob).readall()
        return found

    def unfinished(self) -> list[str]:
        every = self._client.list_blobs(name_starts_with=self._prefix, include=["uncommittedblobs"])
        return sorted({blob.name[len(self._prefix) :] for blob in every} - set(self.names()))

    def wipe(self) -> None:
        for name in self.names():
            self._client.delete_blob(self._prefix + name)


class RawGcs:
    """Objects by the JSON interface alone."""

    def __init__(self, server: servers.Server, prefix: str) -> None:
        self._base = f"{server.endpoint}/storage/v1/b/{server.bucket}/o"
        self._prefix = f"{prefix}/"

    def _ask(self, tail: str, method: str = "GET") -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self._base + tail, method=method), timeout=10) as answer:
            found: bytes = answer.read()
            return found

    def names(self) -> list[str]:
        page = json.loads(self._ask(f"?prefix={urllib.parse.quote(self._prefix, safe='')}"))
        return [item["name"][len(self._prefix) :] for item in page.get("items", ())]

    def read(self, blob: str) -> bytes:
        return self._ask(f"/{urllib.parse.quote(self._prefix + blob, safe='')}?alt=media")

    def unfinished(self) -> list[str]:
        return []  # it keeps no uploads: what is under way lies under .fabric/uploads/, which `names` shows

    def wipe(self) -> None:
        for name in self.names():
            self._ask(f"/{urllib.parse.quote(self._prefix + name, safe='')}", "DELETE")


def raw_stores(pair: Pair, folder: Path, prefix: str, running: dict[str, servers.Server]) -> dict[str, Raw]:
    """Return the run's stores as their own tools see them."""
    made: dict[str, Any] = {"s3": RawS3, "azure": RawAzure, "gcs": RawGcs}
    return {
        name: RawFolder(folder / name) if kind == "local" else made[kind](running[kind], f"{prefix}-{name}")
        for name, kind in pair.kinds.items()
    }


def heads_in(folder: Path) -> list[Head]:
    """Read the heads out of a copy of the catalog as it lies on the disk: what a recovery would find."""
    with tempfile.TemporaryDirectory() as name:
        for path in folder.glob("catalog.db*"):
            shutil.copy(path, name)
        connection = sqlite3.connect(Path(name, "catalog.db"))
        rows = connection.execute("SELECT record FROM heads").fetchall()
        connection.close()
    return [msgspec.msgpack.decode(row[0], type=Head) for row in rows]


class Reader:
    """Judges one run's stores against the SHA-256 of the plain bytes that were written."""

    def __init__(self, stores: dict[str, Raw], expected: dict[str, str], exported: dict[str, Any]) -> None:
        self._stores, self._expected, self._exported = stores, expected, exported

    def without_copy(self, heads: list[Head]) -> Iterator[str]:
        """Yield what is wrong right now: an object of which a reader would not get the bytes that were written."""
        if missing := self._expected.keys() - {head.key for head in heads}:
            yield f"no head of {sorted(missing)}"
        for head in heads:
            live = [replica for replica in head.current.replicas if replica.state == "live"]
            if not any(self._is_whole(head, replica) for replica in live):
                yield f"{head.key} has no verified copy among {[replica.place for replica in live]}"

    def corrupt(self, heads: list[Head]) -> Iterator[str]:
        """Yield every listed replica, in grace too, that is not what was written."""
        for head in heads:
            for replica in head.current.replicas:
                if not self._is_whole(head, replica):
                    yield f"{head.key} at {replica.place} ({replica.state}) is not what was written"

    def strays(self, heads: list[Head]) -> Iterator[str]:
        """Yield what no head lists, and unfinished uploads and parts."""
        listed = {(r.store, r.blob) for head in heads for v in (*head.versions, *head.retained) for r in v.replicas}
        for name, store in self._stores.items():
            yield from (f"unfinished in {name}: {left}" for left in store.unfinished())
            names = [blob for blob in store.names() if not blob.startswith(".fabric/locks/")]
            yield from (f"stray in {name}: {blob}" for blob in names if (name, blob) not in listed)

    def _is_whole(self, head: Head, replica: Replica) -> bool:
        blob = self._read(replica)
        if len(blob) != replica.blob_bytes or hashlib.sha256(blob).hexdigest() != replica.blob_sha256:
            return False
        _, plain = foreign_client.plain_bytes(blob, self._exported.get(head.key))
        return hashlib.sha256(plain).hexdigest() == self._expected[head.key] == head.current.sha256

    def _read(self, replica: Replica) -> bytes:
        """Read a blob, again where a busy server gives no answer; what cannot be read is nothing."""
        errors: list[BaseException] = []
        for _ in range(READ_TRIES):
            with Carried(errors.append):  # whatever its own client says
                return self._stores[replica.store].read(replica.blob)
            if not isinstance(errors[-1], Exception):
                raise errors[-1]  # this process is to end
        return b""


def double_deletes(log: Path) -> Iterator[str]:
    """Yield objects that were deleted again after a delete that had been answered, with no write begun between."""
    gone: set[str] = set()
    for line in log.read_text().splitlines() if log.exists() else ():
        what, _, which = line.partition(" ")
        if what == "deleting" and which in gone and " objects/" in which:
            yield which
        elif what == "deleted":
            gone.add(which)
        elif what == "putting":
            gone.discard(which)
