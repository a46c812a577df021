from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest
from security_fakes import key_table

import fabric.runtime
from fabric.catalog.alerts import AlertRows
from fabric.catalog.database import Database
from fabric.catalog.heads import Head, Heads, Replica, Version
from fabric.catalog.tokens import TokenRows
from fabric.core.clock import ManualClock
from fabric.core.config import StoreAddress, StoreSettings, Thresholds, store_address
from fabric.core.errors import BadInputError, NotFoundError
from fabric.core.words import Classification, ObjectPolicy, Suite
from fabric.runtime.measures import Measures
from fabric.security import census
from fabric.security.alerts import Alerts
from fabric.security.audit import Audit
from fabric.security.component import Security
from fabric.security.controls import control_map
from fabric.security.rules import built_in_rules
from fabric.security.tokens import Tokens

SCHEMAS = Path(fabric.runtime.__file__).parent / "schemas"
ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Member:
    name: str
    settings: StoreSettings

    @property
    def address(self) -> StoreAddress:
        return store_address(self.name, self.settings)


class Fleet:
    members = (
        Member("nas", StoreSettings("/nas")),
        Member("bucket", StoreSettings("s3://bucket", kind="adopted")),
    )


class World:
    def __init__(self, folder: Path, database: Database) -> None:
        self.clock = ManualClock()
        self.measures = Measures(self.clock)
        self.states = {"migration": "running", "security": "running"}
        self.heads = Heads(database)
        self.audit = Audit(folder / "audit", self.clock, bytes(32))
        self.tokens = Tokens(TokenRows(database), self.clock, self.audit.append, engine_token="t")
        rows = AlertRows(database)
        self.alerts = Alerts(rows, built_in_rules(Thresholds()), self.clock, self.audit.append)
        self.security = Security(
            clock=self.clock,
            measures=self.measures,
            heads=self.heads,
            keys=key_table(folder),
            tokens=self.tokens,
            audit=self.audit,
            alerts=self.alerts,
            alert_rows=rows,
            fleet=Fleet(),
            states=lambda: {name: {"state": state} for name, state in self.states.items()},
        )

    def put(self, key: str, kind: Classification, *replicas: tuple[str, Suite]) -> None:
        made = tuple(Replica(place, "objects/aa/v", suite, 100, "") for place, suite in replicas)
        version = Version("v", 10, "", self.clock.now(), ("e", 1), {}, made)
        self.heads.commit(Head(key, ObjectPolicy(kind), (version,), key_id="k1"))

    def tick(self, seconds: float = 31.0) -> dict[str, dict[str, object]]:
        self.clock.advance(seconds)
        assert self.security.tick() <= 0.5
        bodies = dict(self.security.reports())
        for section, body in bodies.items():
            json.dumps(body, allow_nan=False)
            jsonschema.validate(body, json.loads((SCHEMAS / f"{section}.json").read_text()))
        return bodies


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(tmp_path / "catalog.db")
    database.start()
    world = World(tmp_path, database)
    world.security.start()
    yield world
    world.security.stop()
    database.stop()


@pytest.mark.item(99)
def test_both_reports_fit_their_schemas_from_the_first_moment(world: World) -> None:
    reports = world.security.reports()
    assert set(reports) == {"security", "alerts"}
    for section, body in reports.items():
        schema = json.loads((SCHEMAS / f"{section}.json").read_text())
        assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(body)] == []
    assert set(world.tick()) == set(reports)


@pytest.mark.item(78, 79, 89)
def test_ciphers_are_counted_from_the_heads_and_a_wrong_one_is_named(world: World) -> None:
    world.put("a", Classification.PRIVATE, ("nas/hdd", Suite.STANDARD), ("bucket/standard", Suite.STANDARD))
    world.put("b", Classification.PUBLIC, ("nas/hdd", Suite.NONE))
    world.put("c", Classification.SENSITIVE, ("bucket/standard", Suite.STANDARD))
    world.put("d", Classification.CONFIDENTIAL, ("bucket/standard", Suite.MILITARY))
    body = world.tick()["security"]
    assert body["encryption"] == {
        "replicas": {"standard": 3, "none": 1, "military": 1},
        "stored_bytes": {"standard": 300, "none": 100, "military": 100},
    }
    assert (body["state"], body["replicas_not_as_asked"]) == ("degraded", 2)
    wrong = world.security.page("wrong").rows
    assert [(row["key"], row["asked"]) for row in wrong] == [("c", "enhanced"), ("d", "refused")]


@pytest.mark.item(112)
def test_totals_count_what_is_firing_or_acknowledged(world: World) -> None:
    world.measures.gauge("store_up", 0.0, store="nas")
    world.measures.gauge("used_percent", 99.0, store="bucket")
    body = world.tick(0.5)["alerts"]
    assert (body["total_alerts"], body["critical_alerts"]) == (2, 1)
    for row in world.security.page("alerts").rows:
        world.alerts.acknowledge(row["id"], "ada")
    body = world.tick(0.5)["alerts"]
    assert (body["total_alerts"], body["critical_alerts"]) == (2, 1)
    world.measures.gauge("store_up", 1.0, store="nas")
    world.measures.gauge("used_percent", 1.0, store="bucket")
    body = world.tick(0.5)["alerts"]
    assert (body["total_alerts"], body["critical_alerts"], body["tables"]["history"]["total"]) == (0, 0, 2)
    assert len(world.security.page("history", limit=1).rows) == 1
    assert world.security.page("history", limit=1).cursor is not None


def test_a_component_that_failed_is_a_critical_alert_until_it_runs_again(world: World) -> None:
    assert world.tick(0.5)["alerts"]["total_alerts"] == 0
    world.states["migration"] = "failed"
    assert world.tick(0.5)["alerts"]["critical_alerts"] == 1
    assert world.security.page("alerts").rows[0]["where"] == "component migration"
    world.states["migration"] = "running"
    assert world.tick(0.5)["alerts"]["total_alerts"] == 0


def test_every_table_of_the_reports_can_be_paged_and_an_unknown_one_says_what_is_known(world: World) -> None:
    world.tokens.add("ada", "viewer", ["private"], by="local")
    bodies = world.tick()
    for body in bodies.values():
        for kind, table in body["tables"].items():
            page = world.security.page(kind, limit=2)
            assert page.total == table["total"]
            assert page.columns == table["columns"]
    second = world.security.page("policies", cursor=world.security.page("policies", limit=2).cursor)
    assert [row["class"] for row in second.rows] == ["sensitive", "private", "public"]
    assert [row["id"] for row in world.security.page("policies", search="CONFID").rows] == ["confidential"]
    with pytest.raises(NotFoundError, match="known are"):
        world.security.page("nothing")


def test_a_count_of_many_heads_takes_several_ticks_and_loses_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "STEP_HEADS", 3)
    for n in range(8):
        world.put(f"k{n}", Classification.PRIVATE, ("nas/hdd", Suite.STANDARD))
    for _ in range(4):
        body = world.tick(6.0)["security"]
    assert body["encryption"]["replicas"] == {"standard": 8}
    assert "counted 2023-" in body["headline"][0]["source"]


def test_adopted_stores_are_said_to_be_unchecked_not_safe(world: World) -> None:
    rows = world.security.page("stores").rows
    assert all("not checked" in row["at_rest"] for row in rows)


def test_an_object_page_says_how_each_replica_is_encrypted(world: World) -> None:
    world.put("a", Classification.PRIVATE, ("nas/hdd", Suite.STANDARD))
    found = world.security.explain("a")
    assert "standard in nas/hdd" in found.stages[0].did
    assert found.facts["security"]["key_id"] == "k1"
    assert world.security.explain("none").stages == []


def test_an_object_page_names_the_open_alerts_of_the_stores_that_hold_it(world: World) -> None:
    world.put("a", Classification.PRIVATE, ("nas/hdd", Suite.STANDARD))
    assert "no open alert names nas" in world.security.explain("a").stages[1].did
    world.measures.gauge("store_up", 0.0, store="nas")
    world.measures.gauge("store_up", 0.0, store="other")
    world.tick()
    told = world.security.explain("a").stages[1]
    assert (told.stage, told.did) == ("alert", "a store does not answer (nas): firing")


def test_the_audit_chain_is_signed_once_a_minute_and_at_the_stop(world: World) -> None:
    world.audit.append("x", "y", "z")
    world.tick(61.0)
    assert world.audit.recent(1)[0]["action"] == "checkpoint"


def test_the_audit_tab_pages_through_every_line_not_the_newest_hundred(world: World) -> None:
    for number in range(250):
        world.audit.append("job.done", "sue", f"job:{number}")
    world.tick(5.0)
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = world.security.page("audit", cursor=cursor, limit=100)
        seen += [row["n"] for row in page.rows]
        assert page.total == world.audit.head[0]
        if (cursor := page.cursor) is None:
            break
    assert seen == list(range(world.audit.head[0]))[::-1]
    shown = world.security.reports()["security"]["tables"]["audit"]
    assert (len(shown["rows"]), shown["total"]) == (20, world.audit.head[0])
    with pytest.raises(BadInputError):
        world.security.page("audit", cursor="x")


@pytest.mark.item(92, 93)
def test_every_test_that_the_control_map_names_exists_and_nothing_claims_compliance() -> None:
    note, controls = control_map()
    assert {one.framework for one in controls} == {"GDPR", "HIPAA", "SOC 2", "PCI DSS"}
    assert "no claim of compliance" in note
    for control in controls:
        assert control.tests
        assert "compliant" not in control.means
        for test in control.tests:
            if test.startswith("pending: "):
                continue
            path, name = test.split("::")
            tree = ast.parse((ROOT / path).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
