"""The real program in a process of its own, asked over HTTP by a client that imports nothing of the fabric."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
PORTS = ("5421", "5439")
PORT_SETTINGS = {"FABRIC_DASHBOARD__PORT_FIRST": PORTS[0], "FABRIC_DASHBOARD__PORT_LAST": PORTS[1]}
READY_SECONDS, STOP_SECONDS = 60.0, 15.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Program:
    url: str
    token: str
    pid: int
    data: Path
    log: Path

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """Send one request with the engine's token (``token`` "": that one, None: none)."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        try:
            connection.request(method, path, body, sent)
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, names, found.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def act(self, name: str, /, **body: Any) -> Answer:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return self.ask("POST", f"/api/acts/{name}", body=data, headers=headers)

    def events(self, **columns: list[Any]) -> Any:
        data, headers = json.dumps(columns).encode(), {"Content-Type": "application/json"}
        answer = self.ask("POST", "/api/events", body=data, headers=headers)
        assert answer.status == 200, answer.body
        return answer.json()


def until(found: Callable[[], Any], *, seconds: float = 30.0, what: str = "it") -> Any:
    """Return what ``found`` returns once it is true."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"{what} did not happen in {seconds} s"
        time.sleep(0.1)
    return value


@contextmanager
def program(folder: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Program]:
    """Run ``run_complete_system.py`` over ``folder / "data"`` until the block ends."""
    data, log = folder / "data", folder / "engine.log"
    command = [
        sys.executable,
        str(ROOT / "run_complete_system.py"),
        "--no-browser",
        "--data-dir",
        str(data),
        *arguments,
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | PORT_SETTINGS | dict(environment or {}), stdout=output, stderr=output
        )
    try:
        mark = until(lambda: _mark(process, data, log), seconds=READY_SECONDS, what="the start")
        yield Program(mark["url"], mark["token"], process.pid, data, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _mark(process: subprocess.Popen[bytes], data: Path, log: Path) -> Any:
    assert process.poll() is None, log.read_text()
    try:
        mark = json.loads((data / "engine.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return mark if mark["pid"] == process.pid else None
