"""The REST side of the dashboard, over made-up components."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from fabric.core.clock import SystemClock
from fabric.dashboard.server import Dashboard, build
from fabric.runtime.component import SECTIONS
from fabric.runtime.measures import Measures
from fabric.runtime.reports import ReportPublisher
from tests.dashboard_world import KEY, KINDS, ROWS, TOKEN, Ordered, body, ports

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def built(folder: Path, **changes: Any) -> Dashboard:
    measures = Measures(SystemClock())
    measures.gauge("read_latency_p99_ms", 38.25, store='odd"na\\me')
    measures.count("reads_total", 3)
    return build(ports(folder, Ordered(), measures, **changes))


def publish(folder: Path) -> None:
    publisher = ReportPublisher(folder, "engine-1", KEY, SystemClock(), "own")
    for section in SECTIONS:
        publisher.publish(section, body(section), 10.0)


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    publish(tmp_path)
    dashboard = built(tmp_path)
    dashboard.hub.push()
    return dashboard.app.test_client()


@pytest.mark.item(109, 112)
def test_status_has_the_seven_keys_and_the_alert_totals(client: FlaskClient) -> None:
    status = client.get("/api/status").json
    assert set(status) == set(SECTIONS)
    assert (status["alerts"]["total_alerts"], status["alerts"]["critical_alerts"]) == (3, 1)
    assert {view["report"]["status"] for view in status.values()} == {"fresh"}


@pytest.mark.item(109, 112)
def test_status_has_its_keys_before_any_report_and_says_what_is_missing(tmp_path: Path) -> None:
    status = built(tmp_path).app.test_client().get("/api/status").json
    assert set(status) == set(SECTIONS)
    assert status["alerts"]["total_alerts"] is None
    assert "run_complete_system.py" in status["migration"]["note"]


@pytest.mark.item(1)
def test_a_trace_shows_nine_stages_in_order_for_a_key_or_a_version_id(tmp_path: Path) -> None:
    client = built(tmp_path, resolve={"v1": "a/b"}.get).app.test_client()
    for asked in ("a/b", "v1"):
        found = client.get(f"/api/status?trace={asked}").json
        assert found["key"] == "a/b"
        names = ["ingest", "place", "migrate", "stream", "predict", "replicate", "secure", "alert", "show"]
        assert [stage["stage"] for stage in found["stages"]] == names
        assert all(stage["did"] for stage in found["stages"])


def test_an_object_that_nobody_knows_is_not_found(client: FlaskClient) -> None:
    assert client.get("/api/explain/unknown-key").status_code == 200
    publishless = client.get("/api/explain/unknown")
    assert publishless.status_code == 404
    assert publishless.json["type"] == "urn:fabric:problem:not-found"


@pytest.mark.item(105)
def test_pages_reach_the_hundred_thousandth_row(client: FlaskClient) -> None:
    cursor, seen = "", 0
    while cursor is not None:
        page = client.get(f"/api/pages/migration/jobs?limit=1000&cursor={cursor}").json
        assert page["total"] == ROWS
        seen, cursor = seen + len(page["rows"]), page["cursor"]
    assert seen == ROWS


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1", "1e3", "²", "9" * 30])
def test_an_impossible_limit_is_refused(client: FlaskClient, limit: str) -> None:
    assert client.get(f"/api/pages/migration/jobs?limit={limit}").status_code == 400


def test_an_unknown_section_or_kind_is_not_found(client: FlaskClient) -> None:
    assert client.get("/api/pages/nothing/jobs").status_code == 404
    assert client.get("/api/pages/migration/nothing").status_code == 404


def test_a_display_process_pages_what_the_report_holds_and_refuses_the_rest(tmp_path: Path) -> None:
    publish(tmp_path)
    dashboard = built(tmp_path, sources={}, acts={})
    dashboard.hub.push()
    client = dashboard.app.test_client()
    page = client.get("/api/pages/migration/jobs").json
    assert len(page["rows"]) == 20
    assert f"{ROWS}" in page["note"]
    assert client.get("/api/explain/a").status_code == 503
    refused = client.post("/api/acts/approve", headers=BEARER)
    assert refused.status_code == 503
    assert "run_complete_system.py" in refused.json["hint"]


@pytest.mark.item(110)
def test_metrics_are_json_and_prometheus_text(client: FlaskClient) -> None:
    metrics = client.get("/api/metrics").json
    assert {"generated_at", "measures", "sections", "dashboard"} <= set(metrics)
    assert metrics["measures"][0]["value"] == 38.25
    assert metrics["dashboard"]["clients"] == 0
    lines = client.get("/metrics").text.splitlines()
    assert 'fabric_read_latency_p99_ms{store="odd\\"na\\\\me"} 38.25' in lines
    assert "# TYPE fabric_reads_total counter" in lines


def test_an_edited_report_feeds_no_metrics_and_rubbish_keeps_the_last_good(tmp_path: Path) -> None:
    publish(tmp_path)
    dashboard = built(tmp_path)
    dashboard.hub.push()
    path = tmp_path / SECTIONS["alerts"]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_alerts": 99}))
    (tmp_path / SECTIONS["migration"]).write_text("rubbish")
    dashboard.hub.push()
    client = dashboard.app.test_client()
    status = client.get("/api/status").json
    assert (status["alerts"]["report"]["status"], status["alerts"]["total_alerts"]) == ("edited", 99)
    assert status["migration"]["report"]["status"] == "invalid"
    assert status["migration"]["headline"] == body("migration")["headline"]
    assert status["security"]["report"]["status"] == "fresh"
    assert set(client.get("/api/metrics").json["sections"]) == set(SECTIONS) - {"alerts", "migration"}


@pytest.mark.item(121)
def test_json_travels_packed_and_an_unchanged_answer_is_304(client: FlaskClient) -> None:
    packed = client.get("/api/status", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.data) < 0.5 * len(gzip.decompress(packed.data))
    again = client.get("/api/status", headers={"If-None-Match": packed.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_megabyte_that_is_not_json_is_one_clear_error(client: FlaskClient) -> None:
    answer = client.post("/api/acts/approve", data=b"\x00" * 1_000_000, headers=BEARER)
    assert answer.status_code == 400
    assert answer.json["type"] == "urn:fabric:problem:bad-input"
    assert client.post("/api/acts/approve", data=b"[]", headers=BEARER).status_code == 400
    assert client.post("/api/acts/approve", data=b"\x00" * 3_000_000, headers=BEARER).status_code == 413


def test_errors_are_problem_documents(client: FlaskClient) -> None:
    for answer in (
        client.get("/nothing/here"),
        client.delete("/api/status", headers=BEARER),
        client.post("/api/acts/explode", headers=BEARER),
        client.post("/api/acts/approve", json={"id": "gone"}, headers=BEARER),
    ):
        assert answer.mimetype == "application/problem+json"
        assert answer.json["status"] == answer.status_code


def test_health_and_readiness(tmp_path: Path) -> None:
    client = built(tmp_path, ready=lambda: "the catalog is being opened").app.test_client()
    assert client.get("/healthz").json == {"status": "ok"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "catalog" in answer.json["title"]


def test_the_interface_describes_itself_validly(client: FlaskClient) -> None:
    document = client.get("/api/openapi.json").json
    pytest.importorskip("openapi_spec_validator", reason="comes with moto[server]").validate(document)
    assert "/api/objects/{key}" in document["paths"]


@pytest.mark.item(108)
def loaded(web: Path, page: str) -> set[Path]:
    """Return a page's file and every file that it loads: what it links to, and what its modules import."""
    found, waiting = set(), [web / "templates" / page]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [web / "static" / name for name in re.findall(r'"(?:/static|\.)/([\w.]+)"', file.read_text())]
    return found


@pytest.mark.parametrize("page", ["dashboard_interactive.html", "time_machine.html"])
def test_the_first_load_is_small_and_names_no_other_host(client: FlaskClient, page: str) -> None:
    files = loaded(Path(__file__).parents[3] / "web", page)
    assert client.get("/").status_code == 200
    assert len(files) > 10
    assert sum(file.stat().st_size for file in files) < 100_000
    for file in files:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "innerHTML" not in text, file


def test_every_section_has_a_kind_of_rows(client: FlaskClient) -> None:
    for section, kind in KINDS.items():
        assert client.get(f"/api/pages/{section}/{kind}?limit=1").json["total"] == ROWS
