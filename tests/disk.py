"""A disk that misbehaves on command: what the operating system answers for files below one folder.

The calls of `os` are replaced while it is in use; they act on files below the folder alone and on as many calls as
they are told to. Everything above them, the driver's own translation of errors too, is the real thing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HELD_SECONDS_MOST = 60.0
ALWAYS = 1 << 30
LEAST_BYTES = 4097  # writes of probes and test objects are smaller
CALLS = ("open", "pread", "write", "pwrite", "fsync", "link")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the operating system as the program made it."""

    really: Callable[..., Any]
    args: tuple[Any, ...]
    more: dict[str, Any]

    def __call__(self) -> Any:
        return self.really(*self.args, **self.more)


Act = Callable[[Call], Any]


@dataclass(slots=True)
class Trigger:
    calls: tuple[str, ...]
    act: Act
    only_objects: bool
    times: int


@dataclass(slots=True)
class Disk:
    """The files below ``root``."""

    root: Path
    triggers: list[Trigger] = field(default_factory=list)
    met: int = 0
    mended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on(self, *calls: str, act: Act, only_objects: bool = True, times: int = ALWAYS) -> None:
        """Let ``act`` happen to the next ``times`` of ``calls`` (to those that carry objects' bytes alone)."""
        self.mended.clear()
        self.triggers.append(Trigger(calls, act, only_objects, times))

    def mend(self) -> None:
        self.triggers.clear()
        self.mended.set()

    def through(self, name: str, call: Call) -> Any:
        """Do the call, or what a trigger does instead."""
        act = self._act_for(name, call.args, call.more)
        return call() if act is None else act(call)

    def _act_for(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> Act | None:
        with self._lock:
            for trigger in self.triggers:
                if (
                    name in trigger.calls
                    and trigger.times > 0
                    and (not trigger.only_objects or self._carries(name, args, more))
                ):
                    trigger.times -= 1
                    self.met += 1
                    return trigger.act
        return None

    def _path(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> str:
        if name in ("open", "link"):
            path, at = os.fspath(args[0]), more.get("src_dir_fd" if name == "link" else "dir_fd")
            return path if at is None else f"{_named(at)}/{path}"
        return _named(args[0])

    def is_below(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> bool:
        return f"{self._path(name, args, more)}/".startswith(f"{self.root}/")

    def _carries(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> bool:
        if name in ("write", "pwrite"):
            return memoryview(args[1]).nbytes >= LEAST_BYTES
        if name == "link":
            return "/objects/" in f"{_named(more.get('dst_dir_fd', -1))}/"
        path = self._path(name, args, more)
        return "/objects/" in path and not (name == "open" and args[1] & os.O_DIRECTORY)


def _named(handle: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


@contextmanager
def disks(*roots: Path) -> Iterator[tuple[Disk, ...]]:
    """Stand between the program and the files below each of ``roots``."""
    made = tuple(Disk(root) for root in roots)
    really = {name: getattr(os, name) for name in CALLS}

    def standing(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            for disk in made:
                if disk.triggers and disk.is_below(name, args, more):
                    return disk.through(name, Call(really[name], args, more))
            return really[name](*args, **more)

        return call

    read_into = os.preadv
    read = standing("pread")

    def preadv(handle: int, buffers: Sequence[memoryview], position: int) -> int:
        """Read into memory by way of the standing `pread`, where a trigger may change what is read."""
        if not any(disk.triggers and disk.is_below("pread", (handle,), {}) for disk in made):
            return read_into(handle, buffers, position)
        (buffer,) = buffers
        data = read(handle, len(buffer), position)
        buffer[: len(data)] = data
        return len(data)

    for name in CALLS:
        setattr(os, name, standing(name))
    os.preadv = preadv  # type: ignore[assignment]
    try:
        yield made
    finally:
        os.preadv = read_into
        for name, call in really.items():
            setattr(os, name, call)
        for disk in made:
            disk.mend()


# ---------------------------------------------------------------- what may happen to a call


def fails(number: int) -> Act:
    def act(_: Call) -> Any:
        raise OSError(number, os.strerror(number))

    return act


def done_but_fails(number: int) -> Act:
    """Do it, and say that it failed."""

    def act(call: Call) -> Any:
        call()
        raise OSError(number, os.strerror(number))

    return act


def held(disk: Disk) -> Act:
    """Answer when the disk is mended: a file server that hangs."""

    def act(call: Call) -> Any:
        disk.mended.wait(HELD_SECONDS_MOST)
        return call()

    return act


def ends_early(_: Call) -> bytes:
    return b""


def read_flipped(call: Call) -> bytes:
    data = bytearray(call())
    if data:
        data[len(data) // 2] ^= 1
    return bytes(data)


def later(seconds: float) -> Act:
    def act(call: Call) -> Any:
        threading.Event().wait(seconds)
        return call()

    return act


def write_flipped(call: Call) -> Any:
    """Store what is written with one wrong bit, and say that all is well."""
    handle, data, *rest = call.args
    wrong = bytearray(data)
    wrong[len(wrong) // 2] ^= 1
    return call.really(handle, bytes(wrong), *rest)
