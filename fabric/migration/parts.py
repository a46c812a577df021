"""One large blob in parts: read in order by the job's own thread, hashed and sent by a few threads beside it.

Memory is bounded by the buffers, which are used again. Each part is recorded when it lies at the target, so another
process sends again at most what was under way: one part of each stream.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import IntegrityError, NotFoundError
from fabric.migration.buffers import BUFFERS, put_into
from fabric.migration.gate import Gate
from fabric.migration.points import Reached
from fabric.storage.store import ObjectInfo, Part, Store

if TYPE_CHECKING:
    from fabric.migration.copy import Edge

PARTS_MOST = 10_000
STREAMS_MOST = 2  # parts of one blob under way at once
BUFFERED_MOST_BYTES = 96 << 20  # of one blob
MIB = 1 << 20

Save = Callable[[Checkpoint], Future[None]]  # done when it is on disk
Entry = tuple[int, int, str, str]
replace = msgspec.structs.replace


def part_size(blob_bytes: int, least_bytes: int) -> int:
    """Return how large the parts of a blob are: what is set, and more where they would be more than PARTS_MOST."""
    return max(least_bytes, -(-blob_bytes // (PARTS_MOST * MIB)) * MIB)


def goes_in_parts(edge: Edge, part_bytes: int, one_request_bytes: int) -> bool:
    """Say whether the blob goes in parts: where it is large, and does not go in one request."""
    large = edge.replica.blob_bytes >= part_bytes
    return large and edge.target.capabilities.multipart and not goes_in_one(edge, one_request_bytes)


def goes_in_one(edge: Edge, one_request_bytes: int) -> bool:
    """Say whether the blob goes in one request as it is read.

    A server that proves SHA-256 must be told the blob's beforehand; one that nobody knows is hashed by parts.
    """
    replica, able = edge.replica, edge.target.capabilities
    provable = bool(replica.blob_sha256) or not able.server_sha256
    return able.streams and replica.blob_bytes <= one_request_bytes and provable


def send(
    edge: Edge, gate: Gate, begun: Checkpoint, save: Save, *, least_bytes: int, whole: bool, reached: Reached
) -> Sent:
    """Bring the blob to the target in parts, going on where ``begun`` ends, and make them one object.

    Args:
        whole: hash the source as one, instead of each part; parts that lie at the target are read again for it.

    Raises:
        IntegrityError: the source is shorter than its record says, or not what its hash says.
        Halt, FrozenError, UnavailableError: as `Gate.check`; what lies at the target is recorded for a resume.
    """
    state = _resumable(edge, begun, least_bytes)
    if not state.upload_id:
        state = _begin(edge, state, save, reached)
    gate.resumed_bytes = gate.done_bytes = state.done_bytes
    sending = _Sending(edge, gate, state, save, reached, whole=whole)
    sending.all_parts()
    check_source(edge, sending.sha256())  # before they are an object
    reached("upload.completing")
    summed = edge.target.capabilities.server_sha256  # who keeps a SHA-256 of each part is told it again
    parts = tuple(Part(*entry[:3], entry[3] if summed else "") for entry in sending.state.parts)
    info = edge.target.complete(state.blob, state.upload_id, parts, only_if_absent=True)
    reached("copy.put")
    return Sent(sending.state, info, sending.sha256())


class Sent(msgspec.Struct, frozen=True):
    """A finished upload: its last checkpoint, the object, and the SHA-256 of all that was read at the source."""

    state: Checkpoint
    info: ObjectInfo
    source_sha256: str


class _Sending:
    """The parts of one blob on their way."""

    def __init__(self, edge: Edge, gate: Gate, state: Checkpoint, save: Save, reached: Reached, *, whole: bool) -> None:
        self._edge, self._gate, self._save, self._reached = edge, gate, save, reached
        self._whole = hashlib.sha256() if whole else None
        self._streams = max(1, min(STREAMS_MOST, BUFFERED_MOST_BYTES // state.part_bytes - 1))
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._waiting: set[Future[Entry]] = set()
        self._saving: Future[None] | None = None
        self.state = state

    def sha256(self) -> str:
        return self._whole.hexdigest() if self._whole is not None else ""

    def all_parts(self) -> None:
        """Read every part in order, hash it, and send those that do not lie at the target yet."""
        size = min(self.state.part_bytes, self._edge.replica.blob_bytes)
        stored = {number for number, *_ in self.state.parts}
        with BUFFERS.lent(size, self._streams + 1) as buffers, self._pool() as pool:
            for buffer in buffers:
                self._free.put(buffer)
            for number, start in enumerate(range(0, self._edge.replica.blob_bytes, self.state.part_bytes), 1):
                if number in stored and self._whole is None:
                    continue
                self._gate.check(now=True)
                buffer = self._free.get()
                piece = self._read(buffer, start)
                if number in stored:
                    self._free.put(buffer)
                    continue
                self._settle(at_most=self._streams - 1)
                self._waiting.add(pool.submit(self._send, number, piece, buffer))
            self._settle(at_most=0)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Give the threads that send; whatever ends the block, what they sent meanwhile is recorded."""
        with ThreadPoolExecutor(self._streams, thread_name_prefix="part") as pool:
            try:
                yield pool
            finally:
                wait(self._waiting)
                self._record([future for future in self._waiting if future.exception() is None])
                self._recorded()

    def _settle(self, *, at_most: int) -> None:
        """Wait until no more than ``at_most`` parts are under way; record those that have arrived."""
        while len(self._waiting) > at_most:
            done, self._waiting = wait(self._waiting, return_when=FIRST_COMPLETED)
            failed = [future for future in done if future.exception() is not None]
            self._record([future for future in done if future.exception() is None])
            if failed:
                failed[0].result()

    def _record(self, done: list[Future[Entry]]) -> None:
        if not done:
            return
        self._waiting.difference_update(done)
        parts = sorted((*self.state.parts, *(future.result() for future in done)))
        self.state = replace(self.state, parts=tuple(parts), done_bytes=sum(part[1] for part in parts))
        self._recorded()
        self._saving = self._save(self.state)

    def _recorded(self) -> None:
        """Wait for the record under way: one at most, while the next part is read."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
            self._reached("part.saved")

    def _read(self, buffer: memoryview, start: int) -> memoryview:
        edge, filled = self._edge, 0
        end = min(start + self.state.part_bytes, edge.replica.blob_bytes)
        watch = self._gate.watch("before") if start == 0 else None
        view, tag = buffer[: end - start], edge.replica.tag or None
        with edge.source.open(edge.replica.blob, start=start, end=end, tag=tag, into=view) as reading:
            for chunk in watch.over(reading) if watch is not None else reading:
                put_into(view[filled : filled + len(chunk)], chunk)
                if self._whole is not None:
                    self._whole.update(chunk)  # now, while the processor still has it
                filled += len(chunk)
        if filled != end - start:
            raise IntegrityError(
                "the source is shorter than its record says", store=edge.source.name, at=start + filled
            )
        return view[:filled]

    def _send(self, number: int, piece: memoryview, buffer: memoryview) -> Entry:
        try:
            self._reached("part.sending")
            part = self._edge.target.put_part(self.state.blob, self.state.upload_id, number, piece)
            self._reached("part.put")
            self._gate.moved(len(piece))
            return number, len(piece), part.tag, part.sha256 or self._sha256(piece)
        finally:
            self._free.put(buffer)

    def _sha256(self, piece: memoryview) -> str:
        """Return the part's own hash; none where that of the whole is known or taken, and no server is asked for it."""
        known = self._whole is not None or self.state.blob_sha256
        needed = not known or self._edge.target.capabilities.server_sha256
        return hashlib.sha256(piece).hexdigest() if needed else ""


def check_source(edge: Edge, source_sha256: str) -> None:
    """Raise IntegrityError where the source's bytes were read whole and differ from their recorded hash."""
    if source_sha256 and edge.replica.blob_sha256 and source_sha256 != edge.replica.blob_sha256:
        hint = "run: python -m fabric verify"
        raise IntegrityError("the source's bytes are not what their hash says", store=edge.source.name, hint=hint)


def _resumable(edge: Edge, begun: Checkpoint, least_bytes: int) -> Checkpoint:
    """Return the checkpoint cut to the parts that really lie at the target."""
    size = begun.part_bytes or (begun.parts[0][1] if begun.parts else part_size(edge.replica.blob_bytes, least_bytes))
    anew = replace(begun, upload_id="", parts=(), done_bytes=0, part_bytes=size)
    if not begun.upload_id:
        return anew
    try:
        found = edge.target.list_parts(begun.blob, begun.upload_id)
    except NotFoundError:
        return anew
    if any(part.sha256 for part in found) and not edge.target.capabilities.server_sha256:
        return anew  # the server wants a SHA-256 of the other parts too, and `verify` has changed meanwhile
    stored = {(part.number, part.size_bytes, part.tag) for part in found}
    kept = tuple(part for part in begun.parts if part[:3] in stored)
    return replace(anew, upload_id=begun.upload_id, parts=kept, done_bytes=sum(part[1] for part in kept))


def _begin(edge: Edge, state: Checkpoint, save: Save, reached: Reached) -> Checkpoint:
    abandon_uploads(edge.target, state.blob)  # one that an earlier process began and could not record
    info = edge.source.head(edge.replica.blob)
    upload_id = edge.target.begin(
        state.blob,
        storage_class=edge.target_class,
        metadata=info.metadata or None,
        content_type=info.content_type,
    )
    reached("upload.begun")
    begun = replace(state, upload_id=upload_id)
    save(begun).result()
    return begun


def abandon_uploads(store: Store, blob: str) -> None:
    """Abort every unfinished upload of exactly ``blob``."""
    for key, upload_id in list(store.uploads(blob)):
        if key == blob:
            store.abort(key, upload_id)
