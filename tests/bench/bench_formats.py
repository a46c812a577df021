"""S3 access-log lines read per second on one core, beside a plain regular expression, and a whole log to columns.

Writes a log of made-up lines into a temporary folder (400 bytes a line), reads part of it with the expression that
parsers of this format commonly use, the same part with the product's parser, then all of it into the columns of a past
with repeats left out. Prints one JSON line.

    python tests/bench/bench_formats.py [--lines 10000000] [--peer-lines 200000]
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.formats.access import Account
from fabric.formats.files import blocks
from fabric.formats.lines import LineReader
from fabric.formats.load import read_past
from fabric.formats.mapping import LineMapping, builtin
from fabric.formats.reconcile import log_coverage
from fabric.formats.requesters import find_scanners

OBJECTS = 300_000
DAYS = 60
FILE_LINES = 250_000
START = 1_700_006_400
OWNER = "79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"
AGENTS = (
    "aws-cli/2.15.30 Python/3.11.8 Linux/5.10.0 exe/x86_64.ubuntu.22 prompt/off command/s3.cp",
    "Boto3/1.34.60 md/Botocore#1.34.60 ua/2.0 os/linux#5.15 md/arch#x86_64 lang/python#3.10.12",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
    "git-annex/10.20220927-geb4a544",
)
PEER = re.compile(
    r'(\S+) (\S+) \[([^\]]*)\] (\S+) (\S+) (\S+) (\S+) (\S+) ("[^"]*"|-) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) '
    r'("[^"]*"|-) ("[^"]*"|-) (\S+)(?: (\S+) (\S+) (\S+) (\S+) (\S+) (\S+))?.*'
)  # fmt: skip


def key_of(number: int) -> str:
    """Return an object's name."""
    return f"data/project-{number % 131:03d}/run-{number % 1009:04d}/part-{number:07d}.parquet"


def write_log(folder: Path, lines: int) -> int:
    """Write ``lines`` lines in files as S3 names them; return their bytes."""
    rng = np.random.default_rng(1)
    size = rng.lognormal(12, 2, OBJECTS).astype(np.int64) + 1
    keys = [key_of(number) for number in range(OBJECTS)]
    written = 0
    for first in range(0, lines, FILE_LINES):
        count = min(FILE_LINES, lines - first)
        at = START + (np.arange(first, first + count) * (DAYS * 86400 / lines)).astype(np.int64)
        obj = np.minimum(OBJECTS - 1, (rng.pareto(0.7, count) * 40).astype(np.int64))
        written += _write_file(folder, first, at.tolist(), obj.tolist(), keys, size)
    return written


def _write_file(folder: Path, first: int, at: list[int], obj: list[int], keys: list[str], size: Any) -> int:
    stamps: dict[int, str] = {}
    out = []
    for i, (second, number) in enumerate(zip(at, obj, strict=True)):
        stamp = stamps.get(second) or stamps.setdefault(
            second, datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        )
        key, n = keys[number], int(size[number])
        write = (first + i) % 40 == 0
        verb, op, sent = ("PUT", "REST.PUT.OBJECT", "-") if write else ("GET", "REST.GET.OBJECT", str(n))
        out.append(
            f"{OWNER} bench-bucket [{stamp}] 198.51.100.{i % 250} arn:aws:iam::123456789012:user/app-{i % 40} "
            f'{(first + i) * 2654435761 % (1 << 64):016X} {op} {key} "{verb} /{key} HTTP/1.1" 200 - {sent} {n} 38 35 '
            f'"-" "{AGENTS[i % 4]}" - U4WvVRIYm+n+VYNArVY/+fjDV3PZesvSaclnyALtK7rsaZ/8sTq8H1JnNAyMj/xuitYxXNUCZ+U= '
            "SigV4 ECDHE-RSA-AES128-GCM-SHA256 AuthHeader bench-bucket.s3.us-east-1.amazonaws.com TLSv1.2 - -\n"
        )
    delivered = datetime.fromtimestamp(at[-1] + 600, UTC).strftime("%Y-%m-%d-%H-%M-%S")
    data = "".join(out).encode()
    (folder / f"{delivered}-{first:016X}").write_bytes(data)
    return len(data)


def peer(path: Path, lines: int) -> float:
    """Return lines per second of processor time for the regular expression with times and numbers converted."""
    started = time.process_time()
    done = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            found = PEER.match(line)
            assert found is not None
            datetime.strptime(found[3], "%d/%b/%Y:%H:%M:%S %z").timestamp()
            _ = (found[8], found[5], found[17], found[4], -1 if found[12] == "-" else int(found[12]), int(found[13]))
            done += 1
            if done == lines:
                break
    return done / (time.process_time() - started)


def parse(paths: list[Path]) -> tuple[float, int]:
    """Return lines per second of processor time of the product's parser, and how many lines it read."""
    mapping = builtin("s3_access")
    assert isinstance(mapping, LineMapping)
    account = Account()
    reader = LineReader(mapping, account, compiled=True)
    for block in blocks(paths[0], 1 << 16):
        reader.read(block, "warm")  # compiled code is loaded here
        break
    before, started = account.read, time.process_time()
    for path in paths:
        for block in blocks(path):
            reader.read(block, path.name)
    return (account.read - before) / (time.process_time() - started), account.read - before


def memory_mib(field: str) -> float:
    """Return a figure of this process's memory, file pages included."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"{field}:\s+(\d+)", text)[0]) / 1024


def main() -> None:
    """Measure and print one JSON line."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=10_000_000)
    options.add_argument("--peer-lines", type=int, default=200_000)
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-formats-"))
    try:
        size = write_log(folder, given.lines)
        paths = sorted(folder.iterdir())
        by_peer = peer(paths[0], given.peer_lines)
        rate, parsed = parse(paths[: max(1, 1_000_000 // FILE_LINES)])
        started, worked = time.perf_counter(), time.process_time()
        past = read_past([folder])
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        assert past.account.balanced
        assert len(past) == given.lines
        told = time.perf_counter()
        covered, scanners = log_coverage(past), find_scanners(past)
        told = time.perf_counter() - told
    finally:
        shutil.rmtree(folder)
    print(
        json.dumps(
            {
                "bench": "formats",
                "lines": given.lines,
                "bytes": size,
                "objects": past.objects,
                "parser_lines_per_cpu_second": round(rate),
                "parsed_lines": parsed,
                "regex_lines_per_cpu_second": round(by_peer),
                "ratio_to_regex": round(rate / by_peer, 1),
                "columns_seconds": round(seconds, 1),
                "columns_cpu_seconds": round(cpu, 1),
                "coverage": round(covered.share, 4),
                "scanners": len(scanners),
                "coverage_and_scanners_seconds": round(told, 1),
                "peak_rss_mib": round(memory_mib("VmHWM")),
                "machine": platform.machine(),
                "python": platform.python_version(),
                "versions": {name: metadata.version(name) for name in ("numpy", "numba")},
            }
        )
    )


if __name__ == "__main__":
    main()
