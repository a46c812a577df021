"""Loops over words of bytes, written once: plain Python for small files, compiled on first use for large ones.

Those that cut lines are in `cut`, those that read times and numbers in `figures`.

Compiled and plain functions give the same results; nothing here uses floating-point beyond whole numbers and times in
seconds. Nothing is imported from numba before `pick` is asked for compiled functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled as compile_kernel
from fabric.formats.cut import tokenise
from fabric.formats.figures import numbers, split_requests, times

SEED, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_NONE, _ONE, _THREE, _SEVEN = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(7)
_THIRTY_ONE, _HALF, _SIXTY_THREE = np.uint64(31), np.uint64(32), np.uint64(63)
_SLASH, _PERCENT = 47, 37


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loops over bytes, compiled or not."""

    tokenise: Callable[..., Any]
    times: Callable[..., Any]
    numbers: Callable[..., Any]
    split_requests: Callable[..., Any]
    hash_spans: Callable[..., Any]
    intern_spans: Callable[..., Any]
    number_columns: Callable[..., Any]
    gather_words: Callable[..., Any]
    request_marks: Callable[..., Any]
    place_marks: Callable[..., Any]
    unquote_words: Callable[..., Any]
    prefix_words: Callable[..., Any]
    fresh: Callable[..., Any]


def hash_spans(data: Any, words: Any, starts: Any, ends: Any, out: Any, prime: Any) -> None:
    """Stir each span into the 64-bit hash in ``out``.

    Args:
        data: uint8 array; ``words`` the same memory as little-endian uint64, without the odd bytes at its end.
        prime: an odd number of 64 bits.
    """
    for i in range(len(starts)):
        out[i] = hash_span(data, words, starts[i], ends[i], out[i], prime)


def hash_span(data: Any, words: Any, pos: int, end: int, mark: Any, prime: Any) -> Any:
    """Stir a span into a hash, eight bytes at a time."""
    h = mark ^ np.uint64(end - pos)
    if (end >> 3) + 1 < len(words):
        while pos + 8 <= end:
            h = (h ^ word_at(words, pos)) * prime
            h ^= h >> _HALF
            pos += 8
        if pos < end:
            h = (h ^ (word_at(words, pos) & first_bytes(end - pos))) * prime
            h ^= h >> _HALF
        return h * prime
    while pos < end:  # too near the memory's end to read whole words
        word = np.uint64(0)
        for k in range(min(8, end - pos)):
            word |= np.uint64(data[pos + k]) << np.uint64(8 * k)
        h = (h ^ word) * prime
        h ^= h >> _HALF
        pos += 8
    return h * prime


def number_columns(
    data: Any, words: Any, starts: Any, ends: Any, rows: int, chosen: Any, table: Any, firsts: Any, marks: Any,
    ids: Any, sums: Any,
) -> None:  # fmt: skip
    """Number the distinct words of some columns of spans, each column's from 0 in the order of first sight.

    Args:
        starts: shape (fields, >= rows), as ``ends``; spans of ``data``.
        chosen: shape (columns,), which fields.
        table: int32, a power of two slots, more than ``rows``; its content does not matter.
        firsts, marks, ids: shape (columns, rows), filled: of each word the row that holds it first and its hash, of
            each row its word.
        sums: shape (columns, 2), filled: how many words there are, and their bytes.
    """
    for column in range(len(chosen)):
        field = chosen[column]
        table[:] = -1
        sums[column, 0], sums[column, 1] = number_spans(
            data, words, starts[field], ends[field], rows, table, firsts[column], marks[column], ids[column]
        )


def number_spans(
    data: Any, words: Any, starts: Any, ends: Any, rows: int, table: Any, firsts: Any, marks: Any, ids: Any
) -> tuple[int, int]:
    """Number one column; return how many words there are, and their bytes."""
    count, size, slots = 0, 0, np.uint64(len(table) - 1)
    for i in range(rows):
        s, e = starts[i], ends[i]
        if i > 0 and same_bytes(data, words, s, e, data, words, starts[i - 1], ends[i - 1]):
            ids[i] = ids[i - 1]
            continue
        h = hash_span(data, words, s, e, SEED, PRIME)
        slot = np.int64((h ^ (h >> np.uint64(29))) & slots)
        word = table[slot]
        while word >= 0:
            first = firsts[word]
            if marks[word] == h and same_bytes(data, words, s, e, data, words, starts[first], ends[first]):
                break
            slot = (slot + 1) & np.int64(slots)
            word = table[slot]
        if word < 0:
            word = np.int32(count)
            table[slot], firsts[count], marks[count] = word, i, h
            count += 1
            size += e - s
        ids[i] = word
    return count, size


def gather_words(data: Any, starts: Any, ends: Any, firsts: Any, blob: Any, offsets: Any) -> None:
    """Write the spans of the rows ``firsts`` one behind the other."""
    at = 0
    for word in range(len(firsts)):
        start = starts[firsts[word]]
        size = ends[firsts[word]] - start
        for k in range(size):
            blob[at + k] = data[start + k]
        at += size
        offsets[word + 1] = at


def request_marks(
    data: Any, words: Any, starts: Any, ends: Any, keys: Any, key_marks: Any, ops: Any, op_marks: Any, status: Any,
    sent: Any, out: Any,
) -> None:  # fmt: skip
    """Hash each request's id with its key, operation, status and bytes (as 64-bit numbers); 0 where it has no id."""
    for i in range(len(starts)):
        out[i] = np.uint64(0)
        if ends[i] - starts[i] > 1:
            h = hash_span(data, words, starts[i], ends[i], SEED, PRIME)
            h = stirred(stirred(h, key_marks[keys[i]]), op_marks[ops[i]])
            out[i] = max(stirred(stirred(h, status[i]), sent[i]), np.uint64(1))


def stirred(h: Any, part: Any) -> Any:
    """Stir one number more into a hash."""
    h = (h ^ part) * PRIME
    return h ^ (h >> np.uint64(31))


def intern_spans(
    data: Any, words: Any, starts: Any, ends: Any, hashes: Any, table: Any, marks: Any, blob: Any, blob_words: Any,
    offsets: Any, count: int, ids: Any,
) -> int:  # fmt: skip
    """Number the spans by open addressing; return the new count. ``table`` has a power of two slots, some free."""
    slots = np.uint64(len(table) - 1)
    for i in range(len(starts)):
        s, e, h = starts[i], ends[i], hashes[i]
        if i > 0 and h == hashes[i - 1] and same_bytes(data, words, s, e, data, words, starts[i - 1], ends[i - 1]):
            ids[i] = ids[i - 1]
            continue
        slot = np.int64((h ^ (h >> np.uint64(29))) & slots)
        while True:
            word = table[slot]
            if word < 0:
                table[slot] = count
                marks[count] = h
                at = offsets[count]
                for k in range(s, e):
                    blob[at + k - s] = data[k]
                offsets[count + 1] = at + e - s
                ids[i] = count
                count += 1
                break
            if marks[word] == h and same_bytes(data, words, s, e, blob, blob_words, offsets[word], offsets[word + 1]):
                ids[i] = word
                break
            slot = (slot + 1) & np.int64(slots)
    return count


def same_bytes(
    data: Any, words: Any, start: int, end: int, other: Any, other_words: Any, begin: int, stop: int
) -> bool:
    """Whether two spans hold the same bytes; the words are the same memories as 64-bit numbers."""
    size = end - start
    if size != stop - begin:
        return False
    at = 0
    if (end >> 3) + 1 < len(words) and (stop >> 3) + 1 < len(other_words):
        while at + 8 <= size:
            if word_at(words, start + at) != word_at(other_words, begin + at):
                return False
            at += 8
        if at == size:
            return True
        differ = word_at(words, start + at) ^ word_at(other_words, begin + at)
        return bool(differ & first_bytes(size - at) == _NONE)
    while at < size and data[start + at] == other[begin + at]:
        at += 1
    return at == size


def word_at(words: Any, pos: int) -> Any:
    """Return the eight bytes from ``pos`` on as a little-endian number; there must be a word after the first of them.

    Unsigned places need no look whether they count from the end.
    """
    at, shift = np.uint64(pos) >> _THREE, (np.uint64(pos) & _SEVEN) << _THREE
    return (words[at] >> shift) | ((words[at + _ONE] << _ONE) << (_SIXTY_THREE - shift))


def first_bytes(count: int) -> Any:
    """Return the mask of a word's first bytes, 1 to 7 of them."""
    return (_ONE << np.uint64(count << 3)) - _ONE


def place_marks(table: Any, marks: Any, count: int) -> None:
    """Fill an empty ``table`` with the words 0 to ``count - 1`` by their hashes."""
    slots = np.uint64(len(table) - 1)
    for word in range(count):
        h = marks[word]
        slot = np.int64((h ^ (h >> np.uint64(29))) & slots)
        while table[slot] >= 0:
            slot = (slot + 1) & np.int64(slots)
        table[slot] = word


def unquote_words(blob: Any, offsets: Any, encodings: int, is_path: bool, out: Any, out_offsets: Any) -> None:
    """Write each word decoded from URL encoding ``encodings`` times; of a path the leading slash is left out."""
    at = 0
    for word in range(len(offsets) - 1):
        begin = at
        start = offsets[word]
        if is_path and start < offsets[word + 1] and blob[start] == _SLASH:
            start += 1
        for k in range(start, offsets[word + 1]):
            out[at] = blob[k]
            at += 1
        for _ in range(encodings):
            at = unquote_once(out, begin, at)
        out_offsets[word + 1] = at


def unquote_once(data: Any, begin: int, end: int) -> int:
    """Decode ``data[begin:end]`` in place; return the new end. A percent sign without two hex digits stays."""
    to, pos = begin, begin
    while pos < end:
        value = data[pos]
        if value == _PERCENT and pos + 2 < end:
            high, low = hex_digit(data[pos + 1]), hex_digit(data[pos + 2])
            if high >= 0 and low >= 0:
                value = np.uint8(high * 16 + low)
                pos += 2
        data[to] = value
        to += 1
        pos += 1
    return to


def hex_digit(byte: int) -> int:
    """Return the value of a hexadecimal digit, -1 for another byte."""
    if 48 <= byte <= 57:
        return int(byte) - 48
    if 65 <= byte <= 70 or 97 <= byte <= 102:
        return (int(byte) | 32) - 87
    return -1


def prefix_words(blob: Any, offsets: Any, prefix: Any, out: Any) -> None:
    """Write each word after ``prefix`` into ``out``."""
    at = 0
    for word in range(len(offsets) - 1):
        for k in range(len(prefix)):
            out[at] = prefix[k]
            at += 1
        for k in range(offsets[word], offsets[word + 1]):
            out[at] = blob[k]
            at += 1


def fresh(marks: Any, table: Any, older: Any, out: Any) -> int:
    """Say which of ``marks`` are in neither table yet and put them into ``table``; return how many. 0 is never kept."""
    slots, old_slots = np.uint64(len(table) - 1), np.uint64(len(older) - 1)
    new = 0
    for i in range(len(marks)):  # the places are fetched side by side: looked at one by one, each would be waited for
        out[i] = table[slot_of(marks[i], slots)] != older[slot_of(marks[i], old_slots)]
    for i in range(len(marks)):
        h = marks[i]
        out[i] = True
        if h == _NONE:
            continue
        slot = slot_of(h, old_slots)
        while older[slot] != _NONE and older[slot] != h:
            slot = (slot + _ONE) & old_slots
        if older[slot] == h:
            out[i] = False
            continue
        slot = slot_of(h, slots)
        while table[slot] != _NONE and table[slot] != h:
            slot = (slot + _ONE) & slots
        if table[slot] == h:
            out[i] = False
        else:
            table[slot] = h
            new += 1
    return new


def slot_of(h: Any, slots: Any) -> Any:
    """Return where the search for a hash begins in a table of ``slots`` + 1 slots."""
    return (h ^ (h >> _THIRTY_ONE)) & slots


def as_words(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the same memory as 64-bit words, without the odd bytes at its end."""
    return data[: len(data) // 8 * 8].view(np.uint64)


@cache
def pick(*, compiled: bool) -> Kernels:
    """Return the functions, compiled or plain; compiling takes seconds the first time on a machine, then is cached."""
    make = partial(compile_kernel, lean=True) if compiled else _plain
    return Kernels(
        tokenise=make(tokenise),
        times=make(times),
        numbers=make(numbers),
        split_requests=make(split_requests),
        hash_spans=make(hash_spans),
        intern_spans=make(intern_spans),
        number_columns=make(number_columns),
        gather_words=make(gather_words),
        request_marks=make(request_marks),
        place_marks=make(place_marks),
        unquote_words=make(unquote_words),
        prefix_words=make(prefix_words),
        fresh=make(fresh),
    )


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
