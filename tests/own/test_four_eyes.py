"""Approvals of high-risk moves over real HTTP: one person while there is one, two as soon as there are two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from program import Answer, Program, until
from worlds import DASHBOARD, decide, running

from fabric.app.applied import AppliedMoves
from fabric.app.engine import Engine
from fabric.core.config import MigrationSettings, PlacementSettings, PolicySettings, Settings, StoreSettings
from fabric.core.words import Classification, Criticality, Mode
from fabric.migration.ports import NOBODY, Order


@dataclass(frozen=True)
class World:
    program: Program
    engine: Engine
    tokens: dict[str, str]

    def act(self, who: str, name: str, /, **body: Any) -> Answer:
        data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return self.program.ask("POST", f"/api/acts/{name}", body=data, headers=headers, token=self.tokens.get(who, ""))

    def declare(self, who: str, role: str) -> None:
        self.tokens[who] = self.act("local", "token_add", name=who, role=role, classes=["confidential"]).json()["token"]

    def waiting(self, key: str, by: str) -> str:
        """Write an object, have its move ordered by someone ("": by nobody) and return the job that waits."""
        assert self.program.ask("PUT", f"/api/objects/high/{key}", body=b"secret").status == 201
        head = self.engine.heads.get(f"high/{key}")
        assert head is not None
        free = ({"north/hdd", "south/hdd", "west/hdd"} - {one.place for one in head.current.replicas}).pop()
        decide(self.engine, head.key, head.current.replicas[0].place, free)
        if by:
            plan = self.act(by, "plan").json()
            assert self.act(by, "apply", sha256=plan["sha256"]).status == 200
        else:
            self.engine.applied.apply({move.id: NOBODY for move in self.engine.decisions.open_moves(10)})
            self.engine.wake("migration")
        job = until(lambda: self.engine.jobs.of_key(head.key), what="the job")[0]
        assert (job.state, job.risk, job.ordered_by) == ("AWAITING_APPROVAL", "high", by)
        return str(job.id)

    def ended(self, job: str) -> Any:
        until(lambda: self.engine.jobs.get(job).state == "COMPLETED", what="the end of the move")
        return self.engine.jobs.get(job)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("four-eyes")
    stores = {
        name: StoreSettings(url=str(folder / name), classes=("hdd",), mode=Mode.MOVE, kind="managed", domain=name)
        for name in ("north", "south", "west")
    }
    given = Settings(
        stores=stores,
        dashboard=DASHBOARD,
        policies=(PolicySettings("high/", Classification.CONFIDENTIAL, Criticality.CRITICAL),),
        placement=PlacementSettings(copies=2, idle_seconds=3600.0),
        migration=MigrationSettings(off_peak_hours=(0, 24), probe_seconds=0.1),
    )
    with running(folder, given) as (program, engine):
        until(lambda: all(engine.health.healthy(name) for name in stores), what="healthy stores")
        yield World(program, engine, {})


def test_while_one_person_may_approve_that_one_does_and_is_recorded(world: World) -> None:
    job = world.waiting("alone", "local")
    assert world.act("local", "approve", id=job).status == 200
    assert world.ended(job).approved_by == "local"


def test_who_ordered_a_move_may_not_approve_it_once_two_may(world: World) -> None:
    world.declare("adam", "admin")
    world.declare("ann", "approver")
    job = world.waiting("ordered", "adam")
    refused = world.act("adam", "approve", id=job)
    assert refused.status == 403
    assert "ordered" in refused.json()["detail"]
    assert world.engine.jobs.get(job).state == "AWAITING_APPROVAL"
    assert world.act("ann", "approve", id=job).status == 200
    done = world.ended(job)
    assert (done.ordered_by, done.approved_by) == ("adam", "ann")
    row = world.program.get(f"/api/pages/migration/jobs?search={job}")["rows"][0]
    assert (row["ordered_by"], row["approved_by"]) == ("adam", "ann")


def test_a_move_that_nobody_ordered_is_approved_by_two_different_people(world: World) -> None:
    job = world.waiting("by-itself", "")
    first = world.act("ann", "approve", id=job)
    assert (first.status, first.json()["state"]) == (200, "AWAITING_APPROVAL")
    again = world.act("ann", "approve", id=job)
    assert again.status == 403
    assert "second person" in again.json()["detail"]
    assert world.act("adam", "approve", id=job).status == 200
    assert world.ended(job).approved_by == "ann and adam"
    late = world.act("adam", "approve", id=job)
    assert late.status == 409  # and the audit chain does not say that he approved
    said = world.program.get("/api/pages/security/audit?search=migration.approved")["rows"]
    assert [row["who"] for row in said] == ["adam", "ann", "ann", "local"]  # newest first


def test_one_person_with_a_shell_and_a_named_token_is_not_two(world: World) -> None:
    job = world.waiting("two-hats", "local")
    refused = world.act("local", "approve", id=job)
    assert refused.status == 403
    assert "name" in refused.json()["hint"]
    first = world.act("ann", "approve", id=job)  # who ordered it as `local` may be ann herself
    assert (first.status, first.json()["state"]) == (200, "AWAITING_APPROVAL")
    assert world.act("local", "approve", id=job).status == 403
    assert world.act("adam", "approve", id=job).status == 200
    assert world.ended(job).approved_by == "ann and adam"


def test_what_was_applied_before_orders_had_names_is_still_applied(tmp_path: Path) -> None:
    class Feed:
        def open_moves(self, limit: int) -> list[Any]:
            return []

        def take(self, ids: Any) -> None:
            assert ids == ["one"]

    path = tmp_path / "applied.json"
    path.write_bytes(b'["one","two"]')
    applied = AppliedMoves(Feed(), path, automatic=False)
    assert applied.order("one") == NOBODY
    applied.apply({"three": Order("ann", "run", "hash")})
    applied.take(["one"])
    assert set(msgspec.json.decode(path.read_bytes())) == {"two", "three"}
    again = AppliedMoves(Feed(), path, automatic=False)
    assert (again.order("two"), again.order("three")) == (NOBODY, Order("ann", "run", "hash"))
