"""What is undone on the way of a failure, and who gets to see it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from fabric.core.failing import Carried, undoing

FABRIC = Path(__file__).parents[3] / "fabric"
BROAD = ("Exception", "BaseException")


def test_what_was_begun_is_undone_before_its_failure_goes_on() -> None:
    def interrupted() -> None:
        with undoing(lambda: seen.append("undone")):
            seen.append("begun")
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == ["begun", "undone"]


def test_what_ended_well_is_not_undone() -> None:
    def early(seen: list[str]) -> str:
        with undoing(lambda: seen.append("undone")):
            return "done"

    seen: list[str] = []
    with undoing(lambda: seen.append("undone")):
        seen.append("done")
    assert seen == ["done"]
    assert early(seen) == "done"


def test_a_carried_failure_reaches_who_waits_and_nobody_else() -> None:
    told: list[BaseException] = []
    with Carried(told.append):
        raise OSError("no disk")
    with Carried(told.append):
        pass
    assert [str(error) for error in told] == ["no disk"]


def test_only_the_supervisor_catches_whatever_comes_and_nothing_is_suppressed() -> None:
    broad, suppressed = set[str](), set[str]()
    for path in FABRIC.rglob("*.py"):
        text, name = path.read_text(), str(path.relative_to(FABRIC))
        if "# noqa" in text or "# type: ignore" in text:
            suppressed.add(name)
        handlers = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ExceptHandler)]
        if any(one.type is None or (isinstance(one.type, ast.Name) and one.type.id in BROAD) for one in handlers):
            broad.add(name)
    assert broad == {"runtime/supervisor.py"}
    assert suppressed == set()
