"""A snapshot of what was made of the event log: one file, whole or not at all, with a checksum over everything in it.

mark of 8 bytes, u32 format, u32 CRC-32 of what follows, u64 length of the msgpack, msgpack(state), arrays in order
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import CorruptError
from fabric.core.failing import undoing
from fabric.core.files import TEMP_MARK, sync_directory

_OPENING = struct.Struct("<8sIIQ")
BLOCK_BYTES = 1 << 24


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What every snapshot says beside its arrays."""

    offset: int  # the first row not yet applied
    arrays: list[tuple[str, int, int]] = []  # name, rows, bytes; in order


class State(Described, frozen=True, kw_only=True):
    """What a history's snapshot says beside its arrays."""

    newest: float  # latest time applied, UTC seconds
    half_life_hours: float
    keys: str  # joined by NUL, in row order


Kept = TypeVar("Kept", bound=Described)


@dataclass(frozen=True, slots=True)
class Form(Generic[Kept]):
    """Which snapshot it is: its mark, the number of its format, its state, and what it is called."""

    mark: bytes
    version: int
    state: type[Kept]
    name: str


Arrays = dict[str, NDArray[np.generic]]
HISTORY = Form(b"FABHIST\n", 1, State, "history")


def save(path: Path, state: Kept, arrays: Arrays, form: Form[Kept]) -> None:
    """Replace the snapshot at ``path``, durably: after a crash the old one is there or the new one, whole."""
    described = [(name, len(array), array.nbytes) for name, array in arrays.items()]
    head = msgspec.msgpack.encode(msgspec.structs.replace(state, arrays=described))
    temporary = path.with_name(f"{TEMP_MARK}{path.name}.{secrets.token_hex(4)}")
    with undoing(lambda: temporary.unlink(missing_ok=True)):
        with temporary.open("xb") as file:
            file.write(_OPENING.pack(form.mark, form.version, 0, len(head)) + head)
            crc = zlib.crc32(head)
            for block in _blocks(arrays):
                crc = zlib.crc32(block, crc)
                file.write(block)
            file.seek(0)
            file.write(_OPENING.pack(form.mark, form.version, crc, len(head)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    sync_directory(path.parent)


def load(path: Path, dtypes: dict[str, np.dtype[np.void]], form: Form[Kept]) -> tuple[Kept, Arrays] | None:
    """Return the snapshot at ``path``, None where there is none; arrays without a dtype given are uint64.

    Raises:
        CorruptError: the file is damaged or of another format; removing it makes it be rebuilt from the log.
    """
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        mark, version, crc, length = _OPENING.unpack_from(data)
        if mark != form.mark or version != form.version or zlib.crc32(data[_OPENING.size :]) != crc:
            raise ValueError
        state = msgspec.msgpack.decode(data[_OPENING.size : _OPENING.size + length], type=form.state)
        return state, dict(_arrays(data[_OPENING.size + length :], state, dtypes))
    except (struct.error, ValueError, msgspec.DecodeError) as error:
        raise CorruptError(
            f"the {form.name}'s snapshot is damaged",
            hint="it is rebuilt from the event log at the next start; nothing is lost",
            path=str(path),
        ) from error


def _blocks(arrays: Arrays) -> Iterator[memoryview]:
    for array in arrays.values():
        raw = memoryview(np.ascontiguousarray(array).view(np.uint8).data) if array.nbytes else memoryview(b"")
        for start in range(0, len(raw), BLOCK_BYTES):
            yield raw[start : start + BLOCK_BYTES]


def _arrays(
    data: memoryview, state: Described, dtypes: dict[str, np.dtype[np.void]]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    position = 0
    for name, rows, size in state.arrays:
        dtype = dtypes.get(name, np.dtype(np.uint64))
        yield name, np.frombuffer(data[position : position + size], dtype=dtype, count=rows)
        position += size
