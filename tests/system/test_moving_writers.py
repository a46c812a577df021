"""No update is lost while objects move: the short form of `tests/bench/migration_writers.py`."""

from __future__ import annotations

from pathlib import Path

import moving_writers

MOVES = 40


def test_no_acknowledged_write_is_lost_while_its_object_moves(tmp_path: Path) -> None:
    told = moving_writers.run(tmp_path, MOVES)
    assert told["lost"] == []
    assert told["moves"].get("COMPLETED", 0) > 0
    assert told["writes"] > 0
