"""A large upload killed by SIGKILL at its half: how many bytes reach the server before and after, counted on the wire.

A process moves one object from a folder to a real S3 server through a proxy that counts what is sent to it; it is
killed when half has passed, and another goes on over what it left. rclone is killed and started again the same way.
Prints one JSON line.

    python tests/bench/bench_migration_resume.py [--mib 300]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

pairs = importlib.import_module("migration_pairs")
parts = importlib.import_module("fabric.migration.parts")
servers = pairs.servers

PIECE = 1 << 16
KEY = "00000"
DONE_SECONDS = 300.0


class Counter:
    """Passes connections on to a server and counts the bytes that clients send."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        self._server = (str(url.hostname), int(url.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._changed = threading.Condition()
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, sent: int, process: subprocess.Popen[bytes]) -> None:
        """Return when so many bytes have passed, or the process has ended."""
        with self._changed:
            while self.sent < sent and process.poll() is None:
                self._changed.wait(0.01)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                target.sendall(piece)
                if counted:
                    with self._changed:
                        self.sent += len(piece)
                        self._changed.notify_all()
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def world(folder: Path, server: Any, size: int) -> Iterator[Any]:
    """Open the pair over ``folder``; its catalog is the same for each process."""
    source, target = pairs.folder_side(folder / "a", flush=False), pairs.bucket_side(server, "rb")
    pair = pairs.Pair(folder, source, target, pairs.Set(0, 0, size), {})
    opened = pairs.migration_world.World(folder / "catalog", settings=pair.settings, fleet_given=pair.fleet())
    opened.fleet.start()
    opened.migration.start()
    yield opened
    opened.close()


def carry(folder: Path, server: Any, size: int) -> None:
    """Move the object, or go on with its move, until its job has ended. The body of a process of its own."""
    with world(folder, server, size) as opened:
        if not opened.jobs.of_key(KEY):
            opened.decide(KEY, f"b/{pairs.CLASS}")
        while not opened.jobs.of_key(KEY) or opened.job(KEY).state not in pairs.migration_world.ENDED:
            opened.migration.tools.stopping.wait(opened.migration.tick())
        print(opened.job(KEY).state, opened.job(KEY).reason)


def killed_and_again(counter: Counter, start: Callable[[], subprocess.Popen[bytes]], half: int) -> dict[str, int]:
    """Kill the first process when ``half`` has passed, let a second one end; return the bytes of each."""
    before = counter.sent
    first = start()
    counter.wait_for(before + half, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    middle = counter.sent
    second = start()
    second.wait(DONE_SECONDS)
    assert second.returncode == 0, "the second process did not bring it to its end"
    return {"first_bytes": middle - before, "second_bytes": counter.sent - middle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=300)
    parser.add_argument("--carry", nargs=2, metavar=("FOLDER", "SERVER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = given.mib << 20
    if given.carry:
        carry(Path(given.carry[0]), servers.Server(**json.loads(given.carry[1])), size)
        return
    with tempfile.TemporaryDirectory() as name, servers.seaweedfs(volume_mb=1024, volumes=8) as server:
        print(json.dumps(measured(Path(name), server, size, given.mib)))


def measured(folder: Path, server: Any, size: int, mib: int) -> dict[str, object]:
    counter = Counter(server.endpoint)
    counted = dataclasses.replace(server, endpoint=counter.endpoint)
    with world(folder, server, size) as opened:
        opened.write(KEY, pairs.payload(size, 1), place="a/hot")
    command = [sys.executable, __file__, "--mib", str(mib), "--carry", str(folder)]
    fabric = killed_and_again(
        counter, lambda: subprocess.Popen([*command, json.dumps(dataclasses.asdict(counted))]), size // 2
    )
    with world(folder, server, size) as opened:
        fabric["completed"] = int(opened.job(KEY).state == "COMPLETED")
        fabric["unfinished_uploads"] = len(list(opened.store("b").uploads()))
    peer: dict[str, int] = {}
    if (program := servers.program("rclone")) is not None:
        remote = pairs.bucket_side(counted, "rb").remote + "/peer"
        copy = [program, "copy", str(folder / "a" / "hot" / "objects"), remote]
        env = {**os.environ, "RCLONE_CONFIG": os.devnull}
        peer = killed_and_again(counter, lambda: subprocess.Popen(copy, env=env), size // 2)
    part = parts.part_size(size, pairs.config.MigrationSettings().part_bytes)
    resent = fabric["first_bytes"] + fabric["second_bytes"] - size
    return {
        "bench": "migration_resume",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "system": platform.platform()},
        "size_bytes": size,
        "part_bytes": part,
        "streams": parts.STREAMS_MOST,
        "fabric": fabric,
        "rclone": peer,
        "ratios": {
            "fabric_resent_parts_per_stream": round(resent / part / parts.STREAMS_MOST, 3),
            "fabric_second_run_of_whole": round(fabric["second_bytes"] / size, 3),
            "rclone_second_run_of_whole": round(peer["second_bytes"] / size, 3) if peer else None,
        },
    }


if __name__ == "__main__":
    main()
