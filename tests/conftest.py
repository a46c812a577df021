"""How the tests share two cores: a file stays in one worker, the longest files go first."""

from __future__ import annotations

from typing import Any

import pytest

# Runs of the whole program that wait more than they work, the longest first.
FIRST = (
    "tests/system/test_complete_run.py",
    "tests/browser/test_real_engine.py",
    "tests/system/test_demos.py",
    "tests/system/test_kills.py",
    "tests/system/test_quiet_run.py",
    "tests/system/test_live_ledger.py",
    "tests/system/test_background_tasks.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Hand out whole files, whatever ``-n`` says, so that an engine or a browser that they share is started once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that the short ones even out the end."""
    rank = {name: at for at, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
