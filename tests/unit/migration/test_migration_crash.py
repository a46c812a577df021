"""SIGKILL of a separate process at every named point, each on one pair of stores, then a new start over what it left.

The whole matrix (all pairs, every part, random times) is `make crash`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import moto.s3.models
import pytest
from crash_matrix import Case, Matrix, started
from crash_pairs import PAIRS
from crash_reader import RawFolder, Reader, double_deletes, heads_in
from crash_scenarios import LONG_PARTS, SCENARIOS
from migration_world import World
from servers import AZURITE, fake_gcs_program

from fabric.migration.parts import STREAMS_MOST
from fabric.migration.points import POINTS

LEARNT_ON = "local-local"  # what a copy reaches there it reaches between any two stores
IN_PLACE = "s3-class"


def _pairs() -> list[str]:
    """Return the pairs whose servers are installed."""
    lacking = set() if AZURITE.exists() and shutil.which("node") else {"azure"}
    lacking |= set() if fake_gcs_program() else {"gcs"}
    return [name for name, pair in PAIRS.items() if not lacking & set(pair.kinds.values())]


COPYING = [name for name in _pairs() if name != IN_PLACE]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Run over servers that keep everything in memory; one of them takes small parts for once."""
    folder = tmp_path_factory.mktemp("crash")
    kinds = {kind for name in _pairs() for kind in PAIRS[name].kinds.values()} - {"local"}
    with pytest.MonkeyPatch.context() as patch, started(kinds, quick=True) as running:
        patch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)
        made = Matrix(folder, running, seed=1)
        yield made
        made.close()


def _case(matrix: Matrix, point: str) -> Case:
    """Return a case that reaches ``point``: each point on one pair, the pairs in turn."""
    if point == "class.changed":
        return Case(IN_PLACE, "move", f"{point}#2")
    pair = COPYING[POINTS.index(point) % len(COPYING)]
    for scenario in SCENARIOS:
        if times := matrix.trace(LEARNT_ON, scenario)["points"].count(point):
            return Case(pair, scenario, f"{point}#{(times + 1) // 2}")
    raise AssertionError(f"no scenario reaches {point}")


@pytest.mark.server
@pytest.mark.item(24, 29)
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_point_loses_no_object_and_leaves_nothing_behind(matrix: Matrix, point: str) -> None:
    killed = matrix.tally.kills[point]
    assert matrix.run(_case(matrix, point)) == []
    assert matrix.tally.kills[point] == killed + 1, "the process was not killed there"


@pytest.mark.server
@pytest.mark.item(29)
def test_a_kill_at_any_time_loses_no_object_and_leaves_nothing_behind(matrix: Matrix) -> None:
    for case in matrix.at_random(LEARNT_ON, 4):
        assert matrix.run(case) == []


@pytest.mark.server
@pytest.mark.item(22)
@pytest.mark.parametrize("parts_there", [2, 7])
def test_a_move_killed_inside_an_object_sends_at_most_one_part_of_each_stream_again(
    matrix: Matrix, parts_there: int
) -> None:
    told, wrong = matrix.told(Case("local-s3", "long", f"part.saved#{parts_there}", again=False))
    sent = [points.count("part.sending") for points in (told["points"], told["again"])]
    assert wrong == []
    assert sent[1] <= LONG_PARTS - parts_there
    assert LONG_PARTS <= sum(sent) <= LONG_PARTS + STREAMS_MOST


def test_the_reader_finds_what_is_lost_damaged_left_or_deleted_twice(tmp_path: Path) -> None:
    world = World(tmp_path)
    blob = world.write("k", b"bytes").current.replicas[0].blob
    world.close()
    (stored,) = tmp_path.glob(f"a/*/{blob}")
    reader = Reader({"a": RawFolder(tmp_path / "a")}, {"k": hashlib.sha256(b"bytes").hexdigest()}, {})
    heads = heads_in(tmp_path)
    assert list(reader.strays(heads)) == []

    (tmp_path / "a" / ".fabric" / "temp" / "half").touch()
    shutil.copy(stored, stored.with_name("other"))
    assert len(list(reader.strays(heads))) == 3  # one of them twice: as unfinished, and as not listed
    stored.write_bytes(b"Bytes")
    assert list(reader.without_copy(heads)) == ["k has no verified copy among ['a/hot']"]
    stored.unlink()
    assert list(reader.corrupt(heads)) == ["k at a/hot (live) is not what was written"]
    assert list(reader.without_copy([])) == ["no head of ['k']"]

    log = tmp_path / "deletes.log"
    log.write_text("deleting a objects/1\ndeleted a objects/1\nputting a objects/1\ndeleting a objects/1\n")
    assert list(double_deletes(log)) == []
    log.write_text("deleting a objects/1\ndeleting a objects/1\ndeleted a objects/1\ndeleting a objects/1\n")
    assert list(double_deletes(log)) == ["a objects/1"]
