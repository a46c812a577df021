"""Kernels of the replay's tests run compiled, so that many random pasts fit; a test of its own compares the bits."""

from __future__ import annotations

import pytest

from fabric.core import kernels


@pytest.fixture(autouse=True)
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "UNCOMPILED_MOST", 0)
