"""Plans for a user's own objects, from the command line: what is said beforehand is what is ordered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from command_line import answer, refused

SETTINGS = """
[stores.nas]
url = "{folder}/nas"
mode = "{mode}"
links = "ok"
[stores.big]
url = "{folder}/big"
mode = "move"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return the folder of a scanned world: two plain files, and one with a second name."""
    for name in ("films/1", "films/2", "films/3"):
        path = tmp_path / "nas" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
        os.utime(path, (1, 1))
    (tmp_path / "nas/films/same").hardlink_to(tmp_path / "nas/films/3")
    (tmp_path / "big").mkdir()
    (tmp_path / "more.toml").write_text(
        "[migration]\nquiet_seconds = 0\n" + SETTINGS.format(folder=tmp_path, mode="move")
    )
    _fabric(tmp_path, "scan")
    return tmp_path


def _fabric(folder: Path, *words: object) -> Any:
    return answer(folder, "--config", folder / "more.toml", *words)


def test_a_plan_names_what_will_happen_and_each_refusal_and_apply_orders_exactly_it(own: Path) -> None:
    plan = _fabric(own, "plan", "--adopted", "nas/films", "--to", "big/hdd", "-o", own / "plan.json")
    assert [move["key"] for move in plan["moves"]] == ["films/1", "films/2"]
    assert plan["refused_by"] == {"hard_links": 2}
    assert "leaves a symbolic link" in plan["does"]
    assert plan["once_usd"] == pytest.approx(sum(plan["lines"].values()))
    assert not (own / "big/films").exists()

    applied = _fabric(own, "apply", own / "plan.json")

    jobs = _fabric(own, "jobs")["jobs"]
    assert (applied["moves"], applied["not_ordered"]) == (2, [])
    assert sorted(job["key"] for job in jobs) == ["nas://films/1", "nas://films/2"]
    assert {job["state"] for job in jobs} == {"PENDING"}


def test_a_changed_plan_of_adopted_objects_is_refused(own: Path) -> None:
    plan = _fabric(own, "plan", "--adopted", "nas", "--to", "big/hdd", "-o", own / "plan.json")
    (own / "plan.json").write_text(json.dumps(plan | {"once_usd": 0.5}))
    said = refused(own, "--config", own / "more.toml", "apply", own / "plan.json")
    assert "the plan was changed after it was made" in said


def test_a_plan_file_from_before_plans_had_notes_is_applied(own: Path) -> None:
    plan = _fabric(own, "plan", "--adopted", "nas/films", "--to", "big/hdd", "-o", own / "plan.json")
    (own / "plan.json").write_text(json.dumps({name: said for name, said in plan.items() if name != "notes"}))
    stored = own / "data" / "plans" / f"{plan['sha256']}.adopted"
    stored.write_text(
        json.dumps({name: said for name, said in json.loads(stored.read_text()).items() if name != "notes"})
    )
    applied = _fabric(own, "apply", own / "plan.json")
    assert (applied["moves"], applied["not_ordered"]) == (2, [])


def test_files_of_a_store_in_mode_copy_do_not_leave_it(own: Path) -> None:
    (own / "more.toml").write_text(SETTINGS.format(folder=own, mode="copy"))
    said = refused(own, "--config", own / "more.toml", "plan", "--adopted", "nas", "--to", "big/hdd")
    assert "set mode = 'move' for stores.nas" in said
