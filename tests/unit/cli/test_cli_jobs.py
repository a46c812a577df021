"""The commands jobs and undo: what people and programs see, and that nothing is undone unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fabric.catalog.jobs import Job
from fabric.catalog.runs import Run
from fabric.cli.client import Answer
from fabric.cli.jobs import jobs, undo
from fabric.cli.show import show
from fabric.migration import report

RUN = report.run_row(Run("run1", 0.0, "plan", "ann"), {"COMPLETED": (1, 100), "IN_PROGRESS": (1, 300)}, 0.5, 2.0)
DONE = report.job_row(
    Job("j1", "films/a", "v", "a/hot", "b/hot", 100, 0.0, state="COMPLETED", checksums={"target": "ab" * 32}), None
)
QUOTE = {
    "about": "run1", "kind": "run", "jobs": 1, "how": {"switch": 1}, "usd": 0.25, "bytes": 0, "seconds": 2.0,
    "lost": [], "needs": {"leave-copy": "the mode of b forbids deleting"}, "sha256": "q", "ways": [],
}  # fmt: skip


class Asked:
    """A session whose engine answers from the rows above and remembers what it was ordered."""

    as_json = False

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.orders: list[tuple[str, Any]] = []

    @contextmanager
    def client(self) -> Iterator[Asked]:
        yield self

    @contextmanager
    def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, json: Any = None) -> Any:
        yield Answer(200, {}, iter([_encode(self._answer(path, query or {}, json))]))

    def _answer(self, path: str, query: Mapping[str, str], body: Any) -> Any:
        if path.startswith("/api/acts/"):
            self.orders.append((path.rsplit("/", 1)[1], body))
            return QUOTE if path.endswith("undo_quote") else {"undone": "run1", "jobs": 1, "failed": []}
        rows = {"runs": [RUN], "jobs": [DONE], "journal": []}[path.rsplit("/", 1)[1]]
        return {"rows": rows, "cursor": None, "total": len(rows)} if query["search"] != "none" else {"rows": []}

    def show(self, value: Any, title: str = "", *, columns: Any = ()) -> None:
        show(value, title=title, columns=columns, as_json=self.as_json)


def _encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def printed(command: Any, *words: str, session: Asked | None = None) -> str:
    found = CliRunner().invoke(command, words, obj=session or Asked(), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_jobs_show_runs_with_their_cap_and_jobs_with_their_checksum_in_plain_lines_elsewhere() -> None:
    said = printed(jobs)
    assert "25% of 400 bytes" in said
    assert "$2.00" in said
    assert "100% of 100 bytes" in said
    assert "abababababab" in said
    assert "█" not in said, "bars are for terminals"


def test_jobs_on_a_terminal_show_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fabric.cli.jobs.sys.stdout", _Terminal())
    from fabric.cli.jobs import _bar

    assert _bar(100, 400) == "█████" + "░" * 15 + " 25% of 400 bytes"


def test_jobs_as_json_are_the_rows_as_they_are() -> None:
    found = json.loads(printed(jobs, "run1", session=Asked(as_json=True)))
    assert found["runs"][0]["cap_usd"] == 2.0
    assert found["jobs"][0]["checksums"] == {"target": "ab" * 32}


def test_undo_shows_the_quote_and_does_nothing_without_a_yes() -> None:
    session = Asked()
    said = printed(undo, "run1", session=session)
    assert "$0.25" in said
    assert "Needs --allow leave-copy: the mode of b forbids deleting." in said
    assert "Nothing was done" in said
    assert [name for name, _ in session.orders] == ["undo_quote"]


def test_undo_orders_exactly_what_was_quoted() -> None:
    session = Asked()
    printed(undo, "run1", "--yes", "--allow", "leave-copy", session=session)
    assert session.orders[1] == ("undo", {"id": "run1", "sha256": "q", "allow": ["leave-copy"]})


class _Terminal:
    def isatty(self) -> bool:
        return True


def test_the_document_of_an_undo_without_a_yes_is_the_quote(tmp_path: Path) -> None:
    assert json.loads(printed(undo, "run1", session=Asked(as_json=True))) == QUOTE
