"""How long work is shown: a line that renews itself on a terminal, plain lines elsewhere, nothing in between."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fabric.cli import show
from fabric.cli.arguments import json_first
from fabric.core.errors import UnavailableError

ROOT = Path(__file__).parents[3]
ROW = {"id": "scan-nas", "label": "scan of nas", "done": 1200, "total": None, "unit": "objects", "rate": 600.0}
WORK = f"""
import threading
from fabric.cli.show import while_working
asked = threading.Event()
def progress():
    asked.set()
    return [{ROW!r}]
print(while_working(lambda: asked.wait(30) and 'the result', progress))
"""


def test_a_terminal_sees_how_far_long_work_is() -> None:
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen([sys.executable, "-c", WORK], stdout=child, stderr=child, env=environment)
    os.close(child)
    pieces: list[bytes] = []
    while piece := _read(parent):
        pieces.append(piece)
    assert running.wait(30) == 0
    os.close(parent)
    shown = b"".join(pieces).decode()
    assert "scan of nas: 1,200 objects, 600/s" in shown
    assert "the result" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side closed
        return b""


def test_elsewhere_a_plain_line_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "PLAIN_EVERY_SECONDS", 0.0)
    asked = threading.Event()

    def progress() -> list[dict[str, object]]:
        asked.set()
        return [ROW]

    assert show.while_working(lambda: asked.wait(30), progress) is True
    assert capsys.readouterr().err.splitlines()[0] == "scan of nas: 1,200 objects, 600/s"


def test_what_the_work_raises_is_raised() -> None:
    def work() -> None:
        raise UnavailableError("gone")

    with pytest.raises(UnavailableError):
        show.while_working(work, list)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["ls", "a/"], (["ls", "a/"], False)),
        (["ls", "--json", "a/"], (["--json", "ls", "a/"], True)),
        (["--json", "ls"], (["--json", "ls"], True)),
        (["ls", "--", "--json"], (["ls", "--", "--json"], False)),
    ],
)
def test_json_is_asked_for_anywhere_before_the_end_of_options(given: list[str], wanted: tuple[list[str], bool]) -> None:
    assert json_first(given) == wanted


def test_rows_too_wide_for_a_terminal_become_blocks_of_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"key": "a" * 60, "place": "b" * 60}]
    show.show(rows)
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    show.show(rows)
    assert capsys.readouterr().out.splitlines()[:2] == ["key: " + "a" * 60, "place: " + "b" * 60]
