"""Strings as numbers: each distinct word is kept once and named by the order in which it was first seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.formats import kernel

Spans = NDArray[np.int64]

CHUNK = 1 << 16  # spans interned before the table is looked at again
SLOTS_LEAST = 1 << 12
BLOB_LEAST = 1 << 16


@dataclass(frozen=True, slots=True)
class Words:
    """Byte strings end to end: word i is ``blob[offsets[i]:offsets[i + 1]]``."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @staticmethod
    def of(words: Iterable[bytes]) -> Words:
        """Pack ``words`` in their order."""
        kept = list(words)
        lengths = np.fromiter((len(word) for word in kept), dtype=np.int64, count=len(kept))
        return Words(np.frombuffer(b"".join(kept), dtype=np.uint8), np.concatenate(([0], np.cumsum(lengths))))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def tolist(self) -> list[bytes]:
        """Return all words; about 100 bytes of memory each, so meant for distinct words, not for rows."""
        data, ends = self.blob.tobytes(), self.offsets.tolist()
        return [data[start:end] for start, end in pairwise(ends)]

    def text(self, index: int) -> str:
        """Return a word for people: bytes that are no UTF-8 are shown escaped."""
        return self[index].decode("utf-8", "backslashreplace")

    def take(self, chosen: NDArray[np.int64]) -> Words:
        """Return the words numbered ``chosen``, in that order."""
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        shift = np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return Words(self.blob[np.arange(offsets[-1]) + shift], offsets)

    def prefixed(self, prefix: bytes, *, compiled: bool = False) -> Words:
        """Return the words with ``prefix`` before each."""
        if not prefix:
            return self
        offsets = self.offsets + np.arange(len(self) + 1) * len(prefix)
        if compiled:
            longer = np.empty(int(offsets[-1]), dtype=np.uint8)
            head = np.frombuffer(prefix, dtype=np.uint8)
            kernel.pick(compiled=True).prefix_words(self.blob, self.offsets, head, longer)
            return Words(longer, offsets)
        old = np.ones(int(offsets[-1]), dtype=np.bool_)
        for shift in range(len(prefix)):
            old[offsets[:-1] + shift] = False
        blob = np.empty(len(old), dtype=np.uint8)
        blob[old] = self.blob
        blob[~old] = np.tile(np.frombuffer(prefix, dtype=np.uint8), len(self))
        return Words(blob, offsets)

    def holding(self, byte: int) -> NDArray[np.bool_]:
        """Return which words hold a byte."""
        found = np.concatenate(([0], np.cumsum(self.blob == byte)))
        return np.asarray(found[self.offsets[1:]] > found[self.offsets[:-1]], dtype=np.bool_)

    def firsts(self) -> NDArray[np.uint8]:
        """Return the first byte of each word; a slash for an empty one."""
        filled = self.offsets[1:] > self.offsets[:-1]
        first = np.full(len(self), ord("/"), dtype=np.uint8)
        first[filled] = self.blob[self.offsets[:-1][filled]]
        return first

    @property
    def spans(self) -> tuple[Spans, Spans]:
        """Starts and ends of the words in the blob."""
        return self.offsets[:-1], self.offsets[1:]


class Interner:
    """Gives each distinct byte string a number: 0, 1, 2 … in the order of first sight.

    Compiled it keeps the words in one growing array and a table of 4 bytes a slot: the words' own bytes and about 24
    bytes each. Uncompiled it is a dictionary. Both give the same numbers.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self._kernels = kernel.pick(compiled=compiled)
        self._compiled = compiled
        self._known: dict[bytes, int] = {}
        self._table = np.full(SLOTS_LEAST, -1, dtype=np.int32)
        self._marks = np.empty(SLOTS_LEAST, dtype=np.uint64)
        self._offsets = np.zeros(SLOTS_LEAST + 1, dtype=np.int64)
        self._blob = np.empty(BLOB_LEAST, dtype=np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count if self._compiled else len(self._known)

    def add(self, data: Any, starts: Spans, ends: Spans) -> NDArray[np.int32]:
        """Return the number of each word ``data[starts[i]:ends[i]]``, shape (spans,).

        Args:
            data: uint8 array or bytes that hold the words.
        """
        if not self._compiled:
            return self._add_plain(bytes(data), starts, ends)
        ids, words = np.empty(len(starts), dtype=np.int32), kernel.as_words(data)
        for first in range(0, len(starts), CHUNK):
            part = slice(first, first + CHUNK)
            self._grow(min(CHUNK, len(starts) - first), int((ends[part] - starts[part]).sum()))
            hashes = np.full(len(starts[part]), kernel.SEED, dtype=np.uint64)
            self._kernels.hash_spans(data, words, starts[part], ends[part], hashes, kernel.PRIME)
            self._count = self._kernels.intern_spans(
                data, words, starts[part], ends[part], hashes, self._table, self._marks, self._blob,
                kernel.as_words(self._blob), self._offsets, self._count, ids[part],
            )  # fmt: skip
        return ids

    def add_words(self, words: Words) -> NDArray[np.int32]:
        """Return the number of each of ``words``."""
        return self.add(words.blob, *words.spans)

    def words(self, *, share: bool = False) -> Words:
        """Return all words so far in the order of their numbers; with ``share`` nothing may be added any more."""
        if not self._compiled:
            return Words.of(self._known)
        if share:
            return Words(self._blob[: self._offsets[self._count]], self._offsets[: self._count + 1])
        return Words(
            self._blob[: self._offsets[self._count]].copy(),
            self._offsets[: self._count + 1].astype(np.int64, copy=True),
        )

    def marks(self) -> NDArray[np.uint64]:
        """Return a 64-bit hash of each word so far; compiled and plain hashes differ."""
        return self._marks[: self._count].copy() if self._compiled else marks_of(self._known)

    def _add_plain(self, data: bytes, starts: Spans, ends: Spans) -> NDArray[np.int32]:
        known = self._known
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        found = [known.setdefault(data[start:end], len(known)) for start, end in spans]
        return np.array(found, dtype=np.int32)

    def _grow(self, spans: int, size: int) -> None:
        need = int(self._offsets[self._count]) + size
        if need > len(self._blob):
            self._blob = _longer(self._blob, max(need, len(self._blob) * 3 // 2))
        need = self._count + spans
        if need + 1 > len(self._offsets):
            self._offsets = _longer(self._offsets, need * 3 // 2 + 1)
            self._marks = _longer(self._marks, need * 3 // 2 + 1)
        if need * 3 > len(self._table) * 2:
            slots = 1 << (need * 2 - 1).bit_length()
            self._table = np.full(slots, -1, dtype=np.int32)
            self._kernels.place_marks(self._table, self._marks, self._count)


def marks_of(words: Iterable[bytes]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each word."""
    digests = b"".join(hashlib.blake2b(word, digest_size=8).digest() for word in words)
    return np.frombuffer(digests, dtype=np.uint64)


def _longer(array: NDArray[Any], length: int) -> NDArray[Any]:
    longer = np.empty(length, dtype=array.dtype)
    longer[: len(array)] = array
    return longer
