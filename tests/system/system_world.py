"""The real program under test: started as a user starts it, asked over HTTP, ended by its own process id."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.servers import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def environment(**more: str) -> dict[str, str]:
    """Return an environment with one free port to listen on."""
    port = str(free_ports(1)[0])
    ports = {"FABRIC_DASHBOARD__PORT_FIRST": port, "FABRIC_DASHBOARD__PORT_LAST": port}
    return {**os.environ, **ports, "PYTHONUNBUFFERED": "1", **more}


def ask(url: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """Send one request; any status is an answer, no connection is an OSError."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url.rstrip("/") + path, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, dict(error.headers), error.read())


class Program:
    """One process of the product over a data folder; its output goes to files beside the folder."""

    def __init__(self, folder: Path, *arguments: str, script: str = "run_complete_system.py", **more: str) -> None:
        self.folder = folder
        number = len(list(folder.parent.glob(f"{folder.name}.*.log")))
        self.log = folder.parent / f"{folder.name}.{number}.log"
        self.printed = folder.parent / f"{folder.name}.{number}.out"
        self.started = time.monotonic()
        with self.log.open("wb") as errors, self.printed.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, script, "--data-dir", str(folder), *arguments],
                cwd=REPOSITORY,
                env=environment(**more),
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )

    @property
    def mark(self) -> dict[str, Any]:
        """What the engine says of itself in the data folder."""
        return json.loads((self.folder / "engine.json").read_bytes())

    def ready(self) -> Program:
        """Wait until this very process's engine answers over HTTP."""
        wait_for(self._answers, READY_SECONDS, f"no engine answers; its log: {self.tail()}")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.tail()
        try:
            return self.mark["pid"] == self.process.pid and self.get("/readyz").status == 200
        except (OSError, ValueError):
            return False

    def tail(self) -> str:
        return self.log.read_text()[-2000:] if self.log.exists() else ""

    def get(self, path: str) -> Answer:
        return ask(self.mark["url"], path)

    def send(self, path: str, body: bytes, method: str = "POST", **headers: str) -> Answer:
        mark = self.mark
        return ask(mark["url"], path, method, body, Authorization=f"Bearer {mark['token']}", **headers)

    def status(self) -> dict[str, Any]:
        return self.get("/api/status").json

    def end(self, number: int = signal.SIGTERM, *, within: float = 5.0) -> tuple[int, float]:
        """Send a signal and return (exit code, seconds until the end); a hung process is killed and fails."""
        begun = time.monotonic()
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=within)
        except subprocess.TimeoutExpired:
            self.destroy()
            raise AssertionError(f"still running {within} s after signal {number}: {self.tail()}") from None
        return code, time.monotonic() - begun

    def destroy(self) -> None:
        """Make sure that it has ended; harmless when it has."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def wait_for(true: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the first true answer; AssertionError with ``what`` after ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := true():
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(what)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fabric --json`` on a data folder."""
    return subprocess.run(
        [sys.executable, "-m", "fabric", "--data-dir", str(folder), "--json", *arguments],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def catalog(folder: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask a data folder's catalog as any SQLite client could, reading only."""
    connection = sqlite3.connect(f"file:{folder / 'catalog' / 'catalog.db'}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def records(folder: Path, query: str, *values: Any) -> list[dict[str, Any]]:
    """Return the first column of a query, decoded from msgpack."""
    return [msgspec.msgpack.decode(row[0]) for row in catalog(folder, query, *values)]


def log_lines(path: Path, sentence: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if f" {sentence} " in line]
