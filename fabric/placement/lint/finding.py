"""Traps by name, and findings: one trap met in one rule, with its price where objects and reads are known."""

from __future__ import annotations

from typing import Literal

import msgspec

Severity = Literal["refused", "loses", "risk", "hint"]
ORDER: tuple[Severity, ...] = ("refused", "loses", "risk", "hint")

TRAPS: dict[str, str] = {
    "small_objects": "objects below the class's minimum billable size are billed as if they were larger",
    "small_managed": "the managed tier neither moves nor charges objects under 128 KiB: their transition fee is lost",
    "transition_fee": "the fee for moving an object is more than its storage ever saves",
    "minimum_duration": "the rule itself moves or deletes an object before the class's minimum duration is over",
    "soon_deleted": "objects are overwritten or deleted by their users before the class's minimum duration is over",
    "read_data": "the data is read after the move, and the reads cost more than the storage saves",
    "last_access_meant": "days are counted from the write where days since the last read would have cost less",
    "never_reached": "objects are deleted, or moved further, before the move comes due",
    "illegal_move": "the provider never makes this move: it goes up, or the classes do not follow each other",
    "too_early": "the provider refuses a move this soon",
    "overlap": "another rule takes the same objects first, so this action never happens to them",
    "never_matches": "the filter can match no object",
    "disabled": "the rule is switched off",
    "uploads_kept": "parts of uploads that were never completed are kept and billed for ever",
    "noncurrent_kept": "overwritten and deleted versions are kept and billed for ever",
    "only_markers": "in a bucket that keeps versions this expiration frees nothing: it adds delete markers",
    "archive_latency": "a read after the move waits hours for a restore",
    "expired_read": "objects are read after the rule has deleted them",
    "date_past": "the date has passed: the action comes due for every object at once, new ones included",
    "rise_without_reads": "the way back to hot at a read works only with a rule on the last read",
    "zero_days": "objects are moved on the day they are written: the write into the hot class is paid for nothing",
    "refused": "the provider does not accept this",
}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One trap in one rule; money is over the trace's days, more than without the trap."""

    trap: str
    severity: Severity
    rule: str  # "" where the whole document is meant
    path: str
    what: str
    correction: str
    why: str = ""
    usd: float | None = None  # None where no data is at hand, or the trap costs no money
    objects: int | None = None
    reads: int | None = None


def finding(
    trap: str, severity: Severity, what: str, correction: str, *, rule: str = "", path: str = "",
    usd: float | None = None, objects: int | None = None, reads: int | None = None,
) -> Finding:  # fmt: skip
    """Make a finding of a known trap."""
    return Finding(trap, severity, rule, path, what, correction, TRAPS[trap], usd, objects, reads)


def in_order(found: list[Finding]) -> list[Finding]:
    """Sort findings: what is refused first, then what loses most."""
    return sorted(found, key=lambda one: (ORDER.index(one.severity), -(one.usd or 0.0), one.path, one.trap))
