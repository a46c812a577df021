"""What a file alone does not say of an object: metadata and content type, kept in one extended attribute."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from fabric.core.errors import ConflictError
from fabric.storage.folders import file_tag
from fabric.storage.keys import DEFAULT_TYPE
from fabric.storage.store import ObjectInfo

ATTRIBUTE = "user.fabric.object"
_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOENT})


class Notes(msgspec.Struct, frozen=True):
    """What the attribute holds."""

    metadata: dict[str, str] = {}
    content_type: str = DEFAULT_TYPE


def read_notes(where: int | Path) -> Notes:
    """Return what the extended attribute says, or nothing where there is none."""
    try:
        raw = (
            os.getxattr(where, ATTRIBUTE)
            if isinstance(where, int)
            else os.getxattr(where, ATTRIBUTE, follow_symlinks=False)
        )
        return msgspec.json.decode(raw, type=Notes)
    except msgspec.DecodeError:
        return Notes()
    except OSError as error:
        if error.errno in _NO_ATTRIBUTE:
            return Notes()
        raise


def write_notes(handle: int, notes: Notes, *, store: str) -> None:
    """Set the attribute where there is something to say; ConflictError where the file system keeps none."""
    if notes == Notes():
        return
    try:
        os.setxattr(handle, ATTRIBUTE, msgspec.json.encode(notes))
    except OSError as error:
        hint = "put it without metadata and content type, or use a file system that keeps attributes"
        raise ConflictError("the file system keeps no attributes", hint=hint, store=store) from error


def info_of(key: str, state: os.stat_result, storage_class: str, notes: Notes) -> ObjectInfo:
    """Return what a file's state and notes say of the object."""
    return ObjectInfo(
        key,
        state.st_size,
        file_tag(state),
        state.st_mtime,
        storage_class,
        state.st_atime,
        notes.metadata,
        notes.content_type,
    )
