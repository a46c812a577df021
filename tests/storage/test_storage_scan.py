"""Scanning and connecting look, and do nothing else."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import servers

from fabric.catalog.adopted import Adopted
from fabric.core.clock import SystemClock
from fabric.core.config import Settings, StoreSettings
from fabric.core.errors import ForbiddenError, UnavailableError
from fabric.core.words import Mode
from fabric.storage import scan_blocks, scan_trust
from fabric.storage.atime import atime_trust
from fabric.storage.connect import connect
from fabric.storage.fleet import Fleet
from fabric.storage.local import LocalStore
from fabric.storage.memory import MemoryStore
from fabric.storage.scan import Progress, scan
from fabric.storage.store import Store

CLOCK = SystemClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_blocks, "BLOCK_MASK", 7)


def fill(root: Path, folders: int = 10, files: int = 30) -> None:
    for folder in range(folders):
        (root / f"d{folder}" / "sub").mkdir(parents=True)
        for number in range(files):
            (root / f"d{folder}" / ("sub" if number % 3 else ".") / f"f{number:03d}").write_bytes(b"x" * number)


def truth(root: Path) -> dict[str, int]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(root)): path.stat().st_size for path in files}


def recorded(book: Adopted, store: str = "nas") -> dict[str, int]:
    return {found.key: found.size_bytes for found in book.all(store)}


def settle(root: Path) -> None:
    """Wait until every folder's change time lies far enough back to be trusted."""
    newest = max(path.stat().st_ctime for path in [root, *root.rglob("*")] if path.is_dir())
    threading.Event().wait(max(0.0, newest + scan_trust.SETTLED_SECONDS + 0.1 - time.time()))


@pytest.mark.usefixtures("small_blocks")
def test_a_scan_records_every_file_with_what_stat_says(root: Path, book: Adopted) -> None:
    fill(root)
    (root / "d1" / "link").symlink_to(root / "d2")
    store = LocalStore("nas", root, adopted=True)
    result = scan(store, book, CLOCK)
    assert recorded(book) == truth(root)
    assert (result.progress.objects, result.finished) == (300, True)
    for info in store.list():
        found = book.get("nas", info.key)
        assert found is not None
        assert (found.tag, found.storage_class) == (info.tag, "hdd")
        assert (found.modified, found.accessed) == (pytest.approx(info.modified), pytest.approx(info.accessed))


@pytest.mark.usefixtures("small_blocks")
def test_a_second_scan_finds_every_change_and_leaves_the_rest_alone(root: Path, book: Adopted) -> None:
    fill(root)
    store = LocalStore("nas", root, adopted=True)
    scan(store, book, CLOCK)
    assert scan(store, book, CLOCK).progress.unchanged == 300

    (root / "d3" / "new").write_bytes(b"new")
    (root / "a-first").write_bytes(b"1")
    (root / "zz-last").write_bytes(b"12")
    (root / "d4" / "f003").unlink()
    (root / "d5" / "sub" / "f001").write_bytes(b"rewritten in place")
    for path in (root / "d9" / "sub").iterdir():
        path.unlink()
    result = scan(store, book, CLOCK)
    assert recorded(book) == truth(root)
    assert 0 < result.progress.unchanged < 300
    (root / "zz-last").unlink()
    scan(store, book, CLOCK)
    assert recorded(book) == truth(root)


@pytest.mark.usefixtures("small_blocks")
def test_a_trusted_block_still_notices_every_name_that_comes_or_goes(
    root: Path, book: Adopted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_trust, "VERIFY_LEAST", 1)
    monkeypatch.setattr(scan_trust, "VERIFY_SHARE", 0.0)
    fill(root)
    (root / "d5" / "empty").mkdir()
    settle(root)
    store = LocalStore("nas", root, adopted=True)
    scan(store, book, CLOCK)
    again = scan(store, book, CLOCK)
    assert again.progress.objects == again.progress.unchanged == 300
    assert 200 < again.progress.trusted < 300

    (root / "d5" / "empty" / "new").write_bytes(b"new")
    (root / "d7" / "sub" / "f001").unlink()
    (root / "d8" / "f000").rename(root / "d8" / "moved")
    scan(store, book, CLOCK)
    assert recorded(book) == truth(root)


@pytest.mark.usefixtures("small_blocks")
def test_a_file_rewritten_in_place_is_noticed_in_its_turn_and_at_once_when_deep(
    root: Path, book: Adopted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_trust, "VERIFY_LEAST", 60)
    fill(root)
    settle(root)
    store = LocalStore("nas", root, adopted=True)
    scan(store, book, CLOCK)
    for path in (root / "d2" / "f000", root / "d6" / "f000"):
        with path.open("ab") as file:
            file.write(b"appended")
    for _ in range(6):
        scan(store, book, CLOCK)
    assert recorded(book) == truth(root)

    with (root / "d9" / "f000").open("ab") as file:
        file.write(b"appended")
    scan(store, book, CLOCK, deep=True)
    assert recorded(book) == truth(root)


@pytest.mark.usefixtures("small_blocks")
def test_a_scan_that_was_stopped_goes_on_where_it_was(root: Path, book: Adopted) -> None:
    fill(root)
    store, stop, seen = LocalStore("nas", root, adopted=True), threading.Event(), []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.objects > 100:
            stop.set()

    first = scan(store, book, CLOCK, progress=watch, stop=stop)
    assert (first.finished, first.resumed) == (False, False)
    second = scan(store, book, CLOCK)
    assert (second.finished, second.resumed) == (True, True)
    assert first.progress.objects + second.progress.objects == 300
    assert recorded(book) == truth(root)
    assert [progress.objects for progress in seen] == sorted(progress.objects for progress in seen)
    assert seen[-1].rate > 0
    book.forget("nas")
    assert (recorded(book), book.state("nas"), book.totals("nas")) == ({}, None, [])


def test_totals_and_ages_are_sums_over_the_recorded_files(root: Path, book: Adopted) -> None:
    now = time.time()
    for name, size, days in (("a/x", 10, 1), ("a/y", 200_000, 100), ("b/z", 30, 400), ("top", 4, 0)):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x" * size)
        os.utime(root / name, (now - days * 86400 / 2 - 5, now - days * 86400 - 5))
    scan(LocalStore("nas", root, adopted=True), book, CLOCK)

    totals = {total.prefix: total for total in book.totals("nas")}
    assert (totals["a/"].objects, totals["a/"].size_bytes, totals["a/"].small_objects) == (2, 200_010, 1)
    assert totals["a/"].billable_bytes == 200_000 + 128 * 1024
    assert totals[""].size_bytes == 4
    assert sum(total.objects for total in book.totals()) == 4
    by_mtime = {age.days: age.objects for age in book.ages("nas", "modified", now, (0, 30, 90, 365))}
    assert by_mtime == {0: 2, 90: 1, 365: 1}
    by_atime = {age.days: age.objects for age in book.ages("nas", "accessed", now, (0, 30, 90, 365))}
    assert by_atime == {0: 2, 30: 1, 90: 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user without rights")
def test_an_unreadable_folder_is_counted_and_named_and_the_rest_is_scanned(book: Adopted) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "closed").mkdir(mode=0o700)
        (root / "closed" / "x").write_bytes(b"1")
        (root / "open").write_bytes(b"1")
        os.seteuid(65534)
        try:
            result = scan(LocalStore("nas", root, adopted=True), book, CLOCK)
        finally:
            os.seteuid(0)
        assert recorded(book) == {"open": 1}
        assert (result.unreadable, result.unreadable_total) == ((str(root / "closed"),), 1)
        scan(LocalStore("nas", root, adopted=True), book, CLOCK)
        assert recorded(book) == {"open": 1, "closed/x": 1}


def test_a_name_that_is_no_text_is_counted_and_left_out(root: Path, book: Adopted) -> None:
    with open(os.fsencode(root) + b"/\xff\xfe", "wb"):
        pass
    (root / "good").write_bytes(b"1")
    result = scan(LocalStore("nas", root, adopted=True), book, CLOCK)
    assert (recorded(book), result.not_keys) == ({"good": 1}, 1)


def test_a_store_that_is_gone_stops_the_scan_and_keeps_what_was_recorded(root: Path, book: Adopted) -> None:
    fill(root, folders=2)
    store = LocalStore("nas", root, adopted=True)
    scan(store, book, CLOCK)
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(UnavailableError):
        scan(store, book, CLOCK)
    assert len(recorded(book)) == 60


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a second file system at /dev/shm")
def test_a_disk_that_was_unmounted_under_its_folder_is_not_an_empty_store(root: Path, book: Adopted) -> None:
    import tempfile

    fill(root, folders=2)
    store = LocalStore("nas", root, adopted=True)
    scan(store, book, CLOCK)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        root.rename(root.with_name("moved"))
        root.symlink_to(elsewhere)
        with pytest.raises(UnavailableError, match="on another disk"):
            scan(store, book, CLOCK)
        assert len(recorded(book)) == 60
        scan(store, book, CLOCK, deep=True)
        assert recorded(book) == {}


@pytest.mark.parametrize(
    ("options", "level"),
    [("rw,noatime", "none"), ("rw,relatime", "day"), ("rw", "exact")],
)
def test_access_times_deserve_the_trust_of_their_mount(root: Path, tmp_path: Path, options: str, level: str) -> None:
    mounts = tmp_path / "mountinfo"
    point = str(root.resolve()).replace(" ", r"\040")
    mounts.write_text(f"1 0 8:1 / / rw,strictatime - ext4 /dev/a rw\n2 1 8:2 / {point} {options} - ext4 /dev/b rw\n")
    assert atime_trust(LocalStore("nas", root, adopted=True), mounts=mounts).level == level
    assert atime_trust(LocalStore("nas", root, adopted=True), mounts=tmp_path / "none").level == "unknown"
    assert atime_trust(MemoryStore("m")).level == "none"


def s3_settings(server: servers.Server, mode: Mode = Mode.LOOK, *, prefix: str = "", **more: object) -> StoreSettings:
    return StoreSettings(
        url=f"s3://{server.bucket}/{prefix}?endpoint={server.endpoint}", mode=mode, credentials="env:TEST_KEYS", **more
    )


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEYS", f"{servers.ACCESS}:{servers.SECRET}")


@pytest.mark.server
@pytest.mark.usefixtures("keys")
def test_build_connect_and_scan_send_a_bucket_no_write_and_no_object_read(
    moto_server: servers.Server, book: Adopted
) -> None:
    s3 = servers.client(moto_server)
    s3.create_bucket(Bucket="photos")
    for number in range(40):
        s3.put_object(Bucket="photos", Key=f"2024/{number:03d}.jpg", Body=b"x" * number)
    server = servers.Server("moto", moto_server.endpoint, "photos", servers.ACCESS, servers.SECRET)
    with servers.recording(server) as kept:
        settings = s3_settings(kept.server)
        fleet = Fleet(Settings(stores={"cloud": settings}), CLOCK)
        fleet.start()
        assert connect("cloud", settings, CLOCK).ok
        for _ in range(2):
            result = scan(fleet.member("cloud").store, book, CLOCK)
        fleet.close()
        assert (kept.writes(), kept.object_reads()) == ([], [])
        assert len(kept.requests) == 3
    assert result.progress.unchanged == 40
    assert recorded(book, "cloud") == {f"2024/{number:03d}.jpg": number for number in range(40)}


def test_build_connect_and_scan_leave_every_time_of_a_folder_as_it_was(root: Path, book: Adopted) -> None:
    fill(root)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [root, *root.rglob("*")]}
    reads = {path: path.stat().st_atime_ns for path in root.rglob("*") if path.is_file()}
    settings = StoreSettings(url=str(root))
    fleet = Fleet(Settings(stores={"nas": settings}), CLOCK)
    fleet.start()
    assert connect("nas", settings, CLOCK).ok
    scan(fleet.member("nas").store, book, CLOCK)
    fleet.close()
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in [root, *root.rglob("*")]} == before
    assert {path: path.stat().st_atime_ns for path in reads} == reads


@pytest.mark.server
def test_a_scan_without_the_right_to_list_names_the_permission(
    seaweed_server: servers.Server, book: Adopted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEYS", "view-access:wrong-secret")
    fleet = Fleet(Settings(stores={"cloud": s3_settings(seaweed_server)}), CLOCK)
    store: Store = fleet.member("cloud").store
    with pytest.raises(ForbiddenError, match="credentials"):
        scan(store, book, CLOCK)
    fleet.close()
