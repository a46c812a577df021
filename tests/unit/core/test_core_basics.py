"""Clock, ids, units, files and log lines."""

from __future__ import annotations

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.clock import ManualClock, day_number, iso
from fabric.core.errors import FabricError, NotFoundError
from fabric.core.files import append_line, write_whole
from fabric.core.ids import is_id, new_id
from fabric.core.log import LineFormatter
from fabric.core.units import format_size, format_usd, parse_duration, parse_size


def test_a_manual_clock_wakes_who_waits_when_it_is_moved() -> None:
    clock, event, woke = ManualClock(), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (clock.wait(event, 10.0), woke.set()))
    thread.start()
    assert not woke.wait(0.05)
    clock.advance(10.0)
    thread.join(5)
    assert woke.is_set()


def test_times_are_written_as_utc() -> None:
    assert iso(0.25) == "1970-01-01T00:00:00.250Z"
    assert day_number(86400.0 * 3 + 1) == 3


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [new_id(1000.0 + n) for n in range(50)]
    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(is_id(one) for one in made)
    assert not is_id("../../etc/passwd")


def test_ids_of_one_moment_sort_as_they_were_made() -> None:
    made = [new_id(1000.0) for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert new_id(999.0) < made[0] < made[-1] < new_id(1000.001)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_a_size_in_bytes_reads_back_as_itself(size: int) -> None:
    assert parse_size(str(size)) == size


def test_sizes_and_durations_are_read_as_people_write_them() -> None:
    assert parse_size("10GiB") == 10 << 30
    assert parse_size("1.5GB") == 1_500_000_000
    assert parse_size("64k") == 65536
    assert parse_duration("250ms") == 0.25
    assert parse_duration("7d") == 7 * 86400
    for wrong in ("10 parsecs", "", "-3d", "7"):
        with pytest.raises(ValueError):
            parse_duration(wrong)


def test_small_money_keeps_its_digits() -> None:
    assert format_usd(0.000123) == "$0.000123"
    assert format_usd(1234.5) == "$1,234.50"
    assert format_size(1536) == "1.5 KiB"


def test_a_file_is_replaced_whole_and_no_temporary_is_left(tmp_path) -> None:
    path = tmp_path / "report.json"
    write_whole(path, b"old", durable=False)
    write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_is_gone_leaves_the_error_and_no_file(tmp_path) -> None:
    with pytest.raises(OSError):
        write_whole(tmp_path / "gone" / "x", b"1", durable=False)


def test_lines_are_appended_in_order(tmp_path) -> None:
    for n in range(3):
        append_line(tmp_path / "log", b"%d" % n)
    assert (tmp_path / "log").read_bytes() == b"0\n1\n2\n"


def test_an_error_carries_its_context_and_its_problem_document() -> None:
    error = NotFoundError("no such object", hint="list them", key="a/b")
    assert isinstance(error, FabricError)
    assert error.key == "a/b"
    assert error.problem() == {
        "type": "urn:fabric:problem:not-found",
        "title": "no such object",
        "status": 404,
        "detail": "no such object (key=a/b). list them",
        "hint": "list them",
        "key": "a/b",
    }
    with pytest.raises(AttributeError):
        _ = error.absent


def test_a_log_line_quotes_what_would_break_it() -> None:
    record = logging.makeLogRecord(
        {"name": "fabric.x", "levelname": "INFO", "msg": "job done", "created": 0.0, "job": "a b", "bytes": 7}
    )
    assert LineFormatter().format(record) == '1970-01-01T00:00:00.000Z INFO fabric.x job done job="a b" bytes=7'
