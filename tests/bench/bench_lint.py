"""Lifecycle rules priced on objects and their reads, objects x rules a processor second, beside a plain Python loop.

Makes objects under as many folders as there are rules, reads them for a year, and prices a document whose rules each
move one folder's objects twice and delete them. The peer works out the same bill object by object in plain Python, on
part of the objects; both totals must agree there. Prints one JSON line.

    python tests/bench/bench_lint.py [--objects 200000] [--rules 12] [--peer-objects 5000]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from fabric.placement.lint.classes import Tiers
from fabric.placement.lint.dialects import read_document
from fabric.placement.lint.keys import Keys
from fabric.placement.lint.money import moves_something, priced, prices_of
from fabric.placement.lint.population import Population
from fabric.placement.lint.work import lint
from fabric.placement.replay.lives import GET, PUT
from fabric.placement.replay.trace import Rows, Trace, trace_of
from fabric.pricing.sheet import PriceBook

DAYS = 365
READS_EACH = 6
GIB = 1 << 30
MOVES = ((30, "STANDARD_IA", "standard_ia"), (120, "GLACIER_IR", "glacier_instant"))
EXPIRES = 300


def document(rules: int) -> str:
    """Return an S3 document: each rule moves a folder's objects after 30 and 120 days and deletes them after 300."""
    return json.dumps(
        {
            "Rules": [
                {
                    "ID": f"rule-{number}",
                    "Status": "Enabled",
                    "Filter": {"Prefix": f"folder-{number:03}/"},
                    "Transitions": [{"Days": days, "StorageClass": name} for days, name, _ in MOVES],
                    "Expiration": {"Days": EXPIRES},
                }
                for number in range(rules)
            ]
        }
    )


def population(objects: int, rules: int) -> Population:
    """Return objects written over the first two months and read a few times later; a tenth in no rule's folder."""
    rng = np.random.default_rng(4)
    born = rng.integers(0, 60, objects)
    size = np.clip(rng.lognormal(14, 2.5, objects), 200_000, 1e11).astype(np.int64)
    obj = np.concatenate([np.arange(objects), np.repeat(np.arange(objects), READS_EACH)])
    ages = rng.integers(0, 290, objects * READS_EACH)
    day = np.concatenate([born, np.repeat(born, READS_EACH) + ages])
    op = np.concatenate([np.full(objects, PUT, np.int8), np.full(objects * READS_EACH, GET, np.int8)])
    moved = np.where(op == GET, size[obj], 0).astype(np.float64)
    order = np.argsort(day, kind="stable")
    one = np.ones(len(obj), np.int64)
    rows = Rows(day[order] * 86_400, obj[order], size[obj][order], op[order], one, moved[order])
    folders = max(1, round(rules / 0.9))
    keys = Keys.of(f"folder-{number % folders:03}/part-{number:07}.parquet" for number in range(objects))
    return Population(trace_of(rows, horizon_days=DAYS), keys=keys, tags=None, first_day=dt.date(2026, 1, 1))


def by_hand(trace: Trace, names: list[str], rules: int, book: PriceBook) -> float:
    """Return the bill of the document, object by object and rule by rule, in plain Python."""
    tiers = {name: book.price("aws", name).tier for name in ("standard", *(name for _, _, name in MOVES))}
    total = 0.0
    for life in range(trace.lives):
        size, birth = int(trace.size[life]), int(trace.birth[life])
        key, taken = names[int(trace.obj[life])], False
        for number in range(rules):
            taken = taken or key.startswith(f"folder-{number:03}/")
        end = min(birth + EXPIRES, DAYS) if taken else DAYS
        steps = [(birth, "standard")] + ([(birth + days, name) for days, _, name in MOVES] if taken else [])
        steps = [(day, name) for day, name in steps if day < end]
        for at, (day, name) in enumerate(steps):
            tier, until = tiers[name], steps[at + 1][0] if at + 1 < len(steps) else end
            billed = max(size, tier.min_billable_bytes)
            total += billed / GIB * tier.storage_per_gb_month / 30 * (until - day)
            total += (tier.put_per_1k if at == 0 else tier.transition_in_per_1k) / 1000
            if until < DAYS:  # it leaves the class
                total += billed / GIB * tier.storage_per_gb_month / 30 * max(0.0, tier.min_days - (until - day))
        for row in range(int(trace.first[life]), int(trace.first[life + 1])):
            day, many = int(trace.day[row]), int(trace.reads[row])
            if day >= end and taken:
                continue
            tier = tiers[[name for start, name in steps if start <= day][-1]]
            total += many * (tier.get_per_1k + tier.retrieval_request_per_1k) / 1000
            total += float(trace.bytes[row]) / GIB * tier.retrieval_per_gb
    return total


def timed(work: Any) -> tuple[float, Any]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=200_000)
    parser.add_argument("--rules", type=int, default=12)
    parser.add_argument("--peer-objects", type=int, default=5_000)
    given = parser.parse_args()
    book = PriceBook.load()
    asked = read_document(document(given.rules).encode(), "rules.json", "s3")
    prices = prices_of(book, "s3", moves_something(asked.rules), Tiers())
    many, few = population(given.objects, given.rules), population(given.peer_objects, given.rules)
    priced(asked.rules, asked, many, prices)  # compiles
    cpu, _ = timed(lambda: priced(asked.rules, asked, many, prices))
    whole, found = timed(lambda: lint(asked, book=book, today=dt.date(2026, 12, 1), population=many))
    ours = priced(asked.rules, asked, few, prices).total
    names = [f"folder-{number % max(1, round(given.rules / 0.9)):03}/" for number in range(given.peer_objects)]
    slow, theirs = timed(lambda: by_hand(few.trace, names, given.rules, book))
    assert abs(ours - theirs) <= 1e-9 * theirs, (ours, theirs)
    rate, peer = given.objects * given.rules / cpu, given.peer_objects * given.rules / slow
    print(
        json.dumps(
            {
                "bench": "lint",
                "objects": given.objects,
                "rules": given.rules,
                "objects_x_rules_priced_per_cpu_second": round(rate),
                "plain_python_per_cpu_second": round(peer),
                "ratio_to_plain_python": round(rate / peer, 1),
                "whole_lint_cpu_seconds": round(whole, 2),
                "findings": len(found.findings),
                "same_bill": True,
                "machine": platform.machine(),
                "python": platform.python_version(),
                "versions": {name: metadata.version(name) for name in ("numpy", "numba")},
            }
        )
    )


if __name__ == "__main__":
    main()
