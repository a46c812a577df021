"""PUT and GET through the object API against `rclone serve s3` and SeaweedFS, same client, same run.

    python tests/bench/bench_plane.py [--quick] [--large MIB] [--peers rclone,seaweedfs]

Cells: 4 KiB, 1 MiB and one large object (1 GiB; --quick: 64 MiB), 1 and 16 clients, N = 1 and 3, plain and encrypted.
The fabric runs as a process of its own (threaded HTTP/1.1, local stores); its peak RSS is read after N = 1. Clients
are raw sockets in this process; peers are reached by presigned URLs. Prints one JSON line.

Bars: large GET, 1 client, N = 1, plain >= 0.5 x rclone; RSS < 300 MiB at 16 large PUTs and GETs, N = 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
for room in ("plane", "consistency"):
    sys.path.append(str(Path(__file__).parents[1] / "unit" / room))

import botocore.session  # noqa: E402
import servers  # noqa: E402
from botocore.config import Config  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
BLOCK = os.urandom(MIB)
REPEATS = {4 * KIB: 100, MIB: 40}
CLIENTS = (1, 16)

Target = Callable[[str, str], tuple[str, int, str]]  # (method, key) -> (host, port, path with query)


def serve(folder: Path, copies: int) -> None:
    """Run the data plane until standard input ends; print the port."""
    from plane_world import served, world

    from fabric.storage.local import LocalStore

    stores = []
    for number in range(copies):
        root = folder / f"store-{number}"
        root.mkdir()
        stores.append(LocalStore(f"s{number}", root))
    made = world(folder, stores)
    with served(made.app) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()
    made.bench.database.stop()


@contextmanager
def fabric(copies: int) -> Iterator[tuple[str, int]]:
    """Start the data plane; give its URL and process id."""
    with tempfile.TemporaryDirectory(prefix="plane-") as folder:
        command = [sys.executable, __file__, "--serve", folder, "--copies", str(copies)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.stdin.close()
            process.wait(30)


@contextmanager
def rclone(folder: Path) -> Iterator[Target]:
    """Serve a folder with `rclone serve s3` without signatures, which is its quickest way."""
    (port,) = servers.free_ports(1)
    (folder / "bucket").mkdir()
    command = [servers.program("rclone") or "rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}"]
    command += ["--config", os.devnull, "--vfs-cache-mode", "off", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                HTTPConnection("127.0.0.1", port, timeout=1).connect()
                break
            except OSError:
                time.sleep(0.1)
        yield lambda _, key: ("127.0.0.1", port, f"/bucket/{key}")
    finally:
        process.terminate()
        process.wait(10)


def fabric_target(url: str, prefix: str) -> Target:
    parts = urlsplit(url)
    return lambda _, key: (parts.hostname or "", parts.port or 0, f"/api/objects/{prefix}{key}")


def s3_target(server: servers.Server) -> Target:
    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )

    def target(method: str, key: str) -> tuple[str, int, str]:
        act = "put_object" if method == "PUT" else "get_object"
        url = urlsplit(client.generate_presigned_url(act, Params={"Bucket": server.bucket, "Key": key}))
        return url.hostname or "", url.port or 0, f"{url.path}?{url.query}"

    return target


def put(target: Target, key: str, size: int) -> None:
    host, port, path = target("PUT", key)
    connection = HTTPConnection(host, port, timeout=600)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    for at in range(0, size, MIB):
        connection.send(memoryview(BLOCK)[: min(MIB, size - at)])
    answer = connection.getresponse()
    answer.read()
    assert answer.status in (200, 201), (answer.status, answer.reason)
    connection.close()


def get(target: Target, key: str, size: int, into: bytearray) -> None:
    host, port, path = target("GET", key)
    connection = HTTPConnection(host, port, timeout=600)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    received = 0
    while count := answer.readinto(into):
        received += count
    assert received == size
    connection.close()


def measured(target: Target, method: str, size: int, clients: int, repeats: int) -> dict[str, float]:
    """Return p50 and p99 of one request in ms and MB/s of all together."""

    def one_client(number: int) -> list[float]:
        into, times = bytearray(MIB), []
        for _ in range(repeats):
            began = time.perf_counter()
            if method == "PUT":
                put(target, f"{size}-{number}", size)
            else:
                get(target, f"{size}-0", size, into)
            times.append(time.perf_counter() - began)
        return times

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = sorted(t for found in pool.map(one_client, range(clients)) for t in found)
    total = time.perf_counter() - began
    return {
        "p50_ms": round(1000 * statistics.median(times), 2),
        "p99_ms": round(1000 * times[min(len(times) - 1, int(0.99 * len(times)))], 2),
        "mb_s": round(size * len(times) / 1e6 / total, 1),
    }


def cells(target: Target, large: int, *, wide_put: bool) -> dict[str, dict[str, float]]:
    """Measure every size, method and number of clients. ``wide_put``: 16 large PUTs at once too."""
    found = {}
    for size in (4 * KIB, MIB, large):
        put(target, f"{size}-0", size)
        for clients in CLIENTS:
            repeats = max(1, REPEATS.get(size, 3 if clients == 1 else 1) // (1 if clients == 1 else 4))
            name = f"{size // KIB}KiB x{clients}"
            if size != large or clients == 1 or wide_put:
                found[f"PUT {name}"] = measured(target, "PUT", size, clients, repeats)
            found[f"GET {name}"] = measured(target, "GET", size, clients, repeats)
            sys.stderr.write(f"{name} {found.get(f'PUT {name}')} {found[f'GET {name}']}\n")
    return found


def peak_rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--large", type=int, help="MiB of the large object")
    parser.add_argument("--peers", default="rclone,seaweedfs")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of copies")
    parser.add_argument("--serve")
    parser.add_argument("--copies", type=int, default=1)
    given = parser.parse_args()
    if given.serve:
        serve(Path(given.serve), given.copies)
        return
    large = (given.large or (64 if given.quick else 1024)) * MIB
    result: dict[str, object] = {}
    for copies in given.only or (1, 3):
        with fabric(copies) as (url, pid):
            for prefix, suite in (("open/", "plain"), ("", "encrypted")):
                wide = copies == 1 and suite == "plain"
                result[f"fabric N={copies} {suite}"] = cells(fabric_target(url, prefix), large, wide_put=wide)
            if copies == 1:
                result["fabric_peak_rss_mib"] = peak_rss_mib(pid)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder, ExitStack() as stack:
        if "rclone" in given.peers:
            result["rclone serve s3"] = cells(stack.enter_context(rclone(Path(folder))), large, wide_put=False)
        if "seaweedfs" in given.peers:
            peer = stack.enter_context(servers.seaweedfs())
            result["seaweedfs"] = cells(s3_target(peer), large, wide_put=False)
    name = f"{large // KIB}KiB x1"
    ratios = {}
    for rival in ("rclone serve s3", "seaweedfs"):
        if rival in result:
            for method in ("PUT", "GET"):
                ours = result["fabric N=1 plain"][f"{method} {name}"]["mb_s"]  # type: ignore[index]
                theirs = result[rival][f"{method} {name}"]["mb_s"]  # type: ignore[index]
                ratios[f"{method} large x1 N=1 plain / {rival}"] = round(ours / theirs, 2)
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    machine |= {"werkzeug": version("werkzeug"), "large_mib": large // MIB}
    sys.stdout.write(json.dumps({"bench": "plane", "machine": machine, "ratios": ratios, **result}) + "\n")


if __name__ == "__main__":
    main()
