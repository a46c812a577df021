"""The twenty faults that a move is tried against: each on the wire of a server and on a disk, at one end of the move.

A fault is either passing (it happens a few times, or until the job has paused for it) or lasting (it stays until the
job has ended).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import disk
import wire
from disk import Disk
from wire import Request, Wire

SLOW_SECONDS = 0.3  # above the 100 ms that an object of the standard class is read in
FEW = 2  # of a fault that passes by itself
JUMP_SECONDS = 86400.0

COMPLETED, ROLLED_BACK, FAILED = "COMPLETED", "ROLLED_BACK", "FAILED"
SILENT = r"does not answer|answer to a conditional write was lost|file system failed|server failed|fewer requests"


@dataclass(frozen=True, slots=True)
class Fault:
    """One misfortune.

    Args:
        at: source, target or clock.
        lasts: "few" requests, until the job has "paused", or to its "end".
        ends: the states it may leave the job in.
        says: what the reason of an end other than COMPLETED, or of a pause, must match.
    """

    name: str
    at: str
    lasts: str
    ends: tuple[str, ...]
    says: str
    on_wire: Callable[[Wire], None] = lambda _: None
    on_disk: Callable[[Disk], None] = lambda _: None
    jump_seconds: float = 0.0


def reads(request: Request) -> bool:
    return request.reads_object


def writes(request: Request) -> bool:
    return request.writes_object


def carries(request: Request) -> bool:
    return request.carries_object


def asks(request: Request) -> bool:
    return request.is_object


def everything(_: Request) -> bool:
    return True


def _wire(when: Callable[[Request], bool], act: wire.Act, times: int = wire.ALWAYS) -> Callable[[Wire], None]:
    return lambda link: link.on(when, act, times=times)


def _disk(*calls: str, act: Any, times: int = disk.ALWAYS) -> Callable[[Disk], None]:
    return lambda below: below.on(*calls, act=act, times=times)


def _refuses(status: str, s3: str, azure: str, *headers: str, done: bool = False) -> wire.Act:
    """Answer as the provider does that was asked; ``done``: after the server has done it."""

    def act(line: wire.Line) -> None:
        if done:
            line.forward()
        code = azure if b"\r\nx-ms-version:" in line.request.head.lower() else s3
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>so.</Message></Error>'
        line.refuse(status, body.encode(), f"x-ms-error-code: {azure}", *headers)

    return act


_500 = _refuses("500 Internal Server Error", "InternalError", "InternalError")
_503 = _refuses("503 Slow Down", "SlowDown", "ServerBusy", "Retry-After: 0")
_403 = _refuses("403 Forbidden", "InvalidAccessKeyId", "AuthenticationFailed")
_507 = _refuses("507 Insufficient Storage", "StorageFull", "StorageFull")
_412 = _refuses("412 Precondition Failed", "PreconditionFailed", "ConditionNotMet", done=True)
_WRITES = ("write", "pwrite")
_EIO = disk.fails(errno.EIO)

FAULTS = (
    Fault(
        "source answers 500",
        "source",
        "end",
        (ROLLED_BACK, FAILED),
        SILENT,
        _wire(reads, _500),
        _disk("pread", act=_EIO),
    ),
    Fault(
        "target answers 500",
        "target",
        "end",
        (ROLLED_BACK, FAILED),
        SILENT,
        _wire(writes, _500),
        _disk(*_WRITES, act=_EIO),
    ),
    Fault(
        "target throttles",
        "target",
        "few",
        (COMPLETED,),
        SILENT,
        _wire(writes, _503, FEW),
        _disk(*_WRITES, act=disk.fails(errno.EAGAIN), times=FEW),
    ),
    Fault(
        "source breaks off",
        "source",
        "paused",
        (COMPLETED,),
        SILENT,
        _wire(reads, wire.broken_off),
        _disk("pread", act=disk.fails(errno.ESTALE)),
    ),
    Fault(
        "target breaks off",
        "target",
        "paused",
        (COMPLETED,),
        SILENT,
        _wire(writes, wire.broken_off),
        _disk(*_WRITES, act=disk.fails(errno.ESTALE)),
    ),
    Fault(
        "source stalls",
        "source",
        "paused",
        (COMPLETED,),
        SILENT,
        _wire(everything, wire.held),
        lambda d: d.on("open", "pread", act=disk.held(d), only_objects=False),
    ),
    Fault(
        "target stalls",
        "target",
        "paused",
        (COMPLETED,),
        SILENT,
        _wire(everything, wire.held),
        lambda d: d.on("open", *_WRITES, act=disk.held(d), only_objects=False),
    ),
    Fault(
        "source is cut short",
        "source",
        "few",
        (COMPLETED, ROLLED_BACK),
        f"{SILENT}|not what their hash says|changed|shorter than its record",
        _wire(reads, wire.cut_short, FEW),
        _disk("pread", act=disk.ends_early, times=FEW),
    ),
    Fault(
        "target reads back short",
        "target",
        "few",
        (COMPLETED, ROLLED_BACK),
        f"{SILENT}|copy differs|a part of the copy differs",
        _wire(reads, wire.cut_short, FEW),
        _disk("pread", act=disk.ends_early, times=FEW),
    ),
    Fault(
        "source flips a bit",
        "source",
        "end",
        (ROLLED_BACK,),
        "source's bytes are not what their hash says",
        _wire(reads, wire.read_flipped),
        _disk("pread", act=disk.read_flipped),
    ),
    Fault(
        "target stores a flipped bit",
        "target",
        "end",
        (ROLLED_BACK,),
        "copy differs|a part of the copy differs|hash|refused",
        _wire(carries, wire.write_flipped),
        _disk(*_WRITES, act=disk.write_flipped),
    ),
    Fault(
        "target reads back a flipped bit",
        "target",
        "end",
        (ROLLED_BACK,),
        "copy differs|a part of the copy differs",
        _wire(reads, wire.read_flipped),
        _disk("pread", act=disk.read_flipped),
    ),
    Fault(
        "target is full",
        "target",
        "end",
        (ROLLED_BACK, FAILED),
        "full|no room|space",
        _wire(writes, _507),
        _disk(*_WRITES, act=disk.fails(errno.ENOSPC)),
    ),
    Fault(
        "source refuses the credentials",
        "source",
        "end",
        (ROLLED_BACK, FAILED),
        "credential|permission|not allow|refuse",
        _wire(asks, _403),
        _disk("open", act=disk.fails(errno.EACCES)),
    ),
    Fault(
        "target refuses the credentials",
        "target",
        "end",
        (ROLLED_BACK, FAILED),
        "credential|permission|not allow|refuse",
        _wire(writes, _403),
        _disk(*_WRITES, act=disk.fails(errno.EACCES)),
    ),
    Fault(
        "target says 412 after its own success",
        "target",
        "few",
        (COMPLETED, ROLLED_BACK),
        "exists already|a folder has this name",
        _wire(writes, _412, 1),
        _disk("link", act=disk.done_but_fails(errno.EEXIST), times=1),
    ),
    Fault(
        "target's answer is lost",
        "target",
        "few",
        (COMPLETED, ROLLED_BACK),
        SILENT,
        _wire(writes, wire.done_but_silent, 1),
        _disk("link", act=disk.done_but_fails(errno.EIO), times=1),
    ),
    Fault(
        "target is slow",
        "target",
        "end",
        (COMPLETED, ROLLED_BACK),
        "slower than the object's deadline",
        _wire(asks, wire.later(SLOW_SECONDS)),
        _disk("pread", act=disk.later(SLOW_SECONDS)),
    ),
    Fault("clock jumps ahead", "clock", "end", (COMPLETED,), "", jump_seconds=JUMP_SECONDS),
    Fault("clock jumps back", "clock", "end", (COMPLETED,), "", jump_seconds=-JUMP_SECONDS),
)
