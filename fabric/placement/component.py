"""The placement component: a batch of objects each tick, round and round in key order, urgent ones first."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fabric.catalog.decisions import Decision
from fabric.catalog.forecasts import Trigger
from fabric.catalog.heads import Head
from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.errors import BadInputError, FrozenError, NotFoundError
from fabric.core.units import format_usd
from fabric.placement.bill import bill_rows, class_rows, unpriced
from fabric.placement.demand import Prior
from fabric.placement.facts import prior_of
from fabric.placement.known import known_reads
from fabric.placement.listed import explain_listed, reads_of
from fabric.placement.live.accounts import NOTHING, Accounts, accounts_of, progress_row, told, told_row
from fabric.placement.options import Market
from fabric.placement.places import Survey
from fabric.placement.ports import Adopted, AdoptedRow, Freeze, Gauges, Heads
from fabric.placement.receipt import decode_survey
from fabric.placement.report import (
    BEST_MOST,
    COLUMNS,
    POINTS_MOST,
    ROWS_MOST,
    Row,
    Standing,
    billed_now,
    decision_row,
    listed_row,
    report_body,
    sunk_now,
    table_rows,
)
from fabric.placement.tally import Tally
from fabric.placement.verdicts import recomputed
from fabric.placement.work import Placer, Rules, Scene, Sources
from fabric.pricing.sheet import Site
from fabric.runtime.component import Explanation, Page, Report, Stage

logger = logging.getLogger(__name__)

BATCH_OBJECTS = 500  # scored in one tick, in key order
PRICING_SECONDS = 2.0  # between two bills made because objects were read
PRICING_REST = 20.0  # and so many times as long as making one takes
LOOK_SECONDS = 5.0  # between looks at what was just used
URGENT_MOST = 200  # read since the last tick, or asked for by a forecast, beside them
KEEP_SUPERSEDED_DAYS = 90.0
PAGE_MOST = 1000
ELSEWHERE_SECONDS = 0.5  # between two questions whether another process has read a long past
START_STEPS = 20  # of the ledgers' way to the present, taken before the first decision


class Placement:
    """Scores every object again and again, and writes a decision whenever it says something new.

    Args:
        adopted: totals of scanned stores, priced beside the managed objects; None where nothing was scanned.
        accounts: the ledgers of stores with several classes; followed here, asked by `work`.
    """

    name = "placement"

    def __init__(
        self,
        heads: Heads,
        sources: Sources,
        rules: Rules,
        *,
        clock: Clock,
        measures: Gauges,
        freeze: Freeze,
        adopted: Adopted | None = None,
        accounts: Accounts = NOTHING,
    ) -> None:
        self._heads, self._sources, self._rules = heads, sources, rules
        self._clock, self._measures, self._freeze, self._adopted = clock, measures, freeze, adopted
        self._accounts = accounts
        self._placer = Placer(sources, rules, clock)
        self._prior, self._cursor, self._tally = Prior(), "", Tally()
        self._looked = 0.0  # UTC seconds up to which accesses were looked at
        self._next_pass = self._next_look = 0.0  # monotonic seconds
        self._anew = False  # a pass is to follow the one under way
        self._billed: set[str] = set()  # stores whose cost was measured
        self._priced: Mapping[str, float] = {}  # the scans whose sums are in the bill
        self._lacking = ""
        self._read_anew, self._next_pricing = False, 0.0  # accesses since the bill was priced; monotonic seconds
        self._standing = Standing(gate=rules.gate, horizon_days=rules.placement.horizon_days)

    def start(self) -> None:
        """Refuse a fleet with a class that has no price; nothing to finish, for a batch was recorded whole or not."""
        for member in self._sources.fleet.members:
            for storage_class in member.address.classes:
                self._rules.book.price(member.address.provider, storage_class, member.address.region)
        self._looked, self._next_pass = self._clock.now(), self._clock.monotonic()
        for _ in range(START_STEPS):
            if not self._accounts.follow() or self._accounts.elsewhere:
                break

    def tick(self) -> float:
        """Score what cannot wait and, when a pass is due, its next batch; return the seconds to wait, 0 for more.

        A pass begins every ``idle_seconds``; between passes only objects just used or asked for are looked at.
        """
        idle = self._rules.placement.idle_seconds
        behind = self._accounts.follow()
        soon = ELSEWHERE_SECONDS if self._accounts.elsewhere else 0.0
        self._watch_ledgers()
        try:
            self._freeze.check()
        except FrozenError as error:
            self._standing = replace(self._standing, state="paused", note=str(error))
            return soon if behind else idle
        due = self._clock.monotonic() >= self._next_pass
        if behind and not due and self._clock.monotonic() < self._next_look:
            return soon
        self._next_look = self._clock.monotonic() + LOOK_SECONDS
        if due and not self._cursor:
            self._prior, self._tally = prior_of(self._sources.history, self._clock.now()), Tally()
        scene = self._placer.scene(self._prior)
        scored, triggers = self._urgent(scene)
        if due:
            scored += self._advance(scene, triggers)
        self._show(scene, scored, whole=due and not self._cursor)
        if self._cursor or behind:
            return 0.0 if self._cursor else soon
        return max(0.0, min(LOOK_SECONDS, self._next_pass - self._clock.monotonic()))

    def _watch_ledgers(self) -> None:
        """Show what the ledgers still read; when one has come to the present, look at every object again at once."""
        reading = tuple(map(progress_row, self._accounts.progress()))
        self._anew |= bool({row["id"] for row in self._standing.reading} - {row["id"] for row in reading})
        self._standing = replace(self._standing, reading=reading)
        if self._anew and not self._cursor:
            self._anew, self._next_pass = False, self._clock.monotonic()

    def stop(self) -> None:
        """Keep the ledgers; a batch of decisions was recorded whole or not."""
        self._accounts.snapshot()

    def reports(self) -> Mapping[str, Report]:
        """Return the section ``optimization``."""
        return {"optimization": report_body(self._standing)}

    def page(self, kind: str, *, search: str = "", cursor: str | None = None, limit: int = 100) -> Page:
        """Return a page of decisions (newest first), listed objects, bill, classes, places or ledger lines."""
        if kind not in COLUMNS:
            raise NotFoundError("placement has no such table", kind=kind, hint=f"known are {', '.join(COLUMNS)}")
        most = max(1, min(limit, PAGE_MOST))
        if kind == "decisions":
            return self._decisions(search, cursor or "", most)
        if kind == "listed_objects":
            return self._listed_objects(search, cursor or "", most)
        every = map(told_row, self._accounts.told()) if kind == "ledger" else table_rows(kind, self._standing)
        rows = [row for row in every if search in str(row["id"])]
        first = _position(cursor)
        after = str(first + most) if first + most < len(rows) else None
        return Page(COLUMNS[kind], rows[first : first + most], len(rows), after)

    def market(self) -> Market:
        """Return every place as it stands for a plan; a store that is away for the moment counts as there."""
        found = self._placer.scene(self._prior).market
        views = [msgspec.structs.replace(view, healthy=True) for view in found.survey.views.values()]
        return replace(found, survey=Survey(views))

    def explain(self, key: str) -> Explanation:
        """Return the receipt of the newest decision about ``key``, computed again to prove it, and those before."""
        found = self._sources.decisions.history(key)
        ledger = accounts_of(self._accounts, key)
        if not found:
            listed = self._explain_listed(key)
            return Explanation([*listed.stages, *told(ledger, self._clock.now())], {**listed.facts, **ledger})
        newest = found[0]
        stages = [Stage("place", item.made, _did(item)) for item in reversed(found)]
        facts = {
            "decision": msgspec.to_builtins(newest),
            "recomputed_equal": self._recomputed(newest),
            "history": [decision_row(item) | {"recomputed_equal": self._recomputed(item)} for item in found[1:]],
        }
        return Explanation(stages, {**facts, **ledger})

    def _explain_listed(self, key: str) -> Explanation:
        found = None if self._adopted is None else self._adopted.find(key)
        member = next((m for m in self._sources.fleet.members if found is not None and m.name == found.store), None)
        if found is None or member is None:
            return Explanation([], {})
        now = self._clock.now()
        return explain_listed(
            found,
            reads_of(self._sources.history, key, now),
            address=member.address,
            mode=member.settings.mode,
            book=self._rules.book,
            reader=self._rules.reader,
            now=now,
        )

    def _recomputed(self, decision: Decision) -> bool | None:
        """Say whether the receipt gives the same decision again; None where its survey or its ledger's rule is gone."""
        data = self._sources.decisions.survey(str(decision.receipt.get("survey", "")))
        return None if data is None else recomputed(decision, decode_survey(data))

    def _decisions(self, search: str, after: str, limit: int) -> Page:
        found = self._sources.decisions.page(search=search, after=after, limit=limit)
        rows: list[Row] = [decision_row(item) for item in found]
        cursor = found[-1].id if len(found) == limit else None
        return Page(COLUMNS["decisions"], rows, self._sources.decisions.count(search), cursor)

    def _listed_objects(self, search: str, after: str, limit: int) -> Page:
        rows = self._listed(search, after, limit)
        total = 0 if self._adopted is None else self._adopted.count(search)
        return Page(COLUMNS["listed_objects"], rows, total, str(rows[-1]["id"]) if len(rows) == limit else None)

    def _listed(self, search: str, after: str, limit: int) -> list[Row]:
        found = [] if self._adopted is None else self._adopted.found(search, after=after, limit=limit)
        now, history = self._clock.now(), self._sources.history
        return [listed_row(one, reads_of(history, f"{one.store}/{one.key}", now)) for one in found]

    def _advance(self, scene: Scene, triggers: Mapping[str, Trigger]) -> int:
        """Score the next batch of the pass in key order; return how many were scored."""
        batch = self._heads.page(after=self._cursor, limit=BATCH_OBJECTS)
        scored = self._placer.score([head for head in batch if head.key not in triggers], {}, scene, self._tally)
        # those that a trigger had decided already still belong to the pass's sums
        self._placer.count([head for head in batch if head.key in triggers], scene, self._tally)
        self._cursor = batch[-1].key if len(batch) == BATCH_OBJECTS else ""
        if not self._cursor:
            self._next_pass = self._clock.monotonic() + self._rules.placement.idle_seconds
        return scored

    def _urgent(self, scene: Scene) -> tuple[int, dict[str, Trigger]]:
        """Score objects that a trigger asks for or that were just used; return how many, and the triggers by key."""
        triggers = {trigger.key: trigger for trigger in self._sources.forecasts.open_triggers(URGENT_MOST)}
        keys = list(dict.fromkeys([*triggers, *self._recently_used()]))[:URGENT_MOST]
        heads = self._heads.get_many(keys) if keys else {}
        self._answer_gone(triggers, heads)
        return self._placer.score(list(heads.values()), triggers, scene, Tally()), triggers

    def _answer_gone(self, triggers: Mapping[str, Trigger], heads: Mapping[str, Head]) -> None:
        for key, trigger in triggers.items():
            if key not in heads or heads[key].deleted:
                self._sources.forecasts.answer(trigger.id, "")

    def _recently_used(self) -> list[str]:
        """Return the keys used since the last look, newest first; those that arrived late are looked at twice."""
        since, self._looked = self._looked, self._clock.now() - LOOK_SECONDS
        last = self._sources.history.records()["last_access"]
        keys = self._sources.history.keys  # after the records: rows are only added
        rows = np.flatnonzero(last > since)
        self._read_anew = self._read_anew or len(rows) > 0
        newest = rows[np.argsort(last[rows])[::-1][:URGENT_MOST]]
        return [keys[int(row)] for row in newest]

    def _show(self, scene: Scene, scored: int, *, whole: bool) -> None:
        done, standing = not self._cursor, self._standing
        views = tuple(sorted(scene.market.survey.views.values(), key=lambda view: view.place))
        fresh = replace(
            standing,
            state="ok" if done else "busy",
            note=_note(self._tally.objects, done=done) + _reading(standing) + self._lacking,
            scored=standing.scored + scored,
            passing=self._tally.objects,
            tally=self._tally if whole else standing.tally,
            totals=self._sources.decisions.totals(),
            newest=tuple(self._sources.decisions.page(limit=ROWS_MOST)),
            best=tuple(self._sources.decisions.open_moves(limit=BEST_MOST)),
            views=views,
            **self._ledger_tables(),
        )
        if whole:
            self._standing = self._finished(fresh, scene)
        else:
            self._standing = self._repriced(fresh) if self._scanned_anew() else fresh

    def _ledger_tables(self) -> dict[str, Any]:
        lines, figures = self._accounts.told(), self._accounts.figures()
        return {
            "ledger": tuple(told_row(line) for line in lines[:ROWS_MOST]),
            "ledger_total": len(lines),
            "ledger_figures": tuple({"id": name, "store": name, **facts} for name, facts in figures.items()),
        }

    def _scanned_anew(self) -> bool:
        """Say whether the bill of what was scanned is old: another scan is complete, or objects were read."""
        if self._adopted is None:
            return False
        read = self._read_anew and self._clock.monotonic() >= self._next_pricing
        return read or self._adopted.completed() != self._priced

    def _repriced(self, standing: Standing) -> Standing:
        """Price what a scan has just seen, without waiting for the next pass."""
        standing = self._with_adopted(standing)
        if standing.tally is not None:
            self._measure(standing, billed_now(standing)[0])
        return standing

    def _finished(self, standing: Standing, scene: Scene) -> Standing:
        """Close a pass: price what was scanned, measure the bill, forget what is old."""
        standing = self._with_adopted(standing)
        usd = billed_now(standing)[0]
        self._measure(standing, usd)
        self._sources.decisions.forget_superseded(scene.now - KEEP_SUPERSEDED_DAYS * SECONDS_PER_DAY)
        logger.info(
            "placement looked at every object",
            extra={"objects": self._tally.objects, "moves": standing.totals.moves_open, "usd_month": round(usd, 6)},
        )
        return replace(standing, series=(*standing.series[1 - POINTS_MOST :], (scene.now, usd)))

    def _with_adopted(self, standing: Standing) -> Standing:
        if self._adopted is None:
            return standing
        began, self._read_anew = self._clock.monotonic(), False
        self._priced = dict(self._adopted.completed())
        sites = {m.name: Site(m.address.provider, m.address.region) for m in self._sources.fleet.members}
        found = [row for row in self._adopted.aggregates() if row.store in sites]
        book = self._rules.book
        lacking = unpriced(found, sites, book)
        rows = [row for row in found if row not in lacking]
        known = known_reads(self._adopted, self._sources.history, rows, self._clock.now())
        bill = tuple(bill_rows(rows, sites, book, known, self._rules.reader))
        classes, listed = tuple(class_rows(rows, sites, book)), tuple(self._listed("", "", ROWS_MOST))
        note = standing.note.removesuffix(self._lacking)
        self._lacking = _lacking(lacking)
        standing = replace(standing, listed=listed, listed_total=self._adopted.count())
        now = self._clock.monotonic()
        self._next_pricing = now + max(PRICING_SECONDS, PRICING_REST * (now - began))
        return replace(standing, bill=bill, classes=classes, note=note + self._lacking)

    def _measure(self, standing: Standing, usd: float) -> None:
        stores = dict(standing.tally.by_store()) if standing.tally else {}
        for row in standing.bill:
            stores[row.store] = stores.get(row.store, 0.0) + row.known_usd + (0.0 if row.sunk else row.usd)
        self._measures.gauge("monthly_cost_usd", usd, scope="total")
        for store in self._billed - set(stores):
            self._measures.gauge("monthly_cost_usd", 0.0, scope=store)
        for store, cost in stores.items():
            self._measures.gauge("monthly_cost_usd", cost, scope=store)
        self._billed |= set(stores)
        self._measures.gauge("own_capacity_estimate_usd", sunk_now(standing))
        self._measures.gauge("freed_bytes", standing.tally.freed_bytes if standing.tally else 0.0)


def _lacking(rows: Sequence[AdoptedRow]) -> str:
    if not rows:
        return ""
    names = ", ".join(sorted({f"{row.store}/{row.storage_class}" for row in rows}))
    return (
        f"; {sum(row.objects for row in rows)} listed objects lie in classes without a price: {names} (name the "
        "provider whose prices hold, for example provider=aws in the store's URL, or give the class a price)"
    )


def _note(objects: int, *, done: bool) -> str:
    if not done:
        return "Scoring objects in key order"
    if not objects:
        return "No managed objects to place; listed ones are priced in the bill"
    return "Every object is scored; the next look is due soon"


def _reading(standing: Standing) -> str:
    names = ", ".join(row["id"].removeprefix("ledger:") for row in standing.reading)
    return f"; moves inside {names} wait: its ledger still reads the past" if names else ""


def _did(decision: Decision) -> str:
    if decision.verdict == "move":
        saving = format_usd(decision.saving_usd_month)
        return (
            f"decided to move it from {decision.source} to {decision.target} ({decision.rule}): saves {saving} a month"
        )
    return f"left it where it is: {decision.reason}"


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdigit():
        raise BadInputError("the cursor is not one that a page gave", cursor=cursor, hint="start without a cursor")
    return int(cursor)
