"""What every driver checks at its door: keys, metadata and ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fabric.core.errors import BadInputError, NotFoundError, PreconditionError, RangeError
from fabric.storage.store import ObjectInfo

KEY_MOST_BYTES = 1024
METADATA_MOST_BYTES = 2048  # names and values together, as S3 has it
PART_MOST = 10_000
DEFAULT_TYPE = "application/octet-stream"
WORK_FOLDER = ".fabric"  # keys below it are the fabric's own: probes, health; never scanned


@dataclass(slots=True)
class OpenReading:
    """An open read over any iterator of bytes."""

    info: ObjectInfo
    chunks: Iterable[bytes | memoryview]

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self.chunks)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write to happen: the key is free, or its tag is this one."""

    only_if_absent: bool = False
    only_if_tag: str | None = None

    def __bool__(self) -> bool:
        return self.only_if_absent or self.only_if_tag is not None


def check_key(key: str) -> str:
    """Return ``key`` if a store may hold it; BadInputError says what is wrong with it."""
    wrong = _wrong(key)
    if wrong:
        raise BadInputError(f"the key {wrong}", hint="use segments such as a/b/c.txt", key=key[:200])
    return key


def _wrong(key: str) -> str:
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not text that UTF-8 can hold"
    if not 0 < size <= KEY_MOST_BYTES:
        return f"must have 1 to {KEY_MOST_BYTES} bytes"
    if "\0" in key:
        return "contains NUL"
    segments = key.split("/")
    if "" in segments:
        return "has an empty segment"
    return "has a segment '.' or '..'" if "." in segments or ".." in segments else ""


def check_metadata(metadata: dict[str, str] | None) -> dict[str, str]:
    """Return the metadata as a copy; BadInputError beyond METADATA_MOST_BYTES or for names that are not lower-case."""
    given = dict(metadata or {})
    if sum(len(name.encode()) + len(value.encode()) for name, value in given.items()) > METADATA_MOST_BYTES:
        raise BadInputError(f"metadata has more than {METADATA_MOST_BYTES} bytes", hint="keep it in the object")
    for name, value in given.items():
        plain = name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and name == name.lower()) or not (
            value.isascii() and value.isprintable()
        ):
            raise BadInputError(
                "a metadata name has lower-case letters, digits, - and _; its value is one line of ASCII", name=name
            )
    return given


def check_part_number(number: int) -> int:
    """Return ``number`` if an upload may have such a part."""
    if not 1 <= number <= PART_MOST:
        raise BadInputError(f"a part's number is 1 to {PART_MOST}", number=number)
    return number


def check_class(store: str, classes: tuple[str, ...], storage_class: str | None) -> str:
    """Return the class meant (None: the hot one); NotFoundError names those there are."""
    if storage_class is None:
        return classes[0]
    if storage_class not in classes:
        raise NotFoundError(
            "the store has no such storage class",
            store=store,
            storage_class=storage_class,
            hint=f"it has {', '.join(classes)}",
        )
    return storage_class


def check_tag(store: str, key: str, expected: str | None, found: str) -> None:
    """Raise PreconditionError when ``expected`` is given and is not ``found``."""
    if expected is not None and expected != found:
        raise PreconditionError("the object was changed meanwhile", store=store, key=key)


def check_condition(store: str, key: str, condition: Condition, tag: str | None) -> None:
    """Raise PreconditionError where ``condition`` does not hold of what stands under ``key``; None: nothing does."""
    if condition.only_if_absent and tag is not None:
        raise PreconditionError("the key exists already", store=store, key=key)
    check_tag(store, key, condition.only_if_tag, tag or "")


def span(size_bytes: int, start: int, end: int | None, *, key: str) -> tuple[int, int]:
    """Return the bytes (start, end) meant within an object of ``size_bytes``; RangeError when start lies beyond."""
    if start < 0 or start > size_bytes or (end is not None and end < start):
        raise RangeError("the range lies outside the object", key=key, size_bytes=size_bytes, start=start)
    return start, size_bytes if end is None else min(end, size_bytes)


def missing(store: str, key: str) -> NotFoundError:
    """Return the error for a key that is not there."""
    return NotFoundError("there is no such object", store=store, key=key)


@contextmanager
def nothing_to_close(reading: OpenReading) -> Iterator[OpenReading]:
    """Give a reading that holds nothing open."""
    yield reading
