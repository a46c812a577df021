from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabric.core.clock import ManualClock
from fabric.core.errors import BadInputError, CorruptError
from fabric.security import audit
from fabric.security.audit import Audit, verify

SEED = bytes(32)


def chain(folder: Path, count: int = 20) -> Audit:
    made = Audit(folder, ManualClock(), SEED)
    for n in range(count):
        made.append("job.completed", "migration", f"job:{n}", bytes=n, key=f"people/{n}")
    made.checkpoint()
    return made


def test_what_was_appended_is_there_in_order_and_verifies(tmp_path: Path) -> None:
    made = chain(tmp_path)
    report = verify(tmp_path, made.public_key)
    assert (report.ok, report.records, report.checkpoints, report.signed) == (True, 21, 1, 20)
    assert made.head == (21, report.head)
    assert [line["subject"] for line in made.recent(3)] == ["audit", "job:19", "job:18"]


def test_no_line_is_out_of_reach_however_long_the_log_grew(tmp_path: Path) -> None:
    made = chain(tmp_path, 700)
    total = made.head[0]
    seen: list[int] = []
    before: int | None = None
    while before != 0:
        lines, count = made.page(before=before, limit=90)
        assert count == total
        seen += [line.n for line in lines]
        before = lines[-1].n
    assert seen == list(range(total))[::-1]


def test_a_search_of_the_log_finds_lines_older_than_the_newest_hundred(tmp_path: Path) -> None:
    made = chain(tmp_path, 400)
    lines, count = made.page(search="JOB:39", limit=5)
    assert count == 11
    assert [line.subject for line in lines] == [f"job:{n}" for n in (399, 398, 397, 396, 395)]
    older, _ = made.page(search="job:39", before=lines[-1].n, limit=10)
    assert [line.subject for line in older] == ["job:394", "job:393", "job:392", "job:391", "job:390", "job:39"]


def test_a_damaged_line_on_a_page_names_what_finds_it(tmp_path: Path) -> None:
    made = chain(tmp_path, 50)
    path = tmp_path / audit.LOG_FILE
    path.write_bytes(path.read_bytes().replace(b'"n":20,', b'"n":xx,'))
    with pytest.raises(CorruptError) as caught:
        made.page(limit=100)
    assert "audit verify" in caught.value.hint


@pytest.mark.item(95)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_byte_fails_and_names_its_record(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / audit.LOG_FILE
    if not path.exists():
        chain(tmp_path, 12)
        (tmp_path / "good").write_bytes(path.read_bytes())
    good = (tmp_path / "good").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    path.write_bytes(good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :])
    report = verify(tmp_path, Audit(tmp_path / "other", ManualClock(), SEED).public_key)
    assert not report.ok
    assert report.record == good[:at].count(b"\n")


@pytest.mark.item(95)
@pytest.mark.parametrize("act", ["removed", "swapped", "repeated"])
def test_a_line_removed_swapped_or_repeated_is_found(tmp_path: Path, act: str) -> None:
    chain(tmp_path)
    path = tmp_path / audit.LOG_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    if act == "removed":
        del lines[5]
    elif act == "swapped":
        lines[5], lines[6] = lines[6], lines[5]
    else:
        lines.insert(5, lines[5])
    path.write_bytes(b"".join(lines))
    assert verify(tmp_path).record in (5, 6)


def test_a_forger_who_rehashes_the_chain_is_betrayed_by_the_signature(tmp_path: Path) -> None:
    made = chain(tmp_path)
    path = tmp_path / audit.LOG_FILE
    head, forged = audit.START, []
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        record["who"] = "nobody" if record["n"] == 3 else record["who"]
        record["previous"] = head
        record["hash"] = head = audit._hash(record)
        forged.append(audit._line(record))
    path.write_bytes(b"".join(forged))
    report = verify(tmp_path, made.public_key)
    assert report.record == 20
    assert "signature" in report.problem


def test_the_chain_goes_on_after_a_restart_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    chain(tmp_path)
    with (tmp_path / audit.LOG_FILE).open("ab") as file:
        file.write(b'{"action":"torn')
    again = Audit(tmp_path, ManualClock(), SEED)
    again.append("config.changed", "ada", "config", thresholds="cost")
    report = verify(tmp_path, again.public_key)
    assert report.ok
    assert report.records == 22


def test_a_damaged_last_line_stops_the_start_and_names_the_command(tmp_path: Path) -> None:
    chain(tmp_path)
    path = tmp_path / audit.LOG_FILE
    path.write_bytes(path.read_bytes()[:-5] + b"xxx}\n")
    with pytest.raises(CorruptError, match="audit verify"):
        Audit(tmp_path, ManualClock(), SEED)


def test_no_name_of_an_object_stands_in_the_log_and_its_lines_are_still_found(tmp_path: Path) -> None:
    made = chain(tmp_path)
    made.append("erase", "ada", "object:people/7")
    made.append("object.put", "ada", "people/7")
    made.append("migration.completed", "migration", "people/7", job="1")
    text = (tmp_path / audit.LOG_FILE).read_text()
    assert "people/" not in text
    assert text.count(made.subject("people/7")) == 4


def test_checkpoints_come_by_themselves_after_enough_lines(tmp_path: Path) -> None:
    made = Audit(tmp_path, ManualClock(), SEED)
    for n in range(audit.CHECKPOINT_RECORDS + 3):
        made.append("tick", "engine", str(n))
    report = verify(tmp_path, made.public_key)
    assert (report.ok, report.checkpoints, report.signed) == (True, 1, audit.CHECKPOINT_RECORDS)


def test_many_threads_share_flushes_and_make_one_chain(tmp_path: Path) -> None:
    made = Audit(tmp_path, ManualClock(), SEED)
    threads = [
        threading.Thread(target=lambda t=t: [made.append("x", f"t{t}", str(n)) for n in range(50)]) for t in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify(tmp_path, made.public_key)
    assert report.ok
    assert report.records == 300 + report.checkpoints


def test_lines_acknowledged_before_a_kill_are_there_after_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fabric.core.clock import SystemClock\n"
        "from fabric.security.audit import Audit; a = Audit(Path(sys.argv[1]), SystemClock(), bytes(32)); n = 0\n"
        "while True:\n    a.append('x', 'y', str(n)); sys.stdout.write(f'{n}\\n'); sys.stdout.flush(); n += 1\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    last = [int(child.stdout.readline()) for _ in range(100)][-1]
    child.kill()
    child.wait()
    again = Audit(tmp_path, ManualClock(), SEED)
    report = verify(tmp_path, again.public_key)
    assert report.ok
    assert report.records > last


def test_details_that_are_not_json_or_have_no_bound_are_refused(tmp_path: Path) -> None:
    made = Audit(tmp_path, ManualClock(), SEED)
    with pytest.raises(BadInputError):
        made.append("x", "y", "z", what=object())
    with pytest.raises(BadInputError):
        made.append("x", "y", "z", what="a" * audit.DETAIL_MOST)
    with pytest.raises(BadInputError):
        made.append("x", "y", "z", what=float("nan"))
    assert made.head[0] == 0


def test_the_public_key_lies_beside_the_log(tmp_path: Path) -> None:
    made = Audit(tmp_path, ManualClock(), SEED)
    assert base64.b64decode((tmp_path / audit.PUBLIC_FILE).read_text()) == made.public_key
