"""The verdict on one object, from what a receipt keeps: made as it is decided, and again whenever it is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from fabric.catalog.decisions import Decision
from fabric.placement.decide import FACTORS, Ballot, Verdict, ballot, decide
from fabric.placement.inside import Said, ask, narrowed
from fabric.placement.live.accounts import held_again, ledger_receipts
from fabric.placement.options import Array, Group, Valued
from fabric.placement.receipt import SurveyRecord, alternatives, restored
from fabric.placement.score import Gate

FASTER = "MOVE_TO_FASTER_TIER"


class Beside(msgspec.Struct, frozen=True):
    """What a verdict rests on beside places, demand and money."""

    stored_bytes: float
    broken: tuple[str, ...] = ()  # per copy: the rule its place breaks, or ""
    asked: str = ""  # the action that a forecast's trigger asked for
    pinned: bool = False
    promised: dict[str, float] = {}  # bytes given away in each store by earlier decisions of the same look
    said: Said = Said()
    figures: dict[str, list[float]] = {}  # by store: f, l, c, t, score, confidence of the account's last demotion


def votes_on(found: Group, valued: Valued, gate: Gate, stored: Array, said: Sequence[Said]) -> Ballot:
    """Apply every rule to every option of every object of a group; inside a store its ledger's word counts."""
    votes = ballot(found, valued, gate, stored)
    return narrowed(votes, ask(found, list(said)), valued) if found.options else votes


def verdict_on(row: int, found: Group, valued: Valued, votes: Ballot, gate: Gate, beside: Beside) -> Verdict:
    """Give the verdict on object ``row`` of a group."""
    verdict = decide(row, found, valued, votes, gate, asked=bool(beside.asked))
    if verdict.rule == "forecast" and verdict.verdict == "move" and not _follows(row, verdict.column, valued, beside):
        verdict = replace(verdict, rule="gate")
    if verdict.verdict != "move" or verdict.column is None:
        return verdict
    if beside.pinned:
        return Verdict("keep", "policy", verdict.column, f"it is pinned; else: {verdict.reason}")
    target = found.options[verdict.column].target
    promised = beside.promised.get(target.store, 0.0) + beside.stored_bytes
    if target.free_bytes is not None and promised > target.free_bytes:
        return Verdict("keep", "capacity", verdict.column, f"{target.place} has no room left after other moves")
    return verdict


def figures_on(verdict: Verdict, found: Group, beside: Beside, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures a decision shows: its option's; of a demotion that a ledger decided, those of its gate.

    Args:
        told: the alternatives of the receipt.
    """
    if verdict.column is None:
        return {}
    figures = dict(told[verdict.column])
    if verdict.rule == "ledger":
        store = found.options[verdict.column].source.store
        figures |= dict(zip((*FACTORS, "score", "confidence"), beside.figures.get(store, ()), strict=False))
    return figures


def _follows(row: int, column: int | None, valued: Valued, beside: Beside) -> bool:
    """Say whether a move goes the way its trigger asked: faster means cheaper to read."""
    faster = column is not None and bool(valued.read_extra[row, column] < 0)
    return faster == (beside.asked == FASTER)


def recomputed(decision: Decision, record: SurveyRecord) -> bool | None:
    """Make a decision again from its receipt and survey alone; say whether it comes out the same, bit for bit.

    None: its ledger's receipt is of another release's rule. Receipts of releases before this one keep no votes: of
    them the alternatives are compared.
    """
    receipt = decision.receipt
    found, valued = restored(receipt, record)
    told = alternatives(found, valued)
    if told != receipt["alternatives"]:
        return False
    if "beside" not in receipt:
        return _accounts_hold(receipt)
    beside = msgspec.convert(receipt["beside"], Beside)
    found = replace(found, broken=beside.broken, refused=dict(receipt["refused"]))
    votes = votes_on(found, valued, record.gate, np.array([beside.stored_bytes]), [beside.said])
    verdict = verdict_on(0, found, valued, votes, record.gate, beside)
    figures = figures_on(verdict, found, beside, told)
    same = _said(decision) == (verdict.verdict, verdict.rule, verdict.reason, *_shown(figures))
    target = "" if verdict.column is None else found.options[verdict.column].target.place
    if not same or target != decision.target or not _as_accounts(receipt, beside):
        return False
    return _accounts_hold(receipt)


SHOWN = ("score", "confidence", "saving_usd_month", "move_cost_usd")


def _shown(figures: Mapping[str, Any]) -> list[float]:
    return [figures.get(name, 0.0) for name in (*FACTORS, *SHOWN)]


def _said(decision: Decision) -> tuple[Any, ...]:
    figures = [decision.factors[name] for name in FACTORS] + [getattr(decision, name) for name in SHOWN]
    return (decision.verdict, decision.rule, decision.reason, *figures)


def _as_accounts(receipt: Mapping[str, Any], beside: Beside) -> bool:
    """Say whether what the ledgers said is what their own receipts say."""
    days, moves = receipt.get("ledger", {}), receipt.get("ledger_moves", {})
    held = all(days[store]["held"] == said[0] for store, said in beside.said.accounts.items() if store in days)
    shown = ((store, figures) for store, figures in beside.figures.items() if store in moves)
    return held and all(list(moves[store]["figures"]) == figures for store, figures in shown)


def _accounts_hold(receipt: Mapping[str, Any]) -> bool | None:
    """Live every ledger day of a receipt again; None where another release's rule lived one."""
    found = [held_again(kept) for kept in ledger_receipts(receipt)]
    return False if False in found else None if None in found else True
