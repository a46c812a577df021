"""A small world of one's own on the real program: one managed folder, one adopted folder, and the three ways to run."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from fabric.runtime.folder import EngineMark, read_engine
from fabric.runtime.link import connection_to

ROOT = Path(__file__).parents[2]
START_SECONDS = 90.0  # on a machine that does much else
STOP_SECONDS = 10.0
ADOPTED = {"2024/a.bin": b"a" * 1000, "2024/b.bin": b"b" * 2000, "logs/x.log": b"x" * 500}


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def problem(self) -> Any:
        return json.loads(self.err)


@dataclass(slots=True)
class Answer:
    """An HTTP answer of any status."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class World:
    """A folder with a settings file, two stores and a data folder that does not exist yet."""

    folder: Path
    more: str = ""  # lines added to the settings file
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, data in ADOPTED.items():
            path = self.adopted / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.managed.mkdir()
        self.write_settings()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def adopted(self) -> Path:
        return self.folder / "adopted"

    @property
    def managed(self) -> Path:
        return self.folder / "managed"

    @property
    def config(self) -> Path:
        return self.folder / "fabric.toml"

    def write_settings(self, more: str = "") -> None:
        first = free_port()
        self.config.write_text(
            f"""
[stores.nas]
url = "{self.adopted}"
[stores.disk]
url = "{self.managed}"
kind = "managed"
mode = "move"
classes = ["nvme", "hdd"]
[[policies]]
prefix = "public/"
classification = "public"
[dashboard]
port_first = {first}
port_last = {first + 9}
{self.more}
{more}"""
        )

    def environ(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT)} | self.environment

    def command(self, *arguments: str, given: bytes = b"", config: bool = True) -> Done:
        """Run ``python -m fabric`` as its own process."""
        options = ["--data-dir", str(self.data), *(["--config", str(self.config)] if config else [])]
        done = subprocess.run(
            [sys.executable, "-m", "fabric", *options, *arguments],
            input=given,
            capture_output=True,
            timeout=START_SECONDS,
            env=self.environ(),
            cwd=ROOT,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def quick(self, *arguments: str, config: bool = True) -> Done:
        """Run the same command line inside this process, which saves the second that Python takes to start."""
        from fabric.cli.main import cli
        from fabric.demos.sample import Sample

        options = ["--data-dir", str(self.data), *(["--config", str(self.config)] if config else [])]
        out, err, code = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO(), 0
        handlers = logging.getLogger().handlers[:]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main(args=[*options, *arguments], obj=Sample)
        except SystemExit as ended:
            code = int(str(ended.code or 0))
        finally:
            logging.getLogger().handlers[:] = handlers
        return Done(code, out.buffer.getvalue().decode(), err.getvalue())

    def mark(self) -> EngineMark:
        """Return the running engine's mark."""
        found = read_engine(self.data)
        assert found is not None, "no engine runs"
        return found

    def http(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        url: str = "",
        token: str | None = "",
        **headers: str,
    ) -> Answer:
        """Send a request to the engine (or ``url``), with its token unless ``token`` is None or another."""
        mark = self.mark() if not url or token == "" else None
        base = (url or (mark.url if mark else "")).rstrip("/")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        bearer = mark.token if token == "" and mark else token
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        return http(method, base + path, body, sent)


def http(method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send one request; an error status is an answer too."""
    request = Request(url, body, dict(headers or {}), method=method)
    try:
        with urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers.items()))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read(), dict(error.headers.items()))


def free_port() -> int:
    """Return a port with nine free ones after it, in all likelihood."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1]) % 30000 + 20000


@contextmanager
def nobody() -> Iterator[str]:
    """Give the address of a port where nobody answers, and where no other test's server can begin to meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def until(true: Callable[[], Any], seconds: float = START_SECONDS) -> bool:
    """Wait until something is true; False when it did not become so."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not (found := true()) and time.monotonic() < deadline:
        pause.wait(0.05)
    return bool(found)


@contextmanager
def process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in the repository's folder; it ends with the block, by its own id."""
    with log.open("ab") as sink:
        started = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=dict(environment), cwd=ROOT)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def engine(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python3 run_complete_system.py`` on the world until its components have reported."""
    options = ["--data-dir", str(world.data), "--config", str(world.config), "--no-browser"]
    command = [sys.executable, "run_complete_system.py", *options]
    with process(command, world.folder / "engine.log", world.environ()) as running:
        assert until(lambda: ready(world) or running.poll() is not None)
        assert running.poll() is None, (world.folder / "engine.log").read_text()
        yield running


@contextmanager
def gunicorn(world: World, *, workers: int = 4) -> Iterator[str]:
    """Run the specification's gunicorn line on the world; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-w", str(workers), "-b", f"127.0.0.1:{port}"]
    command += ["--worker-class", "eventlet", "web_dashboard:app"]
    environment = world.environ() | {"FABRIC_DATA_DIR": str(world.data), "FABRIC_CONFIG": str(world.config)}
    with process(command, world.folder / "gunicorn.log", environment) as running:
        assert until(lambda: ready(world) or running.poll() is not None)
        assert running.poll() is None, (world.folder / "gunicorn.log").read_text()
        yield f"http://127.0.0.1:{port}"


def ready(world: World) -> bool:
    """Say whether an engine runs, takes requests and has written every report."""
    mark = read_engine(world.data)
    if mark is None or len(list((world.data / "exports").glob("*.json"))) < 7:
        return False
    connection = connection_to(mark, 10.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
