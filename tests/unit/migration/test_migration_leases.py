"""Two real processes over one catalog and the same stores: each job is worked by one of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from crash_pairs import PAIRS, settings_of
from crash_reader import RawFolder, Reader, double_deletes, heads_in
from crash_scenarios import CrashWorld
from lease_child import wait_for

from fabric.catalog.jobs import Job, JournalRow
from fabric.migration.machine import State, is_legal

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("lease_child.py")
KEYS = tuple(f"k{number:02}" for number in range(32))
DATA = {key: key.encode() * 500 for key in KEYS}


@pytest.mark.item(24, 29)
def test_two_processes_over_one_catalog_never_work_one_job(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    pair = PAIRS["local-local"]
    world = CrashWorld(tmp_path, pair, settings_of(pair, tmp_path, "", {}), "reap")
    for key in KEYS:
        world.write_sealed(key, DATA[key])
    both = [subprocess.Popen([sys.executable, str(CHILD), str(tmp_path), *names], cwd=ROOT) for names in ("xy", "yx")]
    for name in ("x", "y"):
        wait_for(tmp_path / f"ready-{name}")
    world.decide_all(*KEYS)
    (tmp_path / "decided").touch()
    assert [process.wait(60) for process in both] == [0, 0]

    jobs = world.jobs.page(limit=100)[0]
    assert len({job.holder for job in jobs}) == 2, "one of the two did everything"
    for job in jobs:
        _was_worked_once(job, world.jobs.journal_of(job.id))
    world.jobs.verify_journal()
    world.close()
    puts = Counter(line for line in (tmp_path / "deletes.log").read_text().splitlines() if line.startswith("put b obj"))
    assert set(puts.values()) == {1}
    heads = heads_in(tmp_path)
    expected = {key: hashlib.sha256(data).hexdigest() for key, data in DATA.items()}
    reader = Reader({name: RawFolder(tmp_path / name) for name in ("a", "b")}, expected, {})
    assert [*reader.without_copy(heads), *reader.corrupt(heads), *reader.strays(heads)] == []
    assert list(double_deletes(tmp_path / "deletes.log")) == []


def _was_worked_once(job: Job, rows: list[JournalRow]) -> None:
    """Check the journal of a job: a decision that came to both may have become a job of which nothing was begun."""
    assert job.state in ("COMPLETED", "FAILED"), (job.state, job.reason)
    steps = [(row.was, row.became) for row in rows if row.was != row.became]
    for before, after in pairwise(steps):
        assert before[1] == after[0], steps
    assert all(is_legal(State(was), State(became)) for was, became in steps if was)
    acts = Counter(row.act if row.was == row.became else row.became for row in rows)
    if job.state == "FAILED":
        assert acts["IN_PROGRESS"] == 0, (job.reason, steps)
        return
    wanted = ("IN_PROGRESS", "VERIFYING", "switch", "COMPLETED", "reap", "grace ended")
    assert [acts[name] for name in wanted] == [1] * len(wanted), acts
