"""Files that people hand over for a replay: streamed to the data folder, bounded, hashed, and gone when used."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fabric.core.clock import Clock
from fabric.core.errors import BadInputError, CapacityError, ConflictError, NotFoundError, TooLargeError
from fabric.core.failing import undoing
from fabric.core.units import GIB, format_size

ROLES = ("accesses", "inventory", "bill", "ranges")
BYTES_MOST = 4 * GIB  # of one upload, all its files
FILES_MOST = 500  # of one upload
UPLOADS_MOST = 4  # at a time
IDLE_SECONDS = 3600.0  # after which an upload that nobody used is removed
SPARE_BYTES = GIB  # that stay free on the disk
BLOCK_BYTES = 1 << 18
NAME_BYTES_MOST = 200
_ID = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True)
class Given:
    """One file as it was handed over. ``lines``: line feeds in it; -1 where it is packed or a table."""

    role: str
    name: str
    path: Path
    size_bytes: int
    sha256: str
    lines: int


@dataclass(slots=True)
class _Upload:
    files: list[Given] = field(default_factory=list)
    size_bytes: int = 0
    count: int = 0  # files begun
    used: float = 0.0
    busy: int = 0  # files being received


class Uploads:
    """Keeps uploads below ``folder``, which is emptied first: what an engine left behind belongs to nobody.

    Safe from any thread.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._known: dict[str, _Upload] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def take(self, upload: str, role: str, name: str, stream: IO[bytes]) -> Given:
        """Receive one file; a failed one leaves nothing behind.

        Args:
            upload: chosen by the sender, 16 to 64 hexadecimal digits; the first file of a new one begins it.

        Raises:
            BadInputError: role or name are impossible. ConflictError: the name is taken, or too many uploads wait.
            TooLargeError: more bytes or files than one upload may have. CapacityError: the disk is nearly full.
        """
        _check(upload, role, name)
        held = self._begun(upload)
        try:
            path = self._folder / upload / role / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise ConflictError("two files have the same name", name=name, hint="rename one of them")
            with undoing(lambda: path.unlink(missing_ok=True)):
                given = self._received(held, role, name, path, stream)
        finally:
            with self._lock:
                held.busy -= 1
        with self._lock:
            held.files.append(given)
        return given

    def files(self, upload: str) -> list[Given]:
        """Return an upload's files; NotFoundError where there is none."""
        with self._lock:
            if upload not in self._known:
                raise NotFoundError("there is no such upload", upload=upload[:64], hint="send the files again")
            return list(self._known[upload].files)

    def hand_over(self, upload: str, to: Path) -> list[Given]:
        """Move an upload's files below ``to`` and forget it; return them as they lie there."""
        files = self.files(upload)
        with self._lock:
            if self._known[upload].busy:
                raise ConflictError("a file of the upload is still on its way", hint="wait until all are sent")
            del self._known[upload]
        (self._folder / upload).rename(to)
        return [Given(f.role, f.name, to / f.role / f.name, f.size_bytes, f.sha256, f.lines) for f in files]

    def drop(self, upload: str) -> None:
        """Remove an upload; one that is not there is removed already."""
        with self._lock:
            found = self._known.pop(upload, None)
        if found is not None:
            shutil.rmtree(self._folder / upload, ignore_errors=True)

    def _begun(self, upload: str) -> _Upload:
        self._sweep()
        with self._lock:
            if upload not in self._known and len(self._known) >= UPLOADS_MOST:
                raise ConflictError("too many uploads wait for their replay", most=UPLOADS_MOST, hint="try again later")
            held = self._known.setdefault(upload, _Upload())
            if held.count >= FILES_MOST:
                raise TooLargeError("an upload has too many files", most=FILES_MOST, hint="join some of them")
            held.count, held.used, held.busy = held.count + 1, self._clock.monotonic(), held.busy + 1
            return held

    def _sweep(self) -> None:
        oldest = self._clock.monotonic() - IDLE_SECONDS
        with self._lock:
            idle = [name for name, held in self._known.items() if held.used < oldest and not held.busy]
        for name in idle:
            self.drop(name)

    def _received(self, held: _Upload, role: str, name: str, path: Path, stream: IO[bytes]) -> Given:
        digest, size, lines, packed = hashlib.sha256(), 0, 0, False
        with path.open("wb") as file:
            while block := stream.read(BLOCK_BYTES):
                self._admit(held, len(block))
                packed = packed or (size == 0 and block[:2] in (b"\x1f\x8b", b"PA"))
                size, lines = size + len(block), lines + block.count(b"\n")
                digest.update(block)
                file.write(block)
        if not size:
            raise BadInputError("the file is empty", name=name, hint="choose another")
        return Given(role, name, path, size, digest.hexdigest(), -1 if packed else lines)

    def _admit(self, held: _Upload, size: int) -> None:
        with self._lock:
            held.size_bytes += size
            held.used = self._clock.monotonic()
        if held.size_bytes > BYTES_MOST:
            raise TooLargeError(
                f"an upload may have {format_size(BYTES_MOST)}",
                hint="send fewer or packed files, or replay where they lie: python -m fabric replay --accesses FILE…",
            )
        if shutil.disk_usage(self._folder).free < SPARE_BYTES:
            raise CapacityError("the disk of the data folder is nearly full", hint="make room and send the files again")


def _check(upload: str, role: str, name: str) -> None:
    if not _ID.fullmatch(upload):
        raise BadInputError("an upload is named by 16 to 64 hexadecimal digits", upload=upload[:64])
    if role not in ROLES:
        raise BadInputError("a file has no such role", role=role[:40], hint=f"known are {', '.join(ROLES)}")
    bad = name in ("", ".", "..") or "/" in name or "\0" in name
    if bad or len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MOST:
        raise BadInputError("the file's name cannot be used", name=name[:80], hint="rename it")
