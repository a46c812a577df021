"""The ledger: every promise of the specification has a test that names it, or a reason why not yet."""

from __future__ import annotations

import ast
import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
ITEMS = range(1, 134)
BENCH_LINE = re.compile(r"^Items:[ ]*(\d+(?:[ ]*,[ ]*\d+)*)[ ]*$", re.MULTILINE)
REQUIRED = frozenset(
    number
    for first, last in (
        *((1, 5), (7, 7), (12, 18), (20, 21), (24, 26), (33, 34), (37, 38), (44, 48), (53, 53), (56, 57), (60, 60)),
        *((64, 64), (67, 70), (73, 73), (76, 80), (82, 86), (89, 89), (95, 97), (99, 112), (114, 114), (121, 124)),
        *((126, 131), (133, 133)),
    )
    for number in range(first, last + 1)
)


def read(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


def pending() -> dict[int, str]:
    return {int(number): str(reason) for number, reason in read("pending.toml")["pending"].items()}


def still_open() -> set[int]:
    found = read("pending.toml").get("open", {}).get("items", [])
    assert isinstance(found, list)
    return set(found)


def marked(source: str, name: str) -> set[int]:
    """Return the numbers of every ``pytest.mark.item(...)`` in a file; a number must be written out."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Call) and _is_item(node.func):
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"{name}:{node.lineno}: write the item's number out"
                assert argument.value in ITEMS, f"{name}:{node.lineno}: there is no item {argument.value}"
                found.add(int(str(argument.value)))
    return found


def _is_item(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "item"
        and isinstance(function.value, ast.Attribute)
        and function.value.attr == "mark"
    )


def measured(source: str, name: str) -> set[int]:
    """Return the numbers on the line ``Items: 9, 116`` of a benchmark's docstring."""
    text = ast.get_docstring(ast.parse(source, name)) or ""
    found = {int(number) for line in BENCH_LINE.findall(text) for number in line.split(",")}
    assert found <= set(ITEMS), f"{name}: no such item among {sorted(found)}"
    return found


def sources(pattern: str) -> Iterator[tuple[str, str]]:
    for path in sorted(TESTS.rglob(pattern)):
        yield path.read_text(encoding="utf-8"), str(path.relative_to(TESTS))


def named_by_tests() -> dict[int, list[str]]:
    """Return for each tested item the files that name it."""
    found: dict[int, list[str]] = {}
    for source, name in sources("*.py"):
        numbers = measured(source, name) if Path(name).match("bench/bench_*.py") else marked(source, name)
        for number in numbers:
            found.setdefault(number, []).append(name)
    return found


def test_the_checklist_names_all_133_promises() -> None:
    assert [int(number) for number in read("checklist.toml")["items"]] == list(ITEMS)


def test_every_promise_is_tested_or_listed_with_its_reason() -> None:
    promises = read("checklist.toml")["items"]
    missing = set(ITEMS) - set(named_by_tests()) - set(pending()) - still_open()

    assert not missing, "neither tested nor pending:\n" + "\n".join(
        f"  {n} {promises[str(n)]}" for n in sorted(missing)
    )


def test_nothing_is_both_tested_and_pending() -> None:
    found = named_by_tests()
    both = sorted(set(found) & set(pending()))

    assert not both, "take these lines out of [pending]:\n" + "\n".join(f"  {n}: tested in {found[n]}" for n in both)


def test_no_promise_that_must_be_kept_now_is_pending() -> None:
    assert not REQUIRED & set(pending())


def test_what_is_pending_says_why() -> None:
    assert all(len(reason) >= 8 for reason in pending().values())
    assert set(pending()) <= set(ITEMS)


def test_what_is_open_must_be_kept_and_what_has_landed_is_named() -> None:
    assert still_open() <= REQUIRED
    if landed := sorted(still_open() & set(named_by_tests())):
        warnings.warn(f"tests have landed: take these out of [open] items: {landed}", stacklevel=1)


def test_the_required_list_is_the_one_agreed() -> None:
    assert len(REQUIRED) == 77
    assert {1, 5, 7, 18, 48, 57, 112, 114, 133} <= REQUIRED
    assert not {6, 8, 19, 22, 49, 58, 113, 115, 125, 132} & REQUIRED


@pytest.mark.parametrize(
    ("source", "numbers"),
    [
        ("@pytest.mark.item(3)\ndef test_a(): ...", {3}),
        ("@pytest.mark.item(3, 4)\ndef test_a(): ...", {3, 4}),
        ("pytestmark = [pytest.mark.item(5), pytest.mark.slow]", {5}),
        ("pytest.param(1, marks=pytest.mark.item(6))", {6}),
        ("text = '@pytest.mark.item(7)'\nrow.item(8)", set()),
    ],
)
def test_markers_are_found_in_code_and_not_in_text(source: str, numbers: set[int]) -> None:
    assert marked(source, "example") == numbers


def test_a_marker_with_a_number_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AssertionError, match="no item 134"):
        marked("@pytest.mark.item(134)\ndef test_a(): ...", "example")


def test_a_benchmark_names_its_promises_on_one_line() -> None:
    assert measured('"""Moves.\n\nItems: 9, 116\n"""', "example") == {9, 116}
    assert measured('"""Items: are many."""', "example") == set()
