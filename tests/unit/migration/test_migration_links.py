"""Files of an adopted folder that move to another one and leave a link: each misfortune ends well or is refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import adopted_world as aw
import migration_world as mw
import msgspec
import pytest

from fabric.catalog.runs import Run
from fabric.core.config import MigrationSettings
from fabric.migration.adoptedacts import AdoptedMove
from fabric.migration.ports import Order
from fabric.storage import links

DATA = b"what the user wrote" * 1000


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = aw.folders(tmp_path)
    yield made
    made.close()


def _refused(world: mw.World, key: str = "a/film") -> str:
    job = aw.moved(world, key)
    assert job.state == "FAILED", (job.state, job.reason)
    assert not (world.folder.parent / "big" / key).exists()
    return job.reason


def test_a_moved_file_is_read_under_its_old_name_through_a_link(world: mw.World) -> None:
    path = aw.file(world, "a/film", DATA)
    os.chmod(path, 0o640)
    os.setxattr(path, "user.colour", b"red")
    before = path.stat()

    job = aw.moved(world, "a/film")

    there = world.folder.parent / "big/a/film"
    after = there.stat()
    assert (job.state, job.proof) == ("COMPLETED", "read_back"), job.reason
    assert path.is_symlink()
    assert path.read_bytes() == there.read_bytes() == DATA
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert os.getxattr(there, "user.colour") == b"red"
    assert after.st_nlink == 1
    assert (world.folder.parent / f"nas/.fabric/moves/{job.id}.old").stat().st_ino == before.st_ino


def test_an_undone_move_brings_back_the_very_same_inode(world: mw.World) -> None:
    path = aw.file(world, "a/film", DATA)
    inode = path.stat().st_ino
    job = aw.moved(world, "a/film")

    quote = world.migration.quote(job.id)
    world.migration.undo(job.id, "ann", sha256=quote.sha256)
    world.settle()

    assert [way.how for way in quote.ways] == ["switch"]
    assert world.jobs.get(job.id).state == "ROLLED_BACK"
    assert path.stat(follow_symlinks=False).st_ino == inode
    assert not (world.folder.parent / "big/a/film").exists()


def test_a_file_written_through_its_link_is_not_taken_back(world: mw.World) -> None:
    path = aw.file(world, "a/film", DATA)
    job = aw.moved(world, "a/film")
    path.write_bytes(b"newer")

    quote = world.migration.quote(job.id)
    _, _, failed = world.migration.undo(job.id, "ann", sha256=quote.sha256)

    assert "was written since" in failed[0]["why"]
    assert path.read_bytes() == b"newer"


def test_a_socket_is_refused_by_name(world: mw.World) -> None:
    root = Path(world.fleet.member("nas").address.path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "door"))
        move = AdoptedMove("door", "nas/hdd", "big/hdd", "link", "tag", 0)
        world.migration.start()
        world.migration.order_adopted([move], Order("ann", "run"))
        world.settle()
    assert "a socket, a device or a pipe" in world.job("nas://door").reason


def test_a_pipe_is_refused_and_never_opened(world: mw.World) -> None:
    os.mkfifo(Path(world.fleet.member("nas").address.path, "pipe"))
    with pytest.raises(links.RefusedError, match="a socket, a device or a pipe") as caught:
        links.look(_root(world), "pipe", quiet_seconds=0, now=0.0)
    assert caught.value.hazard == "not_a_file"


def test_a_link_that_a_user_made_is_refused(world: mw.World) -> None:
    os.symlink("/etc/hostname", Path(world.fleet.member("nas").address.path, "alias"))
    with pytest.raises(links.RefusedError, match="symbolic link already"):
        links.look(_root(world), "alias", quiet_seconds=0, now=0.0)


def test_a_file_with_a_second_name_is_refused(world: mw.World) -> None:
    path = aw.file(world, "a/film", DATA)
    os.link(path, path.with_name("same"))
    assert "has other names" in _refused(world)


def test_a_file_with_holes_is_refused(world: mw.World) -> None:
    path = aw.file(world, "a/film", b"")
    os.truncate(path, 10 << 20)
    assert "has holes" in _refused(world)


def test_a_file_that_a_program_has_open_is_refused_and_the_program_named(world: mw.World) -> None:
    path = aw.file(world, "a/film", DATA)
    with path.open("rb"):
        assert f"process {os.getpid()}" in _refused(world)


def test_a_file_written_just_before_is_refused(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, MigrationSettings(quiet_seconds=300.0))
    aw.file(world, "a/film", DATA)
    assert "was written just before" in _refused(world)
    world.close()


def test_a_folder_that_is_not_declared_to_have_links_is_refused(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, links="")
    aw.file(world, "a/film", DATA)
    job = aw.moved(world, "a/film", kind="link")
    assert "set links = 'ok' for stores.nas" in job.reason
    world.close()


def test_a_link_that_a_client_cannot_follow_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, client_path=str(tmp_path / "not-mounted"))
    aw.file(world, "a/film", DATA)
    assert "a client cannot follow" in _refused(world)
    assert list((tmp_path / "nas/.fabric/moves").iterdir()) == []
    world.close()


def test_a_name_that_the_target_has_already_is_refused(world: mw.World) -> None:
    aw.file(world, "a/film", DATA)
    other = aw.file(world, "a/film", b"somebody else's", store="big")
    job = aw.moved(world, "a/film")
    assert "has an object of this name" in job.reason
    assert other.read_bytes() == b"somebody else's"


def test_a_file_renamed_over_between_copy_and_switch_keeps_its_new_content(world: mw.World, tmp_path: Path) -> None:
    path = aw.file(world, "a/film", DATA)

    def at(point: str) -> None:
        if point == "switch.before":
            (tmp_path / "new").write_bytes(b"renamed over it")
            os.replace(tmp_path / "new", path)

    job = _moved_while(world, at)
    assert (job.state, path.read_bytes()) == ("ROLLED_BACK", b"renamed over it")
    assert not path.is_symlink()
    assert not (tmp_path / "big/a/film").exists()


def test_a_file_renamed_over_in_the_very_moment_of_the_swap_is_put_back(
    world: mw.World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = aw.file(world, "a/film", DATA)
    exchange, times = links._exchange, []

    def late(*args: Any, **more: Any) -> None:
        if not times:
            (tmp_path / "new").write_bytes(b"renamed over it")
            os.replace(tmp_path / "new", path)
        times.append(1)
        exchange(*args, **more)

    monkeypatch.setattr(links, "_exchange", late)
    job = aw.moved(world, "a/film")
    assert (job.state, len(times)) == ("ROLLED_BACK", 2)
    assert not path.is_symlink()
    assert path.read_bytes() == b"renamed over it"


def test_a_file_written_while_it_is_copied_is_left_as_it_is(world: mw.World, tmp_path: Path) -> None:
    path = aw.file(world, "a/film", DATA)
    job = _moved_while(world, lambda point: path.write_bytes(b"newer") if point == "copy.put" else None)
    assert (job.state, path.read_bytes()) == ("ROLLED_BACK", b"newer")
    assert not (tmp_path / "big/a/film").exists()


def test_a_file_written_through_an_old_descriptor_during_the_grace_is_put_back(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, MigrationSettings(quiet_seconds=0.0, grace_days_between_stores=0.0))
    path = aw.file(world, "a/film", DATA)
    writer: list[int] = []

    def at(point: str) -> None:
        if point == "switch.done":  # its program opened it in the moment before the swap
            old = next((tmp_path / "nas/.fabric/moves").glob("*.old"))
            writer.append(os.open(old, os.O_WRONLY | os.O_APPEND))
            os.write(writer[0], b" and one more line")

    job = _moved_while(world, at, "COMPLETED")
    assert path.is_symlink()
    assert world.migration.tools.jobs.get(job.id).grace_until
    world.migration._not_before.clear()
    world.tick_until("COMPLETED")
    os.close(writer[0])
    _tidied(world, "ROLLED_BACK")
    assert not path.is_symlink()
    assert path.read_bytes() == DATA + b" and one more line"
    assert not (tmp_path / "big/a/film").exists()
    world.close()


def test_the_old_file_goes_after_the_grace_and_the_link_stays(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, MigrationSettings(quiet_seconds=0.0, grace_days_between_stores=0.0))
    path = aw.file(world, "a/film", DATA)
    job = aw.moved(world, "a/film")
    _tidied(world, "COMPLETED")
    assert list((tmp_path / "nas/.fabric/moves").iterdir()) == []
    assert path.is_symlink()
    assert path.read_bytes() == DATA
    assert [row.act for row in world.jobs.journal_of(job.id)][-2:] == ["reap", "grace ended"]
    world.close()


def test_a_file_that_was_removed_at_its_new_place_keeps_its_old_one(tmp_path: Path) -> None:
    world = aw.folders(tmp_path, MigrationSettings(quiet_seconds=0.0, grace_days_between_stores=0.0))
    aw.file(world, "a/film", DATA)

    def at(point: str) -> None:
        if point == "switch.done":
            (tmp_path / "big/a/film").unlink()

    job = _moved_while(world, at)
    _tidied(world, "COMPLETED")
    assert (tmp_path / f"nas/.fabric/moves/{job.id}.old").read_bytes() == DATA
    assert "is gone from its new place" in world.jobs.journal_of(job.id)[-1].details["why"]
    world.close()


def test_the_canary_of_a_large_file_reads_it_at_its_new_place(tmp_path: Path) -> None:
    settings = MigrationSettings(quiet_seconds=0.0, high_risk_bytes=1000, medium_risk_bytes=1000)
    world = aw.folders(tmp_path, settings)
    aw.file(world, "a/film", DATA)
    world.migration.start()
    world.runs.open(Run("run", world.clock.now(), "plan"))
    aw.order(world, "a/film")
    (job,) = world.tick_until("AWAITING_APPROVAL")
    world.migration.approve(job.id, "bea")
    world.settle()
    for _ in range(1000):
        world.migration._not_before.clear()
        world.migration.tick()
        if world.jobs.get(job.id).canary:
            break
        world.migration.tools.stopping.wait(0.005)
    found = world.jobs.get(job.id).canary
    assert (found["reads"], found["errors"]) == (20.0, 0.0)
    world.close()


def _tidied(world: mw.World, state: str) -> None:
    """Tick until the job's grace is closed; one that was postponed is due again at once."""
    for _ in range(1000):
        world.migration._not_before.clear()
        world.migration.tick()
        (job,) = world.jobs.page(limit=10)[0]
        if job.state == "ROLLED_BACK" or (job.state == "COMPLETED" and not job.grace_until):
            break
        if job.state == "COMPLETED" and not world.busy() and job.grace_until > world.clock.now():
            world.jobs.change(job, msgspec.structs.replace(job, grace_until=1.0), "test")
        world.migration.tools.stopping.wait(0.005)
    assert world.jobs.get(job.id).state == state


def _moved_while(world: mw.World, at: Any, state: str = "") -> mw.Job:
    """Move the file while ``at`` is called at each named point."""
    object.__setattr__(world.migration.tools, "reached", at)
    job = aw.moved(world, "a/film")
    assert not state or job.state == state, job.reason
    return job


def _root(world: mw.World) -> links.Root:
    return links.Root("nas", Path(world.fleet.member("nas").address.path))
