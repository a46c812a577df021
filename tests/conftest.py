"""One worker runs all tests of a file, so that an engine or a browser that they share is started once."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """Hand out whole files, whatever ``-n`` says."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)
