"""From two stores to what copies inside the server that holds both, past the wrappers around their drivers."""

from __future__ import annotations

import dataclasses

from fabric.storage.between import Copying, ServerCopy, Steps
from fabric.storage.keeping import driver_of
from fabric.storage.s3 import S3Store
from fabric.storage.s3_between import S3Copy
from fabric.storage.store import ObjectInfo, Store
from fabric.storage.wrappers import asked


class WholeCopy:
    """Keeps the promises of `ServerCopy` where the server takes an object whole."""

    def __init__(self, source: Copying, target: Copying, ask_source: Store, ask_target: Store) -> None:
        self._source, self._target, self._ask_source, self._ask_target = source, target, ask_source, ask_target

    def parts(self, size_bytes: int) -> int:
        del size_bytes
        return 0

    def is_under_way(self, to: str) -> bool:
        return asked(self._ask_target, "head", lambda: self._target.is_under_way(to))

    def copy(self, key: str, to: str, storage_class: str, size_bytes: int, tag: str, steps: Steps) -> ObjectInfo:
        del size_bytes
        source = asked(self._ask_source, "head", lambda: self._source.carried(key, tag))
        steps.completing()
        return asked(self._ask_target, "put", lambda: self._target.put_copy(source, to, storage_class, steps.brought))


def server_copy(source: Store, target: Store) -> ServerCopy | None:
    """Return what copies inside the server, None where the two stores do not share one account of one."""
    one, other = driver_of(source), driver_of(target)
    if isinstance(one, Copying) and isinstance(other, Copying):
        return WholeCopy(one, other, source, target) if one.shares_server(other) else None
    if not isinstance(one, S3Store) or not isinstance(other, S3Store) or one is other:
        return None
    if dataclasses.replace(one.target, bucket="") != dataclasses.replace(other.target, bucket=""):
        return None
    return S3Copy(one, other, source, target)
