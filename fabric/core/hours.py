"""Lines of a timetable of bandwidths: ``08:00-18:00 10MiB``."""

from __future__ import annotations

import re

import msgspec

from fabric.core.errors import ConfigError

MINUTES_PER_DAY = 1440
_LINE = re.compile(r"([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d) (?:off|([1-9]\d*)(B|KiB|MiB|GiB))")
_UNIT_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class BandwidthHours(msgspec.Struct, frozen=True):
    """Minutes of the UTC day, the end excluded; an end at or before the start lies a day later."""

    start: int
    end: int
    bytes_per_second: int | None  # None: no limit

    def hold(self, minute: int) -> bool:
        """Say whether the line holds at ``minute`` of the day."""
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def bandwidth_hours(line: str) -> BandwidthHours:
    """Read ``HH:MM-HH:MM RATE`` (B, KiB, MiB or GiB a second, or ``off``); ConfigError where it is none."""
    found = _LINE.fullmatch(line)
    start, end = (int(found[n]) * 60 + int(found[n + 1]) if found else MINUTES_PER_DAY + 1 for n in (1, 3))
    if found is None or start >= MINUTES_PER_DAY or end > MINUTES_PER_DAY:
        hint = 'write "08:00-18:00 10MiB" or "22:00-06:00 off"'
        raise ConfigError("a line of migration.bandwidth_timetable cannot be read", hint=hint, line=line)
    return BandwidthHours(start, end, int(found[5]) * _UNIT_BYTES[found[6]] if found[5] else None)
