"""The time machine behind the page: uploads, replays in their own process, results by the hash of their inputs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fabric.app.recorded import RecordedPast
from fabric.app.replayasked import Known
from fabric.app.timemachine import TimeMachine
from fabric.app.uploads import BYTES_MOST, IDLE_SECONDS, UPLOADS_MOST, Uploads
from fabric.core.clock import ManualClock, SystemClock
from fabric.core.errors import BadInputError, ConflictError, ForbiddenError, NotFoundError, TooLargeError
from fabric.dashboard.ports import Person
from fabric.events.decode import decode_columns
from fabric.events.log import EventLog
from fabric.formats.load import read_past
from fabric.pricing.sheet import PriceBook
from tests.timemachine_world import access_log, inventory, principal

UPLOAD = "a" * 32
WHO = Person("tester", "operator")
END_SECONDS = 200.0


# ---------------------------------------------------------------- uploads


class Endless(io.BytesIO):
    """A body that never ends, and says how much was taken of it."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        self.taken += size or 0
        return b"x" * (size or 0)


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", ManualClock())


def test_an_upload_beyond_its_bound_is_refused_and_leaves_nothing(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.app.uploads.BYTES_MOST", 1 << 20)
    body = Endless()
    with pytest.raises(TooLargeError, match="python -m fabric replay"):
        uploads.take(UPLOAD, "accesses", "log", body)
    assert body.taken < 3 << 20
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert BYTES_MOST == 4 << 30


@pytest.mark.parametrize("name", ["../log", "..", "a/b", "", "x" * 300, "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(uploads: Uploads, name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="name"):
        uploads.take(UPLOAD, "accesses", name, io.BytesIO(b"x"))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(("upload", "role"), [("../../etc", "accesses"), ("zz", "accesses"), (UPLOAD, "keys")])
def test_a_strange_upload_or_role_is_refused(uploads: Uploads, upload: str, role: str) -> None:
    with pytest.raises(BadInputError):
        uploads.take(upload, role, "log", io.BytesIO(b"x"))


def test_an_upload_that_nobody_used_is_removed_after_an_hour(tmp_path: Path) -> None:
    clock = ManualClock()
    uploads = Uploads(tmp_path / "uploads", clock)
    uploads.take(UPLOAD, "accesses", "log", io.BytesIO(b"x"))
    clock.advance(IDLE_SECONDS + 1)
    uploads.take("b" * 32, "accesses", "log", io.BytesIO(b"x"))
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["b" * 32]


def test_what_an_earlier_engine_left_behind_is_removed(tmp_path: Path) -> None:
    (tmp_path / "uploads" / UPLOAD).mkdir(parents=True)
    Uploads(tmp_path / "uploads", ManualClock())
    assert not (tmp_path / "uploads").exists()


def test_too_many_uploads_at_a_time_are_refused(uploads: Uploads) -> None:
    for number in range(UPLOADS_MOST):
        uploads.take(f"{number:032x}", "accesses", "log", io.BytesIO(b"x"))
    with pytest.raises(ConflictError, match="too many"):
        uploads.take("f" * 32, "accesses", "log", io.BytesIO(b"x"))


def test_two_files_of_one_name_and_an_empty_one_are_refused(uploads: Uploads) -> None:
    uploads.take(UPLOAD, "accesses", "log", io.BytesIO(b"x"))
    with pytest.raises(ConflictError, match="same name"):
        uploads.take(UPLOAD, "accesses", "log", io.BytesIO(b"y"))
    with pytest.raises(BadInputError, match="empty"):
        uploads.take(UPLOAD, "accesses", "other", io.BytesIO(b""))
    assert [file.name for file in uploads.files(UPLOAD)] == ["log"]


# ---------------------------------------------------------------- replays


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimeMachine]:
    found = TimeMachine(tmp_path_factory.mktemp("machine"), SystemClock(), principal)
    yield found
    found.stop()


def give(machine: TimeMachine, text: str, *, role: str = "accesses", name: str = "access.log") -> None:
    machine.take(WHO, UPLOAD, role, name, io.BytesIO(text.encode()))


def begun(machine: TimeMachine, **asked: Any) -> str:
    return str(machine.start(WHO, {"upload": UPLOAD, "classes": ["standard", "standard_ia"], **asked})["id"])


def ended(machine: TimeMachine, replay: str) -> dict[str, Any]:
    ends = time.monotonic() + END_SECONDS
    while time.monotonic() < ends:
        found = machine.state(replay)
        if found["state"] != "running":
            return found
        time.sleep(0.05)
    raise AssertionError("the replay does not end")


@pytest.fixture(scope="module")
def replayed(machine: TimeMachine) -> dict[str, Any]:
    give(machine, access_log(objects=8, days=60))
    found = ended(machine, begun(machine))
    assert found["state"] == "done", found
    return found


def test_a_log_becomes_a_bill_of_every_policy_whose_lines_sum_to_its_total(replayed: dict[str, Any]) -> None:
    policies = replayed["document"]["policies"]
    assert {"all_hot", "optimum", "fabric"} <= set(policies)
    for bill in policies.values():
        assert sum(bill["lines"].values()) == pytest.approx(bill["total"])
    assert replayed["document"]["import"]["rejected"]
    assert replayed["document"]["import"]["files"] == ["access.log"]


def test_the_same_question_is_answered_at_once_under_the_same_name(
    machine: TimeMachine, replayed: dict[str, Any]
) -> None:
    give(machine, access_log(objects=8, days=60))
    again = machine.start(WHO, {"upload": UPLOAD, "classes": ["standard", "standard_ia"]})
    assert again == {"id": replayed["id"], "state": "done"}
    with pytest.raises(NotFoundError):
        machine.uploads.files(UPLOAD)


def test_objects_sum_to_the_policies_totals(machine: TimeMachine, replayed: dict[str, Any]) -> None:
    page = machine.objects(replayed["id"], search="", cursor=None, limit=1000, sort="")
    policies = replayed["document"]["policies"]
    assert page.total == 8
    assert sum(row["fabric"] for row in page.rows) == pytest.approx(policies["fabric"]["total"])
    assert sum(row["optimum"] for row in page.rows) == pytest.approx(policies["optimum"]["total"])
    assert sum(row["do_nothing"] for row in page.rows) == pytest.approx(policies["all_hot"]["total"])


def test_objects_are_paged_sorted_and_searched(machine: TimeMachine, replayed: dict[str, Any]) -> None:
    first = machine.objects(replayed["id"], search="", cursor=None, limit=3, sort="reads")
    assert first.cursor is not None
    second = machine.objects(replayed["id"], search="", cursor=first.cursor, limit=1000, sort="reads")
    reads = [row["reads"] for row in [*first.rows, *second.rows]]
    assert reads == sorted(reads, reverse=True)
    assert len(reads) == 8
    found = machine.objects(replayed["id"], search="PHOTO-0003", cursor=None, limit=10, sort="")
    assert [row["key"] for row in found.rows] == ["photos/album/3/photo-0003.raw"]


def test_a_receipt_is_computed_again_and_names_its_inputs(machine: TimeMachine, replayed: dict[str, Any]) -> None:
    receipt = machine.receipt(replayed["id"], 0)
    assert receipt["same_as_replayed"]
    assert receipt["inputs"]["sha256"] == replayed["id"]
    assert [file["name"] for file in receipt["inputs"]["files"]] == ["access.log"]
    assert receipt["command"].startswith("python -m fabric replay --accesses access.log --provider aws --classes")
    for side in receipt["sides"].values():
        assert sum(side["lines"].values()) == pytest.approx(side["total"])
    assert len(receipt["hash"]) == 64
    gates = [machine.receipt(replayed["id"], number)["gate"]["total"] for number in range(8)]
    assert sum(gates) == pytest.approx(replayed["document"]["policies"]["fabric_gated"]["total"])
    json.dumps(receipt, allow_nan=False)


def test_uploads_are_gone_once_their_replay_ended(machine: TimeMachine, replayed: dict[str, Any]) -> None:
    assert replayed["state"] == "done"
    assert list(machine._folder.rglob("access.log")) == []


def test_a_file_that_is_no_log_fails_with_a_sentence_that_names_it(machine: TimeMachine) -> None:
    give(machine, "dear diary\n" * 20, name="diary.txt")
    found = ended(machine, begun(machine))
    assert found["state"] == "failed"
    assert "diary.txt" in found["problem"]["detail"]
    assert str(machine._folder) not in json.dumps(found)


def test_a_cancelled_replay_ends_its_process_and_leaves_nothing(machine: TimeMachine) -> None:
    give(machine, access_log(objects=200, days=400))
    replay = begun(machine)
    with pytest.raises(ConflictError, match="under way"):
        machine.start(WHO, {"upload": other(machine)})
    job = machine._running
    assert job is not None
    assert machine.end(WHO, replay)["state"] == "cancelled"
    assert job.ended.wait(10)
    assert job.process is None or job.process.poll() is not None
    assert not job.folder.exists()
    assert machine.state(replay)["state"] == "cancelled"


def test_the_replaying_process_ends_with_the_engine(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(access_log(objects=300, days=600))
    (tmp_path / "question.json").write_bytes(msgspec.json.encode({"accesses": [str(log)], "within": str(tmp_path)}))
    command = [sys.executable, "-m", "fabric.app.replaychild", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while not (tmp_path / "progress.json").exists():
            time.sleep(0.02)
        assert process.stdin is not None
        process.stdin.close()  # as the kernel does when the engine is killed
        assert process.wait(20) == 1
    assert not (tmp_path / "answer.json").exists()


def other(machine: TimeMachine) -> str:
    machine.take(WHO, "b" * 32, "accesses", "log", io.BytesIO(access_log(objects=3, days=5).encode()))
    return "b" * 32


def test_a_viewer_neither_sends_nor_starts_nor_ends(machine: TimeMachine, replayed: dict[str, Any]) -> None:
    for who in (None, Person("guest", "viewer")):
        with pytest.raises(ForbiddenError):
            machine.take(who, UPLOAD, "accesses", "log", io.BytesIO(b"x"))
        with pytest.raises(ForbiddenError):
            machine.start(who, {})
        with pytest.raises(ForbiddenError):
            machine.end(who, replayed["id"])
        assert machine.overview(who)["may_start"] is False


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing to replay"),
        ({"provider": "acme", "history": True}, "prices of the provider"),
        ({"stretch": "long"}, "cannot be understood"),
        ({"nonsense": 1}, "cannot be understood"),
        ({"history": True}, "recorded no access"),
        ({"store": "nas"}, "no such store"),
    ],
)
def test_an_impossible_question_is_refused(machine: TimeMachine, asked: dict[str, Any], message: str) -> None:
    with pytest.raises((BadInputError, NotFoundError), match=message):
        machine.start(WHO, asked)


def given_inventory(machine: TimeMachine, **asked: Any) -> str:
    """Ask as the page does, which sends all its options, for an inventory alone."""
    give(machine, inventory(), role="inventory", name="inventory.csv")
    chosen = machine.overview(WHO)["providers"]["aws"]["chosen"]
    question = {"upload": UPLOAD, "history": False, "store": "", "provider": "aws", "classes": chosen}
    return str(machine.start(WHO, question | {"stretch": 1, "horizon_days": None} | asked)["id"])


def test_the_options_that_the_page_always_sends_are_no_choice_beside_an_inventory_alone(machine: TimeMachine) -> None:
    usual = ended(machine, given_inventory(machine))["document"]
    assert {row["candidate"] for row in usual["break_evens"]} == set(PriceBook.load().classes("aws"))
    assert not any("break-even" in sentence for sentence in usual["assumptions"])
    chosen = ended(machine, given_inventory(machine, classes=["standard", "glacier_deep"]))["document"]
    assert {row["candidate"] for row in chosen["break_evens"]} == {"standard", "glacier_deep"}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"stretch": 2}, r"of stretch \(times multiplied by\)\."),
        ({"horizon_days": 9, "policies": ["all_hot"]}, r"of policies, horizon_days \(days billed\)\."),
    ],
)
def test_what_was_set_and_needs_accesses_is_refused_by_name_beside_an_inventory_alone(
    machine: TimeMachine, asked: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInputError, match=named):
        given_inventory(machine, **asked)
    machine.drop(WHO, UPLOAD)


def test_address_ranges_are_refused_beside_an_inventory_alone(machine: TimeMachine) -> None:
    give(machine, '{"prefixes": []}', role="ranges", name="ranges.json")
    with pytest.raises(BadInputError, match=r"nothing can come of ranges \(address ranges\)"):
        given_inventory(machine)
    machine.drop(WHO, UPLOAD)


@pytest.mark.parametrize("name", ["../../x", "0" * 24, "", "a" * 24])
def test_an_unknown_replay_is_not_found(machine: TimeMachine, name: str) -> None:
    with pytest.raises(NotFoundError):
        machine.state(name)
    with pytest.raises(NotFoundError):
        machine.objects(name, search="", cursor=None, limit=1, sort="")


def test_an_uploaded_manifest_cannot_name_files_of_the_data_folder(machine: TimeMachine) -> None:
    (machine._folder / "secret.csv").write_text("Bucket,Key,Size\nb,the-secret,1\n")
    manifest = {
        "sourceBucket": "b",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "secret.csv"}],
    }
    give(machine, msgspec.json.encode(manifest).decode(), role="inventory", name="manifest.json")
    found = ended(machine, str(machine.start(WHO, {"upload": UPLOAD})["id"]))
    assert found["state"] == "failed"
    assert "is not there" in found["problem"]["title"]
    assert "the-secret" not in json.dumps(found)


def test_only_the_newest_results_are_kept(
    machine: TimeMachine, replayed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.overview(WHO)["results"][-1]["id"] == replayed["id"]
    monkeypatch.setattr("fabric.app.replaykept.RESULTS_MOST", 1)
    give(machine, access_log(objects=2, days=10))
    newest = ended(machine, begun(machine))
    assert [one["id"] for one in machine.overview(WHO)["results"]] == [newest["id"]]


def test_the_recorded_accesses_are_replayed_by_name(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log", SystemClock())
    day = 86_400.0
    rows = {
        "time": [1_790_000_000.0 + day * number for number in range(30)],
        "key": ["nas/film ü.bin"] * 30,
        "op": ["read"] * 30,
        "bytes": [1000.0] * 30,
        "size": [5000] * 30,
        "who": ["ann"] * 30,
    }
    log.append(decode_columns(msgspec.json.encode(rows)))
    recorded = RecordedPast(log)
    machine = TimeMachine(
        tmp_path / "machine", SystemClock(), principal, known=Known("", recorded.write, recorded.mark)
    )
    found = ended(machine, str(machine.start(WHO, {"history": True})["id"]))
    log.close()
    assert found["state"] == "done", found
    page = machine.objects(found["id"], search="", cursor=None, limit=10, sort="")
    assert [(row["key"], row["reads"], row["size_bytes"]) for row in page.rows] == [("nas/film ü.bin", 30, 5000)]
    command = machine.receipt(found["id"], 0)["command"]
    assert os.path.exists(command.split()[5])
    past = read_past([command.split()[5]])
    assert [past.requesters.text(number) for number in np.unique(past.who)] == ["ann"]  # so a scanner is known here too
