"""``python -m fabric lint``: without data, with a trace, with a log and an inventory; no engine and no data folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fabric.cli.main import cli
from tests.timemachine_world import START, access_log, log_line

ROOT = Path(__file__).parents[3]
DOCUMENT = {
    "Rules": [
        {
            "ID": "logs",
            "Status": "Enabled",
            "Filter": {"Prefix": "logs/"},
            "Transitions": [{"Days": 30, "StorageClass": "STANDARD_IA"}, {"Days": 90, "StorageClass": "GLACIER"}],
        }
    ]
}
INVENTORY = """Bucket,Key,Size,LastModifiedDate,StorageClass,IsLatest,IsDeleteMarker
pail,logs/a,1073741824,2023-01-01T00:00:00.000Z,STANDARD,true,false
pail,logs/b,2048,2023-10-01T00:00:00.000Z,STANDARD,true,false
pail,img/c,5073741824,2023-11-14T00:00:00.000Z,STANDARD,true,false
"""


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(DOCUMENT))
    return path


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "inventory.csv"
    path.write_text(INVENTORY)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A month of whole reads of logs/a, three days apart, in an S3 server access log."""
    path = tmp_path / "access.log"
    lines = [
        f"owner pail [{day:02d}/Nov/2023:12:00:00 +0000] 192.0.2.3 - R{day} REST.GET.OBJECT logs/a "
        f'"GET /logs/a HTTP/1.1" 200 - 1073741824 1073741824 12 9 "-" "agent" - a= SigV4 TLS - pail.s3.aws -\n'
        for day in range(1, 29, 3)
    ]
    path.write_text("".join(lines))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], standalone_mode=False)


def answer(*arguments: object) -> dict[str, Any]:
    result = run("--json", "lint", *arguments)
    assert result.exception is None, result.output
    return dict(json.loads(result.stdout))


def test_without_data_the_document_is_judged_and_what_cannot_be_found_is_said(document: Path) -> None:
    found = answer(document)
    assert (found["dialect"], found["to"], found["priced"], found["bill"]) == ("s3", "s3", False, None)
    assert {one["trap"] for one in found["findings"]} == {"archive_latency", "uploads_kept"}
    assert any("no objects or reads were given" in note for note in found["notes"])


def test_log_and_inventory_price_each_rule_and_the_correction(document: Path, log: Path, inventory: Path) -> None:
    found = answer(document, "--accesses", log, "--inventory", inventory)
    bill = found["bill"]
    assert bill["after"]["total"] < bill["before"]["total"]
    assert bill["before"]["total"] - bill["without_rules"]["total"] == pytest.approx(found["rules"][0]["usd"])
    assert sum(bill["before"]["lines"].values()) == pytest.approx(bill["before"]["total"])
    reads = next(one for one in found["findings"] if one["trap"] == "archive_latency")
    assert (reads["reads"], reads["objects"]) == (10, 1)


def test_the_corrected_document_is_written_in_the_dialect_asked_for(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy.json"
    assert "Written to" in run("lint", document, "--to", "azure", "--container", "in", "-o", out).output
    policy = json.loads(out.read_text())
    assert policy["rules"][0]["definition"]["filters"]["prefixMatch"] == ["in/logs/"]
    again = answer(out)
    assert again["dialect"] == "azure"


def test_a_correction_for_another_provider_is_made_of_its_own_rules_and_prices(
    document: Path, log: Path, inventory: Path
) -> None:
    data = ("--accesses", log, "--inventory", inventory)
    there = answer(document, "--to", "azure", "--container", "in", *data)
    assert "the corrected document is priced at azure's prices" in there["notes"]
    policy = {"rules": [{"name": "a", "definition": {"actions": {"baseBlob": {
        "tierToCool": {"daysAfterLastAccessTimeGreaterThan": 30}}}}}]}  # fmt: skip
    document.write_text(json.dumps(policy))
    back = answer(document, "--to", "s3", *data)
    assert back["corrected"]["Rules"][0]["Transitions"] == [{"Days": 0, "StorageClass": "INTELLIGENT_TIERING"}]
    assert any("INTELLIGENT_TIERING, which follows reads" in one["what"] for one in back["changed_words"])


def test_an_xml_file_gets_xml(document: Path, tmp_path: Path) -> None:
    out = tmp_path / "rules.xml"
    run("lint", document, "-o", out)
    assert out.read_text().startswith("<?xml")
    assert answer(out)["corrected"] == answer(document)["corrected"]


def test_what_gcs_cannot_say_is_named(document: Path) -> None:
    tagged = {"Rules": [DOCUMENT["Rules"][0] | {"Filter": {"Tag": {"Key": "k", "Value": "v"}}}]}
    document.write_text(json.dumps(tagged))
    found = answer(document, "--to", "gcs")
    assert found["unsaid"] == [{"rule": "logs", "what": "the rule", "why": "GCS rules know no tags"}]
    assert "GCS rules know no tags" in run("lint", document, "--to", "gcs").output


def test_an_inventory_of_two_buckets_asks_which(document: Path, inventory: Path) -> None:
    inventory.write_text(INVENTORY + "other,logs/a,5,2023-01-01T00:00:00.000Z,STANDARD,true,false\n")
    result = run("lint", document, "--inventory", inventory)
    assert "--bucket" in result.stderr
    assert answer(document, "--inventory", inventory, "--bucket", "pail")["days"] == 365


def test_a_bucket_that_is_not_in_the_data_is_refused(document: Path, inventory: Path) -> None:
    result = run("lint", document, "--inventory", inventory, "--bucket", "nowhere")
    assert "no object of the data is in the bucket" in result.stderr


def test_an_inventory_alone_says_that_reads_are_taken_as_none(document: Path, inventory: Path) -> None:
    found = answer(document, "--inventory", inventory)
    assert any("as if nothing were read" in note for note in found["notes"])
    assert found["bill"]["before"]["lines"]["retrieval"] == 0


def test_the_program_ends_with_two_and_names_the_place_of_a_mistake(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"Rules": [DOCUMENT["Rules"][0] | {"Status": "On"}]}))
    done = subprocess.run(
        [sys.executable, "-m", "fabric", "lint", str(bad)],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "path=Rules[0].Status" in done.stderr
    assert list(tmp_path.iterdir()) == [bad]  # no data folder is made


def test_a_place_that_cannot_be_written_is_named(document: Path, tmp_path: Path) -> None:
    result = run("lint", document, "-o", tmp_path / "nowhere" / "out.json")
    assert "cannot be written" in result.stderr
    assert "nowhere" in result.stderr


def test_a_tier_that_is_not_explained_rightly_is_refused(document: Path) -> None:
    assert "WARM=aws:standard_ia" in run("lint", document, "--tier", "WARM=blue").stderr


def test_of_a_log_whose_coverage_is_not_known_it_is_not_said_that_something_is_missing(
    document: Path, tmp_path: Path
) -> None:
    (tmp_path / "quiet.log").write_text(access_log())
    notes = answer(document, "--accesses", tmp_path / "quiet.log")["notes"]
    (said,) = [note for note in notes if "silence is usual in this log" in note]
    assert said.startswith("how much of the accesses the log holds is not known")


def test_of_a_log_with_lost_days_it_is_said_that_it_is_not_whole(document: Path, tmp_path: Path) -> None:
    days = [START + timedelta(hours=hour) for hour in range(24 * 20) if not 200 <= hour < 260]
    lines = [
        log_line(at + timedelta(minutes=n), f"logs/{n}", 2048, request=n + 20 * number)
        for number, at in enumerate(days)
        for n in range(20)
    ]
    (tmp_path / "lost.log").write_text("".join(lines))
    notes = answer(document, "--accesses", tmp_path / "lost.log")["notes"]
    assert any(note.startswith("the log is not whole: the log holds an estimated 8") for note in notes)
