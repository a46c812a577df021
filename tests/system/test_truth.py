"""What a crash, a restore and an erasure leave in the head log and in the stores; the real engine, really killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from fabric.app.acts import Acts
from fabric.app.engine import Engine
from fabric.app.maintenance import rebuild_catalog, restore_folder
from fabric.app.operations import back_up
from fabric.app.orphans import SAFE_SECONDS, find_orphans
from fabric.catalog.headlog import HeadLog
from fabric.catalog.jobs import Checkpoint, Job
from fabric.core.errors import ConfigError, ConflictError, FrozenError, NotFoundError
from fabric.demos.sample import Sample
from fabric.security.tokens import LOCAL
from tests.system.killed_writer import BEFORE_COMMIT, BEFORE_HEAD, FRESH, KEPT, OTHER
from tests.system.safety_world import CALLER, blobs, opened, put, settings
from tests.system.system_world import wait_for

ROOT = Path(__file__).parents[2]
PLAIN = "plain/page"


def killed(folder: Path, moment: str) -> None:
    program = [sys.executable, "-m", "tests.system.killed_writer", str(folder), moment]
    done = subprocess.run(program, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == -signal.SIGKILL


def content(engine: Engine, key: str) -> bytes:
    head = engine.objects.head(key, CALLER)
    reading = engine.objects.open(head, head.current, CALLER)
    try:
        return b"".join(bytes(piece) for piece in reading)
    finally:
        reading.close()


def rebuild(folder: Path) -> dict:
    return rebuild_catalog(folder / "data", settings(folder / "places"), sample=Sample())


def logs(folder: Path) -> bytes:
    found = sorted((folder / "data").glob("keys*/*heads*"))
    assert {path.parent.name for path in found} == {"keys", "keys-copy"}
    return b"".join(path.read_bytes() for path in found)


def test_a_head_that_a_kill_kept_from_its_commit_is_unknown_and_not_current_after_a_rebuild(tmp_path: Path) -> None:
    killed(tmp_path, BEFORE_COMMIT)
    with closing(HeadLog((tmp_path / "data" / "keys",))) as log:
        left = log.last()
    assert FRESH in left or left[KEPT].revision == 2, "the kill came before the head log"
    with opened(tmp_path, start=False) as (engine, _):
        assert content(engine, KEPT) == b"first"
        put(engine, "private/later", b"later")
    found = rebuild(tmp_path)
    assert found["unknown_versions"] >= 2
    with opened(tmp_path, start=False) as (engine, _):
        assert (content(engine, KEPT), content(engine, OTHER)) == (b"first", b"other")
        assert content(engine, "private/later") == b"later"
        with pytest.raises(NotFoundError):
            engine.objects.head(FRESH, CALLER)


def test_what_was_acknowledged_after_a_backup_comes_back_by_a_rebuild_of_the_restored_folder(tmp_path: Path) -> None:
    """The key folders outlive the data folder, so that their log is newer than the restored catalog."""
    data, archive = tmp_path / "data", tmp_path / "backup.tar.gz"
    given = settings(tmp_path / "places", key_folders=(str(tmp_path / "disk-1"), str(tmp_path / "disk-2")))
    with opened(tmp_path, given, start=False) as (engine, _):
        put(engine, KEPT, b"first")
        back_up(engine, archive)
        put(engine, KEPT, b"after the backup")
        put(engine, FRESH, b"after the backup")
    shutil.rmtree(data)
    restore_folder(archive, data)
    with opened(tmp_path, given, start=False) as (engine, _):
        assert content(engine, KEPT) == b"first"
        put(engine, OTHER, b"other")
    rebuild_catalog(data, given, sample=Sample())
    with opened(tmp_path, given, start=False) as (engine, _):
        assert content(engine, KEPT) == b"after the backup"
        assert content(engine, FRESH) == b"after the backup"
        assert content(engine, OTHER) == b"other"


def test_an_erased_object_s_name_is_in_no_head_log_and_it_stays_erased_after_a_rebuild(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        for body in (b"one", b"two"):
            put(engine, KEPT, body)
        put(engine, OTHER, b"other")
        assert KEPT.encode() in logs(tmp_path)
        engine.eraser.erase(KEPT, LOCAL)
        assert KEPT.encode() not in logs(tmp_path)
        put(engine, FRESH, b"fresh")
    with opened(tmp_path, start=False) as (engine, _):  # the shorter log is read as well
        put(engine, OTHER, b"newer")
    assert rebuild(tmp_path)["objects"] == 2
    with opened(tmp_path, start=False) as (engine, _):
        assert (content(engine, OTHER), content(engine, FRESH)) == (b"newer", b"fresh")
        with pytest.raises(NotFoundError):
            engine.objects.head(KEPT, CALLER)
        put(engine, KEPT, b"a new one of the same name")
    rebuild(tmp_path)
    with opened(tmp_path, start=False) as (engine, _):
        assert content(engine, KEPT) == b"a new one of the same name"


@pytest.mark.parametrize("key", [KEPT, PLAIN])
def test_an_erasure_that_was_cut_off_before_the_head_log_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, key, b"one")
        with monkeypatch.context() as patched:
            patched.setattr(engine.head_log, "forget", lambda keys: None)
            engine.eraser.erase(key, LOCAL)
    assert key.encode() in logs(tmp_path)
    with opened(tmp_path) as (engine, _):
        wait_for(lambda: forgotten(engine, tmp_path, key), 10, "the name stays in the head log")


def forgotten(engine: Engine, folder: Path, key: str) -> bool:
    with engine.head_log.still():
        return key.encode() not in logs(folder)


def test_blobs_of_another_engine_that_shares_the_store_are_no_orphans_of_this_one(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, KEPT, b"one")
    age(tmp_path / "places", 2 * SAFE_SECONDS)
    other = tmp_path / "other"
    other.mkdir()
    (other / "places").symlink_to(tmp_path / "places")
    with opened(other, start=False) as (engine, _):
        found = Acts(engine).table()["verify"](LOCAL, {})["orphans"]
        assert found["blobs"] == 0
        assert found["of_other_engines"] > 0
        name = find_orphans(engine).foreign[0].name
        with pytest.raises(ConflictError, match="another engine"):
            Acts(engine).table()["verify"](LOCAL, {"remove": [name]})


def test_blobs_of_writes_that_a_kill_cut_off_are_listed_by_verify_and_removed_only_by_name(tmp_path: Path) -> None:
    killed(tmp_path, BEFORE_HEAD)
    with opened(tmp_path, start=False) as (engine, _):
        acts = Acts(engine).table()
        put(engine, KEPT, b"second")  # the first one's blobs are owed to be removed, hence no orphans
        litter = blobs(engine) - {(r.store, r.blob) for h in engine.heads.all() for r in h.current.replicas}
        litter -= {(debt.store, debt.blob) for debt in engine.owed.page()}
        assert litter
        young = acts["verify"](LOCAL, {})["orphans"]
        assert (young["blobs"], young["younger_than_an_hour"]) == (0, len(litter))

        age(tmp_path / "places", 2 * SAFE_SECONDS)
        found = acts["verify"](LOCAL, {})["orphans"]
        assert {row["name"] for row in found["first"]} == {f"{store}/{blob}" for store, blob in litter}
        assert {row["key"] for row in found["first"]} <= {KEPT, FRESH}
        assert (found["blobs"], found["bytes"]) == (len(litter), sum(row["bytes"] for row in found["first"]))
        assert "--remove" in found["hint"]
        assert litter <= blobs(engine), "nothing is removed unasked"

        name = found["first"][0]["name"]
        live = engine.objects.head(OTHER, CALLER).current.replicas[0]
        with pytest.raises(NotFoundError, match="no such orphan"):
            acts["verify"](LOCAL, {"remove": [name, f"{live.store}/{live.blob}"]})
        engine.freeze.freeze("stop", "test", "")
        with pytest.raises(FrozenError):
            acts["verify"](LOCAL, {"remove": [name]})
        engine.freeze.lift("stop")
        assert acts["verify"](LOCAL, {"remove": [name]})["orphans"]["removals"] == 1
        assert {f"{store}/{blob}" for store, blob in litter & blobs(engine)} == {
            row["name"] for row in found["first"][1:]
        }
        assert "orphan.remove" in [line["action"] for line in engine.audit.recent(5)]
        assert (content(engine, KEPT), content(engine, OTHER)) == (b"second", b"other")


def listed(engine: Engine) -> list[str]:
    found = find_orphans(engine)
    return [orphan.name for orphan in (*found.found, *found.foreign)]


def test_what_a_running_job_has_copied_is_no_orphan(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        engine.fleet.member("west").store.put("objects/zz/copy", [b"bytes"])
        age(tmp_path / "places", 2 * SAFE_SECONDS)
        assert listed(engine) == ["west/objects/zz/copy"]
        job = engine.jobs.add(Job("j1", KEPT, "copy", "north/nvme", "west/hdd", 5, 1.0))
        begun = msgspec.structs.replace(job, state="IN_PROGRESS")
        engine.jobs.change(job, begun, "transition", copy=Checkpoint(blob="objects/zz/copy"))
        assert listed(engine) == []
        engine.jobs.change(begun, msgspec.structs.replace(job, state="FAILED"), "transition")
        engine.jobs.record_litter(job, "west", "objects/zz/copy", 2.0)
        assert listed(engine) == []


def age(folder: Path, seconds: float) -> None:
    """Make every blob so much older."""
    for path in folder.rglob("objects/*/*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def test_a_start_that_fails_late_leaves_no_thread_and_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, handles = set(threading.enumerate()), open_files(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("the last part cannot be built")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_build_components", refuse)
        with pytest.raises(ConfigError, match="last part"), opened(tmp_path, start=False):
            pass
    assert {thread.name for thread in set(threading.enumerate()) - before} == set()
    assert open_files(tmp_path) == handles
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, KEPT, b"first")


def open_files(folder: Path) -> list[str]:
    named = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sorted(name for name in named if name.startswith(str(folder)))
