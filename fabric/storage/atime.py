"""How far the access times of a folder's files can be believed: the mount's options tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fabric.storage.local import LocalStore
from fabric.storage.store import Store
from fabric.storage.wrappers import innermost


@dataclass(frozen=True, slots=True)
class AtimeTrust:
    """How much a store's access times say."""

    level: str  # exact | day | none | unknown
    why: str


def atime_trust(store: Store, *, mounts: Path = Path("/proc/self/mountinfo")) -> AtimeTrust:
    """Say which trust the access times of ``store`` deserve, from the options of the mount it lies on."""
    driver = innermost(store)
    if not isinstance(driver, LocalStore):
        return AtimeTrust("none", "the store keeps no access times")
    options = _mount_options(os.path.realpath(driver.root), mounts)
    if options is None:
        return AtimeTrust("unknown", "the system does not say how the folder is mounted")
    if "noatime" in options:
        return AtimeTrust("none", "the folder is mounted noatime: access times stay as they were written")
    if "relatime" in options:
        return AtimeTrust("day", "the folder is mounted relatime: an access time may be up to a day old")
    return AtimeTrust("exact", "the folder is mounted strictatime: every read moves the access time")


def _mount_options(path: str, mounts: Path) -> frozenset[str] | None:
    """Return the options of the deepest mount above ``path``; of two on one folder the later one is on top."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, found = -1, None
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 6:
            continue
        point = fields[4].encode("ascii", "surrogateescape").decode("unicode_escape")  # \040 is a space
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, found = len(point), frozenset(fields[5].split(","))
    return found
