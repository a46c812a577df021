"""Object keys, asked for their beginnings and ends all at once, however many millions there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fabric.formats.words import Words

Mask = NDArray[np.bool_]
REMEMBERED_MOST = 128  # prefixes and suffixes, a bit a key each


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys as byte strings end to end; key i is ``words[i]`` from byte ``skip`` on (a bucket's name is no part)."""

    words: Words
    skip: int = 0
    _known: dict[tuple[str, bool], NDArray[np.uint8]] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def of(keys: Iterable[str]) -> Keys:
        """Pack some keys."""
        return Keys(Words.of(key.encode("utf-8", "surrogateescape") for key in keys))

    def __len__(self) -> int:
        return len(self.words)

    def beginning(self, prefix: str) -> Mask:
        """Return which keys begin with ``prefix``."""
        return self._remembered(prefix, self.words.offsets[:-1] + self.skip, ends=False)

    def ending(self, suffix: str) -> Mask:
        """Return which keys end with ``suffix``."""
        start = self.words.offsets[1:] - len(suffix.encode("utf-8", "surrogateescape"))
        return self._remembered(suffix, start, ends=True)

    def _remembered(self, text: str, start: NDArray[np.int64], *, ends: bool) -> Mask:
        """Return what `_alike` does, remembered as bits: a correction asks for the same few prefixes over and over."""
        packed = self._known.get((text, ends))
        if packed is not None:
            return np.unpackbits(packed, count=len(self)).view(np.bool_)
        found = self._alike(text, start)
        if len(self._known) >= REMEMBERED_MOST:
            self._known.pop(next(iter(self._known)))
        self._known[text, ends] = np.packbits(found)
        return found

    def _alike(self, text: str, start: NDArray[np.int64]) -> Mask:
        raw = text.encode("utf-8", "surrogateescape")
        found = np.asarray(
            (start >= self.words.offsets[:-1] + self.skip) & (start + len(raw) <= self.words.offsets[1:])
        )
        for place, byte in enumerate(raw):
            at = np.flatnonzero(found)
            found[at] = self.words.blob[start[at] + place] == byte
        return found
