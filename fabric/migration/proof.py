"""How a copy is proven, by edge: the cheapest way that is a proof.

A SHA-256 that the target's own server checked on receipt and keeps is one, where it is the blob's recorded hash, or is
made of those that its parts had when they were read; it costs one request. Else every byte is read back through a newly
opened read. An ETag is never one.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from fabric.catalog.jobs import Checkpoint
from fabric.migration.copy import Edge
from fabric.migration.timing import TIMED_BYTES


class Proof(StrEnum):
    """What shows that the target holds the source's bytes; named in the job."""

    SERVER_SHA256 = "server_sha256"
    READ_BACK = "read_back"
    MEDIA = "media"  # read back, with the cached pages dropped first


def proof_of(edge: Edge, verify: str) -> Proof:
    """Choose by what the setting ``migration.verify`` asks for and what the target's server keeps."""
    if verify == "media":
        return Proof.MEDIA
    known = edge.verbatim and not edge.in_place and edge.target.capabilities.server_sha256
    known = known and edge.replica.blob_bytes > TIMED_BYTES  # so small a copy is read whole to be timed, anyway
    return Proof.SERVER_SHA256 if verify == "cheapest" and known else Proof.READ_BACK


def is_proven_by_server(edge: Edge, copy: Checkpoint, source_sha256: str) -> bool:
    """Say whether the target's server keeps the SHA-256 that the source's bytes are to have.

    False proves nothing wrong: the copy is then read back.

    Args:
        source_sha256: of what was read whole at the source, found to be what is recorded; "" where it was not hashed.
    """
    expected = source_sha256 if copy.parts else copy.blob_sha256 or source_sha256
    if not expected or not edge.target.capabilities.server_sha256:
        return False
    kept = edge.target.checksum(copy.blob, tag=copy.tag)
    if not copy.parts:
        return kept == expected
    digests = b"".join(bytes.fromhex(entry[3]) for entry in copy.parts)
    return kept == f"{hashlib.sha256(digests).hexdigest()}-{len(copy.parts)}"
