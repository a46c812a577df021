"""A process that shows the dashboard from the report files alone, and passes everything else to the engine."""

from __future__ import annotations

import argparse
import contextlib
import hmac
import http.client
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask import Response, request

from fabric.app.secrets import session_key
from fabric.catalog.database import Database
from fabric.catalog.tokens import TokenRows
from fabric.core.clock import SystemClock
from fabric.core.config import load_settings
from fabric.core.errors import FabricError, UnavailableError, UnknownOutcomeError
from fabric.core.log import start_logging
from fabric.dashboard.ports import RUN_COMMAND, DashboardPorts, Exposure, Person, Principal, exposure_of
from fabric.dashboard.serve import DashboardServer, bind_free_port
from fabric.dashboard.server import Dashboard, build
from fabric.runtime.folder import EngineMark, read_engine
from fabric.runtime.link import connection_to
from fabric.runtime.supervisor import Supervisor
from fabric.security.tokens import Tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from fabric.app.worlds import SampleWorld

FORWARD_TIMEOUT_SECONDS = 300.0
CHUNK_BYTES = 1 << 18
FORWARDED = (
    "/api/objects",
    "/api/events",
    "/api/pages",
    "/api/sample",
    "/api/explain",
    "/api/acts",
    "/api/replays",
    "/api/metrics",
    "/api/session",
    "/metrics",
)
IN_REPORTS = ("/api/pages", "/api/metrics", "/metrics", "/api/session")  # answered from the reports without an engine
CATALOG_FILE = "catalog.db"
READS = ("GET", "HEAD", "OPTIONS")
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade"})  # of one connection alone
_NOT_SENT = _HOP | {"host", "content-length"}

logger = logging.getLogger(__name__)


class Display:
    """A WSGI application over a data folder; holds no lease and writes nothing.

    Args:
        data_dir: the data folder; default ``FABRIC_DATA_DIR`` or ``data``.
        sample: the sample world, for a process that may also become the engine.
    """

    def __init__(self, data_dir: Path | None = None, *, sample: SampleWorld | None = None) -> None:
        self._sample = sample
        self._data_dir = data_dir or Path(os.environ.get("FABRIC_DATA_DIR", "data"))
        self._lock = threading.Lock()
        self._dashboard: Dashboard | None = None
        self._keeping: Supervisor | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        dashboard = self._dashboard or self.start()
        return dashboard.app(environ, start_response)

    def start(self, *, addresses: Iterable[str] = (), workers: int = 1, engine: bool = False) -> Dashboard:
        """Build the pages and watch the reports; with ``engine``, also try to be the engine, now and later."""
        with self._lock:
            if self._dashboard is None:
                self._dashboard = self._build(tuple(addresses), workers)
                self._dashboard.watcher.start()
                self._dashboard.hub.push()
                if engine and self._sample is not None:
                    from fabric.app.keeper import Keeper

                    self._keeping = Supervisor([Keeper(self._data_dir, self._sample)], SystemClock())
                    self._keeping.start()
            return self._dashboard

    def stop(self) -> None:
        """End what `start` started."""
        if self._keeping is not None:
            self._keeping.stop()
        if self._dashboard is not None:
            self._dashboard.watcher.stop()

    def run(self, arguments: list[str]) -> int:
        """Serve on a free port until interrupted: the script ``web_dashboard.py``."""
        parser = argparse.ArgumentParser(description="Shows the dashboard of a data folder; changes nothing.")
        parser.add_argument("--data-dir", type=Path, default=self._data_dir)
        parser.add_argument("--config", type=Path)
        options = parser.parse_args(arguments)
        self._data_dir = options.data_dir
        start_logging()
        try:
            return self._serve(options.config)
        except FabricError as error:
            parser.exit(error.exit_code, f"Error: {error}\n")

    def _serve(self, config: Path | None) -> int:
        settings = load_settings(config).dashboard
        listener = bind_free_port(settings.bind, settings.port_first, settings.port_last)
        server = DashboardServer(self._build((settings.bind,), 1), listener, SystemClock())
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        server.start()
        click.echo(f"Dashboard (display only): {server.url}")
        stopping.wait()
        server.stop()
        return 0

    def _build(self, addresses: tuple[str, ...], workers: int) -> Dashboard:
        proxy = os.environ.get("FABRIC_TLS") == "proxy"
        hosts = [address.rpartition(":")[0] or address for address in addresses] or ["127.0.0.1"]
        exposures = [exposure_of(host.strip("[]"), tls=proxy) for host in hosts]
        exposure = next((e for e in exposures if e is not Exposure.LOOPBACK), Exposure.LOOPBACK)
        if exposure is Exposure.READ_ONLY:
            logger.warning(
                "open network without TLS: the page is read-only behind the token",
                extra={"hint": "set tls_cert and tls_key, or FABRIC_TLS=proxy behind a TLS proxy"},
            )
        ports = DashboardPorts(
            folder=self._data_dir / "exports",
            clock=SystemClock(),
            session_key=session_key(self._data_dir),
            who=self._who,
            exposure=exposure,
            secure=proxy,
            ready=self._ready,
            hosts=tuple(filter(None, os.environ.get("FABRIC_HOSTS", "").split(","))),
            transports=("websocket",) if workers > 1 else ("polling", "websocket"),
        )
        dashboard = build(ports)
        dashboard.app.before_request(self._forward)
        return dashboard

    def _who(self, token: str) -> Principal | None:
        engine = read_engine(self._data_dir)
        if engine is not None and hmac.compare_digest(token.encode(), engine.token.encode()):
            return Person("local", "admin")
        return _named(self._data_dir / "catalog" / CATALOG_FILE, token)

    def _ready(self) -> str:
        if read_engine(self._data_dir) is not None:
            return ""
        tried = self._keeping.states()["engine"] if self._keeping is not None else {}
        if tried.get("state") in ("backing_off", "failed"):
            return f"no engine runs: {tried['error']}"
        return f"no engine runs; start it with {RUN_COMMAND}"

    def _forward(self) -> Response | None:
        """Pass a request that needs the engine on to it; None for what this process answers itself."""
        if not request.path.startswith(FORWARDED) and "trace" not in request.args:
            return None
        engine = read_engine(self._data_dir)
        if engine is None and request.method in READS and request.path.startswith(IN_REPORTS):
            return None
        if engine is None:
            raise UnavailableError("no engine runs on this data folder", hint=f"start it with: {RUN_COMMAND}")
        return _passed_on(engine)


def _named(catalog: Path, token: str) -> Principal | None:
    """Return who holds a named token, looked up in the catalog itself: it is known with and without an engine."""
    if not catalog.exists():
        return None
    database = Database(catalog)
    try:
        found = Tokens(TokenRows(database), SystemClock(), _nothing_recorded).who(token)
    except FabricError as error:
        logger.warning("tokens cannot be looked up", extra={"error": str(error)})
        return None
    finally:
        database.stop()
    return Person(found.name, found.role.value) if found is not None else None


def _nothing_recorded(action: str, who: str, subject: str, **details: object) -> None:
    """Take an audit line: a display only looks tokens up, which leaves none."""


def _passed_on(engine: EngineMark) -> Response:
    """Send the current request to the engine and stream its answer back."""
    connection = connection_to(engine, FORWARD_TIMEOUT_SECONDS)
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT}
    if "Origin" in headers:  # ours was checked; the engine's own is what it expects
        headers["Origin"] = engine.url.rstrip("/")
    body: Any = None
    if request.method not in ("GET", "HEAD"):
        body = iter(lambda: request.stream.read(CHUNK_BYTES), b"")
        if request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
    try:
        chunked = "Content-Length" not in headers
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before its end: the answer is there
            connection.request(request.method, request.full_path.rstrip("?"), body, headers, encode_chunked=chunked)
        answer = connection.getresponse()
    except ConnectionRefusedError as error:
        connection.close()
        raise UnavailableError("the engine does not answer", hint="try again", pid=engine.pid) from error
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        if request.method in READS:
            raise UnavailableError("the engine stopped answering", hint="try again", pid=engine.pid) from error
        raise UnknownOutcomeError(
            "the engine stopped answering; the change may have happened",
            hint="repeat it with the same Idempotency-Key",
            pid=engine.pid,
        ) from error
    kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
    return Response(_streamed(connection, answer), answer.status, kept, direct_passthrough=True)


def _streamed(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read(CHUNK_BYTES):
            yield piece
    finally:
        connection.close()
