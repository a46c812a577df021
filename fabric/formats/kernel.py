"""Loops over bytes, written once: plain Python for small files, compiled by numba on first use for large ones.

Compiled and plain functions give the same results; nothing here uses floating-point beyond whole numbers and times in
seconds. Nothing is imported from numba before `pick` is asked for compiled functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.kernels import compiled as compile_kernel

BARE, BRACKET, QUOTED, REQUEST = 0, 1, 2, 3  # kinds of a field in a line of text
NOTHING, BAD, NEGATIVE = -1.0, -2.0, -3.0  # what `numbers` says of "-", of no number, of a number below zero

_NEWLINE, _RETURN, _SPACE, _QUOTE, _BACKSLASH, _CLOSE, _OPEN, _DASH, _DOT, _SLASH, _PERCENT = (
    10,
    13,
    32,
    34,
    92,
    93,
    91,
    45,
    46,
    47,
    37,
)
SEED, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_MASKS = (0x0101010101010101, 0x8080808080808080, 0x2222222222222222, 0x0A0A0A0A0A0A0A0A, 0x2121212121212121)
_NAN = float("nan")
_MONTHS = tuple(
    int.from_bytes(name.encode(), "big")
    for name in ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of this module, compiled or not, and the constants of the hash in their type."""

    tokenise: Callable[..., Any]
    times: Callable[..., Any]
    numbers: Callable[..., Any]
    split_requests: Callable[..., Any]
    hash_spans: Callable[..., Any]
    intern_spans: Callable[..., Any]
    place_marks: Callable[..., Any]
    unquote_words: Callable[..., Any]
    prefix_words: Callable[..., Any]
    fresh: Callable[..., Any]
    masks: NDArray[np.uint64]


def tokenise(
    data: Any, words: Any, size: int, kinds: Any, wanted: Any, least: int, tail_quotes: bool, escapes: bool,
    starts: Any, ends: Any, lines: Any, good: Any, masks: Any,
) -> int:  # fmt: skip
    """Cut ``data[:size]`` into lines and the first fields of each; return how many lines there were.

    A line is good when each field has the form of its kind, fields are one space apart, at least ``least`` are there,
    and what follows the last one holds no quote (or, with ``tail_quotes``, pairs of them). Others are left to the
    tolerant parser. Fields that a good line lacks are empty spans.

    Args:
        data: uint8 array; every line but the last ends with a newline.
        words: the same memory as little-endian uint64, without the odd bytes at its end.
        kinds: shape (fields,); BARE, BRACKET, QUOTED or REQUEST (quoted, "-" or ending in a protocol).
        wanted: shape (fields,); row of ``starts`` and ``ends`` that a field's span goes to, -1 for none.
        escapes: a backslash keeps the quote after it from ending a field.
        starts: shape (wanted fields, lines), filled; so are ``ends``, ``lines`` (lines + 1,) and ``good`` (lines,).
        masks: shape (5,) uint64: in every byte 0x01, 0x80, the quote, the newline, and the first that is no space.
    """
    pos, row = 0, 0
    while pos < size:
        lines[row] = pos
        field, pos, fine = cut_line(data, words, size, kinds, wanted, escapes, masks, row, starts, ends, pos)
        for missing in range(field, len(kinds)):
            if wanted[missing] >= 0:
                starts[wanted[missing], row] = pos
                ends[wanted[missing], row] = pos
        pos, quotes = skip_tail(data, words, size, masks, pos)
        good[row] = fine and field >= least and (quotes == 0 or (tail_quotes and quotes % 2 == 0))
        pos += 1
        row += 1
    lines[row] = min(pos, size)
    return row


def cut_line(
    data: Any, words: Any, size: int, kinds: Any, wanted: Any, escapes: bool, masks: Any, row: int, starts: Any,
    ends: Any, pos: int,
) -> tuple[int, int, bool]:  # fmt: skip
    """Cut the fields of the line at ``pos``; return how many there were, where it stopped, and if all were good."""
    field = 0
    while field < len(kinds):
        if pos >= size or data[pos] == _NEWLINE or data[pos] == _RETURN:
            return field, pos, True
        begin, end, after = field_at(data, words, size, kinds[field], escapes, masks, pos)
        if end < begin:
            return field, pos, False
        if wanted[field] >= 0:
            starts[wanted[field], row] = begin
            ends[wanted[field], row] = end
        field += 1
        pos = after
        if pos < size and data[pos] == _SPACE:
            pos += 1
        elif pos < size and data[pos] != _NEWLINE and data[pos] != _RETURN:
            return field, pos, False
    return field, pos, True


def field_at(data: Any, words: Any, size: int, kind: int, escapes: bool, masks: Any, pos: int) -> tuple[int, int, int]:
    """Return begin and end of the field at ``pos`` and where it is left; an end before its begin for a wrong form."""
    if kind >= QUOTED and data[pos] == _QUOTE:
        begin = pos + 1
        end = quote_or_newline(data, words, size, masks, begin)
        while escapes and end < size and data[end] == _QUOTE and data[end - 1] == _BACKSLASH:
            end = quote_or_newline(data, words, size, masks, end + 1)
        if end >= size or data[end] != _QUOTE or (kind == REQUEST and not has_protocol(data, begin, end)):
            return 1, 0, pos
        return begin, end, end + 1
    if kind == BRACKET and data[pos] == _OPEN:
        end = pos + 1
        while end < size and data[end] != _CLOSE and data[end] != _NEWLINE:
            end += 1
        if end >= size or data[end] != _CLOSE:
            return 1, 0, pos
        return pos + 1, end, end + 1
    end = bare_end(data, words, size, masks, pos)
    if end == pos or (end < size and data[end] == _QUOTE):
        return 1, 0, pos
    if kind != BARE and not (end == pos + 1 and data[pos] == _DASH):
        return 1, 0, pos
    return pos, end, end


def bare_end(data: Any, words: Any, size: int, masks: Any, pos: int) -> int:
    """Return where a bare field ends: at a space, a control character, a quote, or ``size``."""
    last_word = len(words) * 8
    while pos < size and data[pos] > _SPACE and data[pos] != _QUOTE:
        pos += 1
        if pos & 7 == 0:
            while pos < last_word:
                x = words[pos >> 3]
                y = x ^ masks[2]
                if (((x - masks[4]) & ~x) | ((y - masks[0]) & ~y)) & masks[1] != 0:
                    break
                pos += 8
    return pos


def quote_or_newline(data: Any, words: Any, size: int, masks: Any, pos: int) -> int:
    """Return where the next quote or newline is, or ``size``; eight bytes at a time where it can.

    Source: "find first zero byte", H. S. Warren, Hacker's Delight, 2nd edition, 6-1.
    """
    last_word = len(words) * 8
    while pos < size and data[pos] != _QUOTE and data[pos] != _NEWLINE:
        pos += 1
        if pos & 7 == 0:
            while pos < last_word:
                x, y = words[pos >> 3] ^ masks[2], words[pos >> 3] ^ masks[3]
                if (((x - masks[0]) & ~x) | ((y - masks[0]) & ~y)) & masks[1] != 0:
                    break
                pos += 8
    return pos


def skip_tail(data: Any, words: Any, size: int, masks: Any, pos: int) -> tuple[int, int]:
    """Return where the line at ``pos`` ends and how many quotes are left in it."""
    quotes = 0
    pos = quote_or_newline(data, words, size, masks, pos)
    while pos < size and data[pos] == _QUOTE:
        quotes += 1
        pos = quote_or_newline(data, words, size, masks, pos + 1)
    return pos, quotes


def has_protocol(data: Any, begin: int, end: int) -> bool:
    """Whether a request line is "-" or ends in HTTP/1.1 or HTTP/2."""
    if end - begin < 10:
        return end - begin == 1 and bool(data[begin] == _DASH)
    at = end - 8 if data[end - 2] == _DOT else end - 6
    return bool(data[at] == 72 and data[at + 1] == 84 and data[at + 3] == 80 and data[at + 4] == 47)


def times(data: Any, starts: Any, ends: Any, out: Any) -> int:
    """Read times like ``06/Apr/2022:03:05:53 +0330`` into UTC seconds; NaN where there is none. Return how many zones.

    The count stops at 2: it only says whether offsets are mixed.
    """
    zone_seen, zones = -1, 0
    for i in range(len(starts)):
        s = starts[i]
        out[i] = _NAN
        if ends[i] - s < 26 or not is_time(data, s):
            continue
        month = month_at(data, s + 3)
        day, year = two(data, s), two(data, s + 7) * 100 + two(data, s + 9)
        hour, minute, second = two(data, s + 12), two(data, s + 15), two(data, s + 18)
        zone = two(data, s + 22) * 60 + two(data, s + 24)
        if month < 1 or day < 1 or day > 31 or hour > 23 or minute > 59 or second > 60:
            continue
        if data[s + 21] == _DASH:
            zone = -zone
        if zone != zone_seen or zones == 0:
            zones = min(zones + 1, 2)
            zone_seen = zone
        out[i] = float(days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - zone * 60)
    return zones


def is_time(data: Any, s: int) -> bool:
    """Whether digits and separators of ``06/Apr/2022:03:05:53 +0330`` stand where they must."""
    if data[s + 2] != 47 or data[s + 6] != 47 or data[s + 11] != 58 or data[s + 20] != _SPACE:
        return False
    for k in (0, 1, 7, 8, 9, 10, 12, 13, 15, 16, 18, 19, 22, 23, 24, 25):
        if data[s + k] < 48 or data[s + k] > 57:
            return False
    return True


def two(data: Any, s: int) -> int:
    """Read two digits."""
    return (int(data[s]) - 48) * 10 + int(data[s + 1]) - 48


def month_at(data: Any, s: int) -> int:
    """Read an English month of three letters; 0 for anything else."""
    code = ((int(data[s]) | 32) << 16) | ((int(data[s + 1]) | 32) << 8) | (int(data[s + 2]) | 32)
    for month in range(12):
        if _MONTHS[month] == code:
            return month + 1
    return 0


def days_since_1970(year: int, month: int, day: int) -> int:
    """Count days of the Gregorian calendar. Source: H. Hinnant, "chrono-compatible low-level date algorithms"."""
    y = year - 1 if month <= 2 else year
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def numbers(data: Any, starts: Any, ends: Any, out: Any) -> None:
    """Read whole numbers; NOTHING for "-" and an empty span, NEGATIVE below zero, BAD for anything else."""
    for i in range(len(starts)):
        s, e = starts[i], ends[i]
        if e == s or (e == s + 1 and data[s] == _DASH):
            out[i] = NOTHING
            continue
        negative = data[s] == _DASH
        value, fine = 0, e - s <= 18
        for k in range(s + 1 if negative else s, e):
            if data[k] < 48 or data[k] > 57:
                fine = False
                break
            value = value * 10 + (int(data[k]) - 48)
        if not fine:
            out[i] = BAD
        else:
            out[i] = NEGATIVE if negative and value > 0 else float(value)


def split_requests(data: Any, starts: Any, ends: Any, method_ends: Any, path_starts: Any, path_ends: Any) -> None:
    """Find in ``GET /a/b?c HTTP/1.1`` the end of the method and the path without its query; empty where none is."""
    for i in range(len(starts)):
        pos, end = starts[i], ends[i]
        while pos < end and data[pos] != _SPACE:
            pos += 1
        method_ends[i] = pos
        pos = min(pos + 1, end)
        path_starts[i] = pos
        while pos < end and data[pos] != _SPACE and data[pos] != 63:
            pos += 1
        path_ends[i] = pos


def hash_spans(data: Any, words: Any, starts: Any, ends: Any, out: Any, prime: Any) -> None:
    """Stir each span into the 64-bit hash in ``out``, eight bytes at a time.

    Args:
        data: uint8 array; ``words`` the same memory as little-endian uint64, without the odd bytes at its end.
        prime: an odd number of 64 bits.
    """
    for i in range(len(starts)):
        pos, end, h = starts[i], ends[i], out[i] ^ np.uint64(ends[i] - starts[i])
        shift = np.uint64((pos & 7) * 8)
        while pos < end and (pos >> 3) + 1 < len(words):
            word = words[pos >> 3] >> shift
            if shift > np.uint64(0):
                word |= words[(pos >> 3) + 1] << (np.uint64(64) - shift)
            if end - pos < 8:
                word &= (np.uint64(1) << np.uint64((end - pos) * 8)) - np.uint64(1)
            h = (h ^ word) * prime
            h ^= h >> np.uint64(32)
            pos += 8
        while pos < end:  # too near the memory's end to read whole words
            word = np.uint64(0)
            for k in range(min(8, end - pos)):
                word |= np.uint64(data[pos + k]) << np.uint64(8 * k)
            h = (h ^ word) * prime
            h ^= h >> np.uint64(32)
            pos += 8
        out[i] = h * prime


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
    if end - start != stop - begin:
        return False
    at = 0
    if (end >> 3) + 1 < len(words) and (stop >> 3) + 1 < len(other_words):
        while at + 8 <= end - start:
            if word_at(words, start + at) != word_at(other_words, begin + at):
                return False
            at += 8
    while at < end - start and data[start + at] == other[begin + at]:
        at += 1
    return at == end - start


def word_at(words: Any, pos: int) -> Any:
    """Return the eight bytes from ``pos`` on as a little-endian number."""
    shift = np.uint64((pos & 7) * 8)
    if shift == np.uint64(0):
        return words[pos >> 3]
    return (words[pos >> 3] >> shift) | (words[(pos >> 3) + 1] << (np.uint64(64) - shift))


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
    slots, old_slots = len(table) - 1, len(older) - 1
    new = 0
    zero = table.dtype.type(0)
    for i in range(len(marks)):
        h = marks[i]
        out[i] = True
        if h == zero:
            continue
        slot = np.int64((h ^ (h >> np.uint64(31))) & np.uint64(old_slots))
        while older[slot] != zero and older[slot] != h:
            slot = (slot + 1) & old_slots
        if older[slot] == h:
            out[i] = False
            continue
        slot = np.int64((h ^ (h >> np.uint64(31))) & np.uint64(slots))
        while table[slot] != zero and table[slot] != h:
            slot = (slot + 1) & slots
        if table[slot] == h:
            out[i] = False
        else:
            table[slot] = h
            new += 1
    return new


def as_words(data: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the same memory as 64-bit words, without the odd bytes at its end."""
    return data[: len(data) // 8 * 8].view(np.uint64)


@cache
def pick(*, compiled: bool) -> Kernels:
    """Return the functions, compiled or plain; compiling takes seconds the first time on a machine, then is cached."""
    make: Callable[[Any], Callable[..., Any]] = compile_kernel if compiled else _plain
    return Kernels(
        tokenise=make(tokenise),
        times=make(times),
        numbers=make(numbers),
        split_requests=make(split_requests),
        hash_spans=make(hash_spans),
        intern_spans=make(intern_spans),
        place_marks=make(place_marks),
        unquote_words=make(unquote_words),
        prefix_words=make(prefix_words),
        fresh=make(fresh),
        masks=np.array(_MASKS, dtype=np.uint64),
    )


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return function
