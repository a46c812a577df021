"""The control map: which test shows what part of a promise. It claims no compliance: software alone has none."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files

import msgspec


class Control(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the specification's compliance section and the tests that check what the fabric does for it.

    ``tests`` are ``path::name``, or ``pending: reason`` where nothing checks it yet.
    """

    framework: str
    promise: str
    means: str  # what the fabric does
    tests: tuple[str, ...]

    @property
    def state(self) -> str:
        pending = [test for test in self.tests if test.startswith("pending:")]
        return "pending" if len(pending) == len(self.tests) else "partly tested" if pending else "tested"


class _Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    note: str
    control: tuple[Control, ...]


@lru_cache(maxsize=1)
def control_map() -> tuple[str, tuple[Control, ...]]:
    """Return the note that goes with the map, and its controls."""
    text = files("fabric.security").joinpath("controls.toml").read_text(encoding="utf-8")
    found = msgspec.convert(tomllib.loads(text), _Map)
    return found.note, found.control
