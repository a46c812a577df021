"""The command ``replay``, in a process of its own where what it prints matters; no engine, no data folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.pricing.sheet import PriceBook
from tests.command_line import answer, printed

DAY = 86400


def trace(path: Path, rows: list[tuple[int, int, int, int, int, int]]) -> Path:
    names = ("t", "obj", "size", "op", "n", "bytes")
    columns = {name: pa.array([row[at] for row in rows], pa.int64()) for at, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)
    return path


def replay(folder: Path, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fabric", "replay", *(str(word) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=None, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    return tmp_path


ROWS = [(0, 7, 10**9, 0, 1, 0), (DAY * 50, 7, 10**9, 1, 3, 3 * 10**9), (DAY * 200, 7, 10**9, 1, 1, 10**9)]


def test_the_document_names_every_policy_with_lines_that_sum_to_its_total(here: Path) -> None:
    file = trace(here / "t.parquet", ROWS)
    done = replay(here, "--accesses", file, "--classes", "standard,standard_ia,glacier_instant", "--json")
    found = json.loads(done.stdout)["policies"]
    assert {"all_hot", "static:standard_ia", "azure_last_access", "adaptive_ttl:glacier_instant", "optimum"} <= set(
        found
    )
    assert "intelligent_tiering" not in found
    for policy in found.values():
        assert sum(policy["lines"].values()) == pytest.approx(policy["total"], rel=1e-12)
        assert policy["ratio_to_optimum"] == pytest.approx(policy["total"] / found["optimum"]["total"])
    assert [path.name for path in here.iterdir()] == ["t.parquet"]


def test_stretch_and_horizon_change_the_days_billed(here: Path) -> None:
    file = trace(here / "t.parquet", ROWS)
    days = {
        words: json.loads(replay(here, "--accesses", file, "--policies", "all_hot", *words, "--json").stdout)["trace"][
            "days"
        ]
        for words in ((), ("--stretch", 2), ("--horizon-days", 60))
    }
    assert list(days.values()) == [201, 401, 60]


@pytest.mark.parametrize(("provider", "tier"), [("gcp", "autoclass"), ("azure", "smart_tier")])
def test_a_managed_tier_that_no_live_store_can_have_is_compared_and_said_to_be_no_choice_of_the_live_fabric(
    here: Path, provider: str, tier: str
) -> None:
    file, plain = trace(here / "t.parquet", ROWS), PriceBook.load().classes(provider)[0]
    asked = ("replay", "--accesses", file, "--provider", provider, "--policies", "all_hot,fabric", "--classes")
    found, text = answer(here, *asked, f"{plain},{tier}"), printed(here, *asked, f"{plain},{tier}")
    assert f"Note: {tier} can be compared here, but is not among what the live fabric acts with" in text
    assert [note.split(" ")[0] for note in found["notes"]] == [tier]
    assert answer(here, *asked, plain)["notes"] == []


def test_intelligent_tiering_is_no_such_tier(here: Path) -> None:
    file = trace(here / "t.parquet", ROWS)
    assert answer(here, "replay", "--accesses", file, "--policies", "intelligent_tiering")["notes"] == []


def test_several_files_follow_one_option(here: Path) -> None:
    one, two = trace(here / "a.parquet", ROWS[:2]), trace(here / "b.parquet", ROWS[2:])
    done = replay(here, "--accesses", one, two, "--policies", "all_hot", "--json")
    assert json.loads(done.stdout)["trace"]["reads"] == 4


def test_people_get_a_table_with_the_cheapest_first(here: Path) -> None:
    done = replay(here, "--accesses", trace(here / "t.parquet", ROWS), "--policies", "all_hot,static")
    rows = [line.split()[0] for line in done.stdout.splitlines() if "$" in line and "Egress" not in line]
    assert sorted(rows) == ["all_hot", "static:glacier_instant", "static:standard", "static:standard_ia"]
    assert "in no total" in done.stdout


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 1, -5, 0, 1, 0)], "negative size"),
        ([(-1, 1, 5, 0, 1, 0)], "negative time"),
        ([(0, 1, 5, 7, 1, 0)], "unknown op"),
        ([], "no accesses"),
    ],
)
def test_a_trace_with_impossible_rows_is_refused(here: Path, rows: list[tuple[int, ...]], message: str) -> None:
    file = trace(here / "t.parquet", rows)  # type: ignore[arg-type]
    assert message in replay(here, "--accesses", file, code=2).stderr


def test_a_class_without_a_price_is_refused_by_name(here: Path) -> None:
    file = trace(here / "t.parquet", ROWS)
    done = replay(here, "--accesses", file, "--classes", "standard,lukewarm", "--json", code=2)
    assert json.loads(done.stderr)["storage_class"] == "lukewarm"


def test_an_unknown_policy_is_refused_with_the_known_ones(here: Path) -> None:
    done = replay(here, "--accesses", trace(here / "t.parquet", ROWS), "--policies", "best", code=2)
    assert "all_hot" in done.stderr


def test_nothing_to_replay_is_said_so(here: Path) -> None:
    assert "--accesses" in replay(here, code=2).stderr


def test_own_prices_change_the_bill(here: Path) -> None:
    (here / "mine.toml").write_text("[aws.tiers.standard]\nstorage_per_gb_month = 0.046\n")
    file = trace(here / "t.parquet", ROWS)
    bills = [
        json.loads(replay(here, "--accesses", file, "--policies", "all_hot", *more, "--json").stdout)
        for more in ((), ("--prices", "mine.toml"))
    ]
    usual, dear = (bill["policies"]["all_hot"]["lines"]["storage"] for bill in bills)
    assert dear == pytest.approx(2 * usual)
