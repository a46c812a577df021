"""Ids that sort by the time they were made: 48 bits of milliseconds and 80 random bits, in Crockford base 32."""

from __future__ import annotations

import secrets
import threading

STEP_BITS = 40  # random: how far an id is from the one before it in the same millisecond

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 26


class _Last:
    """The number of the last id that this process made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = -1

    def after(self, millisecond: int) -> int:
        with self._lock:
            if millisecond == self._number >> 80:
                self._number += 1 + secrets.randbits(STEP_BITS)
            else:
                self._number = (millisecond << 80) | secrets.randbits(79)  # room above it for the millisecond's others
            return self._number


_LAST = _Last()


def new_id(now: float) -> str:
    """Return a fresh 26-character id; those that one process makes in one millisecond sort as they were made.

    Args:
        now: UTC seconds, from the clock in use.
    """
    number = _LAST.after(int(now * 1000))
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of an id."""
    return len(text) == ID_LENGTH and all(letter in _ALPHABET for letter in text)
