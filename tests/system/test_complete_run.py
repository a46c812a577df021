"""One run of the whole program for 90 seconds on the sample world: watched over HTTP while it runs, its data folder
looked through afterwards by clients of its files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest

import fabric.runtime
from fabric.placement.receipt import decode_survey, replay
from tests.system.system_world import Answer, Program, catalog, command, log_lines, records, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("complete-run")]

DURATION = 90
SCHEMAS = Path(fabric.runtime.__file__).parent / "schemas"
REPORTS = {
    "optimization": "task1_complete_report.json",
    "migration": "migration_report.json",
    "streaming": "streaming_data.json",
    "ml_predictions": "ml_predictions.json",
    "consistency": "consistency_status.json",
    "security": "security_policies.json",
    "alerts": "system_alerts.json",
}
STAGES = ["ingest", "place", "migrate", "stream", "predict", "replicate", "secure", "alert", "show"]
FIGURES = ("/api/status", "/api/metrics", "/metrics", "/healthz", "/readyz")
OWN_KEY, OWN_BYTES = "system/hello.txt", b"hello, fabric\n" * 1000


@dataclass
class Run:
    """What was seen of the run while it ran, and what it left."""

    folder: Path
    log: Path
    printed: str = ""
    seconds_to_answer: float = 0.0
    exit_code: int = -1
    put: Answer | None = None
    trace: dict[str, Any] = field(default_factory=dict)
    trace_seconds: float = 0.0
    moved_trace: dict[str, Any] = field(default_factory=dict)
    store_off: str = ""
    read_while_off: dict[str, tuple[int, bool]] = field(default_factory=dict)  # key -> status, bytes as hashed
    still_off_after: bool = False
    codes: dict[str, int] = field(default_factory=dict)
    most_running: int = 0
    statuses: int = 0

    def report(self, section: str) -> dict[str, Any]:
        return json.loads((self.folder / "exports" / REPORTS[section]).read_bytes())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("complete") / "data"
    program = Program(folder, "--no-browser", "--duration", str(DURATION))
    seen = Run(folder, program.log)
    try:
        program.ready()
        seen.seconds_to_answer = time.monotonic() - program.started
        _watch(program, seen)
        seen.exit_code = program.process.wait(timeout=DURATION + 30)
        seen.printed = program.printed.read_text()
        yield seen
    finally:
        program.destroy()


def _watch(program: Program, seen: Run) -> None:
    """Use the program like a client and look at it like a viewer, until its time is up."""
    url = wait_for(program.printed.read_text, 10, "no address was printed").split()[1]
    seen.codes["printed address"] = _code(program, "/" + url.split("/", 3)[3])
    seen.codes |= {path: _code(program, path) for path in FIGURES}
    seen.put = program.send(
        f"/api/objects/{OWN_KEY}", OWN_BYTES, "PUT", X_Fabric_Class="private", Content_Type="text/plain"
    )
    _trace_own(program, seen)
    until = program.started + DURATION - 8
    while time.monotonic() < until and program.process.poll() is None:
        status = program.status()
        seen.statuses += 1
        seen.most_running = max(seen.most_running, status["migration"]["jobs_running"])
        off = [row["id"] for row in status["consistency"]["tables"]["nodes"]["rows"] if row["state"] == "DOWN"]
        if off and not seen.store_off:
            seen.store_off = off[0]
            _read_without(program, seen)
        time.sleep(0.25)
    _trace_moved(program, seen)


def _code(program: Program, path: str) -> int:
    return program.get(path).status


def _trace_own(program: Program, seen: Run) -> None:
    """Ask for the new object's story until all nine stages tell something."""
    assert seen.put is not None
    begun, version = time.monotonic(), seen.put.headers["ETag"].strip('"')

    def told() -> bool:
        seen.trace = program.get(f"/api/status?trace={version}").json
        return all(stage.get("at") for stage in seen.trace.get("stages", [{}]))

    while not told() and time.monotonic() - begun < 30:
        time.sleep(0.5)
    seen.trace_seconds = time.monotonic() - begun


def _trace_moved(program: Program, seen: Run) -> None:
    rows = program.get("/api/pages/migration/jobs?limit=1000").json["rows"]
    moved = [row for row in rows if row["state"] == "COMPLETED"]
    if moved:
        seen.moved_trace = program.get(f"/api/status?trace={moved[0]['key']}").json


def _read_without(program: Program, seen: Run) -> None:
    """Read every object with three replicas of which one lies in the store that is off."""
    rows, cursor = [], ""
    while cursor is not None:
        page = program.get(f"/api/pages/consistency/replicas?limit=1000{cursor and '&cursor=' + cursor}").json
        rows += page["rows"]
        cursor = page["cursor"]
    keys = [row["key"] for row in rows if row["copies"] == 3 and f"{seen.store_off}/" in row["places"]]

    def read(key: str) -> tuple[int, bool]:
        answer = program.get(f"/api/objects/{key}")
        return answer.status, hashlib.sha256(answer.body).hexdigest() == answer.headers.get("X-Fabric-SHA256")

    with ThreadPoolExecutor(6) as pool:
        seen.read_while_off = dict(zip(keys, pool.map(read, keys), strict=True))
    nodes = program.status()["consistency"]["tables"]["nodes"]["rows"]
    seen.still_off_after = any(row["id"] == seen.store_off and row["state"] == "DOWN" for row in nodes)


# ---------------------------------------------------------------- the start and the end


@pytest.mark.item(2, 123)
def test_it_answers_within_twenty_seconds_and_exits_with_zero_when_its_time_is_up(run: Run) -> None:
    assert run.seconds_to_answer < 20
    assert run.exit_code == 0


@pytest.mark.item(3)
def test_without_a_browser_the_address_is_printed_and_answers(run: Run) -> None:
    assert run.printed.startswith("Dashboard: http://127.0.0.1:")
    assert run.codes["printed address"] == 200


def test_every_address_of_the_figures_answers(run: Run) -> None:
    assert {path: run.codes[path] for path in FIGURES} == dict.fromkeys(FIGURES, 200)


@pytest.mark.item(5)
@pytest.mark.parametrize("section", REPORTS)
def test_each_of_the_seven_report_files_fits_its_schemas(run: Run, section: str) -> None:
    report = run.report(section)
    for name in ("envelope", section):
        jsonschema.validate(report, json.loads((SCHEMAS / f"{name}.json").read_bytes()))
    assert (report["section"], report["world"]) == (section, "sample")


# ---------------------------------------------------------------- one object through all stages


@pytest.mark.item(1)
def test_a_new_object_is_traced_through_all_nine_stages_within_thirty_seconds(run: Run) -> None:
    assert run.put is not None
    assert run.put.status == 201
    assert [stage["stage"] for stage in run.trace["stages"]] == STAGES
    silent = [stage for stage in run.trace["stages"] if not stage["at"]]
    assert silent == []
    assert run.trace_seconds < 30


@pytest.mark.item(1)
def test_an_object_aged_by_imported_history_shows_a_real_job(run: Run) -> None:
    stages = {stage["stage"]: stage for stage in run.moved_trace["stages"]}
    assert "COMPLETED" in stages["migrate"]["did"]
    assert all(stage["at"] for stage in stages.values()), stages
    assert run.moved_trace["facts"]["streaming"]["accesses"]


# ---------------------------------------------------------------- decisions


def test_at_least_twenty_decisions_have_receipts_that_replay(run: Run) -> None:
    surveys = {row[0]: decode_survey(row[1]) for row in catalog(run.folder, "SELECT id, record FROM surveys")}
    receipts = [made["receipt"] for made in records(run.folder, "SELECT record FROM decisions")]
    assert len(receipts) >= 20
    for receipt in receipts:
        assert replay(receipt, surveys[receipt["survey"]]) == receipt["alternatives"]


# ---------------------------------------------------------------- jobs


def test_completed_moves_are_read_at_their_targets_by_a_client_that_knows_only_the_format(
    run: Run, tmp_path: Path
) -> None:
    """One job of each cipher that was moved, and at least three jobs in all."""
    jobs = records(run.folder, "SELECT record FROM jobs WHERE state = 'COMPLETED' ORDER BY id DESC")
    assert len(jobs) >= 3
    read: dict[str, list[str]] = {}
    for job in jobs:
        head = records(run.folder, "SELECT record FROM heads WHERE key = ?", job["key"])[0]
        replica = next((r for r in head["versions"][0]["replicas"] if r["place"] == job["target"]), None)
        if replica is None or len(read.setdefault(replica["suite"], [])) >= 2:
            continue
        found = _read_as_foreigner(run, job, replica, tmp_path)
        assert (found["key"], found["version_id"], found["suite"]) == (job["key"], job["version_id"], replica["suite"])
        assert found["sha256"] == hashlib.sha256(_made(job["key"])).hexdigest()
        read[replica["suite"]].append(job["key"])
    assert sum(len(keys) for keys in read.values()) >= 3
    assert set(read) - {"none"}, "no encrypted object was moved"


def _made(key: str) -> bytes:
    """Make a sample object's bytes again: seeded by its number, as docs/sample.md says."""
    number = int(key.rpartition("-")[2].partition(".")[0])
    from fabric.demos.world import SampleTrace

    item = next(item for item in SampleTrace(time.time()).objects if item.number == number)
    source = np.random.Generator(np.random.PCG64([number, 0]))
    return b"".join(source.bytes(min(1 << 20, item.stored_bytes - at)) for at in range(0, item.stored_bytes, 1 << 20))


def _read_as_foreigner(run: Run, job: dict[str, Any], replica: dict[str, Any], scratch: Path) -> dict[str, Any]:
    arguments = [str(run.folder / "places" / job["target"] / replica["blob"])]
    if replica["suite"] != "none":
        exported = command(run.folder, "key", "export", job["key"])
        assert exported.returncode == 0, exported.stderr
        file = scratch / f"{job['id']}.json"
        file.write_text(exported.stdout)
        arguments.append(str(file))
    client = Path(__file__).with_name("foreign_client.py")
    done = subprocess.run([sys.executable, "-I", str(client), *arguments], capture_output=True, text=True, cwd=scratch)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_outage_paused_a_job_that_was_then_rolled_back(run: Run) -> None:
    rows = catalog(run.folder, "SELECT job_id, was, became FROM job_journal WHERE act = 'transition' ORDER BY seq")
    paths: dict[str, list[str]] = {}
    for job, _was, became in rows:
        paths.setdefault(job, []).append(became)
    went = [path for path in paths.values() if "PAUSED" in path and path[-1] == "ROLLED_BACK"]
    assert went
    assert all(path.index("PAUSED") < path.index("ROLLED_BACK") for path in went)


@pytest.mark.item(21)
def test_low_risk_jobs_overlapped_in_time_and_never_more_than_there_are_workers(run: Run) -> None:
    assert run.report("migration")["jobs_overlapping_most"] >= 3
    assert 3 <= run.most_running <= 4


def test_no_job_is_left_in_a_worker_s_hands(run: Run) -> None:
    states = Counter(row[0] for row in catalog(run.folder, "SELECT state FROM jobs"))
    assert set(states) <= {"COMPLETED", "ROLLED_BACK", "FAILED", "PENDING", "AWAITING_APPROVAL"}, states


# ---------------------------------------------------------------- forecasts


def test_every_object_has_a_forecast_of_several_models_with_different_weights(run: Run) -> None:
    made = records(run.folder, "SELECT record FROM forecasts WHERE day = (SELECT max(day) FROM forecasts)")
    of_archive = [one for one in made if one["key"].startswith("releases/")]
    keys = {row[0] for row in catalog(run.folder, "SELECT key FROM heads WHERE key LIKE 'releases/%'")}
    assert {one["key"] for one in of_archive} == keys
    assert len(keys) == 339
    for one in of_archive:
        assert set(one["models"]) == {"linear", "forest", "statistical"}, "each model's own total stands beside"
        assert sum(one["weights"].values()) == pytest.approx(1)
        assert len(set(one["weights"].values())) >= 2


def test_last_week_s_forecasts_stand_beside_what_came(run: Run) -> None:
    rows = catalog(run.folder, "SELECT record, actual FROM forecasts WHERE actual IS NOT NULL")
    assert len(rows) >= 339
    assert any(actual > 0 for _, actual in rows)
    assert run.report("ml_predictions")["tables"]["last_week"]["total"] >= 339


# ---------------------------------------------------------------- the outage


def test_every_object_with_three_replicas_was_readable_while_one_of_its_stores_was_off(run: Run) -> None:
    assert run.store_off
    assert run.still_off_after, "the store came back before all was read: the test proved nothing"
    assert len(run.read_while_off) >= 20
    assert {key: got for key, got in run.read_while_off.items() if got != (200, True)} == {}


def test_an_alert_fired_from_a_measured_value_over_its_threshold_and_resolved(run: Run) -> None:
    past = records(run.folder, "SELECT record FROM alerts WHERE state = 'resolved'")
    crossed = [one for one in past if one["peak"] > one["threshold"] and one["resolved"] > one["fired"]]
    assert {one["rule"] for one in crossed} >= {"store_down"}
    assert any(one["labels"].get("store") == run.store_off for one in crossed)


# ---------------------------------------------------------------- streaming


@pytest.mark.item(44)
def test_what_streamed_are_the_workload_s_real_reads_and_they_reached_the_history(run: Run) -> None:
    report = run.report("streaming")
    rows = {row["id"]: row["rows"] for row in report["tables"]["sources"]["rows"]}
    assert rows["import"] > 40_000
    assert rows["sample"] > 200
    assert sum(rows.values()) == report["events_total"] == report["history_offset"]


def test_the_workload_s_anomaly_was_detected(run: Run) -> None:
    report = run.report("streaming")
    raised = [row for row in report["tables"]["anomalies"]["rows"] if row["state"] == "raised"]
    assert report["anomalies_24h"] >= 1
    assert any(row["events"] > 3 * row["expected"] for row in raised), report["tables"]["windows"]


# ---------------------------------------------------------------- the log and the figures tell the same


@pytest.mark.item(4)
def test_the_log_has_one_line_for_each_state_change(run: Run) -> None:
    (moves,) = catalog(run.folder, "SELECT count(*) FROM job_journal WHERE act = 'transition'")[0]
    assert len(log_lines(run.log, "job changed state")) == moves
    fired = [line for line in log_lines(run.log, "alert changed") if "event=fired" in line]
    assert len(fired) == run.report("alerts")["tables"]["history"]["total"]
    (changes,) = catalog(run.folder, "SELECT count(*) FROM health_changes")[0]
    assert len(log_lines(run.log, "store health changed")) == changes
    states = Counter(line.split(" state=")[1].split()[0] for line in log_lines(run.log, "job changed state"))
    assert states["COMPLETED"] == run.report("migration")["jobs_by_state"]["COMPLETED"]


def test_every_line_of_the_log_is_structured(run: Run) -> None:
    lines = run.log.read_text().splitlines()
    odd = [line for line in lines if line.split(" ")[1:2] not in (["INFO"], ["WARNING"])]
    assert odd == []


def test_the_cards_figures_are_the_sums_of_what_they_speak_of(run: Run) -> None:
    place = run.report("optimization")
    bill = place["tables"]["bill"]["rows"]
    assert place["tables"]["bill"]["total"] == len(bill)
    billed = sum(row["storage_usd"] + row["reads_usd"] + row["egress_usd"] for row in bill)
    assert place["monthly_cost_usd"] == pytest.approx(billed, rel=1e-9)
    heads = [msgspec.convert(head, dict) for head in records(run.folder, "SELECT record FROM heads")]
    live = [head for head in heads if not head["versions"][0]["tombstone"]]
    copies = sum(r["state"] == "live" for head in live for r in head["versions"][0]["replicas"])
    security = run.report("security")
    assert run.report("consistency")["tables"]["replicas"]["total"] == len(live)
    assert sum(row["replicas"] for row in security["tables"]["ciphers"]["rows"]) == pytest.approx(copies, abs=5)
    by_state = run.report("migration")["jobs_by_state"]
    counted = Counter(row[0] for row in catalog(run.folder, "SELECT state FROM jobs"))
    assert {state: many for state, many in by_state.items() if many} == dict(counted)


def test_the_bill_after_the_moves_differs_from_now_only_by_moves_that_are_named(run: Run) -> None:
    place = run.report("optimization")
    moves = place["verdicts"].get("move", 0)
    now, after = place["monthly_cost_usd"], place["monthly_cost_after_usd"]
    assert (moves > 0) or now == pytest.approx(after)
    source = next(row["source"] for row in place["headline"] if row["label"] == "With the moves made")
    assert str(moves) in source
