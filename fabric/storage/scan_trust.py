"""Which recorded blocks of a folder store a scan may leave unread, going by the change times of its folders."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from fabric.core.errors import UnavailableError

VERIFY_LEAST = 20_000  # files asked again in each scan
VERIFY_SHARE = 0.125  # of all files, if that is more
SETTLED_SECONDS = 2.0  # a folder touched later than this before it was read may have changed within one tick


class Known(msgspec.Struct, frozen=True):
    """What is recorded of a block."""

    first: str
    last: str
    objects: int
    size_bytes: int
    folders: bytes
    verified: float  # when its files were last asked, UTC seconds


def check_mounted(root: Path, store: str, known: list[Known]) -> None:
    """Raise UnavailableError where the recorded files lay on another device and the folder is empty now."""
    folders = [_folders(block)[1] for block in known[:1] if block.folders]
    devices = {device for block in folders for name, device, _, _ in block if name == ""}
    try:
        if not devices or os.stat(root).st_dev in devices:
            return
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except OSError:
        return  # the walk meets it again and says what it is
    if empty:
        hint = "mount it again; if it is really empty now, scan it with deep"
        raise UnavailableError(
            "the store's folder is empty and on another disk", hint=hint, store=store, path=str(root)
        )


def _folders(block: Known) -> tuple[int, list[tuple[str, int, int, int]]]:
    return msgspec.msgpack.decode(block.folders, type=tuple[int, list[tuple[str, int, int, int]]])


def old_enough(known: list[Known]) -> list[Known]:
    """Return the blocks that may be trusted: all but those whose turn it is to be asked again."""
    left = max(VERIFY_LEAST, int(VERIFY_SHARE * sum(block.objects for block in known)))
    may_trust: list[Known] = []
    for block in sorted(known, key=lambda block: (block.verified, block.first)):
        if left > 0:
            left -= block.objects
        else:
            may_trust.append(block)
    return may_trust


def folders_unchanged(root: Path, block: Known) -> bool:
    """Say whether every folder that reaches into the block's range is as it was, and had settled when it was read."""
    if not block.folders:
        return False
    at_ns, folders = _folders(block)
    for name, device, inode, changed in folders:
        if changed > at_ns - SETTLED_SECONDS * 1e9:
            return False
        try:
            state = os.stat(root / name, follow_symlinks=not name)  # the root alone may be a link
        except OSError:
            return False
        if (state.st_dev, state.st_ino, state.st_ctime_ns) != (device, inode, changed):
            return False
    return True
