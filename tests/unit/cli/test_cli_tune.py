"""The command ``tune``: what it says of weights that are cheaper where they were not fitted, and of others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.placement.replay import gated
from fabric.placement.replay.billing import bill
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import trace_of
from fabric.placement.replay.tune import half
from fabric.pricing.sheet import PriceBook
from tests.command_line import answer, printed, refused
from tests.unit.formats.log_lines import START, s3_line

DAY, GIB = 86400, 1 << 30
OBJECTS, DAYS = 120, 600
CLASSES = "standard,standard_ia,glacier_instant"
CHEAPER = 150  # days between two days with reads, of a fleet like that of `fleet`
FITTED, HELD_OUT = 90, 100  # those of two halves that want other weights
SPECIFIED = [0.4, 0.3, 0.2, 0.1]


def fleet(path: Path, gap: int, objects: int = OBJECTS, others: dict[int, int] | None = None) -> Path:
    """Objects put two days apart, each read on two days running every ``gap`` days, or as often as ``others`` says."""
    rows = [(2 * n * DAY, n, 0) for n in range(objects)]
    for n in range(objects):
        each = (others or {}).get(n, gap)
        rows += [((day + more) * DAY, n, 1) for day in range(2 * n + each, DAYS, each) for more in (0, 1)]
    time, obj, op = zip(*sorted(rows), strict=True)
    size, one = [GIB] * len(op), [1] * len(op)
    columns = {"t": time, "obj": obj, "size": size, "op": op, "n": one, "bytes": [GIB * what for what in op]}
    pq.write_table(pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()}), path)
    return path


@pytest.mark.item(19)
def test_weights_that_are_cheaper_on_the_held_out_objects_are_said_to_be_worth_taking(tmp_path: Path) -> None:
    file = fleet(tmp_path / "past.parquet", CHEAPER)
    found = answer(tmp_path, "tune", str(file), "--classes", CLASSES)
    tuned = found["tune"]

    assert tuned["held_out"] < tuned["held_out_before"]
    assert tuned["better"] is True
    assert tuned["weights"] != SPECIFIED
    assert sum(tuned["weights"]) == pytest.approx(1.0)
    assert found["left_out_of_learning"] == {"reads": 0, "why": "by scanners"}
    rest = half(trace_of(read_traces([file])), 1)
    tariff = tariff_of(PriceBook.load(), "aws", CLASSES.split(","))
    terms = gated.Terms(asked=True, weights=tuple(tuned["weights"]))
    assert tuned["held_out"] == bill(rest, tariff, gated.decide(rest, tariff, terms)).total
    assert tuned["held_out_before"] == bill(rest, tariff, gated.decide(rest, tariff)).total


@pytest.mark.item(19)
def test_weights_that_are_dearer_on_the_held_out_objects_are_reported_and_not_recommended(tmp_path: Path) -> None:
    file = fleet(tmp_path / "past.parquet", FITTED)
    held_out = half(trace_of(read_traces([file])), 1).obj.tolist()
    fleet(file, FITTED, others=dict.fromkeys(held_out, HELD_OUT))
    tuned = answer(tmp_path, "tune", str(file), "--classes", CLASSES)["tune"]

    assert tuned["train"] < tuned["train_before"]
    assert tuned["held_out"] > tuned["held_out_before"]
    assert tuned["better"] is False


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [(CHEAPER, "cheaper there too: take them"), (DAYS, "not cheaper there: keep 0.4, 0.3, 0.2, 0.1")],
    ids=["cheaper", "never read, so that no weights matter"],
)
def test_people_read_both_halves_and_the_verdict(tmp_path: Path, gap: int, verdict: str) -> None:
    file = fleet(tmp_path / "past.parquet", gap, objects=12)
    said = printed(tmp_path, "tune", file, "--classes", CLASSES)

    assert "sets tried" in said
    assert "fitted on" in said
    assert "held out" in said
    assert f"On the held-out objects they are {verdict}." in said


def line(n: int, day: int, second: int, **words: str) -> str:
    request = f"{words['requester']}{day}-{n}"
    return s3_line(f"data/{n:02}", at=START + day * DAY + second, size=str(GIB), request=request, **words)


def log(path: Path, *, scanned: bool) -> Path:
    """28 objects in 200 days, eight of them younger; a backup reads all there are in order, every third night."""
    born = [0 if n < 20 else 60 + 2 * (n - 20) for n in range(28)]
    lines = [line(n, day, n, op="REST.PUT.OBJECT", sent="-", requester="writer") for n, day in enumerate(born)]
    for day in range(1, 200):
        there = [n for n in range(28) if born[n] < day] if scanned and day % 3 == 0 else []
        lines += [line(n, day, 60 * n, sent=str(GIB), requester="backup") for n in there]
        lines.append(line(3, day, 3600, sent=str(GIB), requester="ann"))
    path.write_text("".join(lines))
    return path


def test_reads_by_scanners_are_billed_but_nothing_is_learned_from_them(tmp_path: Path) -> None:
    noisy, quiet = log(tmp_path / "noisy.log", scanned=True), log(tmp_path / "quiet.log", scanned=False)
    words = "--classes", CLASSES
    left_out, none = answer(tmp_path, "tune", noisy, *words), answer(tmp_path, "tune", quiet, *words)
    learned = answer(tmp_path, "tune", noisy, *words, "--with-scanners")

    scans = sum(1 for row in noisy.read_text().splitlines() if " backup " in row)
    assert left_out["left_out_of_learning"]["reads"] == scans
    assert none["left_out_of_learning"]["reads"] == learned["left_out_of_learning"]["reads"] == 0
    promised = [[(bin["moves"], bin["promised"]) for bin in each["calibration"]] for each in (left_out, none, learned)]
    assert promised[0]
    assert promised[0] == promised[1] != promised[2]
    assert f"Nothing was learned from {scans:,} reads by scanners" in printed(tmp_path, "tune", noisy, *words)
    assert left_out["tune"]["held_out_before"] > none["tune"]["held_out_before"]  # his reads are paid for
    assert left_out["tune"]["held_out_before"] != learned["tune"]["held_out_before"]


@pytest.mark.parametrize(
    ("write", "words", "says"),
    [
        (lambda _path: None, (), "past.parquet"),
        (lambda path: path.write_bytes(b"no log at all\n" * 9), (), "past.parquet"),
        (lambda path: fleet(path, CHEAPER, objects=5), (), "too few objects to fit weights on"),
        (lambda path: fleet(path, CHEAPER, objects=12), ("--classes", "standard,nowhere"), "nowhere"),
    ],
    ids=["a file that is not there", "a file that is no log", "five objects", "a class without a price"],
)
def test_what_cannot_be_tuned_on_is_refused_with_its_reason(tmp_path: Path, write, words, says: str) -> None:
    path = tmp_path / "past.parquet"
    write(path)

    assert says in refused(tmp_path, "tune", str(path), *words)
