"""A world of one's own whose store has Intelligent-Tiering among its classes: what each figure says, and the decision.

The settings are a fabric.toml, the engine and its HTTP server run with their threads; only the day is the test's own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from program import PORTS, Program, until
from test_alerts_measured import ME
from worlds import decide

from fabric.app.engine import Engine
from fabric.app.run import Running
from fabric.core.config import load_settings
from fabric.demos.sample import Sample
from fabric.plane.objects import PutOptions
from tests.command_line import answer

GIB, KIB, DAY = 1 << 30, 1 << 10, 86400.0
START = 20_000 * DAY + 6 * 3600.0
FEE = 0.0025 / 1000  # USD an object and month
TIER = "intelligent_tiering"
SIZES = {"a/read": 50 * GIB, "a/quiet": 50 * GIB, "a/small": 100 * KIB}  # as priced; the test's bytes are few

SETTINGS = """
[stores.cloud]
url = "{folder}/cloud"
zone = "aws"
provider = "aws"
region = "us-east-1"
kind = "managed"
mode = "move"
classes = ["standard", "standard_ia", "glacier_instant", "intelligent_tiering"]
[placement]
rule = "{rule}"
copies = 1
idle_seconds = 0.2
[migration]
automatic = true
off_peak_hours = [0, 24]
quiet_seconds = 0
[dashboard]
port_first = {first}
port_last = {last}
"""


class Days:
    """A clock whose day a test sets; waits and durations are the machine's own."""

    def __init__(self) -> None:
        self.ahead = START - time.time()

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


@dataclass
class World:
    folder: Path
    engine: Engine
    program: Program
    clock: Days

    def command(self, *words: object) -> Any:
        """Ask with ``python -m fabric``, whose JSON it returns."""
        return answer(self.folder, "--config", self.folder / "fabric.toml", *words)

    def put(self, key: str) -> None:
        options = PutOptions(size_bytes=1000, priced_bytes=SIZES[key])
        self.engine.objects.put(key, [bytes(1000)], options, ME)

    def place(self, key: str) -> str:
        head = self.engine.heads.get(key)
        assert head is not None
        return next(one.place for one in head.current.replicas if one.state == "live")

    def settled(self, key: str, place: str) -> None:
        until(lambda: self.place(key) == place, seconds=60, what=f"{key} in {place}, not {self.place(key)}")

    def pass_days(self, days: int) -> None:
        """Let days pass, look at everything again, and wait for it to be said."""
        self.engine.intake.flush()
        self.clock.ahead += days * DAY
        self.look()

    def read(self, key: str) -> None:
        assert self.program.ask("GET", f"/api/objects/{key}").status == 200
        self.engine.intake.flush()

    def look(self) -> None:
        """Wait for two whole passes: one may have begun before."""
        for _ in range(2):
            before = self.engine.placement._standing.scored
            self.engine.placement._next_pass = 0.0
            self.engine.wake("placement")
            until(lambda before=before: self.engine.placement._standing.scored >= before + len(SIZES), what="a pass")
            until(lambda: self.engine.placement._standing.state != "busy", what="its end")

    def bill(self) -> dict[str, Any]:
        rows = self.program.get("/api/pages/optimization/bill")["rows"]
        return {row["storage_class"]: row for row in rows}


@contextmanager
def world(folder: Path, rule: str) -> Iterator[World]:
    (folder / "cloud").mkdir()
    first, last = PORTS
    words = SETTINGS.format(folder=folder, rule=rule, first=first, last=last)
    (folder / "fabric.toml").write_text(words)
    clock = Days()
    made = Running(folder / "data", load_settings(folder / "fabric.toml", {}), Sample(), clock)
    made.start()
    try:
        mark = made.engine.mark
        program = Program(mark.url, mark.token, os.getpid(), folder / "data", folder / "none")
        yield World(folder, made.engine, program, clock)
    finally:
        made.stop()


def test_each_figure_says_what_an_object_in_the_tier_costs(tmp_path: Path) -> None:
    with world(tmp_path, "fabric_gated") as found:
        for key in SIZES:
            found.put(key)
            assert found.place(key) == "cloud/standard"  # what is new goes to a plain class
            decide(found.engine, key, "cloud/standard", f"cloud/{TIER}")
        for key in SIZES:
            found.settled(key, f"cloud/{TIER}")
        found.pass_days(20)
        found.read("a/read")
        found.pass_days(25)

        small, fees = 100 * KIB / GIB * 0.023, 2 * FEE
        stored = 50 * 0.023 + 50 * 0.0125 + small + fees  # one unread for 25 days, one for 45, one below the floor
        row = found.bill()[TIER]
        assert (row["storage_usd"], row["low_usd"], row["high_usd"]) == pytest.approx((stored,) * 3, rel=1e-9)
        assert "fee" in row["source"]
        assert "the provider does not say at which level" in row["source"]

        shared = found.command("showback", "--by", "prefix")
        assert sum(one["storage_usd"] for one in shared["rows"]) == pytest.approx(stored, rel=1e-9)
        assert any("level of their days without a read" in said for said in shared["assumptions"])

        found.pass_days(46)
        told = found.command("explain", "a/quiet")["facts"]["optimization"]
        now = {line["name"]: line["usd"] for line in told["decision"]["receipt"]["lines"]["now"]["lines"]}
        assert (now["storage"], now["monitoring"]) == pytest.approx((50 * 0.004, FEE), rel=1e-9)
        assert told["recomputed_equal"] is True
        assert told["ledger"]["cloud"]["recomputed_equal"] is True


def test_the_ledger_sinks_an_object_out_of_the_tier_and_brings_it_back_when_it_is_read(tmp_path: Path) -> None:
    with world(tmp_path, "fabric") as found:
        for key in ("a/read", "a/quiet"):
            found.put(key)
            decide(found.engine, key, "cloud/standard", f"cloud/{TIER}")
        for key in ("a/read", "a/quiet"):
            found.settled(key, f"cloud/{TIER}")
        for _ in range(6):
            found.pass_days(12)
            found.read("a/read")  # what comes in lets days be closed
        found.settled("a/quiet", "cloud/glacier_instant")
        assert found.place("a/read") == f"cloud/{TIER}"
        moved = [one for one in found.engine.decisions.history("a/quiet") if one.rule == "ledger"]
        assert moved[-1].reason == (
            "the ledger of cloud holds it in cloud/glacier_instant: it counts the managed tier's levels and fee"
        )
        assert found.engine.ledgers.held("cloud", "a/quiet") == ("glacier_instant", True)

        found.pass_days(3)
        for _ in range(3):
            found.read("a/quiet")
            found.pass_days(2)
            found.read("a/read")
        found.settled("a/quiet", f"cloud/{TIER}")
