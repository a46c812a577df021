"""One engine for past and present: a trace sent to a real engine is decided about as `replay` decides."""

from __future__ import annotations

import csv
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.placement.live.days import LATENESS_SECONDS
from fabric.placement.replay.gated import decide
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import Rows, trace_of
from fabric.pricing.sheet import PriceBook
from fabric.runtime.folder import read_engine
from tests.system.ledger_program import CLASSES, MANAGED, STORE

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FABRIC_SHARED", ROOT.parent / "shared"))
DAY = 86400
START = 19_000 * DAY  # a UTC midnight
OPS = ("write", "read", "delete")
COLD = CLASSES[1:]
Columns = dict[str, np.ndarray]
Row = tuple[int, str, str, int]


def random_trace() -> Columns:
    """PUTs again, DELETEs, reads after them, bursts; three fifths of a year, forty objects."""
    random = np.random.default_rng(20)
    rows, objects = 600, 40
    obj, op = random.integers(0, objects, rows), random.choice(3, rows, p=[0.06, 0.92, 0.02])
    size = (10 ** random.uniform(3, 12, objects)).astype(np.int64)[obj]
    count = np.where(op == 1, random.integers(1, 60, rows), 1)
    busy = np.floor(220 * DAY * random.random(rows) ** (1 + obj % 5)).astype(np.int64)
    share = random.choice([0.01, 1.0], rows)
    moved = np.where(op == 1, np.floor(count * size * share), 0.0)
    return ordered({"t": busy, "obj": obj, "size": size, "op": op.astype(np.int8), "n": count, "bytes": moved})


def slice_of(name: str, objects: int, days: int) -> Columns:
    """Some objects and days of a real trace."""
    path = SHARED / "data" / "traces" / "dev" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"the shared trace {name} is not there: set FABRIC_SHARED")
    table = pq.read_table(path)
    whole = {column: table[column].to_numpy() for column in table.column_names}
    wanted = np.unique(whole["obj"])[:objects]
    kept = np.isin(whole["obj"], wanted)
    first = int(whole["t"][kept].min() // DAY) * DAY
    kept &= whole["t"] < first + days * DAY
    return ordered({column: values[kept] for column, values in whole.items()} | {"t": whole["t"][kept] - first})


def real_trace() -> Columns:
    return slice_of("sundials_releases", objects=20, days=250)


def ordered(columns: Columns) -> Columns:
    order = np.argsort(columns["t"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def key_of(number: int) -> str:
    return f"{STORE}/data/{number:06d}"


def replayed(folder: Path, columns: Columns, rule: str, classes: tuple[str, ...]) -> list[Row]:
    """What `replay` writes with ``--decisions``: those of `fabric`; the gated rule is asked itself."""
    return commanded(folder, columns, classes) if rule == "fabric" else gated_moves(columns, classes)


def gated_moves(columns: Columns, classes: tuple[str, ...]) -> list[Row]:
    trace = trace_of(Rows(*(columns[name] for name in ("t", "obj", "size", "op", "n", "bytes"))))
    tariff = tariff_of(PriceBook.load(), "aws", classes)
    moves = decide(trace, tariff)
    found = zip(moves.life, moves.day, moves.to, moves.after_reads, strict=True)
    rows = [(int(day), int(trace.obj[life]), tariff.names[to], max(0, int(after))) for life, day, to, after in found]
    return sorted((day, key_of(obj), to, after) for day, obj, to, after in rows)


def commanded(folder: Path, columns: Columns, classes: tuple[str, ...]) -> list[Row]:
    table, out = folder / "trace.parquet", folder / "decisions.csv"
    pq.write_table(pa.table(dict(columns)), table)
    arguments = [
        "replay",
        "--accesses",
        str(table),
        "--classes",
        ",".join(classes),
        "--decisions",
        str(out),
        "--policies",
        "fabric",
    ]
    done = subprocess.run([sys.executable, "-m", "fabric", *arguments], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return sorted((int(day), key_of(int(obj)), to, int(after)) for day, obj, to, after in rows)


class World:
    """One data folder, and the process that runs over it now."""

    def __init__(self, folder: Path, rule: str, classes: tuple[str, ...]) -> None:
        self.folder, self.rule, self.classes = folder, rule, classes
        self.process: subprocess.Popen[bytes] | None = None
        self.url, self.token = "", ""
        self.now(START)

    def now(self, time_: float) -> None:
        beside = self.folder / "now.part"
        beside.write_text(str(time_))
        beside.replace(self.folder / "now")

    def start(self) -> None:
        with (self.folder / "engine.log").open("ab") as log:
            command = [
                sys.executable,
                "-m",
                "tests.system.ledger_program",
                str(self.folder),
                self.rule,
                ",".join(self.classes),
            ]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        mark = until(self._mark)
        self.url, self.token = mark.url, mark.token
        until(lambda: self._status("/readyz") == 200)

    def _mark(self) -> Any:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "engine.log").read_text()
        mark = read_engine(self.folder / "data")
        return mark if mark is not None and mark.pid == self.process.pid else None

    def end(self, *, kill: bool) -> None:
        assert self.process is not None
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(30)

    def _status(self, path: str) -> int:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            return json.loads(data)
        finally:
            connection.close()

    def send(self, columns: Columns, at: slice) -> None:
        """Let the clock come to the last of some rows and send them."""
        times = START + columns["t"][at]
        self.now(float(times[-1]))
        body = {
            "time": times.tolist(),
            "key": [key_of(int(number)) for number in columns["obj"][at]],
            "op": [OPS[op] for op in columns["op"][at]],
            "bytes": columns["bytes"][at].tolist(),
            "count": columns["n"][at].tolist(),
            "size": columns["size"][at].astype(float).tolist(),
            "store": [STORE] * len(times),
        }
        assert self.ask("POST", "/api/events", body)

    def figures(self) -> Any:
        rows = self.ask("GET", "/api/pages/optimization/ledger_figures")["rows"]
        return rows[0] if rows else {"days_closed": 0, "late_rows": 0}

    def decided(self) -> list[Row]:
        rows: list[Row] = []
        cursor: str | None = "0"
        while cursor is not None:
            page = self.ask("GET", f"/api/pages/optimization/ledger?limit=1000&cursor={cursor}")
            rows += [(row["day"], row["key"], row["to"], row["after_reads"]) for row in page["rows"]]
            cursor = page["cursor"]
        return sorted(rows)


def until(found: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"it did not happen in {seconds} s"
        time.sleep(0.1)
    return value


@contextmanager
def world(folder: Path, rule: str, classes: tuple[str, ...]) -> Iterator[World]:
    made = World(folder, rule, classes)
    try:
        made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.end(kill=True)


def pieces(rows: int, seed: int, count: int) -> list[slice]:
    edges = np.unique([0, *np.random.default_rng(seed).integers(1, rows, count - 1), rows])
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


@pytest.mark.parametrize(
    ("rule", "classes", "trace"),
    [("fabric", CLASSES, random_trace), ("fabric_gated", CLASSES, real_trace), ("fabric", MANAGED, real_trace)],
    ids=["a random trace by money alone", "a real trace with the gate", "a real trace with the managed tier"],
)
def test_a_trace_sent_as_events_through_restarts_and_kill_9_gives_exactly_the_decisions_of_replay(
    rule: str, classes: tuple[str, ...], trace: Callable[[], Columns], tmp_path: Path
) -> None:
    columns = trace()
    last = int((columns["t"][-1] - LATENESS_SECONDS) // DAY)  # it and those after it are still open
    expected = [row for row in replayed(tmp_path, columns, rule, classes) if row[0] < last]
    with world(tmp_path, rule, classes) as found:
        for turn, at in enumerate(pieces(len(columns["t"]), 7, 12)):
            found.send(columns, at)
            if turn in (3, 6, 8):
                found.end(kill=turn != 6)
                found.start()
        until(lambda: found.figures()["days_closed"] == last)

        assert [row for row in found.decided() if row[0] < last] == expected
        assert found.figures()["late_rows"] == 0
        assert {row[2] for row in expected} & set(COLD)  # some object sank
        assert (MANAGED[-1] in {row[2] for row in expected}) is (MANAGED[-1] in classes)
        told = found.ask("GET", f"/api/explain/{quote(expected[-1][1])}")["facts"]["optimization"]["ledger"][STORE]
        assert told["recomputed_equal"] is True
        assert told["counterfactual"]
