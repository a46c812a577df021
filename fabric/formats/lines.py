"""Logs of one access a line: whole blocks by the compiled kernel, lines of another form by the tolerant parser."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from fabric.formats import kernel
from fabric.formats.access import OP_NAMES, UNKNOWN, Accesses, Account, Op, blank_words
from fabric.formats.cut import tail_word
from fabric.formats.figures import BAD, NEGATIVE, NOTHING
from fabric.formats.mapping import LineMapping
from fabric.formats.words import Interner, Spans, Words, marks_of

_USED = ("time", "bucket", "key", "request", "operation", "source", "requester", "request_id", "status", "bytes",
         "object_size", "agent")  # fmt: skip
_WORDS = ("operation", "key", "bucket", "requester", "agent", "source")
LINE_BYTES_USUAL = 96  # logs whose lines are shorter have them counted first
TOLERATED_BYTES = 64 << 10  # a longer line is not given to the tolerant parser: no server writes one
_FIGURES = ("time", "object_size", "bytes", "status")
_PERCENT, _SLASH = 37, 47
_STIR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which file each part of a block is of: ``names[i]`` from ``starts[i]`` on."""

    starts: tuple[int, ...]
    names: tuple[str, ...]

    def name(self, at: int) -> str:
        return self.names[bisect_right(self.starts, at) - 1]


@dataclass(slots=True)
class _Cut:
    """A block cut into fields: spans by name, and which rows still need a parser."""

    starts: NDArray[np.int64]  # (fields, >= rows)
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]  # (rows + 1,)
    good: NDArray[np.bool_]
    figures: dict[str, NDArray[np.float64]] = field(default_factory=dict)  # name -> (rows,)

    @property
    def rows(self) -> int:
        return len(self.good)


@dataclass(frozen=True, slots=True)
class _Coded:
    """A column as numbers of words; ``marks`` are the words' hashes."""

    ids: NDArray[np.int32]
    words: Words
    marks: NDArray[np.uint64]


class LineReader:
    """Reads blocks of one line format into columns. Not safe from two threads.

    Attributes:
        account: what became of the lines; may be another for each block.
        row_starts: where in the last block each row began.
    """

    def __init__(self, mapping: LineMapping, account: Account, *, compiled: bool = False) -> None:
        self._mapping = mapping
        self.account = account
        self._compiled = compiled
        self._kernels = kernel.pick(compiled=compiled)
        self._pattern = mapping.pattern
        self._names = [name for name in _USED if name in mapping.names]
        self._kinds = np.array(mapping.kinds, dtype=np.int64)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._wanted = np.array([self._places.get(name, -1) for name in mapping.names], dtype=np.int64)
        self._derived = [name for name in ("operation", "key") if name not in self._places]
        self._places |= {name: len(self._names) + i for i, name in enumerate(self._derived)}
        self._coding = {name: self._places[name] for name in _WORDS if name in self._places}
        self._ids = "request_id" in self._places
        self.row_starts: Spans = np.zeros(0, dtype=np.int64)

    def read(self, block: bytes, source: str | Pieces) -> Accesses:
        """Return the accesses of a block of whole lines; the account says what became of every other line.

        ``row_starts`` then says where in the block each of them began.
        """
        cut = self._cut(block) if self._compiled else self._cut_plain(block)
        data: Any = np.frombuffer(block, dtype=np.uint8) if self._compiled else block
        self.account.read += cut.rows
        self._second_look(block, data, cut)
        keep = self._settle(block, cut, source if isinstance(source, Pieces) else Pieces((0,), (source,)))
        self.row_starts = cut.lines[:-1][keep]
        return self._columns(data, cut, keep)

    def _cut(self, block: bytes) -> _Cut:
        cut = self._tokenised(block, len(block) // LINE_BYTES_USUAL + 1)
        return cut or self._tokenised(block, block.count(b"\n") + 1) or _blank_cut(len(self._names), 0)

    def _tokenised(self, block: bytes, most: int) -> _Cut | None:
        """Cut a block of at most ``most`` lines; None where there are more."""
        data = np.frombuffer(block, dtype=np.uint8)
        cut = _blank_cut(len(self._names), most)
        mapping, words, tail = self._mapping, kernel.as_words(data), tail_word(block)
        rows = self._kernels.tokenise(
            data, words, tail, len(data), self._kinds, self._wanted, mapping.least, mapping.tail_quotes,
            mapping.escapes, cut.starts, cut.ends, cut.lines, cut.good,
        )  # fmt: skip
        return None if rows < 0 else _Cut(cut.starts, cut.ends, cut.lines[: rows + 1], cut.good[:rows])

    def _cut_plain(self, block: bytes) -> _Cut:
        lines = block.splitlines(keepends=True) if b"\r" not in block else block.replace(b"\r", b" ").splitlines(True)
        cut = _blank_cut(len(self._names), len(lines))
        cut.lines[0], cut.lines[1:] = 0, np.cumsum([len(line) for line in lines])
        cut.good[:] = False
        return cut

    def _second_look(self, block: bytes, data: Any, cut: _Cut) -> None:
        """Give lines that are not good, or whose figures do not make sense, to the tolerant parser."""
        cut.figures = {name: np.full(cut.rows, NOTHING) for name in _FIGURES}
        if cut.good.any():
            self._measure(data, cut, np.flatnonzero(cut.good))
            for name in _FIGURES:
                cut.good &= cut.figures[name] != BAD
        bad = np.flatnonzero(~cut.good)
        for row in bad.tolist():
            self._parse(block, cut, row)
        if len(bad):
            self._measure(data, cut, bad[cut.good[bad]])

    def _measure(self, data: Any, cut: _Cut, rows: NDArray[np.int64]) -> None:
        """Read the figures of ``rows``: NOTHING where the line or the format has none, BAD where it is no number."""
        for name in _FIGURES:
            if name not in self._names:
                continue
            out = np.empty(len(rows))
            starts, ends = self._spans(cut, name, rows)
            if name != "time":
                self._kernels.numbers(data, starts, ends, out)
            elif self._kernels.times(data, starts, ends, out) > 1:
                self.account.assume("the log's times are in several time zones; each was read with its own offset")
            cut.figures[name][rows] = np.where(np.isnan(out), BAD, out) if name == "time" else out

    def _parse(self, block: bytes, cut: _Cut, row: int) -> None:
        begin, end = int(cut.lines[row]), int(cut.lines[row + 1])
        found = self._pattern.match(block[begin:end].rstrip(b"\r\n")) if end - begin <= TOLERATED_BYTES else None
        if found is None:
            return
        for place, name in enumerate(self._names):
            start, end = found.span(name)
            cut.starts[place, row], cut.ends[place, row] = (begin + start, begin + end) if start >= 0 else (0, 0)
        cut.good[row] = True

    def _spans(self, cut: _Cut, name: str, rows: NDArray[np.int64]) -> tuple[Spans, Spans]:
        place = self._places[name]
        if len(rows) == cut.rows:
            return cut.starts[place, : cut.rows], cut.ends[place, : cut.rows]
        return cut.starts[place][rows], cut.ends[place][rows]

    def _settle(self, block: bytes, cut: _Cut, source: Pieces) -> NDArray[np.int64]:
        """Return the rows that are accesses; count blank lines and reject the others by reason."""
        time, size, sent, status = (cut.figures[name] for name in _FIGURES)
        reasons = np.zeros(cut.rows, dtype=np.int8)
        reasons[(sent == BAD) | (size == BAD) | (status == BAD)] = 2
        reasons[(sent == NEGATIVE) | (size == NEGATIVE)] = 3
        reasons[time == BAD] = 4
        reasons[~cut.good] = 1
        for row in np.flatnonzero(reasons).tolist():
            line = block[int(cut.lines[row]) : int(cut.lines[row + 1])].rstrip(b"\r\n")
            if line.strip():
                self.account.reject(self._reason(int(reasons[row])), source.name(int(cut.lines[row])), line)
            else:
                self.account.blank += 1
        return np.flatnonzero(reasons == 0)

    def _reason(self, number: int) -> str:
        return {
            1: f"not a line of a {self._mapping.title}",
            2: "a figure is no number",
            3: "a size is negative",
            4: "the time cannot be read",
        }[number]

    def _columns(self, data: Any, cut: _Cut, rows: NDArray[np.int64]) -> Accesses:
        figure = cut.figures if len(rows) == cut.rows else {name: cut.figures[name][rows] for name in _FIGURES}
        starts, ends = self._kept_spans(data, cut, rows)
        coded = self._coded(data, starts, ends, len(rows))
        op, once = self._operations(coded["operation"])
        key, keys = self._keys(coded, once)
        request = self._requests(data, self._spans(cut, "request_id", rows), coded, figure) if self._ids else None
        who, agent, source = (coded[name] for name in ("requester", "agent", "source"))
        return Accesses(
            figure["time"], np.where(op == Op.LIST, np.int32(-1), key), op, np.ones(len(rows), dtype=np.int64),
            np.maximum(figure["bytes"], UNKNOWN), np.maximum(figure["object_size"], UNKNOWN),
            np.maximum(figure["status"], 0).astype(np.int16), who.ids, agent.ids, source.ids,
            np.zeros(len(rows), dtype=np.uint64) if request is None else request,
            keys, who.words, agent.words, source.words,
        )  # fmt: skip

    def _kept_spans(self, data: Any, cut: _Cut, rows: NDArray[np.int64]) -> tuple[Spans, Spans]:
        """Return the spans of ``rows``, shape (fields, >= rows); those derived from the request come last."""
        every = len(rows) == cut.rows
        starts, ends = (cut.starts, cut.ends) if every else (cut.starts[:, rows], cut.ends[:, rows])
        if not self._derived:
            return starts, ends
        begin, end = (spans[self._places["request"], : len(rows)] for spans in (starts, ends))
        method, path_start, path_end = (np.empty(len(rows), dtype=np.int64) for _ in range(3))
        self._kernels.split_requests(data, begin, end, method, path_start, path_end)
        parts = {"operation": (begin, method), "key": (path_start, path_end)}
        more = [parts[name] for name in self._derived]
        both = (
            np.vstack([spans[:, : len(rows)], *(part[i] for part in more)]) for i, spans in enumerate((starts, ends))
        )
        return next(both), next(both)

    def _coded(self, data: Any, starts: Spans, ends: Spans, rows: int) -> dict[str, _Coded]:
        """Number the words of every column; a column that the format does not have holds nothing."""
        blank = blank_words(rows)
        coded = dict.fromkeys(_WORDS, _Coded(*blank, np.zeros(1, dtype=np.uint64)))
        if not self._compiled:
            for name, place in self._coding.items():
                interner = Interner()
                ids = interner.add(data, starts[place, :rows], ends[place, :rows])
                coded[name] = _Coded(ids, interner.words(), interner.marks())
            return coded
        chosen = np.array(list(self._coding.values()), dtype=np.int64)
        shape = len(chosen), rows
        ids, firsts = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int64)
        marks = np.empty(shape, dtype=np.uint64)
        sums = np.empty((len(chosen), 2), dtype=np.int64)
        table = np.empty(max(16, 1 << (rows * 2).bit_length()), dtype=np.int32)
        self._kernels.number_columns(
            data, kernel.as_words(data), starts, ends, rows, chosen, table, firsts, marks, ids, sums
        )
        for column, (name, place) in enumerate(self._coding.items()):
            count, size = sums[column].tolist()
            words = Words(np.empty(size, dtype=np.uint8), np.zeros(count + 1, dtype=np.int64))
            self._kernels.gather_words(
                data, starts[place], ends[place], firsts[column, :count], words.blob, words.offsets
            )
            coded[name] = _Coded(ids[column], words, marks[column, :count])
        return coded

    def _operations(self, coded: _Coded) -> tuple[Any, NDArray[np.bool_]]:
        """Return for each row its `Op`, and whether keys are encoded once with it."""
        names = [coded.words.text(i) for i in range(len(coded.words))]
        for name, times in zip(names, np.bincount(coded.ids, minlength=len(names)).tolist(), strict=True):
            self.account.operated(name, times)
        table = np.array([OP_NAMES[self._mapping.operations.get(name, "other")] for name in names], dtype=np.uint8)
        once = np.array([name.startswith(tuple(self._mapping.encoded_once)) for name in names], dtype=np.bool_)
        return table[coded.ids], once[coded.ids] if once.any() else np.zeros(len(coded.ids), dtype=np.bool_)

    def _keys(self, coded: dict[str, _Coded], once: NDArray[np.bool_]) -> tuple[NDArray[np.int32], Words]:
        """Return for each row the number of its decoded name, and the names."""
        key, bucket = coded["key"], coded["bucket"]
        short = np.flatnonzero(np.diff(key.words.offsets) <= 1).tolist()
        absent = [i for i in short if key.words[i] in (b"", b"-")]
        buckets = bucket.ids, bucket.words
        named, names = decoded(key.ids, key.words, once, self._mapping, buckets, compiled=self._compiled)
        return (np.where(np.isin(key.ids, absent), np.int32(-1), named) if absent else named), names

    def _requests(
        self, data: Any, spans: tuple[Spans, Spans], coded: dict[str, _Coded], figure: dict[str, Any]
    ) -> NDArray[np.uint64]:
        """Return the marks of the requests, 0 where the line has no id."""
        (starts, ends), key, op = spans, coded["key"], coded["operation"]
        numbers = figure["status"].view(np.uint64), figure["bytes"].view(np.uint64)
        if self._compiled:
            marks = np.empty(len(starts), dtype=np.uint64)
            words = kernel.as_words(data)
            self._kernels.request_marks(
                data, words, starts, ends, key.ids, key.marks, op.ids, op.marks, *numbers, marks
            )
            return marks
        marks = marks_of(data[s:e] for s, e in zip(starts.tolist(), ends.tolist(), strict=True))
        for part in (key.marks[key.ids], op.marks[op.ids], *numbers):
            marks = (marks ^ part) * _STIR
            marks ^= marks >> np.uint64(31)
        return np.where(ends - starts > 1, np.maximum(marks, np.uint64(1)), np.uint64(0))


def _blank_cut(fields: int, rows: int) -> _Cut:
    return _Cut(
        np.empty((fields, rows), dtype=np.int64),
        np.empty((fields, rows), dtype=np.int64),
        np.empty(rows + 1, dtype=np.int64),
        np.empty(rows, dtype=np.bool_),
    )


def decoded(
    ids: NDArray[np.int32], words: Words, once: NDArray[np.bool_], mapping: LineMapping,
    buckets: tuple[NDArray[np.int32], Words], *, compiled: bool = False,
) -> tuple[NDArray[np.int32], Words]:  # fmt: skip
    """Turn words of a log into names of objects: ``bucket/key``, decoded as often as the format encodes.

    Args:
        ids: shape (rows,), index into ``words``.
        once: shape (rows,), rows whose key is encoded only once.
    """
    bucket_ids, bucket_words = buckets
    prefixes = [word + b"/" if word not in (b"", b"-") else b"" for word in bucket_words.tolist()]
    is_path = "key" not in mapping.names
    if len(prefixes) == 1 and not is_path and not (words.blob == _PERCENT).any():
        return ids, words.prefixed(prefixes[0], compiled=compiled)
    special = np.zeros(len(ids), dtype=np.bool_)
    if mapping.key_encodings > 1 and once.any():
        special = once & words.holding(_PERCENT)[ids]
    absolute = is_path and bool((words.firsts() != _SLASH).any())
    if compiled and len(prefixes) == 1 and not special.any() and not absolute:
        return _decoded_fast(ids, words, mapping.key_encodings, prefixes[0], is_path=is_path)
    raw = words.tolist()
    pair = (ids.astype(np.int64) * 2 + special) * len(prefixes) + bucket_ids
    distinct, back = np.unique(pair, return_inverse=True)
    names = Interner()
    made = []
    for number in distinct.tolist():
        rest, bucket = divmod(number, len(prefixes))
        encodings = 1 if rest % 2 else mapping.key_encodings
        made.append(prefixes[bucket] + name_of(raw[rest // 2], encodings, is_path=is_path))
    return names.add_words(Words.of(made))[back], names.words()


def _decoded_fast(
    ids: NDArray[np.int32], words: Words, encodings: int, prefix: bytes, *, is_path: bool
) -> tuple[NDArray[np.int32], Words]:
    """Decode all words by the compiled kernel; two that come out the same become one."""
    blob, offsets = np.empty(len(words.blob), dtype=np.uint8), np.zeros(len(words) + 1, dtype=np.int64)
    kernel.pick(compiled=True).unquote_words(words.blob, words.offsets, encodings, is_path, blob, offsets)
    names = Interner(compiled=True)
    numbers = names.add_words(Words(blob[: offsets[-1]], offsets))
    return numbers[ids], names.words(share=True).prefixed(prefix, compiled=True)


def name_of(word: bytes, encodings: int, *, is_path: bool) -> bytes:
    """Return the bytes of an object's name from what a log holds: a key, or the path of a request."""
    if is_path:
        if word.startswith((b"http://", b"https://")):
            word = word.split(b"/", 3)[3] if word.count(b"/") > 2 else b""
        word = word.removeprefix(b"/")
    for _ in range(encodings):
        if b"%" not in word:
            break
        word = unquote_to_bytes(word)
    return word
