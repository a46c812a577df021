"""The optimum against trying everything, and against every policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import replay_naive as naive
from replay_worlds import AWS, DEV_TRACES, GCP, dev_trace, random_rows, rows_of_trace, trace_from

from fabric.placement.replay import optimum
from fabric.placement.replay.billing import bill
from fabric.placement.replay.policies import policies
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import Trace, trace_of
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()


def tiny(seed: int) -> Trace:
    """A few objects over a week, small enough to try every course."""
    dice = np.random.default_rng(seed)
    rows = []
    for obj in range(3):
        size = int(10 ** dice.uniform(3, 9))
        begin = int(dice.integers(0, 3))
        if dice.random() < 0.7:
            rows.append((begin * 86400.0, obj, size, 0, 1, 0.0))
        for day in range(begin, 6):
            if dice.random() < 0.35:
                n = int(dice.integers(1, 4))
                rows.append((day * 86400.0 + 10, obj, size, 1, n, float(int(n * size * dice.uniform(0.01, 0.2)))))
        if dice.random() < 0.4:
            rows.append((int(dice.integers(begin, 6)) * 86400.0 + 20, obj, size, 2, 1, 0.0))
    return trace_from(rows, horizon_days=6)


def short(tariff: Tariff, seed: int) -> Tariff:
    """Minimum durations of a few days and prices of any order, so that every course can pay."""
    dice = np.random.default_rng(seed + 1000)
    classes = len(tariff.names)
    return replace(
        tariff,
        storage=tariff.storage * 30 * dice.uniform(0.3, 3, classes),
        min_days=dice.integers(0, 4, classes).astype(np.float64) + dice.choice([0.0, 0.5], classes),
        retrieval=tariff.retrieval * dice.uniform(0, 3, classes),
        transition=tariff.transition * dice.uniform(0, 2, classes),
    )


def naive_prices(tariff: Tariff) -> dict[str, naive.ClassRate]:
    return {
        name: naive.ClassRate(
            float(tariff.storage[c]) * naive.GB * 30,
            float(tariff.get[c]),
            float(tariff.transition[c]),
            float(tariff.retrieval[c]) * naive.GB,
            float(tariff.retrieval_request[c]),
            float(tariff.min_days[c]),
            int(tariff.min_bytes[c]),
        )
        for c, name in enumerate(tariff.names)
    }


@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_is_the_least_of_all_courses(seed: int) -> None:
    trace = tiny(seed)
    tariff = tariff_of(BOOK, "aws", (*AWS, "glacier_flexible") if seed % 2 else AWS)
    tariff = short(tariff, seed) if seed % 4 else tariff
    price = naive_prices(tariff)
    found = bill(trace, tariff, optimum.decide(trace, tariff)).by_life
    least = [naive.least_cost(version, price, trace.days) for version in rows_of_trace(trace)]
    assert found == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("provider", "classes"), [("aws", AWS), ("gcp", GCP)])
def test_no_policy_of_plain_classes_costs_an_object_less_than_the_optimum(
    provider: str, classes: tuple[str, ...], seed: int
) -> None:
    trace = trace_from(random_rows(seed, objects=30, days=900))
    tariff = tariff_of(BOOK, provider, classes)
    least = bill(trace, tariff, optimum.decide(trace, tariff)).by_life
    for policy in policies(tariff, BOOK.sheet(provider)).values():
        if policy.allowed:
            cost = bill(trace, tariff, policy.decide(trace, policy.tariff)).by_life
            assert (cost >= least * (1 - 1e-9)).all(), policy.name


def test_lives_found_in_several_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = trace_from(random_rows(2, objects=60))
    tariff = tariff_of(BOOK, "aws", AWS)
    whole = optimum.decide(trace, tariff)
    monkeypatch.setattr(optimum, "MOVES_AT_ONCE", 1)
    parts = optimum.decide(trace, tariff)
    assert [getattr(whole, name).tolist() for name in whole.__slots__] == [
        getattr(parts, name).tolist() for name in parts.__slots__
    ]


@pytest.mark.parametrize(("name", "usd"), [(DEV_TRACES[0], 3.5914983728), (DEV_TRACES[1], 48102.8729141)])
def test_the_optimum_of_the_development_traces_is_what_was_published_before(name: str, usd: float) -> None:
    trace = trace_of(read_traces([dev_trace(name)]))
    tariff = tariff_of(BOOK, "aws", AWS)
    assert bill(trace, tariff, optimum.decide(trace, tariff)).total == pytest.approx(usd, rel=1e-9)
