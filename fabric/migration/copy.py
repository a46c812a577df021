"""Moving the bytes of one edge: a copy between two stores, or a class change inside one.

A blob whose hash is recorded is hashed once, at the target, by the proof (`verify`, or the server that is told the
hash). It is hashed as it is read at the source too, so that a damaged one completes no copy, where it has to be sent
again and where a copy could not be removed; so is one without a record. A blob of `part_bytes` or more goes in parts,
each recorded when it lies at the target, so that a later process sends only what is missing. Nothing here decides that
a copy is good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import msgspec

from fabric.catalog.heads import Head, Replica, Version
from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import ConflictError, IntegrityError, ModeError, NotFoundError
from fabric.core.words import Suite
from fabric.migration.buffers import BUFFERS
from fabric.migration.gate import Gate
from fabric.migration.parts import Save, abandon_uploads, check_source, goes_in_one, goes_in_parts, send
from fabric.migration.points import Reached
from fabric.migration.ports import Sealer
from fabric.storage.between import ServerCopy, Steps
from fabric.storage.server_copy import server_copy
from fabric.storage.store import CHUNK_BYTES, PIECE_MOST_BYTES, Announced, ObjectInfo, Store

replace = msgspec.structs.replace


@dataclass(frozen=True, slots=True)
class Edge:
    """Where one job's bytes come from and go to."""

    head: Head
    version: Version
    replica: Replica  # at the source; in place and already switched: at the target
    source: Store
    target: Store
    target_place: str
    target_class: str
    suite: Suite  # what the target zone asks for
    may_delete: bool  # at the target

    @property
    def in_place(self) -> bool:
        return self.source.name == self.target.name

    @property
    def verbatim(self) -> bool:
        """Whether the stored bytes may go as they are."""
        return self.replica.suite == self.suite


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy left at the target, and the hash of the source's bytes ("" where they were not read whole)."""

    checkpoint: Checkpoint
    source_sha256: str


def begun_copy(edge: Edge) -> Checkpoint:
    """Return the checkpoint that is recorded before the first byte goes: what may lie at the target from then on."""
    known = edge.verbatim or edge.in_place
    return Checkpoint(
        blob=edge.replica.blob,
        suite=edge.replica.suite if edge.in_place else edge.suite,
        blob_bytes=edge.replica.blob_bytes if known else 0,
        blob_sha256=edge.replica.blob_sha256 if known else "",
        owned=not edge.in_place,
    )


def copy_between(
    edge: Edge,
    sealer: Sealer,
    gate: Gate,
    checkpoint: Checkpoint,
    *,
    save: Save,
    part_bytes: int,
    one_request_bytes: int,
    whole: bool,
    again: bool,
    reached: Reached,
) -> Copied:
    """Bring the replica's bytes to the target store, going on where ``checkpoint`` ends.

    Never overwrites. A complete copy of the right size that no head lists was left by an earlier attempt of the same
    version (``again``): it is taken as it is, and proven or refused by `verify`; sealed anew, it is made again.

    Args:
        one_request_bytes: up to this a blob goes in one request to a server that streams.
        whole: hash a source that goes in parts as one; they then have no hash of their own, but where a server is told
            one.

    Raises:
        PreconditionError, NotFoundError: the source is not what the head says any more.
        IntegrityError: the source's bytes were hashed and differ from their record.
        Halt, FrozenError, UnavailableError: as `Gate.check`; what was written stays for a resume.
    """
    begun = begun_copy(edge)
    inside = server_copy(edge.source, edge.target) if edge.verbatim and edge.replica.blob_bytes else None
    joins = again and inside is not None and inside.is_under_way(begun.blob)
    if again and not joins and (left := _left_behind(edge, begun)) is not None:
        if checkpoint.upload_id:
            edge.target.abort(begun.blob, checkpoint.upload_id)  # completed just before a crash: nothing, or its rest
        abandon_uploads(edge.target, begun.blob)
        return Copied(replace(begun, parts=checkpoint.parts, tag=left.tag, done_bytes=left.size_bytes), "")
    if again and not checkpoint.upload_id:
        abandon_uploads(edge.target, begun.blob)  # a put may have gone in parts that no checkpoint names
    if inside is not None:
        return _by_server(edge, gate, inside, replace(begun, upload_id=checkpoint.upload_id), save, reached)
    if not edge.verbatim:
        return _sealed_anew(edge, sealer, gate, begun, reached=reached)
    if goes_in_parts(edge, part_bytes, one_request_bytes):
        state = replace(begun, upload_id=checkpoint.upload_id, parts=checkpoint.parts, part_bytes=checkpoint.part_bytes)
        sent = send(edge, gate, state, save, least_bytes=part_bytes, whole=whole, reached=reached)
        return _finished(edge, sent.state, sent.info, sent.source_sha256)
    hashed = again or not edge.replica.blob_sha256 or not edge.may_delete
    hasher = hashlib.sha256() if hashed else None
    return _whole(edge, gate, begun, hasher, in_one=goes_in_one(edge, one_request_bytes), reached=reached)


def _by_server(edge: Edge, gate: Gate, inside: ServerCopy, state: Checkpoint, save: Save, reached: Reached) -> Copied:
    """Have the server that holds both places copy the blob and all it carries; an earlier attempt's upload is ended."""
    blob = state.blob
    if state.upload_id:
        edge.target.abort(blob, state.upload_id)

    def begun(upload_id: str) -> None:
        reached("upload.begun")
        save(replace(state, upload_id=upload_id)).result()

    def brought(done_bytes: int) -> None:
        gate.check()
        gate.done_bytes = done_bytes

    steps = Steps(begun, brought, completing=lambda: reached("upload.completing"))
    tag = edge.replica.tag or edge.source.head(blob).tag
    info = inside.copy(blob, blob, edge.target_class, state.blob_bytes, tag, steps)
    reached("copy.put")
    return _finished(edge, state, info, "")


def _left_behind(edge: Edge, begun: Checkpoint) -> ObjectInfo | None:
    """Return a finished copy of an earlier attempt, after removing one that cannot be used."""
    try:
        left = edge.target.head(begun.blob)
    except NotFoundError:
        return None
    if edge.verbatim and left.size_bytes == begun.blob_bytes:
        return left
    if not edge.may_delete:
        raise ModeError(
            "a copy of an earlier attempt is in the way and the mode forbids removing it", store=edge.target.name
        )
    edge.target.delete(begun.blob, tag=left.tag)
    return None


def _whole(
    edge: Edge, gate: Gate, begun: Checkpoint, hasher: hashlib._Hash | None, *, in_one: bool, reached: Reached
) -> Copied:
    watch, replica = gate.watch("before"), edge.replica

    def sha256() -> str:
        return "" if hasher is None else hasher.hexdigest()

    with (
        BUFFERS.lent(PIECE_MOST_BYTES if in_one else CHUNK_BYTES) as (memory,),  # what is limited goes evenly
        edge.source.open(replica.blob, tag=replica.tag or None, into=memory) as reading,
    ):
        pieces = _as_recorded(edge, gate.through(watch.over(reading), hasher), sha256)
        first = list(islice(pieces, 1))  # before the target is asked: the source is timed for itself
        info = edge.target.put(
            begun.blob,
            chain(first, pieces),
            only_if_absent=True,
            storage_class=edge.target_class,
            metadata=reading.info.metadata or None,
            content_type=reading.info.content_type,
            announced=Announced(replica.blob_bytes, replica.blob_sha256) if in_one else None,
        )
    reached("copy.put")
    return _finished(edge, begun, info, sha256())


def _as_recorded(
    edge: Edge, pieces: Iterable[bytes | memoryview], sha256: Callable[[], str]
) -> Iterator[bytes | memoryview]:
    """Yield the source's bytes; the last ones only where all are what their hash says, if it is taken."""
    left = edge.replica.blob_bytes
    for piece in pieces:
        left -= len(piece)
        if left <= 0:
            check_source(edge, sha256())
        yield piece
    if left > 0:
        raise IntegrityError("the source is shorter than its record says", store=edge.source.name, missing=left)


def _sealed_anew(edge: Edge, sealer: Sealer, gate: Gate, begun: Checkpoint, *, reached: Reached) -> Copied:
    sealed = sealer.reseal(edge.source, edge.replica, edge.head, edge.version, edge.suite)
    info = edge.target.put(begun.blob, gate.through(sealed, None), only_if_absent=True, storage_class=edge.target_class)
    reached("copy.put")
    if sealed.sha256 != edge.version.sha256:
        raise IntegrityError("the source's plain bytes are not what their hash says", store=edge.source.name)
    known = replace(begun, blob_bytes=sealed.blob_bytes, blob_sha256=sealed.blob_sha256)
    done = replace(known, tag=info.tag, done_bytes=info.size_bytes)
    return Copied(done, "")


def _finished(edge: Edge, state: Checkpoint, info: ObjectInfo, source_sha256: str) -> Copied:
    done = replace(state, tag=info.tag, done_bytes=info.size_bytes, upload_id="")
    check_source(edge, source_sha256)
    return Copied(done, source_sha256)


def change_class(edge: Edge, reached: Reached) -> Checkpoint:
    """Change the replica's storage class in place, unless an earlier attempt already has.

    Raises:
        ConflictError: the store cannot change classes.
        PreconditionError: the stored object is not what the head says any more; nothing was changed.
    """
    if not edge.target.capabilities.class_change:
        raise ConflictError("the store cannot change a storage class in place", store=edge.target.name)
    blob = edge.replica.blob
    info = edge.target.head(blob)
    if info.storage_class != edge.target_class:
        info = edge.target.set_class(blob, edge.target_class, tag=edge.replica.tag or info.tag)
    reached("class.changed")
    return replace(begun_copy(edge), tag=info.tag, done_bytes=info.size_bytes)
