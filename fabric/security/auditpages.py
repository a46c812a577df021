"""Pages of the audit log, newest line first: a page is found by halving the file, a search reads every line."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import BinaryIO

import msgspec

from fabric.core.errors import CorruptError
from fabric.security.commit import disk_errors


class AuditLine(msgspec.Struct, frozen=True):
    """What a page shows of one line."""

    n: int
    at: float
    action: str
    who: str
    subject: str

    def holds(self, wanted: str) -> bool:
        """Say whether a casefolded text is part of what is shown."""
        return wanted in f"{self.n} {self.action} {self.who} {self.subject}".casefold()


def lines_before(path: Path, number: int, limit: int) -> list[AuditLine]:
    """Return up to ``limit`` lines whose numbers are under ``number``, newest first.

    Raises:
        CorruptError: a line on the way is damaged.
        UnavailableError: the log cannot be read.
    """
    first = max(0, number - limit)
    with disk_errors("the audit log", path), path.open("rb") as file:
        file.seek(_line_start(file, first))
        found = [_line(file.readline(), path) for _ in range(number - first)]
    return found[::-1]


def lines_with(path: Path, search: str, number: int, limit: int) -> tuple[list[AuditLine], int]:
    """Return up to ``limit`` lines under ``number`` that hold ``search``, newest first, and how many hold it in all."""
    wanted, count = search.casefold(), 0
    newest: deque[AuditLine] = deque(maxlen=limit)
    with disk_errors("the audit log", path), path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):  # being written
                break
            line = _line(raw, path)
            if line.holds(wanted):
                count += 1
                if line.n < number:
                    newest.append(line)
    return list(newest)[::-1], count


def _line_start(file: BinaryIO, number: int) -> int:
    """Return the offset of line ``number``: numbers rise by one, so halving finds it in a few reads."""
    low, high = 0, file.seek(0, os.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()  # the rest of a line that begins earlier
        start, raw = file.tell(), file.readline()
        if raw.endswith(b"\n") and _line(raw, Path(file.name)).n <= number:
            low = start
        else:
            high = middle
    file.seek(low)
    while (raw := file.readline()) and _line(raw, Path(file.name)).n < number:
        low = file.tell()
    return low


def _line(raw: bytes, path: Path) -> AuditLine:
    try:
        return msgspec.json.decode(raw, type=AuditLine)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        hint = "run: python -m fabric audit verify; it names the line"
        raise CorruptError("a line of the audit log is damaged", path=str(path), hint=hint) from error
