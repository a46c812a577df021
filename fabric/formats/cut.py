"""Cutting blocks of text into lines and fields: scalar loops over 64-bit words, see `kernel`."""

from __future__ import annotations

from typing import Any

import numpy as np

BARE, BRACKET, QUOTED, REQUEST = 0, 1, 2, 3  # kinds of a field in a line of text

_NEWLINE, _RETURN, _SPACE, _QUOTE, _BACKSLASH = 10, 13, 32, 34, 92
_OPEN, _CLOSE, _DASH, _DOT, _SLASH = 91, 93, 45, 46, 47
_HIGHS, _LOWS = np.uint64(0x8080808080808080), np.uint64(0x7F7F7F7F7F7F7F7F)
_QUOTES, _NEWLINES = np.uint64(0x2222222222222222), np.uint64(0x0A0A0A0A0A0A0A0A)
_CLOSES = np.uint64(0x5D5D5D5D5D5D5D5D)
_ABOVE_SPACE = np.uint64(0x5F5F5F5F5F5F5F5F)  # what takes a byte above the space, 0x21 and more, to its high bit
_PLACES = np.uint64(0x0001020304050607)  # times 256 to the k: k in the highest byte
_NONE, _ONE, _SEVEN, _FIFTY_SIX = np.uint64(0), np.uint64(1), np.uint64(7), np.uint64(56)


def tail_word(block: bytes) -> np.uint64:
    """Return the odd bytes at a block's end as a 64-bit word, filled up with newlines."""
    return np.uint64(int.from_bytes(block[len(block) // 8 * 8 :].ljust(8, b"\n"), "little"))


def next_stop(words: Any, tail: Any, pos: int) -> Any:
    """Return where the first quote or byte up to the space is from ``pos`` on; past the last word, in its padding.

    Args:
        words: the memory as little-endian uint64, without the odd bytes at its end.
        tail: those, filled up with newlines.
    """
    at, last = pos >> 3, len(words)
    if at >= last:
        return pos + first_byte(stops_of(tail) >> np.uint64((pos & 7) << 3))
    found = stops_of(words[np.uint64(at)]) >> np.uint64((pos & 7) << 3)
    if found != _NONE:
        return pos + first_byte(found)
    at += 1
    while at < last:
        found = stops_of(words[np.uint64(at)])
        if found != _NONE:
            return (at << 3) + first_byte(found)
        at += 1
    return (at << 3) + first_byte(stops_of(tail))


def next_end(words: Any, tail: Any, pos: int) -> Any:
    """Return where the next quote or newline is from ``pos`` on; as `next_stop`."""
    at, last = pos >> 3, len(words)
    if at >= last:
        return pos + first_byte(ends_of(tail) >> np.uint64((pos & 7) << 3))
    found = ends_of(words[np.uint64(at)]) >> np.uint64((pos & 7) << 3)
    if found != _NONE:
        return pos + first_byte(found)
    at += 1
    while at < last:
        found = ends_of(words[np.uint64(at)])
        if found != _NONE:
            return (at << 3) + first_byte(found)
        at += 1
    return (at << 3) + first_byte(ends_of(tail))


def next_close(words: Any, tail: Any, pos: int) -> Any:
    """Return where the next closing bracket or newline is from ``pos`` on; as `next_stop`."""
    at, last = pos >> 3, len(words)
    found = closes_of(words[np.uint64(at)] if at < last else tail) >> np.uint64((pos & 7) << 3)
    if found != _NONE:
        return pos + first_byte(found)
    while found == _NONE and at < last:
        at += 1
        found = closes_of(words[np.uint64(at)] if at < last else tail)
    return (at << 3) + first_byte(found)


def stops_of(word: Any) -> Any:
    """Mark by its high bit every byte of a word that is a quote or no more than the space, and no other.

    Source: exact tests of bytes in a word, H. S. Warren, Hacker's Delight, 2nd edition, 6-1.
    """
    quote = word ^ _QUOTES
    return (~(((quote & _LOWS) + _LOWS) | quote) | ~(((word & _LOWS) + _ABOVE_SPACE) | word)) & _HIGHS


def ends_of(word: Any) -> Any:
    """Mark by its high bit every byte of a word that is a quote or a newline, and no other."""
    quote, newline = word ^ _QUOTES, word ^ _NEWLINES
    return (~(((quote & _LOWS) + _LOWS) | quote) | ~(((newline & _LOWS) + _LOWS) | newline)) & _HIGHS


def closes_of(word: Any) -> Any:
    """Mark by its high bit every byte of a word that is a closing bracket or a newline, and no other."""
    close, newline = word ^ _CLOSES, word ^ _NEWLINES
    return (~(((close & _LOWS) + _LOWS) | close) | ~(((newline & _LOWS) + _LOWS) | newline)) & _HIGHS


def first_byte(found: Any) -> Any:
    """Return which byte of a word of marks is the first marked one, 0 to 7."""
    return np.int64((((found & (~found + _ONE)) >> _SEVEN) * _PLACES) >> _FIFTY_SIX)


def tokenise(
    data: Any, words: Any, tail: Any, size: int, kinds: Any, wanted: Any, least: int, tail_quotes: bool,
    escapes: bool, starts: Any, ends: Any, lines: Any, good: Any,
) -> int:  # fmt: skip
    """Cut ``data[:size]`` into lines and the first fields of each; return how many there were, -1 for too many.

    A line is good when each field has the form of its kind, fields are one space apart, at least ``least`` are there,
    and what follows the last one holds no quote (or, with ``tail_quotes``, pairs of them). Others are left to the
    tolerant parser. Fields that a good line lacks are empty spans.

    Args:
        data: uint8 array; every line but the last ends with a newline.
        words: the same memory as little-endian uint64, without the odd bytes at its end; ``tail``: those, filled up
            with newlines.
        kinds: shape (fields,); BARE, BRACKET, QUOTED or REQUEST (quoted, "-" or ending in a protocol).
        wanted: shape (fields,); row of ``starts`` and ``ends`` that a field's span goes to, -1 for none.
        escapes: a backslash keeps the quote after it from ending a field.
        starts: shape (wanted fields, lines), filled; so are ``ends``, ``lines`` (lines + 1,) and ``good`` (lines,).
    """
    pos, row = 0, 0
    while pos < size:
        if row == len(good):
            return -1
        lines[row] = pos
        field, pos, fine = cut_line(data, words, tail, size, kinds, wanted, escapes, row, starts, ends, pos)
        for missing in range(field, len(kinds)):
            if wanted[missing] >= 0:
                starts[wanted[missing], row] = pos
                ends[wanted[missing], row] = pos
        pos, left = skip_tail(data, words, tail, size, pos)
        good[row] = fine and field >= least and (left == 0 or (tail_quotes and left % 2 == 0))
        pos += 1
        row += 1
    lines[row] = min(pos, size)
    return row


def cut_line(
    data: Any, words: Any, tail: Any, size: int, kinds: Any, wanted: Any, escapes: bool, row: int, starts: Any,
    ends: Any, pos: int,
) -> tuple[int, int, bool]:  # fmt: skip
    """Cut the fields of the line at ``pos``; return how many there were, where it stopped, and if all were good."""
    field = 0
    while field < len(kinds):
        if pos >= size or data[pos] == _NEWLINE or data[pos] == _RETURN:
            return field, pos, True
        begin, end, after = field_at(data, words, tail, size, kinds[field], escapes, pos)
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


def field_at(data: Any, words: Any, tail: Any, size: int, kind: int, escapes: bool, pos: int) -> tuple[int, int, int]:
    """Return begin and end of the field at ``pos`` and where it is left; an end before its begin for a wrong form."""
    if kind >= QUOTED and data[pos] == _QUOTE:
        begin = pos + 1
        end = next_end(words, tail, begin)
        while escapes and end < size and data[end] == _QUOTE and data[end - 1] == _BACKSLASH:
            end = next_end(words, tail, end + 1)
        if end >= size or data[end] != _QUOTE or (kind == REQUEST and not has_protocol(data, begin, end)):
            return 1, 0, pos
        return begin, end, end + 1
    if kind == BRACKET and data[pos] == _OPEN:
        end = next_close(words, tail, pos + 1)
        if end >= size or data[end] != _CLOSE:
            return 1, 0, pos
        return pos + 1, end, end + 1
    end = min(next_stop(words, tail, pos), size)
    if end == pos or (end < size and data[end] == _QUOTE):
        return 1, 0, pos
    if kind != BARE and not (end == pos + 1 and data[pos] == _DASH):
        return 1, 0, pos
    return pos, end, end


def skip_tail(data: Any, words: Any, tail: Any, size: int, pos: int) -> tuple[int, int]:
    """Return where the line at ``pos`` ends and how many quotes are left in it."""
    left = 0
    pos = min(next_end(words, tail, pos), size)
    while pos < size and data[pos] == _QUOTE:
        left += 1
        pos = min(next_end(words, tail, pos + 1), size)
    return pos, left


def has_protocol(data: Any, begin: int, end: int) -> bool:
    """Whether a request line is "-" or ends in HTTP/1.1 or HTTP/2."""
    if end - begin < 10:
        return end - begin == 1 and bool(data[begin] == _DASH)
    at = end - 8 if data[end - 2] == _DOT else end - 6
    return bool(data[at] == 72 and data[at + 1] == 84 and data[at + 3] == 80 and data[at + 4] == _SLASH)
