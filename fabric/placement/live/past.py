"""A long past, read into the ledgers by a process of its own: no request waits for the interpreter's lock meanwhile.

``python -m fabric.placement.live.past FOLDER`` reads ``question``, takes up the snapshot that it names, reads the event
log beside the engine up to the offset it was told, closes every day that falls due, says in ``progress.json`` how far
it is, and leaves ``read.snapshot``: what the engine would have come to. It ends when its standard input does.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.child import bound_memory, end_with_parent
from fabric.core.errors import CapacityError, FabricError
from fabric.core.files import write_whole
from fabric.events.reading import LogReader
from fabric.placement.live.shelf import Shelf
from fabric.placement.replay.ledger import Terms
from fabric.placement.replay.tariff import Tariff

QUESTION_FILE, PROGRESS_FILE, READ_FILE, PROBLEM_FILE = "question", "progress.json", "read.snapshot", "problem.json"
MEMORY_BYTES_MOST = 2 << 30  # of private memory; mapped scratch files come beside it, and can be written back
ROWS_MOST = 2_000_000  # read by one process; what it came to is then kept, and another goes on
SAY_SECONDS = 0.2  # between two words of progress


class Question(msgspec.Struct, frozen=True):
    """What a process is to read."""

    log: str  # folder of the event log
    end: int  # offset up to which its rows are durable
    snapshot: str  # where to begin; what is not there begins with the log
    tariffs: dict[str, Tariff]
    terms: Terms
    unlearned: list[str]
    today: int  # first UTC day that a watermark of now has not passed
    compiling: bool


class Far(msgspec.Struct, frozen=True):
    """How far a process is."""

    offset: int = 0
    days: dict[str, tuple[int, int]] = {}  # by store: days closed, and days there are


def encoded(question: Question) -> bytes:
    """Return a question as bytes; floats keep every bit."""
    return msgspec.msgpack.encode(question, enc_hook=_listed)


def decoded(data: bytes) -> Question:
    """Return what `encoded` was given."""
    return msgspec.msgpack.decode(data, type=Question, dec_hook=_array)


def _listed(array: Any) -> list[Any]:
    assert isinstance(array, np.ndarray)
    return [array.dtype.str, array.tolist()]


def _array(_kind: type, found: Any) -> NDArray[Any]:
    dtype, values = found
    return np.array(values, np.dtype(dtype))


def read(question: Question, folder: Path) -> None:
    """Read the past that the question names and leave its snapshot in the folder.

    Raises:
        CorruptError: the snapshot or the log is damaged.
        NotFoundError: the log no longer holds the rows that come next.
    """
    shelf = Shelf(folder, question.tariffs, question.terms, question.unlearned, compiling=question.compiling)
    kept = shelf.read(Path(question.snapshot))
    if kept is not None:
        shelf.load(*kept)
    log = LogReader(Path(question.log), question.end)
    shelf.offset = max(shelf.offset, log.start)
    last, said = shelf.offset + ROWS_MOST, 0.0
    while True:
        if (book := shelf.due()) is not None:
            book.close_day()
        elif shelf.offset < min(log.end, last):
            shelf.feed(log)
        else:
            break
        if time.monotonic() - said >= SAY_SECONDS:
            _say(folder, shelf, question.today)
            said = time.monotonic()
    shelf.save(folder / READ_FILE)


def _say(folder: Path, shelf: Shelf, today: int) -> None:
    days = {name: book.days_known(today) for name, book in shelf.books.items()}
    write_whole(folder / PROGRESS_FILE, msgspec.json.encode(Far(shelf.offset, days)), durable=False)


def main(folder: Path) -> int:
    """Answer the question in ``folder``, or leave the reason; return the exit code."""
    bound_memory(MEMORY_BYTES_MOST)
    end_with_parent()
    try:
        try:
            read(decoded((folder / QUESTION_FILE).read_bytes()), folder)
        except MemoryError as error:
            raise CapacityError("reading the past needs more memory than it may use", most=MEMORY_BYTES_MOST) from error
    except FabricError as error:
        write_whole(folder / PROBLEM_FILE, msgspec.json.encode(error.problem()), durable=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
