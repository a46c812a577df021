"""The data folder: which world it belongs to, and the lease that makes one process its engine."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from fabric.core.clock import Clock
from fabric.core.errors import CapacityError, ConfigError, CorruptError, InUseError, WorldError
from fabric.core.files import write_whole
from fabric.core.ids import new_id

FORMAT_VERSION = 1


class FolderMark(msgspec.Struct, frozen=True):
    """What a data folder says of itself, written once."""

    format: int
    world: str  # sample | own
    id: str
    created: float


class EngineMark(msgspec.Struct, frozen=True):
    """How to reach the engine of a data folder; only its owner may read it."""

    id: str
    pid: int
    url: str
    token: str
    started: float


class DataFolder:
    """A folder that holds one world's catalog, events, keys and reports.

    Creates the folder and its mark on first use.

    Raises:
        WorldError: it belongs to the other world.
        ConfigError: it cannot be made or written.
        CorruptError: its mark is damaged or of a newer release.
    """

    def __init__(self, path: Path, world: str, clock: Clock) -> None:
        self.path = path.resolve()
        self._clock = clock
        self._lease: int | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "exports").mkdir(exist_ok=True)
            for name in ("catalog", "events", "keys", "keys-copy", "audit"):
                _own(self.path / name)
        except PermissionError as error:
            raise ConfigError(
                "the data folder cannot be made",
                path=str(self.path),
                hint="choose another with --data-dir, or change its permissions",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"the data folder cannot be made: {error.strerror}",
                path=str(self.path),
                hint="choose another with --data-dir",
            ) from error
        self.mark = self._read_mark() or self._write_mark(world)
        if self.mark.world != world:
            other = (
                "run_complete_system.py without --store and --config"
                if self.mark.world == "sample"
                else ("run_complete_system.py with the --config or --store it was made with")
            )
            raise WorldError(
                f"the data folder belongs to the {self.mark.world} world",
                path=str(self.path),
                hint=f"start {other}, or give another folder with --data-dir",
            )

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    def take_lease(self) -> None:
        """Become the engine of this folder; InUseError names the one that is."""
        handle = os.open(self.path / "engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            engine = read_engine(self.path)
            raise InUseError(
                "another engine holds the data folder",
                path=str(self.path),
                pid=engine.pid if engine else "unknown",
                url=engine.url if engine else "unknown",
                hint="use that one, stop it, or give another folder with --data-dir",
            ) from None
        self._lease = handle

    def publish_engine(self, url: str, token: str) -> EngineMark:
        """Write ``engine.json`` (mode 0600); needs the lease."""
        engine = EngineMark(new_id(self._clock.now()), os.getpid(), url, token, self._clock.now())
        write_whole(self.path / "engine.json", msgspec.json.encode(engine), durable=False, mode=0o600)
        return engine

    def release(self) -> None:
        """Take back ``engine.json`` and give up the lease; safe to call twice."""
        if self._lease is not None:
            (self.path / "engine.json").unlink(missing_ok=True)
            os.close(self._lease)
            self._lease = None

    def _read_mark(self) -> FolderMark | None:
        path = self.path / "fabric.json"
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=FolderMark)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise CorruptError(
                "the data folder's mark is damaged",
                path=str(path),
                hint="restore it from a backup: python -m fabric restore",
            ) from error
        if mark.format > FORMAT_VERSION:
            raise CorruptError(
                "the data folder was written by a newer release",
                path=str(path),
                format=mark.format,
                hint="install that release",
            )
        return mark

    def _write_mark(self, world: str) -> FolderMark:
        now = self._clock.now()
        mark = FolderMark(FORMAT_VERSION, world, new_id(now), now)
        try:
            write_whole(self.path / "fabric.json", msgspec.json.encode(mark), durable=True)
        except OSError as error:
            raise CapacityError(
                f"the data folder cannot be written: {error.strerror}",
                path=str(self.path),
                hint="free space, or choose another with --data-dir",
            ) from error
        return mark


def _own(folder: Path) -> None:
    """Make a folder that only its owner may look into, or make it one."""
    folder.mkdir(exist_ok=True, mode=0o700)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def read_engine(folder: Path) -> EngineMark | None:
    """Return the engine that published itself in ``folder`` and still holds its lease, else None."""
    try:
        engine = msgspec.json.decode((folder / "engine.json").read_bytes(), type=EngineMark)
        handle = os.open(folder / "engine.lock", os.O_RDWR)
    except (FileNotFoundError, PermissionError, msgspec.DecodeError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return engine
    finally:
        os.close(handle)
    return None


def folder_world(folder: Path) -> str | None:
    """Return the world an existing data folder belongs to, None where there is none yet."""
    try:
        return msgspec.json.decode((folder / "fabric.json").read_bytes(), type=FolderMark).world
    except (FileNotFoundError, msgspec.DecodeError):
        return None
