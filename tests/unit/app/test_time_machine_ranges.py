"""Address ranges given to the time machine's page: they tell who pays egress, as the command's ``--ranges`` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fabric.app.replaychild import Voice, answer
from fabric.app.replaytold import Question
from fabric.core.errors import BadInputError

LINE = (
    "owner bucket [{day:02d}/Feb/2024:00:00:38 +0000] 198.51.100.7 who R{day} REST.GET.OBJECT data/film "
    '"GET /data/film HTTP/1.1" 200 - 1073741824 1073741824 70 10 "-" "agent" - id SigV4 c AuthHeader host TLSv1.2 - -\n'
)


def asked(folder: Path, region: str) -> Question:
    log, ranges = folder / "log", folder / "ranges.json"
    log.write_text("".join(LINE.format(day=day) for day in range(1, 29)))
    ranges.write_text(json.dumps({"prefixes": [{"ip_prefix": "198.51.100.0/24", "region": region}]}))
    return Question(accesses=(str(log),), ranges=(str(ranges),), policies=("all_hot",))


def told(question: Question, folder: Path) -> dict[str, object]:
    folder.mkdir()
    return answer(question, folder, Voice(folder))


def test_readers_in_the_region_pay_no_egress_and_those_of_another_surely_do(tmp_path: Path) -> None:
    near = told(asked(tmp_path, "us-east-1"), tmp_path / "near")
    far = told(asked(tmp_path, "eu-central-1"), tmp_path / "far")

    assert near["egress"] == {"low": 0.0, "high": 0.0}
    assert far["egress"]["low"] == far["egress"]["high"] > 0.0  # type: ignore[index]
    assert any("readers there pay no egress" in str(one) for one in near["assumptions"])  # type: ignore[attr-defined]


def test_two_files_of_address_ranges_are_refused(tmp_path: Path) -> None:
    question = asked(tmp_path, "us-east-1")
    twice = Question(accesses=question.accesses, ranges=question.ranges * 2)
    with pytest.raises(BadInputError, match="one file of address ranges"):
        told(twice, tmp_path / "twice")
