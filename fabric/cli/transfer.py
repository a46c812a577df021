"""Bytes between files and the engine, in bounded memory; what was received is checked against its hash."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fabric.cli.client import Answer
from fabric.core.errors import ConflictError, IntegrityError, UnavailableError
from fabric.core.files import TEMP_MARK

SIBLINGS = 300  # the HTTP status that lists them

Advance = Callable[[int], None]


def pieces(file: Path, size: int, advance: Advance) -> Iterator[bytes]:
    """Yield the bytes of ``file`` ("-": standard input) in pieces of at most ``size``."""
    stream = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    with stream:
        while piece := stream.read(size):
            yield piece
            advance(len(piece))
    advance(0)


def receive(answer: Answer, file: Path, advance: Advance) -> dict[str, Any]:
    """Write an answer's body into ``file`` ("-": standard output), whole or not at all; return its facts.

    Raises:
        ConflictError: the object has siblings, and none was named.
        UnavailableError: the bytes ended before their announced length.
        IntegrityError: the bytes do not hash to what the engine said; no file was left.
    """
    if answer.status == SIBLINGS:
        raise ConflictError(
            "the object has several versions that were written side by side",
            versions=", ".join(str(one["version"]) for one in answer.json()["siblings"]),
            hint="name one with --version",
        )
    if str(file) == "-":
        return _copy(answer, sys.stdout.buffer, advance)
    temporary = file.with_name(f"{TEMP_MARK}{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as target:
            facts = _copy(answer, target, advance)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    return facts


def _copy(answer: Answer, target: Any, advance: Advance) -> dict[str, Any]:
    digest, total = hashlib.sha256(), 0
    for piece in answer.chunks:
        target.write(piece)
        digest.update(piece)
        total += len(piece)
        advance(len(piece))
    target.flush()
    advance(0)
    announced = answer.headers.get("content-length", "")
    if announced and int(announced) != total:
        raise UnavailableError(
            "the answer ended before its announced length", received=total, announced=announced, hint="try again"
        )
    said = answer.headers.get("x-fabric-sha256", "")
    if answer.status == 200 and said and said != digest.hexdigest():
        raise IntegrityError(
            "the received bytes are not the object's",
            expected=said,
            received=digest.hexdigest(),
            hint="read again; then run: python -m fabric verify",
        )
    return {"bytes": total, "sha256": digest.hexdigest(), "etag": answer.headers.get("etag")}
