"""Opening sources: plain or gzip by content, folders and patterns, blocks of whole lines, and clear refusals."""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from fabric.core.errors import BadInputError, NotFoundError

BLOCK_BYTES = 1 << 19  # a block and what is made of it stay in a core's cache: larger ones are half as fast
LINE_BYTES_MOST = 1 << 20
LINE_BYTES_SEEN = 1 << 12  # looked at for the end of a line before a block is read
HEAD_BYTES = 1 << 16
FILES_MOST = 200_000
_GZIP, _BOM = b"\x1f\x8b", b"\xef\xbb\xbf"
_PACKED = {
    b"PK\x03\x04": "a ZIP archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
}


def expand(given: Iterable[str | Path]) -> list[Path]:
    """Return the files that paths, folders (all files below) and patterns (``logs/*.gz``) name, in order, each once.

    Files of a folder come in the order of their names, which for S3 and GCS logs is the order of time. Hidden files
    and empty ones are left out of folders.

    Raises:
        NotFoundError: nothing is there.
        BadInputError: more than 200,000 files.
    """
    found: dict[Path, None] = {}
    for name in given:
        for path in _expand_one(Path(name)):
            found.setdefault(path, None)
            if len(found) > FILES_MOST:
                raise BadInputError("more than 200,000 files are named", hint="give folders a day or a month at a time")
    return list(found)


def _expand_one(path: Path) -> list[Path]:
    if path.is_dir():
        kept = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p, path) and p.stat().st_size > 0]
        if not kept:
            raise NotFoundError("the folder holds no file", path=str(path))
        return kept
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
    if not matches:
        raise NotFoundError(
            "there is no such file", path=str(path), hint="give a file, a folder or a pattern in quotes"
        )
    return matches


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def is_gzip(path: Path) -> bool:
    """Whether the file's content is gzip, whatever its name says."""
    with _opened(path) as file:
        return file.read(2) == _GZIP


def head(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of the content, unpacked.

    Raises:
        BadInputError: the file is empty, of a packing that is not read, or damaged.
    """
    with _opened(path) as file:
        magic = file.read(8)
    for mark, what in _PACKED.items():
        if magic.startswith(mark):
            raise BadInputError(f"the file is {what}", file=str(path), hint="unpack it first; plain and gzip are read")
    if not magic:
        raise BadInputError("the file is empty", file=str(path))
    return b"".join(chunks(path, size, most=size))


def chunks(path: Path, size: int = BLOCK_BYTES, *, most: int = -1) -> Iterator[bytes]:
    """Yield the unpacked content in pieces of ``size`` bytes; up to ``most`` bytes, -1 for all.

    Raises:
        BadInputError: a gzip file that is cut off or damaged; what was yielded before is not the whole.
    """
    left = most
    with _unpacked(path) as file:
        while left != 0 and (chunk := file.read(size if left < 0 else min(size, left))):
            yield chunk
            left -= len(chunk) if left > 0 else 0


def blocks(path: Path, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the unpacked content in blocks of whole lines, a mark of UTF-8 at its beginning left out.

    Raises:
        BadInputError: as `chunks`, or a line is longer than 1 MiB, so that this is no text log.
    """
    longest, first, packed = max(LINE_BYTES_MOST, size), True, is_gzip(path)
    with _unpacked(path) as file:
        while block := file.read(size if packed else size + _to_line_end(file, size)):
            begun = len(block) - block.rfind(b"\n") - 1  # bytes of a line that is cut
            if begun:
                block += file.readline(longest - begun + 1)
            if begun and len(block) - block.rfind(b"\n", 0, -1) - 1 > longest + block.endswith(b"\n"):
                raise BadInputError("a line is longer than 1 MiB, so this is no text log", file=str(path))
            yield block.removeprefix(_BOM) if first else block
            first = False


def _to_line_end(file: IO[bytes], size: int) -> int:
    """Return how many bytes after the next ``size`` the line that they end in goes on; 0 where that is not seen.

    Whole lines are then read at once into one piece of memory.
    """
    return max(0, os.pread(file.fileno(), LINE_BYTES_SEEN, file.tell() + size - 1).find(b"\n"))


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file's content, unpacked; what goes wrong while it is read is told as an error of the file."""
    packed = is_gzip(path)
    try:
        with _opened(path) as raw:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
    except EOFError as error:
        raise BadInputError(
            "the gzip file is cut off", file=str(path), hint="fetch it again; half a log would give a wrong bill"
        ) from error
    except (OSError, zlib.error) as error:
        raise BadInputError(
            f"the file is damaged or cannot be read: {error}", file=str(path), hint="fetch it again"
        ) from error


def digest(path: Path) -> str:
    """Return the SHA-256 of the file as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copies(paths: list[Path]) -> set[Path]:
    """Return the files whose bytes are those of an earlier one: delivered or named twice. Only equal sizes are read."""
    sizes: dict[int, list[Path]] = {}
    for path in paths:
        sizes.setdefault(path.stat().st_size, []).append(path)
    found: set[Path] = set()
    for alike in sizes.values():
        seen: set[str] = set()
        for path in alike if len(alike) > 1 else ():
            mark = digest(path)
            if mark in seen:
                found.add(path)
            seen.add(mark)
    return found


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError("there is no such file", path=str(path)) from error
    except OSError as error:
        raise BadInputError(f"the file cannot be read: {error.strerror}", file=str(path)) from error
