"""What the engine and the process that replays tell each other, in files of the replay's own folder."""

from __future__ import annotations

import msgspec

from fabric.placement.replay.today import Where

QUESTION_FILE, PROGRESS_FILE = "question.json", "progress.json"
ANSWER_FILE, PROBLEM_FILE = "answer.json", "problem.json"


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be replayed: files, prices and the comparison's options.

    Attributes:
        ranges: at most one file of the provider's address ranges: which readers pay egress.
        within: the folder that all files lie in, those included that an inventory's manifest names.
        where: the connected store whose scan the inventory is.
        policies: none means all.
    """

    accesses: tuple[str, ...] = ()
    inventory: tuple[str, ...] = ()
    bill: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    within: str = ""
    prices: str = ""
    where: Where = Where()
    provider: str = "aws"
    classes: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    stretch: float = 1.0
    horizon_days: int | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a replay is. ``phase``: starting, reading, days, policies, receipts; all seconds are its own."""

    phase: str = "starting"
    seconds: float = 0.0
    phase_seconds: float = 0.0
    rows_per_second: float = 0.0  # since the first rows came: what is compiled before them says nothing of the rest
    rows: int = 0
    rejected: int = 0
    files: int = 0
    files_all: int = 0
    under_way: list[str] = []
    policies_done: int = 0
    policies_all: int = 0
