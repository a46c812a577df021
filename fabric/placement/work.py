"""One bounded step of placement: score a batch of objects and record what was decided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from fabric.catalog.decisions import Decision
from fabric.catalog.forecasts import Trigger
from fabric.catalog.heads import Head
from fabric.core.clock import SECONDS_PER_DAY, Clock
from fabric.core.config import MigrationSettings, PlacementSettings
from fabric.core.ids import new_id
from fabric.core.words import ObjectPolicy
from fabric.placement.decide import FACTORS, Verdict
from fabric.placement.demand import Prior
from fabric.placement.facts import Facts, derive, gather, gather_still, live_replicas
from fabric.placement.inside import Ledger, NoLedger, hear
from fabric.placement.options import Group, Market, Terms, group, value
from fabric.placement.places import take_survey
from fabric.placement.ports import Busy, Decisions, Fleet, Forecasts, Health, History, SuiteFor
from fabric.placement.receipt import (
    SurveyRecord,
    choice_lines,
    counterfactual,
    encode_survey,
    kept_month,
    make_receipt,
    undo_usd,
)
from fabric.placement.score import Gate
from fabric.placement.tally import Tally
from fabric.placement.verdicts import Beside, figures_on, verdict_on, votes_on
from fabric.pricing.sheet import PriceBook, Site

SAME_SCORE = 0.01  # a decision is written again only when something of it changed by more
REWRITE_SECONDS = SECONDS_PER_DAY  # or when it is older than this


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from; see `ports`."""

    fleet: Fleet
    history: History
    forecasts: Forecasts
    decisions: Decisions
    health: Health
    suite_for: SuiteFor
    busy: Busy
    ledger: Ledger = field(default_factory=NoLedger)


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings and prices that decisions obey."""

    book: PriceBook
    placement: PlacementSettings
    migration: MigrationSettings
    reader: Site  # where reads come from

    @property
    def gate(self) -> Gate:
        return Gate(self.placement.score_gate, self.placement.confidence_gate, self.placement.factor_floor)

    @property
    def terms(self) -> Terms:
        return Terms(self.migration.grace_days_between_stores, self.migration.grace_days_inside_store)


@dataclass(frozen=True, slots=True)
class Scene:
    """The market and its record at the moment of one batch."""

    market: Market
    record: SurveyRecord
    record_id: str
    now: float


class Placer:
    """Scores batches of objects; holds no state of its own."""

    def __init__(self, sources: Sources, rules: Rules, clock: Clock) -> None:
        self._sources, self._rules, self._clock = sources, rules, clock

    def scene(self, prior: Prior) -> Scene:
        """Look at every place once, for the decisions of one batch."""
        rules, sources = self._rules, self._sources
        survey = take_survey(sources.fleet, rules.book, sources.health, rules.reader)
        market = Market(survey, rules.book, sources.suite_for, rules.terms)
        providers = sorted({view.price.provider for view in survey.views.values()})
        record = SurveyRecord(
            views=sorted(survey.views.values(), key=lambda view: view.place),
            sheets={name: rules.book.sheet(name) for name in providers},
            score_gate=rules.gate.score,
            confidence_gate=rules.gate.confidence,
            factor_floor=rules.gate.floor,
            horizon_days=rules.placement.horizon_days,
            grace_between_days=rules.terms.between_stores,
            grace_inside_days=rules.terms.inside_store,
            prior=(prior.shape, prior.weeks, prior.burst, prior.objects),
        )
        return Scene(market, record, record.id, self._clock.now())

    def score(self, heads: Sequence[Head], triggers: Mapping[str, Trigger], scene: Scene, tally: Tally) -> int:
        """Decide about ``heads``, record what changed, answer their triggers; return how many were scored."""
        keys = [head.key for head in heads]
        busy = set(self._sources.busy(keys))
        free = [head for head in heads if head.key not in busy and not head.deleted and live_replicas(head)]
        self.count([head for head in heads if head.key in busy], scene, tally)  # under way: billed, not decided anew
        self._answer_moving(busy & triggers.keys(), triggers)
        if not free:
            return 0
        made = self._decide(free, triggers, scene, tally)
        self._record(made, triggers, scene)
        return len(free)

    def _answer_moving(self, keys: Collection[str], triggers: Mapping[str, Trigger]) -> None:
        """Answer the forecasts of objects that are being moved already with the decision that moves them."""
        for key, decision in self._sources.decisions.latest(sorted(keys)).items() if keys else ():
            self._sources.forecasts.answer(triggers[key].id, decision.id)

    def count(self, heads: Sequence[Head], scene: Scene, tally: Tally) -> None:
        """Add objects to a pass's sums without deciding about them."""
        self._decide([head for head in heads if not head.deleted and live_replicas(head)], {}, scene, tally)

    def _decide(
        self, heads: Sequence[Head], triggers: Mapping[str, Trigger], scene: Scene, tally: Tally
    ) -> list[Decision]:
        keys = [head.key for head in heads]
        forecasts = self._sources.forecasts.latest(keys)
        placed = self._sources.decisions.placed_at(keys)
        inputs = gather(heads, self._sources.history, forecasts, placed, triggers, now=scene.now)
        still = gather_still(heads, self._sources.history, placed, now=scene.now)
        prior = Prior(*scene.record.prior)
        made: list[Decision] = []
        given: dict[str, float] = {}
        for (places, policy), rows in _alike(heads).items():
            found = group(places, policy, scene.market)
            facts = derive(inputs.take(rows), prior, still.take(rows))
            tally.add_group(found, facts)
            batch = self._batch(found, facts, scene, [heads[index] for index in rows])
            for row, index in enumerate(rows):
                decision, column = batch.decision(row, triggers.get(heads[index].key), given)
                tally.count(decision.verdict)
                if decision.verdict == "move" and column is not None:
                    tally.add_move(found.options[column], facts, row)
                made.append(decision)
        return made

    def _batch(self, found: Group, facts: Facts, scene: Scene, heads: Sequence[Head]) -> _Batch:
        return _Batch(found, facts, scene, heads, self._sources.ledger)

    def _with_accounts(self, decision: Decision) -> Decision:
        """Put into a receipt what the ledgers of its copies' stores rest on: the last day, and the move shown."""
        beside = decision.receipt["beside"]
        days = self._sources.ledger.last_days(decision.key) if beside["said"]["accounts"] else {}
        moves = self._sources.ledger.last_moves(decision.key) if beside["figures"] else {}
        kept = {
            "ledger": {
                store: msgspec.to_builtins(days[store]) for store in beside["said"]["accounts"] if store in days
            },
            "ledger_moves": {store: msgspec.to_builtins(moves[store]) for store in beside["figures"] if store in moves},
        }
        return msgspec.structs.replace(decision, receipt=decision.receipt | {k: v for k, v in kept.items() if v})

    def _record(self, made: Sequence[Decision], triggers: Mapping[str, Trigger], scene: Scene) -> None:
        before = self._sources.decisions.latest([decision.key for decision in made])
        asked = {decision.key for decision in made if decision.key in triggers}
        fresh = [item for item in made if item.key in asked or _differs(item, before.get(item.key))]
        if fresh:
            fresh = [self._with_accounts(item) for item in fresh]
            self._sources.decisions.record(fresh, {scene.record_id: encode_survey(scene.record)})
        for decision in fresh:
            if decision.key in asked:
                self._sources.forecasts.answer(triggers[decision.key].id, decision.id)


class _Batch:
    """The decisions of one group; room already given away in this batch is not given twice."""

    def __init__(self, found: Group, facts: Facts, scene: Scene, heads: Sequence[Head], ledger: Ledger) -> None:
        self._found, self._facts, self._scene, self._heads = found, facts, scene, heads
        self._ledger, self._said = ledger, hear(found, [(head.key, head.current.created) for head in heads], ledger)
        self._valued = value(found, facts, scene.record.horizon_days)
        self._stored = np.array([_stored_bytes(head) for head in heads], np.float64)
        self._votes = votes_on(found, self._valued, scene.record.gate, self._stored, self._said)

    def decision(self, row: int, trigger: Trigger | None, given: dict[str, float]) -> tuple[Decision, int | None]:
        """Decide about one object of the group; return the decision and the option it speaks of.

        Args:
            given: bytes promised to each store by earlier decisions of this batch; grows.
        """
        beside = self._beside(row, trigger, given)
        verdict = verdict_on(row, self._found, self._valued, self._votes, self._scene.record.gate, beside)
        receipt = make_receipt(row, self._facts, self._found, self._valued, self._scene.record_id)
        receipt |= {"why": verdict.reason, "rule": verdict.rule, "beside": msgspec.to_builtins(beside)}
        if verdict.column is not None:
            receipt["choice"] = verdict.column
            option = self._found.options[verdict.column]
            receipt["lines"] = choice_lines(row, self._facts, option)
            receipt["undo_cost_usd"] = undo_usd(float(self._facts.inputs.size_bytes[row]), option)
            receipt["counterfactual"] = counterfactual(row, self._valued, verdict.column, option)
        else:
            receipt["lines"] = kept_month(row, self._facts, self._found)
        if trigger is not None:
            receipt["trigger"] = msgspec.to_builtins(trigger)
        if verdict.verdict == "move" and verdict.column is not None:
            store = self._found.options[verdict.column].target.store
            given[store] = given.get(store, 0.0) + beside.stored_bytes
        return self._made(row, verdict, beside, receipt), verdict.column

    def _beside(self, row: int, trigger: Trigger | None, given: Mapping[str, float]) -> Beside:
        head = self._heads[row]
        asking = {
            self._found.options[column].source.store for column in np.flatnonzero(self._votes.ledger[row]).tolist()
        }
        told = {store: list(self._ledger.figures_of(store, head.key)) for store in sorted(asking)}
        return Beside(
            stored_bytes=float(self._stored[row]),
            broken=self._found.broken,
            asked="" if trigger is None else trigger.action,
            pinned=head.pinned,
            promised=dict(given),
            said=self._said[row],
            figures={store: figures for store, figures in told.items() if figures},
        )

    def _made(self, row: int, verdict: Verdict, beside: Beside, receipt: dict[str, Any]) -> Decision:
        head, column = self._heads[row], verdict.column
        option = None if column is None else self._found.options[column]
        figures = figures_on(verdict, self._found, beside, receipt["alternatives"])
        return Decision(
            id=new_id(self._scene.now),
            key=head.key,
            version_id=head.current.id,
            made=self._scene.now,
            source=option.source.place if option else head.current.replicas[0].place,
            target=option.target.place if option else "",
            verdict=verdict.verdict,
            reason=verdict.reason,
            rule=verdict.rule,
            factors={name: figures.get(name, 0.0) for name in FACTORS},
            score=figures.get("score", 0.0),
            confidence=figures.get("confidence", 0.0),
            saving_usd_month=figures.get("saving_usd_month", 0.0),
            move_cost_usd=figures.get("move_cost_usd", 0.0),
            money_bytes=head.current.money_bytes,
            receipt=receipt,
            trend_known=bool(receipt["trend"]["known"]),
            state="open" if verdict.verdict == "move" else "closed",
        )


def _stored_bytes(head: Head) -> int:
    return max((replica.blob_bytes for replica in head.current.replicas), default=head.current.size_bytes)


def _alike(heads: Sequence[Head]) -> dict[tuple[tuple[str, ...], ObjectPolicy], list[int]]:
    """Group heads by the places of their live copies and their policy."""
    groups: dict[tuple[tuple[str, ...], ObjectPolicy], list[int]] = defaultdict(list)
    for index, head in enumerate(heads):
        groups[tuple(replica.place for replica in live_replicas(head)), head.policy].append(index)
    return groups


def _differs(fresh: Decision, before: Decision | None) -> bool:
    """Say whether a decision tells more than the one that stands."""
    if before is None or fresh.made - before.made >= REWRITE_SECONDS:
        return True
    if before.state in ("taken", "superseded"):
        return True
    same = ("version_id", "source", "target", "verdict", "rule")
    if any(getattr(fresh, name) != getattr(before, name) for name in same) or _reading(fresh) != _reading(before):
        return True
    return abs(fresh.score - before.score) > SAME_SCORE or abs(fresh.confidence - before.confidence) > SAME_SCORE


def _reading(decision: Decision) -> list[str]:
    """Return the stores whose ledgers a decision did not hear yet."""
    return list(decision.receipt.get("beside", {}).get("said", {}).get("reading", ()))
