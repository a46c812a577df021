"""The head log is compacted without losing a head, and a start takes back only what no commit followed."""

from __future__ import annotations

import shutil
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from catalog_world import Kept, content, opened

from fabric.catalog import headlog, logfiles
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Head, Version
from fabric.core.errors import CapacityError, UnavailableError
from fabric.core.words import ObjectPolicy


def head(key: str, revision: int = 1, *, deleted: bool = False) -> Head:
    version = Version(f"v{revision}", 0, "", 0.0, ("w", revision), {}, tombstone=deleted)
    return Head(key, ObjectPolicy(), (version,), revision=revision)


def commit(log: HeadLog, *heads: Head) -> None:
    flush(log, *heads)
    log.settle()


def flush(log: HeadLog, *heads: Head) -> None:
    log.begin()
    for one in heads:
        log.note(one)
    log.flush()


def revisions(log: HeadLog) -> dict[str, int]:
    return {key: one.revision for key, one in log.last().items()}


def compact(log: HeadLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headlog, "COMPACT_LEAST_BYTES", 0)
    assert log.compact_if_grown(lambda: 1)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "1", tmp_path / "2"


def test_a_log_that_has_grown_is_cut_down_to_the_last_head_of_each_key(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    for revision in range(1, 101):
        commit(log, head("a", revision), head("b", revision))
    flush(log, head("a", 101))
    log.abandon()
    before, sequence = logfiles.size_bytes(folders[0]), log.sequence
    monkeypatch.setattr(headlog, "COMPACT_LEAST_BYTES", before // 2)
    assert not log.compact_if_grown(lambda: before)
    assert not log.compact_if_grown(lambda: 1), "it has not grown since it was looked at"
    commit(log, *(head("b", revision) for revision in range(101, 200)))
    assert log.compact_if_grown(lambda: 1)
    assert logfiles.size_bytes(folders[0]) < before / 20
    commit(log, head("c"))
    assert revisions(log) == {"a": 100, "b": 199, "c": 1}
    again = HeadLog(folders)
    assert revisions(again) == {"a": 100, "b": 199, "c": 1}
    assert again.sequence == log.sequence > sequence
    assert files(folders[0]) == files(folders[1])


def test_writers_that_go_on_during_compactions_lose_no_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, done = opened(tmp_path), threading.Event()
    monkeypatch.setattr(headlog, "COMPACT_LEAST_BYTES", 0)
    monkeypatch.setattr(headlog, "LOOK_AGAIN_TIMES", 0)
    monkeypatch.setattr(headlog, "COMPACT_TIMES", 0)
    compactions = [0]

    def compacting() -> None:
        while not done.is_set():
            compactions[0] += kept.log.compact_if_grown(lambda: 1)

    def writing(name: str) -> None:
        for number in range(12):
            kept.put(f"{name}/{number % 3}")

    tidy = threading.Thread(target=compacting)
    writers = [threading.Thread(target=writing, args=(name,)) for name in "xyz"]
    for thread in (tidy, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    tidy.join()
    assert compactions[0] > 1
    stored = {one.key: one.revision for one in kept.heads.all()}
    kept.close()
    assert len(stored) == 9
    assert revisions(HeadLog((tmp_path / "keys-1", tmp_path / "keys-2"))) == stored


def test_a_group_without_its_commit_keeps_what_it_would_replace_through_a_compaction(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    commit(log, head("a", 1))
    flush(log, head("a", 2))
    compact(log, monkeypatch)
    log.abandon()
    assert revisions(HeadLog(folders)) == {"a": 1}


def test_a_group_without_its_commit_is_taken_back_at_the_start_after_a_compaction(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    commit(log, head("a", 1), head("b", 1))
    flush(log, head("a", 2))
    compact(log, monkeypatch)
    again = HeadLog(folders)
    assert again.reconcile(lambda _: {"a": head("a", 1), "b": head("b", 1)}) == [head("a", 2)]
    assert revisions(HeadLog(folders)) == {"a": 1, "b": 1}


def test_a_copy_from_before_a_compaction_that_turns_up_again_brings_no_name_back(folders: tuple[Path, Path]) -> None:
    log = HeadLog(folders)
    commit(log, *(head(f"other-{number}") for number in range(50)))
    commit(log, head("forgotten", 1))
    commit(log, head("forgotten", 2, deleted=True))
    old = shutil.copytree(folders[1], folders[1].with_name("old"))
    log.forget(["forgotten"])
    for path in folders[1].iterdir():
        path.unlink()
    for path in old.iterdir():
        shutil.copy(path, folders[1])
    assert "forgotten" not in HeadLog((folders[1], folders[0])).last()
    assert not any(logfiles.names(folder, {"forgotten"}) for folder in folders)
    assert files(folders[0]) == files(folders[1])


def test_a_compaction_cut_off_between_two_folders_is_brought_to_an_end_by_the_next_opening(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    commit(log, head("kept"))
    commit(log, head("forgotten", 1))
    commit(log, head("forgotten", 2, deleted=True))
    replace = Path.replace

    def first_alone(path: Path, target: Path) -> Path:
        if path.parent == folders[1]:
            raise OSError(5, "input/output error")
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", first_alone)
        with pytest.raises(UnavailableError):
            log.forget(["forgotten"])
    assert logfiles.names(folders[1], {"forgotten"})
    assert revisions(HeadLog((folders[1], folders[0]))) == {"kept": 1}
    assert not logfiles.names(folders[1], {"forgotten"})


def test_a_backup_under_way_puts_a_compaction_off_and_holds_no_commit_up(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headlog, "COMPACT_LEAST_BYTES", 0)
    log = HeadLog(folders)
    commit(log, head("a", 1))
    with log.still():
        before = set(files(folders[0]))
        assert not log.compact_if_grown(lambda: 1)
        commit(log, head("a", 2))
        assert set(files(folders[0])) == before
    assert log.compact_if_grown(lambda: 1)
    assert revisions(log) == {"a": 2}


def test_an_erased_name_that_was_written_again_keeps_its_new_head(folders: tuple[Path, Path]) -> None:
    log = HeadLog(folders)
    commit(log, head("a", 1))
    commit(log, head("a", 2, deleted=True))
    commit(log, head("a", 3))
    log.forget(["a"])
    assert revisions(log) == {"a": 3}


def test_a_catalog_that_is_older_than_the_log_takes_nothing_back(folders: tuple[Path, Path]) -> None:
    log = HeadLog(folders)
    for revision in range(1, 4):
        commit(log, head("a", revision))
    again = HeadLog(folders)
    assert again.reconcile(lambda _: {"a": head("a", 1)}) == []
    assert revisions(HeadLog(folders)) == {"a": 3}


def test_a_log_of_the_first_release_is_read_and_its_uncommitted_group_taken_back(folders: tuple[Path, Path]) -> None:
    def old_frame(sequence: int, one: Head | None, taken: tuple[int, ...] = ()) -> bytes:
        payload = msgspec.msgpack.encode([sequence, one, taken])
        return struct.pack("<II", len(payload), zlib.crc32(payload)) + payload

    entries = [old_frame(1, head("a", 1)), old_frame(2, head("a", 2)), old_frame(3, None, (2,))]
    entries += [old_frame(4, head("b", 1)), old_frame(5, head("a", 2))]
    for folder in folders:
        folder.mkdir()
        (folder / "heads-000001.log").write_bytes(b"FABHLOG1" + b"".join(entries))
    log = HeadLog(folders)
    assert log.reconcile(lambda _: {"a": head("a", 1), "b": head("b", 1)}) == [head("a", 2)]
    assert revisions(HeadLog(folders)) == {"a": 1, "b": 1}


def test_a_segment_torn_before_its_first_word_is_begun_again(folders: tuple[Path, Path]) -> None:
    folders[0].mkdir()
    (folders[0] / "heads-000001.log").write_bytes(b"FAB")
    log = HeadLog(folders)
    commit(log, head("a"))
    assert revisions(HeadLog(folders)) == {"a": 1}


def test_a_copy_that_lost_a_segment_is_mended_from_the_whole_one(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfiles, "SEGMENT_BYTES", 500)
    log = HeadLog(folders)
    for number in range(20):
        commit(log, head(f"k{number}"))
    (folders[0] / "heads-000001.log").unlink()
    assert len(revisions(HeadLog(folders))) == 20
    assert files(folders[0]) == files(folders[1])


def test_the_kept_world_reads_its_objects_after_a_compaction_and_a_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: Kept = opened(tmp_path)
    for key in ("a", "b", "a"):
        kept.put(key)
    compact(kept.log, monkeypatch)
    kept.put("c")
    assert [kept.get(key) for key in "abc"] == [content(key) for key in "abc"]
    kept.close()
    assert set(HeadLog((tmp_path / "keys-1", tmp_path / "keys-2")).last()) == {"a", "b", "c"}


def test_what_waits_to_be_taken_back_is_taken_back_before_a_compaction(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    commit(log, head("a", 1))
    flush(log, head("a", 2))
    with monkeypatch.context() as patched:
        patched.setattr(logfiles, "append_to", _full)
        log.abandon()  # the disk takes no entry just now
    compact(log, monkeypatch)
    assert revisions(HeadLog(folders)) == {"a": 1}


def _full(folder: Path, data: bytes) -> None:
    raise OSError(28, "no space left on device")


def test_a_catalog_put_back_one_commit_older_after_a_clean_stop_loses_no_acknowledged_head(
    folders: tuple[Path, Path],
) -> None:
    log = HeadLog(folders)
    log.reconcile(lambda _: {})
    commit(log, head("first"))
    commit(log, head("second"))
    log.close()
    again = HeadLog(folders)
    assert again.reconcile(lambda _: {"first": head("first")}) == []
    assert revisions(HeadLog(folders)) == {"first": 1, "second": 1}


def test_a_start_and_a_stop_without_a_commit_leave_the_log_as_it_was(folders: tuple[Path, Path]) -> None:
    log = HeadLog(folders)
    log.reconcile(lambda _: {})
    commit(log, head("a"))
    log.close()
    before = files(folders[0])
    again = HeadLog(folders)
    again.reconcile(lambda _: {"a": head("a")})
    again.close()
    assert files(folders[0]) == before


def test_a_name_that_is_part_of_another_is_no_reason_to_compact(folders: tuple[Path, Path]) -> None:
    log = HeadLog(folders)
    commit(log, head("archive/a"), head("b", 1))
    before = files(folders[0])
    log.forget(["a"])
    assert files(folders[0]) == before


def test_a_name_that_only_one_copy_of_the_log_holds_is_forgotten_too(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    commit(log, head("kept"))
    append = logfiles.append_to
    with monkeypatch.context() as patched:
        patched.setattr(
            logfiles, "append_to", lambda to, data: _full(to, data) if to == folders[0] else append(to, data)
        )
        with pytest.raises(CapacityError):
            flush(log, head("forgotten"))
    log.abandon()
    assert logfiles.names(folders[1], {"forgotten"})
    log.forget(["forgotten"])
    assert not logfiles.names(folders[1], {"forgotten"})


def test_erasures_that_wait_for_a_backup_share_one_compaction(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = HeadLog(folders)
    names = [f"forgotten-{number}" for number in range(8)]
    commit(log, *(head(name, 1) for name in names))
    commit(log, *(head(name, 2, deleted=True) for name in names))
    compactions: list[int] = []
    replace = logfiles.replace_sealed
    monkeypatch.setattr(
        logfiles,
        "replace_sealed",
        lambda *given: (compactions.append(1), replace(*given)),  # counted, then done
    )
    threads = [threading.Thread(target=log.forget, args=([name],)) for name in names]
    with log.still():
        for thread in threads:
            thread.start()
        until(lambda: log._to_forget == set(names))
    for thread in threads:
        thread.join()
    assert len(compactions) == 1
    assert not logfiles.names(folders[0], names)


def until(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + 10, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)
