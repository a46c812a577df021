"""What a move really does to the disk and on the wire, in order, seen from the kernel.

Data synced, then named, then its directory synced, then the journal committed, then the source deleted.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import moto.s3.models
import pytest
import servers
from crash_pairs import keep_secret, packed
from crash_scenarios import SMALL_PART
from order_trace import Call, Calls, can_trace, moves, traced

ROOT = Path(__file__).parents[3]
CHILD = Path(__file__).with_name("order_child.py")
JOURNAL = r"/catalog\.db-wal>"
SYNCS = ("fsync", "fdatasync")
NAMES = ("link", "linkat", "rename", "renameat", "renameat2")
REMOVALS = ("unlink", "unlinkat")
SENDS = ("write", "writev", "sendto")

pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not here or may not trace: apt-get install strace")
Moves = dict[str, tuple[str, Calls]]


@pytest.fixture(scope="module", params=["local-local", "local-s3"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Moves]:
    """Move a small and a large object, each with its grace's end, under strace."""
    folder, trace = tmp_path_factory.mktemp("order"), tmp_path_factory.mktemp("trace") / "calls"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        running = {}
        if request.param == "local-s3":
            running["s3"] = stack.enter_context(servers.moto())
            patch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)
            environment[keep_secret("s3", running["s3"])] = f"{servers.ACCESS}:{servers.SECRET}"
        given = json.dumps(packed(running))
        calls = traced([sys.executable, str(CHILD), str(folder), request.param, given], trace, environment)
    return request.param, moves(calls)


def committed(calls: Calls, before: Call, after: Call) -> Call:
    """Return the sync of the catalog's journal that both points enclose, with what was written to it before."""
    syncs = calls.between(before, after, JOURNAL, *SYNCS)
    assert syncs, "no commit reached the disk between the two"
    assert calls.between(before, syncs[-1], JOURNAL, "pwrite64"), "nothing was written to the journal before its sync"
    return syncs[-1]


def in_order(*calls: Call) -> None:
    for one, next_one in pairwise(calls):
        assert one.before(next_one), (one, next_one)


def whole_named(calls: Calls, blob: str) -> Call:
    """Check how a local copy comes into being; return the sync of its directory."""
    folder, _, name = blob.rpartition("/")
    named = calls.one(rf'/b/\.fabric/temp/\S+\.held", .*"{name}"', *NAMES)
    temporary = named.words.split('"')[1].rpartition("/")[2]
    written = calls.all(rf"/b/\.fabric/temp/{temporary}>, ", "write", "pwrite64")
    synced = calls.one(rf"/b/\.fabric/temp/{temporary}>\)", "fsync")
    directory = calls.one(rf"/b/[^>]*{folder}>\)", "fsync") if "objects/" in folder else named
    in_order(*written, synced, named, directory)
    return directory


def read_back_before(calls: Calls, blob: str, after: Call) -> None:
    """Check that the copy was opened anew for its proof once it was named, and before the head was switched."""
    opened = calls.between(after, calls.point("switch.before"), rf"/b/\S+{blob}>", "openat")
    assert [call for call in opened if "O_RDONLY" in call.words]


def switched_then_deleted(calls: Calls, blob: str, stored: Call) -> None:
    """Check what follows once the copy lies durably at the target."""
    name = blob.rpartition("/")[2]
    switch = committed(calls, calls.point("switch.before"), calls.point("switch.done"))
    completed = committed(calls, calls.point("completed.before"), calls.point("completed.after"))
    noted = committed(calls, calls.point("completed.after"), calls.point("reap.noted"))
    unlisted = committed(calls, calls.point("reap.noted"), calls.point("reap.unlisted"))
    deleted = calls.one(rf'/a/\S*.*"\S*{name}"', *REMOVALS)
    synced = calls.one(rf"/a/[^>]*{blob.rpartition('/')[0]}>\)", "fsync")
    in_order(stored, switch, completed, noted, unlisted, deleted, synced, calls.point("reap.deleted"))


@pytest.mark.item(29)
@pytest.mark.parametrize("key", ["plain", "large"])
def test_the_source_is_deleted_after_the_journal_after_the_named_and_synced_copy(
    done: tuple[str, Moves], key: str
) -> None:
    pair, moved = done
    blob, calls = moved[key]
    if pair == "local-local":
        stored = whole_named(calls, blob)
        read_back_before(calls, blob, stored)
    else:
        stored = calls.point("copy.put")
        sent = calls.all(rf'"(PUT|POST) /\S*{blob}\S* HTTP/1.1', *SENDS)
        assert sent, "the copy was sent"
        in_order(sent[-1], stored)
        read = calls.all(rf'"GET /\S*{blob}\S* HTTP/1.1', *SENDS)
        assert stored.before(read[0]), "it was read back through a request of its own"
    switched_then_deleted(calls, blob, stored)


@pytest.mark.item(22, 29)
def test_each_part_lies_at_the_target_before_the_journal_names_it(done: tuple[str, Moves]) -> None:
    pair, moved = done
    blob, calls = moved["large"]
    completing, saved = calls.point("upload.completing"), calls.all('/marks>, "part.saved"', "write")
    begun = committed(calls, calls.point("upload.begun"), calls.all('/marks>, "part.sending"', "write")[0])
    if pair == "local-local":
        uploads = r"/b/\.fabric/uploads/\w{32}"
        written = calls.all(rf"{uploads}/data-{SMALL_PART}>, ", "pwrite64")
        assert len(written) == 3
        for data in written:
            synced = calls.after(data, rf"{uploads}/data-{SMALL_PART}>\)", "fdatasync")
            marked = calls.after(synced, rf'{uploads}/\d{{5}}-\d+-\w+", O_WRONLY\|O_CREAT', "openat")
            last = calls.after(marked, rf"{uploads}>\)", "fsync")
            in_order(begun, data, synced, marked, last, completing)
    else:
        parts = calls.all(rf'"PUT /\S*{blob}\?\S*partNumber=\d+\S* HTTP/1.1', *SENDS)
        assert len(parts) == 3
        in_order(begun, parts[0])
        last = parts[-1]
    committed(calls, last, saved[-1])
    in_order(saved[-1], completing, calls.point("copy.put"))


@pytest.mark.item(29)
def test_a_batch_names_what_is_synced_and_syncs_the_folders_before_one_commit_and_every_delete(
    done: tuple[str, Moves],
) -> None:
    pair, moved = done
    blobs, calls = moved["together"]
    before, after = (calls.all(f'/marks>, "{name}"', "write") for name in ("switch.before", "switch.done"))
    assert len(before) == len(after) == len(blobs.split(","))
    switch = committed(calls, before[-1], after[0])
    for blob in blobs.split(","):
        folder, _, name = blob.rpartition("/")
        if pair == "local-local":
            named = calls.one(rf'"{name}"', *NAMES)
            temporary = re.findall(r'(\w+\.held)"', named.words)[0]
            written = calls.all(rf"/b/\.fabric/temp/{temporary}>, ", "write", "pwrite64")
            synced = calls.one(rf"/b/\.fabric/temp/{temporary}>\)", "fsync")
            lasting = calls.after(named, rf"/b/[^>]*{folder}>\)", "fsync")
            in_order(*written, synced, named, lasting, switch)
            read_back = calls.between(lasting, before[0], rf"/b/\S+{blob}>", "openat")
            assert [call for call in read_back if "O_RDONLY" in call.words]
        else:
            in_order(calls.one(rf'"PUT /\S*{blob}\S* HTTP/1.1', *SENDS), switch)
        deleted = calls.one(rf'/a/\S*.*"\S*{name}"', *REMOVALS)
        assert calls.between(after[-1], deleted, JOURNAL, *SYNCS), "nothing was journaled between switch and delete"
        in_order(switch, deleted)
