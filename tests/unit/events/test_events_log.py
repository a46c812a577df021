"""The durable event log: what was acknowledged is there, whatever happened since."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from fabric.core.clock import ManualClock
from fabric.core.errors import BadInputError, CapacityError, CorruptError, InUseError, NotFoundError, UnavailableError
from fabric.events import codec, segment
from fabric.events.batch import AccessBatch
from fabric.events.build import access_batch
from fabric.events.log import EventLog

ROOT = Path(__file__).parents[3]


def batch(first: int, rows: int = 3) -> AccessBatch:
    keys = [f"k{first + row}" for row in range(rows)]
    return access_batch([1.0 + first] * rows, keys, [1] * rows, [5.0] * rows)


def opened(folder: Path, segment_bytes: int = 1 << 20) -> EventLog:
    return EventLog(folder, ManualClock(), segment_bytes=segment_bytes)


def keys_of(log: EventLog, offset: int = 0) -> list[str]:
    return [key for _, found in log.read(offset) for key in found.key]


def filled(folder: Path, batches: int, segment_bytes: int = 1 << 20) -> EventLog:
    log = opened(folder, segment_bytes)
    for number in range(batches):
        log.append(batch(3 * number))
    return log


def test_batches_come_back_in_order_with_their_offsets(tmp_path: Path) -> None:
    log = opened(tmp_path)

    assert [log.append(batch(0)), log.append(batch(3, 2)), log.append(batch(5, 1))] == [0, 3, 5]
    assert log.end == 6
    assert [(base, len(found)) for base, found in log.read(0)] == [(0, 3), (3, 2), (5, 1)]
    assert [base for base, _ in log.read(3)] == [3, 5]
    assert [base for base, _ in log.read(4)] == [3, 5]  # from the batch that holds the offset
    assert list(log.read(6)) == []
    assert [base for base, _ in log.read(0, rows_most=4)] == [0, 3]


def test_an_empty_batch_takes_no_offset(tmp_path: Path) -> None:
    log = opened(tmp_path)

    assert log.append(batch(0, 0)) == 0
    assert log.end == 0


def test_a_log_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    log = opened(tmp_path)

    assert log.end == 15
    assert log.append(batch(15)) == 15
    assert keys_of(log) == [f"k{number}" for number in range(18)]


def test_segments_are_rolled_by_size_and_read_as_one(tmp_path: Path) -> None:
    log = filled(tmp_path, 50, segment_bytes=1000)
    found = log.segments()

    assert len(found) > 5
    assert [info.end for info in found[:-1]] == [info.base for info in found[1:]]
    assert keys_of(log) == [f"k{number}" for number in range(150)]
    assert keys_of(log, 75) == [f"k{number}" for number in range(75, 150)]


def test_old_segments_go_only_when_told_and_never_with_a_row_still_wanted(tmp_path: Path) -> None:
    log = filled(tmp_path, 50, segment_bytes=1000)
    wanted = 60
    dropped = log.drop_before(wanted)

    assert dropped > 0
    assert log.start <= wanted
    assert keys_of(log, wanted)[-1] == "k149"
    with pytest.raises(NotFoundError, match="no longer kept"):
        list(log.read(0))
    log.drop_before(10**9)
    assert log.append(batch(150)) == 150  # the newest segment always stays
    log.close()
    assert opened(tmp_path).end == 153


def test_many_writers_share_flushes_and_each_gets_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = []
    flush = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: (flushes.append(1), flush(handle))[1])
    log = opened(tmp_path)
    offsets: dict[int, int] = {}

    def write(number: int) -> None:
        offsets[number] = log.append(batch(3 * number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = {base: found.key for base, found in log.read(0)}

    assert len(flushes) <= 40
    assert sorted(offsets.values()) == [3 * number for number in range(40)]
    assert all(stored[offset] == batch(3 * number).key for number, offset in offsets.items())


@pytest.mark.parametrize("cut", [1, 10, 33, 60])
def test_a_torn_tail_is_cut_off_and_kept_beside(tmp_path: Path, cut: int) -> None:
    filled(tmp_path, 5).close()
    path = next(tmp_path.glob("*.events"))
    path.write_bytes(path.read_bytes()[:-cut])
    log = opened(tmp_path)

    assert keys_of(log) == [f"k{number}" for number in range(12)]
    assert len(list(tmp_path.glob("*.torn"))) == 1
    assert log.append(batch(12)) == 12


def test_rubbish_behind_the_last_batch_is_a_torn_tail(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    path = next(tmp_path.glob("*.events"))
    path.write_bytes(path.read_bytes() + b"\0" * 4096)

    assert opened(tmp_path).end == 15


def test_a_damaged_middle_is_refused_with_segment_and_offset(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    path = next(tmp_path.glob("*.events"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(CorruptError) as caught:
        opened(tmp_path)

    assert caught.value.segment == path.name
    assert caught.value.offset == 6
    assert path.read_bytes() == bytes(data)  # nothing was cut away


def test_damage_in_an_old_segment_is_met_by_its_reader_alone(tmp_path: Path) -> None:
    filled(tmp_path, 50, segment_bytes=1000).close()
    path = sorted(tmp_path.glob("*.events"))[2]
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))
    log = opened(tmp_path)

    with pytest.raises(CorruptError) as caught:
        keys_of(log)

    assert caught.value.segment == path.name
    assert log.append(batch(150)) == 150
    assert keys_of(log, 100)[-1] == "k152"


def test_a_missing_segment_is_refused_by_name(tmp_path: Path) -> None:
    filled(tmp_path, 50, segment_bytes=1000).close()
    path = sorted(tmp_path.glob("*.events"))[1]
    log = opened(tmp_path)
    path.unlink()

    with pytest.raises(CorruptError, match=path.name):
        keys_of(log)


def test_a_file_cut_anywhere_opens_with_whole_batches_only(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 4).close()
    data = next((tmp_path / "whole").glob("*.events")).read_bytes()
    seen = set()
    for length in range(0, len(data), 3):
        folder = tmp_path / str(length)
        folder.mkdir()
        (folder / segment.segment_name(0)).write_bytes(data[:length])
        log = opened(folder)
        assert keys_of(log) == [f"k{number}" for number in range(log.end)]
        seen.add(log.end)
        log.close()

    assert seen == {0, 3, 6, 9}


@pytest.mark.parametrize(("later_group", "corrupt"), [(9, False), (12, True)])
def test_damage_is_corruption_only_where_a_later_flush_lies_behind_it(
    tmp_path: Path, later_group: int, corrupt: bool
) -> None:
    """Two frames behind nine durable rows, the first one damaged: of one flush, or of two."""
    filled(tmp_path, 3).close()
    path = next(tmp_path.glob("*.events"))
    first, second = codec.encode(batch(9)), codec.encode(batch(12))
    damaged = bytes([first[0] ^ 1]) + first[1:]
    tail = segment.header(first, zlib.crc32(first), 3, 9, 9) + damaged
    tail += segment.header(second, zlib.crc32(second), 3, 12, later_group) + second
    path.write_bytes(path.read_bytes() + tail)
    if corrupt:
        with pytest.raises(CorruptError, match="offset=9"):
            opened(tmp_path)
    else:
        assert opened(tmp_path).end == 9


def test_a_newer_format_is_refused_rather_than_guessed(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    path = next(tmp_path.glob("*.events"))
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(bytes(data))

    with pytest.raises(CorruptError, match="another release"):
        opened(tmp_path)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    log = opened(tmp_path)

    with pytest.raises(InUseError):
        opened(tmp_path)
    log.close()
    opened(tmp_path).close()


def test_a_full_disk_refuses_the_batch_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = filled(tmp_path, 2)
    write = os.pwrite

    def full(handle: int, data: bytes, at: int) -> int:
        write(handle, data[:20], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(CapacityError):
        log.append(batch(6))
    monkeypatch.undo()

    assert log.append(batch(6)) == 6
    log.close()
    assert keys_of(opened(tmp_path)) == [f"k{number}" for number in range(9)]


def test_after_a_failed_flush_nothing_more_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(tmp_path, 1)

    def fail(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(UnavailableError, match="disk failed"):
        log.append(batch(3))
    monkeypatch.undo()
    with pytest.raises(UnavailableError):
        log.append(batch(3))


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.close()

    with pytest.raises(UnavailableError, match="closed"):
        log.append(batch(0))


def test_no_acknowledged_row_is_lost_by_kill_9(tmp_path: Path) -> None:
    """Four writers in a process of their own, killed in the middle of it, three times over."""
    promised: dict[int, tuple[int, int]] = {}
    for _ in range(3):
        promised |= _killed_writer(tmp_path / "log", acknowledgements=120)
    log = opened(tmp_path / "log")
    stored = {base: found.key for base, found in log.read(0)}

    assert len(promised) >= 360
    for offset, (writer, number) in promised.items():
        assert stored[offset] == [f"{writer}/{number - 20 + row}" for row in range(20)]


def _killed_writer(folder: Path, acknowledgements: int) -> dict[int, tuple[int, int]]:
    script = Path(__file__).with_name("events_writer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(acknowledgements)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.wait()
    process.stdout.close()
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {int(offset): (int(writer), int(number)) for offset, writer, number in whole}


def test_columns_of_different_lengths_never_reach_the_log(tmp_path: Path) -> None:
    log = opened(tmp_path)
    whole = batch(0)

    with pytest.raises(BadInputError, match="another length"):
        log.append(dataclasses.replace(whole, who=["x"]))
    assert log.end == 0
