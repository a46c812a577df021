"""Object keys, asked for their beginnings and ends all at once, however many millions there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fabric.formats.words import Words

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys as byte strings end to end; key i is ``words[i]`` from byte ``skip`` on (a bucket's name is no part)."""

    words: Words
    skip: int = 0

    @staticmethod
    def of(keys: Iterable[str]) -> Keys:
        """Pack some keys."""
        return Keys(Words.of(key.encode("utf-8", "surrogateescape") for key in keys))

    def __len__(self) -> int:
        return len(self.words)

    def beginning(self, prefix: str) -> Mask:
        """Return which keys begin with ``prefix``."""
        return self._alike(prefix, self.words.offsets[:-1] + self.skip)

    def ending(self, suffix: str) -> Mask:
        """Return which keys end with ``suffix``."""
        return self._alike(suffix, self.words.offsets[1:] - len(suffix.encode("utf-8", "surrogateescape")))

    def _alike(self, text: str, start: NDArray[np.int64]) -> Mask:
        raw = text.encode("utf-8", "surrogateescape")
        found = np.asarray(
            (start >= self.words.offsets[:-1] + self.skip) & (start + len(raw) <= self.words.offsets[1:])
        )
        for place, byte in enumerate(raw):
            at = np.flatnonzero(found)
            found[at] = self.words.blob[start[at] + place] == byte
        return found
