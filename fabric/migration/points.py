"""The named moments at which a crash is tried. In production reaching one does nothing."""

from __future__ import annotations

from collections.abc import Callable

Reached = Callable[[str], None]

POINTS = (
    "job.recorded",  # the job exists, nothing else
    "pending.before",  # approved, or held up before anything was written
    "pending.after",
    "validating.before",
    "validating.after",
    "in_progress.before",
    "in_progress.after",
    "upload.begun",  # an upload exists at the target that no row names yet
    "part.sending",
    "part.put",  # a part lies at the target that no checkpoint names yet
    "part.saved",
    "upload.completing",
    "copy.put",  # the copy lies at the target, its tag is not recorded
    "class.changed",  # in place: the new class is in force, nothing recorded
    "paused.before",
    "paused.after",
    "verifying.before",
    "verifying.after",
    "shadow.put",  # the write test's object lies at the target
    "verified",
    "switch.before",
    "switch.done",  # the head points to the target, the job does not say so
    "completed.before",
    "completed.after",
    "failed.before",
    "failed.after",
    "rolling_back.before",
    "rolling_back.after",
    "switch_back.done",
    "copy.removed",  # roll-back removed the target copy, the job does not say so
    "rolled_back.before",
    "rolled_back.after",
    "reap.noted",
    "reap.unlisted",  # the head no longer lists the grace copy, its bytes still lie there
    "reap.deleted",
)


def nothing(_point: str) -> None:
    """Pass a point by."""
