"""HTTP conditions and ranges (RFC 9110), as pure rules."""

from __future__ import annotations

import re

from fabric.core.errors import BadInputError, RangeError

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Return (start, end exclusive) of the one range asked for; None where the whole object is to be sent.

    A range in another unit, more than one, or one that makes no sense is ignored, as the RFC wants.

    Raises:
        RangeError: no byte of the object lies in it (416).
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    end = min(size_bytes, int(last) + 1) if first and last else size_bytes
    if start >= size_bytes or start >= end:
        raise RangeError(
            "the range lies outside the object", hint=f"the object has {size_bytes} bytes", size_bytes=size_bytes
        )
    return start, end


def parse_tags(header: str) -> tuple[str, ...]:
    """Return the version ids of an If-Match or If-None-Match header; ``("*",)`` for any, ``()`` for none sent."""
    text = header.strip()
    if not text:
        return ()
    if text == "*":
        return ("*",)
    found = tuple(match.group(1) for match in _TAG.finditer(text))
    if not found:
        raise BadInputError("an entity tag is written in double quotes", hint='If-Match: "VERSION_ID"', given=text)
    return found
