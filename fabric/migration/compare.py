"""A copy read back and compared with its source, byte for byte: what a hash would show, at a fraction of its cost.

It needs the source's bytes a second time. So it is done where they lie in this machine's memory, as they do just after
they were copied from a folder; elsewhere the copy is hashed (`verify.py`). That the source itself is what was recorded
is shown by its hash, taken while it was copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fabric.catalog.jobs import Checkpoint
from fabric.core.errors import FabricError
from fabric.migration.buffers import BUFFERS, is_equal
from fabric.migration.copy import Edge
from fabric.migration.gate import Gate
from fabric.storage.cached import Caches
from fabric.storage.store import CHUNK_BYTES, Store
from fabric.storage.wrappers import innermost


def may_compare(source: Store) -> bool:
    """Say whether copies may be compared with what lies at ``source``: it is a folder of this machine."""
    return isinstance(innermost(source), Caches)


def is_same(edge: Edge, copy: Checkpoint, gate: Gate) -> bool:
    """Read the copy through a newly opened read and compare it with the edge's replica.

    False proves nothing wrong: the source does not lie in memory or cannot be read any more, or a byte differs, and
    hashing the copy tells.

    Raises:
        Halt, FrozenError, UnavailableError: as `Gate.check`.
        FabricError: of the target.
    """
    source = innermost(edge.source)  # what this machine holds in memory is no request to a store
    if not copy.blob_bytes or not isinstance(source, Caches):
        return False
    try:
        return source.is_cached(edge.replica.blob) and _is_same(edge, source, copy, gate)
    except FabricError as error:
        if error.context.get("store") == edge.source.name != edge.target.name:
            return False
        raise


def _is_same(edge: Edge, source: Store, copy: Checkpoint, gate: Gate) -> bool:
    watch, replica = gate.watch("after"), edge.replica
    with (
        BUFFERS.lent(CHUNK_BYTES, 2) as (left, right),
        edge.target.open(copy.blob, tag=copy.tag or None, into=right) as found,
        source.open(replica.blob, tag=replica.tag or None, into=left) as wanted,
    ):
        is_whole = found.info.size_bytes == wanted.info.size_bytes == copy.blob_bytes
        return is_whole and is_equal(iter(wanted), _checked(watch.over(found), gate))


def _checked(pieces: Iterable[bytes | memoryview], gate: Gate) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        gate.check()
        yield piece
