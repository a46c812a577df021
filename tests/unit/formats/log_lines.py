"""Lines of logs as programs write them, for tests: names, times and numbers are made up."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
START = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


def clf(seconds: float) -> str:
    """Return a time as access logs write it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def s3_line(
    key: str = "a/b.bin", *, at: float = START, op: str = "REST.GET.OBJECT", status: str = "200", sent: str = "100",
    size: str = "100", request: str = "R1", bucket: str = "pail", source: str = "192.0.2.3", requester: str = "-",
    agent: str = '"aws-cli/2.1"', uri: str | None = None, tail: str = " - abc= SigV4 TLS_AES - pail.s3.amazonaws.com -",
) -> str:  # fmt: skip
    """Return one line of an S3 server access log."""
    uri = f'"GET /{key} HTTP/1.1"' if uri is None else uri
    return (
        f"{OWNER} {bucket} [{clf(at)}] {source} {requester} {request} {op} {key} {uri} {status} - {sent} {size} 12 9 "
        f'"-" {agent}{tail}\n'
    )


def shared_logs() -> Path:
    """Return the folder of real samples; skips the test where it is not there."""
    root = Path(os.environ.get("FABRIC_SHARED", Path(__file__).parents[3] / ".." / "shared"))
    folder = root / "data" / "logs"
    if not folder.is_dir():
        pytest.skip("the real log samples are not in ../shared/data/logs")
    return folder
