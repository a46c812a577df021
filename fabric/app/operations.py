"""Long or wide work on one engine: plan, apply, verify, back up."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fabric.app.engine import Engine
from fabric.app.keys import kept_folders
from fabric.app.showback import Record
from fabric.catalog.backup import backup
from fabric.catalog.decisions import Decision
from fabric.catalog.runs import Run
from fabric.core.clock import iso
from fabric.core.errors import BadInputError, ConflictError, NotFoundError, PreconditionError
from fabric.core.files import write_whole
from fabric.core.ids import new_id
from fabric.migration.ports import Order
from fabric.placement.plan import Plan, Terms, make_plan, plan_tree, read_plan, write_plan
from fabric.placement.planned import refused
from fabric.placement.receipt import SurveyRecord, decode_survey

PLANS_KEPT = 50
MOVES_MOST = 10_000  # in one plan
FAULTS_SHOWN = 100

logger = logging.getLogger(__name__)

Facts = dict[str, Any]


class Plans:
    """Makes plans of the open moves and applies them by their hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _folder(self) -> Path:
        return self._engine.folder.path / "plans"

    def make(self, *, spend_cap_usd: float | None = None) -> Facts:
        """Plan the open moves, keep the plan under its hash and return it.

        Args:
            spend_cap_usd: what the moves may cost together once; None: the setting ``migration.spend_cap_usd``.

        Raises:
            PreconditionError: of the accesses that others feed, too many are known to be missing.
        """
        told = Record(self._engine).told()
        moves = self._engine.decisions.open_moves(MOVES_MOST)
        cap = self._engine.settings.migration.spend_cap_usd if spend_cap_usd is None else spend_cap_usd
        plan = make_plan(moves, now=self._engine.clock.now(), terms=self._terms(moves, cap, told))
        self._folder.mkdir(exist_ok=True)
        write_whole(self._folder / f"{plan.sha256}.json", write_plan(plan), durable=True)
        for old in sorted(self._folder.glob("*.json"), key=os.path.getmtime)[:-PLANS_KEPT]:
            old.unlink(missing_ok=True)
        return _facts(plan)

    def _terms(self, moves: Sequence[Decision], cap: float, told: Facts) -> Terms:
        """Look at every place and object of the moves as they are now."""
        engine = self._engine
        market = engine.placement.market()
        heads = engine.heads.get_many([move.key for move in moves])
        rooms = {view.store: view.free_bytes for view in market.survey.views.values() if view.free_bytes is not None}
        return Terms(
            spend_cap_usd=cap,
            room={store: float(left) for store, left in rooms.items()},
            refused=lambda move: refused(move, heads.get(move.key), market),
            surveys=cache(self._survey),
            told=told,
            manners=engine.migration.foreseen,
        )

    def _survey(self, survey_id: str) -> SurveyRecord | None:
        data = self._engine.decisions.survey(survey_id) if survey_id else None
        return None if data is None else decode_survey(data)

    def apply(self, sha256: str, who: str, *, shown: Facts | None = None) -> Facts:
        """Let the plan's moves be carried out.

        Args:
            shown: the plan as its file says it; it must be what was made.

        Raises:
            NotFoundError: no such plan.
            PreconditionError: ``shown`` was changed after it was made, or by now too many accesses are missing.
            ConflictError: a move of it is no longer open; nothing was applied.
            FrozenError: a freeze is in force.
        """
        self._engine.freeze.check()
        plan = self._read(sha256)
        if shown is not None and shown != _facts(plan):
            raise PreconditionError(
                "the plan was changed after it was made; nothing was applied",
                sha256=sha256,
                hint="make a new one: python -m fabric plan --out FILE",
            )
        Record(self._engine).told()
        open_ids = {move.id for move in self._engine.decisions.open_moves(MOVES_MOST)}
        gone = [move.key for move in plan.moves if move.decision not in open_ids]
        if gone:
            raise ConflictError(
                "the plan is out of date: some of its moves are done or decided anew",
                moves=len(gone),
                first=gone[0],
                hint="make a new one: python -m fabric plan",
            )
        self._engine.audit.append("plan.apply", who, sha256, moves=len(plan.moves), once_usd=plan.once_usd)
        run = self._open_run(plan, who)
        self._engine.wake("migration")
        facts = {
            "applied": sha256,
            "run": run.id,
            "cap_usd": run.cap_usd,
            "moves": len(plan.moves),
            "once_usd": plan.once_usd,
        }
        later = "no engine runs: the moves are carried out when it starts: python3 run_complete_system.py"
        return facts if self._engine.running else {**facts, "note": later}

    def _open_run(self, plan: Plan, who: str) -> Run:
        """Record the run first, then the orders that name it: without them a run has no jobs and costs nothing."""
        now = self._engine.clock.now()
        run = Run(
            new_id(now),
            now,
            "plan",
            who,
            plan.sha256,
            moves=len(plan.moves),
            bytes=plan.money_bytes,
            cap_usd=plan.spend_cap_usd,
            once_usd=plan.once_usd,
            undo_usd=plan.undo_usd,
            undo_late_usd=plan.undo_late_usd,
        )
        self._engine.runs.open(run)
        self._engine.applied.apply(
            {
                move.decision: Order(who, run.id, plan.sha256, move.once_usd, move.undo_usd, move.undo_late_usd)
                for move in plan.moves
            }
        )
        return run

    def _read(self, sha256: str) -> Plan:
        if not sha256.isalnum():
            raise BadInputError("a plan is named by its SHA-256", given=sha256[:80])
        try:
            return read_plan((self._folder / f"{sha256}.json").read_bytes())
        except FileNotFoundError:
            raise NotFoundError(
                "there is no such plan", sha256=sha256[:80], hint="make one with: python -m fabric plan"
            ) from None


def _facts(plan: Plan) -> Facts:
    """Return a plan as people and plan files see it."""
    facts: Facts = plan_tree(plan) | (plan.averages if plan.format > 1 else {})
    for name in ("made", "pays_back", "pays_back_soonest", "pays_back_latest"):
        if facts.get(name) is not None:
            facts[name] = iso(facts[name])
    return facts


def verify_replicas(engine: Engine, prefix: str) -> Facts:
    """Read every replica under ``prefix``, compare it with its hash, and mend what is wrong from a good copy.

    ``lost`` counts versions none of whose replicas held.
    """
    good, faults, moved = 0, list[Facts](), 0
    held: dict[tuple[str, str], bool] = {}
    for checked in engine.repairer.verify(prefix):
        moved += checked.bytes
        version = (checked.key, checked.version_id)
        held[version] = held.get(version, False) or not checked.fault
        if checked.fault:
            faults.append({"key": checked.key, "place": checked.place, "fault": checked.fault})
        else:
            good += 1
    while faults and engine.repairer.step():
        pass
    lost = sum(not any_good for any_good in held.values())
    return {"good": good, "faults": faults[:FAULTS_SHOWN], "faulty": len(faults), "bytes": moved, "lost": lost}


def back_up(engine: Engine, path: Path) -> Facts:
    """Write catalog, keys, head log and marks into one archive."""
    folder = engine.folder.path
    names = ("fabric.json", "settings.json", "report.key", "session.key", "freeze.json", "applied.json")
    files = {name: folder / name for name in names if (folder / name).exists()}
    folders, catalog = kept_folders(folder, engine.settings), folder / "catalog" / "catalog.db"
    with engine.head_log.still():
        size = backup(path, catalog=catalog, folders=folders, files=files, clock=engine.clock)
    return {"path": str(path), "bytes": size}
