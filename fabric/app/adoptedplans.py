"""Plans for adopted objects: which may be moved to a place, which are refused and why, what it costs, and the apply.

A plan looks at every object in its store as its job will, so that it says beforehand what would be refused; each job
looks again. Nothing is chosen here: whoever asks names the objects and the place.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fabric.app.engine import Engine
from fabric.catalog.adopted import AdoptedObject
from fabric.catalog.runs import Run
from fabric.core.clock import SECONDS_PER_DAY, iso
from fabric.core.errors import ConflictError, CorruptError, FabricError, NotFoundError, PreconditionError
from fabric.core.files import write_whole
from fabric.core.ids import new_id
from fabric.core.words import Place
from fabric.migration.adopted import CLASS, LINK
from fabric.migration.adoptedacts import AdoptedMove, kind_of, refusal
from fabric.migration.ports import Order
from fabric.placement.adoptedmoney import Money, Way, money_of, notes_of
from fabric.placement.listed import quiet_of, reads_of
from fabric.pricing.sheet import Site
from fabric.storage.fleet import Member
from fabric.storage.keeping import keeper_of

MOVES_MOST = 1000  # objects looked at for one plan: each costs a few requests
REFUSED_SHOWN = 100

Facts = dict[str, Any]
LATER: Facts = {"notes": []}  # of a plan file that was written before plans said it


class Refused(msgspec.Struct, frozen=True):
    """An object that stays, and why."""

    key: str
    hazard: str
    why: str
    hint: str


class AdoptedPlan(msgspec.Struct, frozen=True):
    """What would be done, in money and words; ``sha256`` names exactly this plan."""

    made: float
    source: str  # the store
    target: str  # the place
    kind: str  # class | link | copy
    does: str  # what will happen to each object, one sentence
    moves: tuple[AdoptedMove, ...]
    refused: tuple[Refused, ...]
    refused_by: dict[str, int]
    lines: dict[str, float]
    once_usd: float
    undo_usd: float
    saving_usd_month: float
    spend_cap_usd: float
    notes: tuple[str, ...] = ()  # what of the figures is a bound
    more: bool = False  # there are more objects than one plan takes
    sha256: str = ""


class AdoptedPlans:
    """Makes plans for adopted objects and applies them by their hash."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def _folder(self) -> Path:
        return self._engine.folder.path / "plans"

    def make(self, store: str, prefix: str, target: str, *, spend_cap_usd: float | None) -> Facts:
        """Look at up to MOVES_MOST objects below ``prefix`` and plan their move to the place ``target``.

        Raises:
            NotFoundError: no such store, or no object that the last scan saw.
            ConflictError: the store's objects are the fabric's own.
            ModeError: the modes of the stores do not allow the move.
            FrozenError: a freeze is in force.
        """
        engine = self._engine
        engine.freeze.check()
        source = engine.fleet.member(store)
        place = Place.parse(target)
        other = engine.fleet.member(place.store)
        if not source.adopted:
            raise ConflictError("the store's objects are the fabric's own: placement plans them", store=store)
        kind = self._kind(source, other, target)
        self._check_modes(source, other, kind)
        found = list(islice(engine.adopted.all(store, prefix=prefix), MOVES_MOST + 1))
        if not found:
            raise NotFoundError("no such object was scanned", store=store, prefix=prefix, hint="python -m fabric scan")
        plan = self._planned(source, target, kind, found[:MOVES_MOST], spend_cap_usd)
        return self._kept(msgspec.structs.replace(plan, more=len(found) > MOVES_MOST))

    def _kind(self, source: Member, target: Member, place: str) -> str:
        links = source.settings.links == "ok" and source.address.scheme == target.address.scheme == "file"
        return kind_of(Place(source.name, source.address.classes[0]).name, place, folders=links)

    def _check_modes(self, source: Member, target: Member, kind: str) -> None:
        removes = kind in (CLASS, LINK) or source.settings.remove_source
        self._engine.fleet.require(source.name, "delete" if removes else "read")
        self._engine.fleet.require(target.name, "write")

    def _planned(
        self, source: Member, target: str, kind: str, found: list[AdoptedObject], cap: float | None
    ) -> AdoptedPlan:
        moves, refused, lines, notes = [], [], Counter[str](), dict[str, None]()
        for seen in found:
            try:
                move, money, said = self._priced(source, target, kind, seen)
                error = refusal(self._engine.migration.tools, move)
            except FabricError as failed:
                error = failed
            if error is not None:
                refused.append(_refused(seen.key, error))
                continue
            moves.append(move)
            notes.update(dict.fromkeys(said))
            lines.update({line.name: line.usd for line in money.lines})
        cap = self._engine.settings.migration.spend_cap_usd if cap is None else cap
        return AdoptedPlan(
            made=self._engine.clock.now(),
            source=source.name,
            target=target,
            kind=kind,
            does=_does(kind, source, target),
            moves=tuple(moves),
            refused=tuple(refused[:REFUSED_SHOWN]),
            refused_by=dict(Counter(one.hazard for one in refused)),
            lines=dict(lines),
            once_usd=sum((move.once_usd for move in moves), 0.0),
            undo_usd=sum((move.undo_usd for move in moves), 0.0),
            saving_usd_month=sum((move.saving_usd_month for move in moves), 0.0),
            spend_cap_usd=cap,
            notes=tuple(notes),
        )

    def _priced(
        self, source: Member, target: str, kind: str, seen: AdoptedObject
    ) -> tuple[AdoptedMove, Money, tuple[str, ...]]:
        """Ask the store what lies there now, price its move, and say what of the figures is a bound."""
        info = source.store.head(seen.key)
        here = Place(source.name, info.storage_class)
        way = self._way(source, here, Place.parse(target), kind, info.size_bytes, info.modified, seen.key)
        money = money_of(way)
        figures = (money.once_usd, money.undo_usd, money.saving_usd_month)
        return AdoptedMove(seen.key, here.name, target, kind, info.tag, info.size_bytes, *figures), money, notes_of(way)

    def _way(self, source: Member, here: Place, there: Place, kind: str, size: int, modified: float, key: str) -> Way:
        engine, settings = self._engine, self._engine.settings.migration
        target = engine.fleet.member(there.store)
        one, other = source.address, target.address
        sites = Site(one.provider, one.region), Site(other.provider, other.region)
        keeper = keeper_of(source.store) if kind == CLASS else None
        inside = kind == CLASS
        reads = reads_of(engine.history, f"{source.name}/{key}", engine.clock.now())
        return Way(
            source=engine.prices.price(one.provider, here.storage_class, one.region),
            target=engine.prices.price(other.provider, there.storage_class, other.region),
            to_target=engine.prices.egress(*sites),
            to_prover=engine.prices.egress(sites[0] if inside else sites[1], engine.site),
            size_bytes=size,
            age_days=max(0.0, engine.clock.now() - modified) / SECONDS_PER_DAY,
            grace_days=settings.grace_days_inside_store if inside else settings.grace_days_between_stores,
            in_place=inside,
            source_goes=inside or kind == LINK or source.settings.remove_source,
            quiet=quiet_of(modified, None if reads is None else reads.last, engine.clock.now()),
            noncurrent_days=keeper.look(key).noncurrent_days if keeper is not None else 0.0,
        )

    def _kept(self, plan: AdoptedPlan) -> Facts:
        named = msgspec.structs.replace(plan, sha256=hashlib.sha256(msgspec.json.encode(plan)).hexdigest())
        self._folder.mkdir(exist_ok=True)
        write_whole(self._path(named.sha256), msgspec.json.encode(named), durable=True)
        return _facts(named)

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.adopted"

    def knows(self, sha256: str) -> bool:
        """Say whether a plan for adopted objects has this hash."""
        return sha256.isalnum() and self._path(sha256).exists()

    def apply(self, sha256: str, who: str, *, shown: Facts | None) -> Facts:
        """Order the plan's moves; an object that is another by then fails before anything is written.

        Raises:
            PreconditionError: ``shown`` was changed after it was made.
            FrozenError: a freeze is in force.
        """
        engine = self._engine
        engine.freeze.check()
        plan = self._read(sha256)
        if shown is not None and {**LATER, **shown} != _facts(plan):
            raise PreconditionError("the plan was changed after it was made; nothing was applied", sha256=sha256)
        self._check_modes(
            engine.fleet.member(plan.source), engine.fleet.member(Place.parse(plan.target).store), plan.kind
        )
        engine.audit.append("plan.apply", who, sha256, moves=len(plan.moves), once_usd=plan.once_usd)
        run = self._open_run(plan, who)
        failed = engine.migration.order_adopted(plan.moves, Order(who, run.id, plan.sha256))
        engine.wake("migration")
        facts = {"applied": sha256, "run": run.id, "cap_usd": run.cap_usd, "moves": len(plan.moves) - len(failed)}
        return {**facts, "once_usd": plan.once_usd, "not_ordered": failed[:REFUSED_SHOWN]}

    def _open_run(self, plan: AdoptedPlan, who: str) -> Run:
        now = self._engine.clock.now()
        return self._engine.runs.open(
            Run(
                new_id(now),
                now,
                "plan",
                who,
                plan.sha256,
                moves=len(plan.moves),
                bytes=sum(move.size_bytes for move in plan.moves),
                cap_usd=plan.spend_cap_usd,
                once_usd=plan.once_usd,
                undo_usd=plan.undo_usd,
                undo_late_usd=plan.undo_usd,
            )
        )

    def _read(self, sha256: str) -> AdoptedPlan:
        path = self._path(sha256)
        try:
            return msgspec.json.decode(path.read_bytes(), type=AdoptedPlan)
        except msgspec.DecodeError as error:
            raise CorruptError("the plan is damaged", path=str(path), hint="make it again") from error


def _refused(key: str, error: FabricError) -> Refused:
    hazard = str(error.context.get("hazard") or error.code)
    return Refused(key, hazard, error.message, error.hint)


def _does(kind: str, source: Member, target: str) -> str:
    if kind == CLASS:
        return f"each object's class becomes {Place.parse(target).storage_class}; bytes, metadata and tags are kept"
    if kind == LINK:
        return f"each file goes to {target} and leaves a symbolic link; the old file is kept through the grace period"
    after = "the source is removed after the grace period" if source.settings.remove_source else "the source stays"
    return f"each object is copied to {target} and the copy verified; {after}"


def _facts(plan: AdoptedPlan) -> Facts:
    facts: Facts = msgspec.json.decode(msgspec.json.encode(plan))  # as a plan file says it
    return {**facts, "made": iso(plan.made)}
