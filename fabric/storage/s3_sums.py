"""SHA-256 that an S3 server checks on receipt and keeps: of an object put whole, or of each of its parts."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

from fabric.storage.store import Part


def said(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` as a server is told it."""
    return base64_of(hashlib.sha256(data).hexdigest())


def found(answer: Mapping[str, Any]) -> str:
    """Return what `Store.checksum` promises from a server's answer; "" where it says nothing that can be read."""
    digest, dash, parts = str(answer.get("ChecksumSHA256", "")).partition("-")
    try:
        return base64.b64decode(digest, validate=True).hex() + dash + parts
    except binascii.Error:
        return ""


def completing(parts: tuple[Part, ...], *, summed: bool) -> list[dict[str, Any]]:
    """Return what completes an upload: each part's tag, and its SHA-256 where the upload is ``summed``."""
    return [
        {"PartNumber": part.number, "ETag": f'"{part.tag}"'}
        | ({"ChecksumSHA256": base64_of(part.sha256)} if summed and part.sha256 else {})
        for part in parts
    ]


def base64_of(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
