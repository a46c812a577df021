"""SIGKILL of a separate process at every named point, then a new start over what it left."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crash_scenarios import LARGE, SMALL, make_world

from fabric.migration.points import POINTS

CHILD = Path(__file__).with_name("crash_child.py")
ROOT = Path(__file__).parents[3]
CASES = [
    *(("copy_small", point) for point in ("job.recorded", "validating.before", "validating.after")),
    *(("copy_small", point) for point in ("in_progress.before", "in_progress.after", "copy.put")),
    *(("copy_small", point) for point in ("verifying.before", "verifying.after", "shadow.put", "verified")),
    *(("copy_small", point) for point in ("switch.before", "switch.done", "completed.before", "completed.after")),
    *(("copy_parts", point) for point in ("upload.begun", "part.put#2", "part.saved", "upload.completing", "copy.put")),
    *(("in_place", point) for point in ("class.changed", "switch.done")),
    *(("damaged", point) for point in ("failed.before", "failed.after", "rolling_back.before", "rolling_back.after")),
    *(("damaged", point) for point in ("copy.removed", "rolled_back.before", "rolled_back.after")),
    *(("undo", point) for point in ("rolling_back.after", "switch_back.done")),
    *(("undo_in_place", point) for point in ("copy.removed", "switch_back.done")),
    *(("outage", point) for point in ("paused.before", "paused.after")),
    *(("reap", point) for point in ("reap.noted", "reap.unlisted", "reap.deleted")),
]


def test_every_named_point_is_tried() -> None:
    assert {point.partition("#")[0] for _, point in CASES} == set(POINTS)


@pytest.mark.item(24)
@pytest.mark.parametrize(("scenario", "point"), CASES)
def test_a_kill_at_any_point_ends_completed_or_rolled_back_with_every_byte(
    scenario: str, point: str, tmp_path: Path
) -> None:
    folder = tmp_path / scenario
    ended = subprocess.run(
        [sys.executable, str(CHILD), str(folder), scenario, point], cwd=ROOT, env=_environment(), capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, (point, ended.stderr.decode()[-2000:])

    world = make_world(folder)
    world.migration.start()
    try:
        world.settle()
        _idle(world)
        job = world.job("k")
        assert job.state in ("COMPLETED", "ROLLED_BACK"), (job.state, job.reason)
        if scenario != "damaged":
            assert world.read("k") == (LARGE if scenario in ("copy_parts", "outage") else SMALL)
        assert _strays(world) == []
        assert world.jobs.verify_journal() == len(world.jobs.journal_of(job.id)) + 1  # the run's own row
        assert len(world.jobs.of_key("k")) == 1
    finally:
        world.close()


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}


def _idle(world: object) -> None:
    """Let the reaper and the sweeper finish."""
    for _ in range(100):
        world.migration.tick()
        world.migration.tools.stopping.wait(0.002)
        if not world.busy() and not world.jobs.due(world.clock.now()) and not world.jobs.litter():
            return


def _strays(world: object) -> list[str]:
    """Return blobs that no head lists, shadows and unfinished uploads, in any store."""
    head = world.heads.get("k")
    listed = {(replica.store, replica.blob) for replica in head.current.replicas}
    found = []
    for name in ("a", "b", "c"):
        store = world.store(name)
        found += [f"{name}:{info.key}" for info in store.list("objects/") if (name, info.key) not in listed]
        found += [f"{name}:upload {key}" for key, _ in store.uploads()]
        found += [f"{name}:{info.key}" for info in store.list(".fabric/shadow/")]
    return found
