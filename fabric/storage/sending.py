"""Sending a large object in numbered parts, a few of them at a time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from fabric.core.errors import FabricError
from fabric.core.failing import undoing
from fabric.storage.pieces import parts as cut
from fabric.storage.remote import Outgoing, Workers
from fabric.storage.store import Part

PARTS_IN_FLIGHT = 2  # per writer; memory is (this + 1) parts
UPLOAD_THREADS = 16

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Sending(Generic[Answer]):
    """An upload that has begun, and what a driver does with it."""

    upload_id: str
    put: Callable[[int, bytearray], Part]  # any thread
    complete: Callable[[tuple[Part, ...]], Answer]
    abort: Callable[[], None]


def send_parts(outgoing: Outgoing, workers: Workers, sending: Sending[Answer]) -> tuple[int, Answer]:
    """Send all bytes and complete the upload; return their number and the answer to the completion.

    Whatever goes wrong before the end, the upload is forgotten.
    """
    waiting: deque[Future[Part]] = deque()
    parts: list[Part] = []
    size = 0
    with undoing(lambda: _forget(sending, waiting)):
        for number, block in enumerate(cut(outgoing.first, outgoing.rest), 1):
            size += len(block)
            outgoing.room.grow(size)
            waiting.append(workers.pool().submit(sending.put, number, block))
            if len(waiting) >= PARTS_IN_FLIGHT:
                parts.append(waiting.popleft().result())
        parts += [future.result() for future in waiting]
        answer = sending.complete(tuple(parts))
    return size, answer


def _forget(sending: Sending[Answer], waiting: Iterable[Future[Part]]) -> None:
    """Abort an upload once nothing is sent to it any more; say so in the failure under way where that fails."""
    failure = sys.exception()
    for future in waiting:
        future.exception()
    try:
        sending.abort()
    except FabricError as second:
        if failure is None:
            raise
        failure.add_note(f"the unfinished upload {sending.upload_id} is left behind: {second}")
