"""Events accepted per second over HTTP, column batches of 1,000 rows, each fsynced before its answer.

The product's own HTTP handling with its decoder, intake, log and streaming component; clients are processes of
their own with kept-open connections. Peers in the same run: one SQLite insert and commit per batch
(``synchronous=FULL``), without HTTP. Prints one JSON line.

    python tests/bench/bench_events.py [--seconds 8] [--clients 4]
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import flask
import msgspec
import numpy as np
from werkzeug.serving import make_server

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.core.clock import SystemClock
from fabric.core.config import StreamingSettings
from fabric.core.errors import BusyError
from fabric.dashboard.http11 import Handler
from fabric.events.decode import decode_columns
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.events.records import AccessColumns, blank_records, step
from fabric.runtime.measures import Measures
from fabric.streaming.component import Streaming
from fabric.streaming.intake import Intake

ROWS = 1000
OBJECTS = 20_000


def body(number: int) -> bytes:
    """Return one batch as a client would send it; `stamped` puts the times in."""
    rng = np.random.default_rng(number)
    columns = {
        "time": [0.0] * ROWS,
        "key": [f"folder-{i % 50:02d}/object-{i:05d}.bin" for i in rng.integers(0, OBJECTS, ROWS).tolist()],
        "op": ["read"] * ROWS,
        "bytes": rng.integers(1000, 10**8, ROWS).tolist(),
        "store": ["nas"] * ROWS,
        "latency_ms": rng.gamma(2.0, 5.0, ROWS).round(2).tolist(),
    }
    return json.dumps(columns).encode()


def stamped(sent: bytes) -> bytes:
    """Return ``sent`` with the time of now in each row."""
    _, _, rest = sent.partition(b"]")
    return b'{"time": [' + b", ".join([b"%.3f" % time.time()] * ROWS) + b"]" + rest


def client(
    port: int, seconds: float, number: int, results: multiprocessing.Queue[tuple[int, int, list[float]]]
) -> None:
    """Post batches over one connection until the time is up."""
    bodies = [body(100 * number + i) for i in range(10)]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = refused = 0
    latencies: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        connection.request("POST", "/api/events", stamped(bodies[taken % 10]), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status == 201:
            taken += 1
            latencies.append(time.monotonic() - start)
        else:
            refused += 1
            threading.Event().wait(0.05)
    results.put((taken, refused, latencies))


def serve(folder: Path) -> tuple[Any, Streaming, EventLog, History]:
    """Build log, intake, component and server; return them."""
    clock, settings = SystemClock(), StreamingSettings()
    measures = Measures(clock)
    log = EventLog(folder / "log", clock, segment_bytes=settings.segment_bytes)
    intake = Intake(log, clock, settings, measures)
    history = History(folder / "history")
    streaming = Streaming(intake, log, history, clock, settings=settings, measures=measures)
    app = flask.Flask("bench")

    @app.post("/api/events")
    def events() -> tuple[dict[str, int], int]:
        try:
            offset, count = intake.accept(decode_columns(flask.request.get_data()))
        except BusyError as error:
            return {"status": error.http_status}, error.http_status
        return {"offset": offset, "count": count}, 201

    return make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler), streaming, log, history


def over_http(folder: Path, seconds: float, clients: int) -> dict[str, Any]:
    """Run server, component and clients; return the figures."""
    server, streaming, log, history = serve(folder)
    stopping = threading.Event()

    def component() -> None:
        streaming.start()
        while not stopping.is_set():
            stopping.wait(streaming.tick())

    threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=component)]
    for thread in threads:
        thread.start()
    results: multiprocessing.Queue[tuple[int, int, list[float]]] = multiprocessing.get_context("spawn").Queue()
    processes = [
        multiprocessing.get_context("spawn").Process(target=client, args=(server.server_port, seconds, n, results))
        for n in range(clients)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    server.shutdown()
    stopping.set()
    for thread in threads:
        thread.join()
    streaming.stop()
    taken = sum(one[0] for one in found)
    assert log.end == taken * ROWS, "an acknowledged batch is missing"
    assert history.offset > 0
    latencies = np.array([value for one in found for value in one[2]]) * 1000
    return {
        "events_per_second": round(taken * ROWS / seconds),
        "refused_batches": sum(one[1] for one in found),
        "post_p50_ms": round(float(np.percentile(latencies, 50)), 2),
        "post_p99_ms": round(float(np.percentile(latencies, 99)), 2),
        "late_rows": streaming.reports()["streaming"]["late"],
        "history_share": round(history.offset / log.end, 3),
    }


def bare_sqlite(folder: Path, seconds: float) -> float:
    """Insert and commit the same batches into SQLite; return rows per second."""
    database = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    database.execute("CREATE TABLE log (time REAL, key TEXT, op TEXT, bytes REAL, store TEXT, latency_ms REAL)")
    bodies = [body(i) for i in range(10)]
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        columns = json.loads(stamped(bodies[done % 10]))
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", zip(*columns.values(), strict=True))
        database.execute("COMMIT")
        done += 1
    database.close()
    return done * ROWS / seconds


def per_second(work: Any, rounds: int, rows: int) -> int:
    """Return rows per second of ``work``, called ``rounds`` times."""
    start = time.perf_counter()
    for _ in range(rounds):
        work()
    return round(rounds * rows / (time.perf_counter() - start))


def pure(folder: Path) -> dict[str, int]:
    """Time decoder, step, log and whole history on their own."""
    batch = decode_columns(stamped(body(1)))
    rng = np.random.default_rng(0)
    columns = AccessColumns.of(batch, rng.integers(0, OBJECTS, ROWS))
    records = blank_records(OBJECTS)
    large = AccessColumns(*(np.tile(getattr(columns, name), 100) for name in AccessColumns.__slots__))
    history, log = History(folder / "alone"), EventLog(folder / "alone-log", SystemClock())
    sent = stamped(body(1))
    return {
        "decode_rows_per_second": per_second(lambda: decode_columns(sent), 500, ROWS),
        "step_rows_per_second_batch_1000": per_second(lambda: step(records, columns), 500, ROWS),
        "step_rows_per_second_batch_100000": per_second(lambda: step(records, large), 10, 100 * ROWS),
        "history_apply_rows_per_second": per_second(lambda: history.apply(batch, history.offset), 300, ROWS),
        "log_append_rows_per_second_one_writer": per_second(lambda: log.append(batch), 300, ROWS),
        "log_read_rows_per_second": per_second(lambda: [0 for _ in log.read(0)], 1, 300 * ROWS),
    }


def main() -> None:
    """Run everything and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=None, help="where the files lie; default: a temporary folder")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-events-", dir=given.folder))
    try:
        figures = over_http(folder, given.seconds, given.clients)
        peer = bare_sqlite(folder, min(4.0, given.seconds))
        figures |= {
            "sqlite_rows_per_second": round(peer),
            "ratio_to_sqlite": round(figures["events_per_second"] / peer, 2),
            **pure(folder),
        }
    finally:
        shutil.rmtree(folder)
    print(
        json.dumps(
            {
                "bench": "events",
                "rows_per_batch": ROWS,
                "clients": given.clients,
                "bar_events_per_second": 50_000,
                **figures,
                "machine": {
                    "cores": os.cpu_count(),
                    "system": platform.platform(),
                    "python": platform.python_version(),
                },
                "versions": {
                    "numpy": np.__version__,
                    "msgspec": msgspec.__version__,
                    "werkzeug": metadata.version("werkzeug"),
                    "sqlite": sqlite3.sqlite_version,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
