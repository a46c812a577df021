"""Room of a store with a declared capacity, where an answer was lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fabric.core.errors import CapacityError, PreconditionError, UnavailableError, UnknownOutcomeError
from fabric.storage.room import Room
from fabric.storage.s3_errors import lost_error
from fabric.storage.store import ObjectInfo


class Shelf:
    name = "shelf"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def list(self) -> Iterator[ObjectInfo]:
        for number, size in enumerate(self.sizes):
            yield ObjectInfo(str(number), size, "", 0.0, "hot")


def lose(room: Room, size: int, error: Exception) -> None:
    def write() -> None:
        with room.reserved() as reserved:
            reserved.grow(size)
            raise error

    with pytest.raises(type(error)):
        write()


LOST = [
    UnknownOutcomeError("the answer to a conditional write was lost"),
    lost_error(OSError("connection reset"), store="shelf", endpoint="", conditional=False),
]


@pytest.mark.parametrize("error", LOST)
def test_bytes_whose_answer_was_lost_keep_their_room_until_the_usage_is_read(error: Exception) -> None:
    shelf = Shelf()
    room = Room(shelf, 100)
    lose(room, 60, error)
    with pytest.raises(CapacityError):
        room.check(60)
    shelf.sizes.append(60)  # they had arrived
    assert room.used() == 60
    with pytest.raises(CapacityError):
        room.check(60)
    room.check(40)


def test_bytes_that_never_arrived_give_their_room_back_at_the_next_reading_of_the_usage() -> None:
    room = Room(Shelf(), 100)
    lose(room, 60, UnknownOutcomeError("the answer to a conditional write was lost"))
    assert room.used() == 0
    room.check(100)


@pytest.mark.parametrize(
    "error",
    [
        PreconditionError("the key exists already"),
        UnavailableError("the store does not answer"),
        lost_error(OSError("connection refused"), store="shelf", endpoint="", conditional=False),
    ],
)
def test_what_was_surely_not_written_gives_its_room_back_at_once(error: Exception) -> None:
    room = Room(Shelf(), 100)
    lose(room, 60, error)
    room.check(100)


def test_a_usage_that_cannot_be_read_leaves_the_doubt() -> None:
    class Silent(Shelf):
        silent = False

        def list(self) -> Iterator[ObjectInfo]:
            if self.silent:
                raise UnavailableError("the server does not answer")
            return super().list()

    shelf = Silent()
    room = Room(shelf, 100)
    lose(room, 60, LOST[0])
    shelf.silent = True
    with pytest.raises(UnavailableError):
        room.used()
    with pytest.raises(CapacityError):
        room.check(60)
