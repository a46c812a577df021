"""The report against its schema, bounded whatever the number of jobs; and moves that change the encryption."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from crash_scenarios import SMALL
from migration_world import World

import fabric.runtime
from fabric.core.words import Classification, Criticality, ObjectPolicy

SCHEMA = json.loads((Path(fabric.runtime.__file__).parent / "schemas" / "migration.json").read_text())


def _valid(world: World) -> dict[str, object]:
    body = world.migration.reports()["migration"]
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(body)))
    return body


@pytest.mark.item(5)
def test_the_report_keeps_its_schema_empty_busy_and_afterwards(world: World) -> None:
    assert _valid(world)["note"] == "Nothing to move: waiting for placement's next decision."
    for number in range(25):
        world.write(f"k{number}", SMALL)
        world.decide(f"k{number}", "b/cold")
    world.write("big", SMALL, policy=ObjectPolicy(Classification.CONFIDENTIAL, Criticality.CRITICAL))
    world.decide("big", "c/hot")
    world.migration.tick()
    _valid(world)
    world.tick_until("COMPLETED", "AWAITING_APPROVAL")
    world.migration.tick()
    body = _valid(world)

    assert body["jobs_by_state"]["COMPLETED"] == 25
    assert body["bytes_moved"] == 25 * len(SMALL) == body["bytes_written_since_start"]
    assert len(body["tables"]["jobs"]["rows"]) == 20
    assert body["tables"]["jobs"]["total"] == 26
    assert body["note"] == "1 jobs wait for an approval."


def test_pages_reach_every_job_and_every_journal_row_once(world: World) -> None:
    for number in range(12):
        world.write(f"k{number}", SMALL)
        world.decide(f"k{number}", "b/cold")
    world.settle()

    for kind in ("jobs", "journal"):
        seen: list[object] = []
        cursor = None
        while True:
            page = world.migration.page(kind, cursor=cursor, limit=5)
            seen += [row["id"] for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == page.total

    assert world.migration.page("jobs", search="k11").total == 1


def test_measures_count_the_bytes_that_were_written(world: World) -> None:
    world.write("k", SMALL)
    world.decide("k", "b/cold")
    world.settle()

    values = {(m.name, m.labels): m.value for m in world.measures.snapshot()}
    assert values["migration_bytes_total", (("store", "b"),)] == len(SMALL)
    assert ("jobs_running", ()) in values
