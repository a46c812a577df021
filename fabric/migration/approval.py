"""Who may let a job that waits for an approval start.

Four eyes are asked of a high-risk job once two people may approve. The first two eyes are those of the person who
ordered the move; where nobody did (placement's moves are carried out by themselves), those of a first approver.
The person at this machine is nobody here: whoever has a shell may hold a named token too, and would be both.
"""

from __future__ import annotations

from fabric.catalog.jobs import Job
from fabric.core.errors import ConflictError, ForbiddenError
from fabric.migration.machine import State
from fabric.migration.pointer import replace
from fabric.migration.risk import Level
from fabric.migration.tools import Tools

LOCAL = "local"  # who holds the engine's own token: anyone with a shell on this machine


def approve(tools: Tools, job: Job, who: str, *, four_eyes: bool) -> Job:
    """Record an approval by ``who`` and let the job start, unless a second person's is needed; return its row.

    Raises:
        ConflictError: the job does not wait for an approval.
        ForbiddenError: ``who`` ordered the move, or has approved it already, and another person must; or is the
            person at this machine, whom nothing tells from the holders of the named tokens.
    """
    if job.state != State.AWAITING_APPROVAL:
        raise ConflictError("the job does not wait for an approval", job=job.id, state=job.state)
    four_eyes = four_eyes and job.risk == Level.HIGH
    if four_eyes:
        _check_other_person(job, who)
    now = tools.clock.now()
    tools.audit.append("migration.approved", who, job.key, job=job.id, plan=job.plan_hash)
    if four_eyes and not any(name not in ("", LOCAL) for name in (job.ordered_by, job.approved_by)):
        reason = f"approved by {who}; a second person must approve it too"
        first = replace(job, approved_by=who, approved_at=now, updated=now, reason=reason)
        return tools.jobs.change(job, first, "first approval", who=who)
    names = f"{job.approved_by} and {who}" if job.approved_by and job.approved_by != who else who
    return tools.go(job, State.PENDING, who=who, approved_by=names, approved_at=now)


def _check_other_person(job: Job, who: str) -> None:
    if who == LOCAL:
        raise ForbiddenError(
            "where two people are needed, the person at this machine does not count as one of them",
            hint="approve it with a token that has a name",
            job=job.id,
        )
    if who == job.ordered_by:
        raise ForbiddenError("who ordered a move may not approve it", hint="have another approver do it", job=job.id)
    if who == job.approved_by:
        raise ForbiddenError("a second person must approve it too", hint="have another approver do it", job=job.id)
