"""One object of 5 GiB through PUT and GET over HTTP: the same bytes come back, in bounded memory.

    python tests/bench/bench_huge_object.py [--gib 5]

The engine is a process of its own over one managed folder; the object is encrypted. Bytes are made as they are sent
and hashed as they come back; nothing of them is kept. Needs five times the size free on the disk. Prints one JSON
line: seconds each way, the engine's peak RSS, and whether the hashes agree; exits 1 when they do not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.system.own_world import World, engine

MIB, GIB = 1 << 20, 1 << 30
BLOCK = os.urandom(MIB)
ROOM = 5  # times the object's size that must be free


def pieces(size: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield ``size`` bytes, a different first eight in each MiB, hashing them on the way."""
    for number in range(0, size, MIB):
        piece = (number.to_bytes(8, "big") + BLOCK[8:])[: size - number]
        digest.update(piece)
        yield piece


def measured(world: World, size: int) -> dict[str, object]:
    """Put and get one object of ``size`` bytes."""
    mark, digest, back = world.mark(), hashlib.sha256(), hashlib.sha256()
    url = urlsplit(mark.url)
    connection = HTTPConnection(str(url.hostname), url.port, timeout=3600)
    sent = {"Authorization": f"Bearer {mark.token}", "Content-Length": str(size)}
    began = time.perf_counter()
    connection.request("PUT", "/api/objects/notes/huge", pieces(size, digest), sent)
    answer = connection.getresponse()
    answer.read()
    put_seconds, status, said = time.perf_counter() - began, answer.status, answer.getheader("X-Fabric-SHA256")
    began, received = time.perf_counter(), 0
    connection.request("GET", "/api/objects/notes/huge", headers={"Authorization": sent["Authorization"]})
    answer = connection.getresponse()
    while piece := answer.read(MIB):
        back.update(piece)
        received += len(piece)
    get_seconds = time.perf_counter() - began
    same = status == 201 and received == size and digest.hexdigest() == back.hexdigest() == said
    return {
        "bytes": size,
        "same": same,
        "put_seconds": round(put_seconds, 1),
        "get_seconds": round(get_seconds, 1),
        "put_mb_s": round(size / put_seconds / 1e6, 1),
        "get_mb_s": round(size / get_seconds / 1e6, 1),
        "engine_peak_rss_mib": peak_rss_mib(mark.pid),
    }


def peak_rss_mib(pid: int) -> int:
    """Return a process's largest resident memory so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


def main() -> int:
    """Run and print the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=5.0)
    size = int(parser.parse_args().gib * GIB)
    with tempfile.TemporaryDirectory(prefix="huge-") as folder:
        if shutil.disk_usage(folder).free < ROOM * size:
            print(json.dumps({"bench": "huge_object", "skipped": "not enough room on the disk", "bytes": size}))
            return 0
        world = World(Path(folder))
        with engine(world):
            found = measured(world, size)
    machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps({"bench": "huge_object", **machine, **found}))
    return 0 if found["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
