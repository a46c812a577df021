"""Times, numbers and requests in spans of bytes: scalar loops, see `kernel`."""

from __future__ import annotations

from typing import Any

NOTHING, BAD, NEGATIVE = -1.0, -2.0, -3.0  # what `numbers` says of "-", of no number, of a number below zero

_SPACE, _DASH = 32, 45
_NAN = float("nan")
_MONTHS = tuple(
    int.from_bytes(name.encode(), "big")
    for name in ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)


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
