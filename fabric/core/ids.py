"""Ids that sort by the time they were made: 48 bits of milliseconds and 80 random bits, in Crockford base 32."""

from __future__ import annotations

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH = 26


def new_id(now: float) -> str:
    """Return a fresh 26-character id; two made in one millisecond differ, in no order.

    Args:
        now: UTC seconds, from the clock in use.
    """
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of an id."""
    return len(text) == ID_LENGTH and all(letter in _ALPHABET for letter in text)
