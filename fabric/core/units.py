"""Sizes, durations and money as people write them."""

from __future__ import annotations

import re

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
DAYS_PER_MONTH = 30.0

_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"k": KIB, "m": MIB, "g": GIB, "t": TIB, "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def _split(text: str, units: dict[str, float] | dict[str, int], what: str) -> float:
    match = _NUMBER_UNIT.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"{text!r} is not a {what}; write for example {'10GiB' if what == 'size' else '7d'}")
    return float(match[1]) * units[match[2].lower()]


def parse_size(text: str) -> int:
    """Return bytes from ``"10GiB"``, ``"64k"`` (binary) or ``"1.5GB"`` (decimal); ValueError otherwise."""
    return int(_split(text, _SIZES, "size"))


def parse_duration(text: str) -> float:
    """Return seconds from ``"250ms"``, ``"10s"``, ``"4m"``, ``"1h"`` or ``"7d"``; ValueError otherwise."""
    units = dict(_SECONDS)
    if _NUMBER_UNIT.fullmatch(text) and text.strip()[-1:].isdigit():
        raise ValueError(f"{text!r} has no unit; write for example 7d")
    return _split(text, units, "duration")


def format_size(size_bytes: float) -> str:
    """Return bytes for people, in binary units: ``1.5 GiB``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def format_usd(amount: float) -> str:
    """Return dollars with the cents that matter: two decimals from one dollar up, else up to six."""
    if amount == 0:
        return "$0.00"
    if abs(amount) >= 1:
        return f"${amount:,.2f}"
    text = f"${amount:.6f}".rstrip("0")
    return text if not text.endswith(".") else "$0.00"
