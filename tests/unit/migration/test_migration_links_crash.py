"""A process that is killed while it moves a user's file: the file is whole under its name, and the move goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import adopted_world as aw
import pytest

CHILD = Path(__file__).with_name("adopted_crash_child.py")
DATA = b"what the user wrote" * 1000
POINTS = ("in_progress.after", "copy.put", "verifying.before", "exchange.before", "exchange.after", "switch.done")


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_the_file_readable_under_its_name_and_the_next_start_ends_the_move(
    tmp_path: Path, point: str
) -> None:
    path = tmp_path / "nas/a/film"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    os.utime(path, (1, 1))
    ended = subprocess.run([sys.executable, CHILD, tmp_path, point], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == DATA

    world = aw.folders(tmp_path)
    world.migration.start()
    world.settle()
    job = world.job("nas://a/film")
    world.close()

    assert job.state == "COMPLETED", job.reason
    assert path.is_symlink()
    assert path.read_bytes() == DATA
    assert (tmp_path / "big/a/film").stat().st_nlink == 1
    assert [found.name for found in (tmp_path / "nas/.fabric/moves").iterdir()] == [f"{job.id}.old"]
    assert list((tmp_path / "big/.fabric/moves").iterdir()) == []
