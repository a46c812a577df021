"""PUT and GET through the product's own engine and server against `rclone serve s3` and SeaweedFS.

    python tests/bench/bench_plane.py [--quick] [--sizes 4,1024,1048576] [--clients 1,16] [--copies 1,3]
                                      [--suites plain,encrypted] [--peers rclone,seaweedfs] [--rounds 3]

Cells: 4 KiB, 1 MiB and 1 GiB (--quick: 64 MiB), 1 and 16 clients, N = 1 and 3, plain and encrypted; 16 clients at
1 GiB for N = 1 alone. The fabric is the whole engine with its components, as a process of its own over managed local
folders; its peak RSS is that process's. Every client keeps one connection open, is the same code for all three and
takes its turn in the same round; peers are reached by presigned URLs and hold one plain copy whatever N is. A cell's
ratio is the median over the rounds of (fabric's MB/s / peer's MB/s of that round). Prints one JSON line.

Bars: 1 GiB GET, 1 client, N = 1, plain >= 0.5 x rclone; RSS < 300 MiB after 16 x 1 GiB PUT and GET, N = 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import botocore.session  # noqa: E402
import servers  # noqa: E402
from botocore.config import Config  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK = os.urandom(MIB)
REQUESTS_MOST = {1: 60, 16: 12}  # of each client in a round
REQUEST_BYTES = {1: 40 * MIB, 16: 12 * MIB}  # of each client in a round, where that is fewer requests
PREFIX = {"plain": "open/", "encrypted": "closed/"}
ONLY_ONE_COPY_BYTES = 128 * MIB  # 16 clients at once with larger objects: N = 1 alone


@dataclass(frozen=True, slots=True)
class Target:
    """A server: where it listens, what a path is, and the process whose memory counts."""

    host: str
    port: int
    path: Callable[[str, str], str]  # (method, key) -> path with query
    headers: dict[str, str]
    pid: int = 0


def serve(folder: Path, copies: int) -> None:
    """Run a whole engine until standard input ends; print its URL and token."""
    from fabric.app.run import Running
    from fabric.core.clock import SystemClock
    from fabric.core.config import PlacementSettings, PolicySettings, Settings, StoreSettings
    from fabric.core.words import Classification, Mode
    from fabric.demos.sample import Sample

    stores = {
        f"s{n}": StoreSettings(url=str(folder / f"store-{n}"), mode=Mode.MOVE, kind="managed", domain=f"d{n}")
        for n in range(copies)
    }
    settings = Settings(
        stores=stores,
        policies=(PolicySettings(prefix="open/", classification=Classification.PUBLIC),),
        placement=PlacementSettings(copies=copies),
    )
    running = Running(folder / "data", settings, Sample(), SystemClock(), inside=True)
    running.start()
    mark = running.engine.mark
    sys.stdout.write(json.dumps({"url": mark.url, "token": mark.token}) + "\n")
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    running.stop()


@contextmanager
def fabric(copies: int, suite: str, *, folder: Path | None = None) -> Iterator[Target]:
    """Start an engine of its own in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="plane-", dir=folder) as own:
        command = [sys.executable, __file__, "--serve", own, "--serve-copies", str(copies)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            found = json.loads(process.stdout.readline())
            parts = urlsplit(found["url"])
            headers = {"Authorization": f"Bearer {found['token']}"}
            path = f"/api/objects/{PREFIX[suite]}"
            yield Target(parts.hostname or "", parts.port or 0, lambda _, key: path + key, headers, process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


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
        yield Target("127.0.0.1", port, lambda _, key: f"/bucket/{key}", {}, process.pid)
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def seaweedfs() -> Iterator[Target]:
    """Start SeaweedFS; its paths are presigned."""
    with servers.seaweedfs(volume_mb=512, volumes=40) as server:
        client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )
        lock = threading.Lock()

        def path(method: str, key: str) -> str:
            act = "put_object" if method == "PUT" else "get_object"
            with lock:
                url = urlsplit(client.generate_presigned_url(act, Params={"Bucket": server.bucket, "Key": key}))
            return f"{url.path}?{url.query}"

        parts = urlsplit(server.endpoint)
        yield Target(parts.hostname or "", parts.port or 0, path, {}, server.pid)


class Client:
    """One connection, kept open where the server allows it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = HTTPConnection(target.host, target.port, timeout=600)
        self._into = bytearray(MIB)

    def prepared(self, method: str, key: str) -> str:
        """Return the request's path; signing is not part of what is measured."""
        return self._target.path(method, key)

    def put(self, path: str, size: int) -> None:
        connection = self._connection
        connection.putrequest("PUT", path)
        for name, value in self._target.headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for at in range(0, size, MIB):
            connection.send(memoryview(BLOCK)[: min(MIB, size - at)])
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in (200, 201), (answer.status, body)

    def get(self, path: str, size: int) -> None:
        self._connection.request("GET", path, headers=self._target.headers)
        answer = self._connection.getresponse()
        assert answer.status == 200, (answer.status, answer.read())
        received = 0
        while count := answer.readinto(self._into):
            received += count
        assert received == size

    def close(self) -> None:
        self._connection.close()


def round_of(target: Target, method: str, size: int, clients: int, *, most: int) -> tuple[list[float], float]:
    """Return every request's seconds and the MB/s of all clients together."""
    repeats = max(1, min(most, REQUESTS_MOST[clients], REQUEST_BYTES[clients] // size))

    def one_client(number: int) -> list[float]:
        client, times = Client(target), []
        key = f"{size}-{number if method == 'PUT' else 0}"
        path = client.prepared(method, key)
        for _ in range(repeats):
            began = time.perf_counter()
            client.put(path, size) if method == "PUT" else client.get(path, size)
            times.append(time.perf_counter() - began)
        client.close()
        return times

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [seconds for found in pool.map(one_client, range(clients)) for seconds in found]
    return times, size * len(times) / 1e6 / (time.perf_counter() - began)


def cell(targets: dict[str, Target], method: str, size: int, clients: int, rounds: int, most: int) -> dict[str, object]:
    """Measure one cell, the targets in turn in every round."""
    times: dict[str, list[float]] = {name: [] for name in targets}
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for number in range(rounds):
        order = list(targets.items())
        for name, target in order if number % 2 == 0 else reversed(order):
            seconds, rate = round_of(target, method, size, clients, most=most)
            times[name] += seconds
            rates[name].append(rate)
    found: dict[str, object] = {name: _figures(times[name], rates[name]) for name in targets}
    for name in targets:
        if name != "fabric":
            ratios = sorted(ours / theirs for ours, theirs in zip(rates["fabric"], rates[name], strict=True))
            spread = [round(ratios[0], 2), round(ratios[-1], 2)]
            found[f"/ {name}"] = {"ratio": round(statistics.median(ratios), 2), "spread": spread}
    return found


def _figures(times: list[float], rates: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": round(1000 * statistics.median(ordered), 2),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 2),
        "mb_s": round(statistics.median(rates), 1),
    }


def peak_rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)


def name_of(size: int) -> str:
    return next(f"{size // unit} {word}" for unit, word in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= unit)


def matrix(given: argparse.Namespace, peers: dict[str, Target], note: Callable[[str, object], None]) -> None:
    """Measure the cells asked for; ``note`` takes each as it is done."""
    for copies in given.copies:
        for suite in given.suites:
            with fabric(copies, suite) as ours:
                for size in (kib * KIB for kib in given.sizes):
                    targets = {"fabric": ours, **peers}
                    for target in targets.values():
                        round_of(target, "PUT", size, 1, most=1)
                    for clients in given.clients:
                        if clients > 1 and size >= ONLY_ONE_COPY_BYTES:
                            continue  # `memory` has those
                        rounds = given.rounds if size < ONLY_ONE_COPY_BYTES or (copies, suite) == (1, "plain") else 1
                        for method in ("PUT", "GET"):
                            found = cell(targets, method, size, clients, rounds, REQUESTS_MOST[1])
                            note(f"{method} {name_of(size)} x{clients} N={copies} {suite}", found)
                note(f"peak RSS MiB N={copies} {suite}", peak_rss_mib(ours.pid))


def memory(size: int, clients: int, peers: dict[str, Target], note: Callable[[str, object], None]) -> float:
    """PUT then GET of ``clients`` large objects at once, N = 1, plain; return the engine's peak RSS in MiB."""
    if "rclone" in peers:
        round_of(peers["rclone"], "PUT", size, 1, most=1)
    with fabric(1, "plain") as ours:
        for method in ("PUT", "GET"):
            _, rate = round_of(ours, method, size, clients, most=1)
            found: dict[str, object] = {"fabric": {"mb_s": round(rate, 1)}}
            found["fabric_peak_rss_mib"] = peak_rss_mib(ours.pid)
            if method == "GET" and "rclone" in peers:
                _, theirs = round_of(peers["rclone"], method, size, clients, most=1)
                found["rclone"] = {"mb_s": round(theirs, 1)}
                found["/ rclone"] = {"ratio": round(rate / theirs, 2)}
            note(f"{method} {name_of(size)} x{clients} N=1 plain, memory", found)
        return peak_rss_mib(ours.pid)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="64 MiB instead of 1 GiB, N = 1, one round")
    parser.add_argument("--sizes", type=numbers, help="KiB")
    parser.add_argument("--clients", type=numbers, default=[1, 16])
    parser.add_argument("--copies", type=numbers)
    parser.add_argument("--suites", type=lambda text: text.split(","), default=["plain", "encrypted"])
    parser.add_argument("--peers", type=lambda text: [p for p in text.split(",") if p], default=["rclone", "seaweedfs"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--no-memory", action="store_true", help="leave out the 16 large objects at once")
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--serve-copies", type=int, default=1)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.serve_copies)
        return
    large = (64 * KIB) if given.quick else MIB  # KiB
    given.sizes = given.sizes or [4, 1024, large]
    given.copies = given.copies or ([1] if given.quick else [1, 3])
    given.rounds = given.rounds or (1 if given.quick else 3)
    cells: dict[str, object] = {}

    def note(name: str, found: object) -> None:
        cells[name] = found
        sys.stderr.write(f"{name}: {json.dumps(found)}\n")

    with tempfile.TemporaryDirectory(prefix="peer-") as folder, ExitStack() as stack:
        peers: dict[str, Target] = {}
        if "rclone" in given.peers:
            peers["rclone"] = stack.enter_context(rclone(Path(folder)))
        if "seaweedfs" in given.peers:
            peers["seaweedfs"] = stack.enter_context(seaweedfs())
        rss = None if given.no_memory else memory(max(given.sizes) * KIB, 16, peers, note)
        matrix(given, peers, note)
    bar = cells.get(f"GET {name_of(max(given.sizes) * KIB)} x1 N=1 plain")
    machine = {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}
    machine |= {"werkzeug": version("werkzeug"), "load": [round(load, 1) for load in os.getloadavg()]}
    result = {"bench": "plane", "machine": machine, "quick": given.quick, "rounds": given.rounds, "cells": cells}
    if isinstance(bar, dict) and "/ rclone" in bar:
        result["large_get_to_rclone"] = bar["/ rclone"] | {"bar": 0.5}
    if rss is not None:
        result["peak_rss_mib"] = {"measured": rss, "bar": 300, "objects": 16, "mib_each": max(given.sizes) // KIB}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
