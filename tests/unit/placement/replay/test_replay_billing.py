"""The replayed bill against a second, naive implementation, on random pasts and on both development traces."""

from __future__ import annotations

import numpy as np
import pytest
import replay_naive as naive
from replay_worlds import AWS, DEV_TRACES, GCP, columns, dev_trace, plain_moves, random_rows, rows_of_trace, trace_from

from fabric.core import kernels
from fabric.placement.replay import billing
from fabric.placement.replay.policies import policies
from fabric.placement.replay.published import adaptive_days
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.tariff import Tariff, tariff_of
from fabric.placement.replay.trace import trace_of
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
PROVIDERS = {"aws": (*AWS, "intelligent_tiering"), "gcp": (*GCP, "autoclass")}
CLOSE = 1e-9
ON_DEV = ("age_30_90", "last_access_30_90_promote", "intelligent_tiering", "adaptive_ttl:glacier_instant", "optimum")


def known(provider: str):  # type: ignore[no-untyped-def]
    tariff = tariff_of(BOOK, provider, PROVIDERS[provider])
    return policies(tariff, BOOK.sheet(provider))


def naive_bill(versions: list[naive.Version], moves, price, days: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    return naive.total(naive.bill(v, m, price, days) for v, m in zip(versions, moves, strict=True))


def price_names(name: str, tariff: Tariff) -> tuple[str, ...]:
    """The classes that the naive bill needs; Autoclass's terminal class is part of the policy's name."""
    return tuple(name if c == "autoclass" and name.startswith("autoclass:") else c for c in tariff.names)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("stretch", [1.0, 0.5])
def test_versions_are_cut_as_a_plain_reading_of_the_rows_cuts_them(seed: int, stretch: float) -> None:
    rows = random_rows(seed)
    trace = trace_from(rows, stretch=stretch, horizon_days=150 if seed % 2 else None)
    versions, days = naive.versions(rows, stretch=stretch, horizon=150 if seed % 2 else None)
    assert trace.days == days
    assert rows_of_trace(trace) == versions


@pytest.mark.item(14)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("seed", range(8))
def test_every_policy_costs_what_a_naive_day_loop_says_on_random_pasts(provider: str, seed: int) -> None:
    rows = random_rows(seed, objects=12)
    trace = trace_from(rows)
    versions, days = naive.versions(rows)
    for policy in known(provider).values():
        price = naive.rates(provider, price_names(policy.name, policy.tariff))
        moves = policy.decide(trace, policy.tariff)
        found = billing.bill(trace, policy.tariff, moves)
        if policy.name in ("optimum", "fabric", "fabric_gated"):
            again = [
                [(d, policy.name if c == "autoclass:x" else c, k) for d, c, k in life]
                for life in plain_moves(moves, policy.tariff, trace.lives)
            ]
        else:
            rule = naive.published(policy.name, versions, price, days)
            again = [rule(version, price, days) for version in versions]
        assert found.by_line == pytest.approx(naive_bill(versions, again, price, days), rel=CLOSE), policy.name


@pytest.mark.parametrize("name", DEV_TRACES)
def test_every_policy_costs_what_a_naive_day_loop_says_on_the_development_traces(name: str) -> None:
    trace = trace_of(read_traces([dev_trace(name)]))
    versions = rows_of_trace(trace)
    chosen = known("aws")
    for policy_name in (*ON_DEV, *(own for own in ("fabric", "fabric_gated") if own in chosen)):
        policy = chosen[policy_name]
        price = naive.rates("aws", policy.tariff.names)
        moves = policy.decide(trace, policy.tariff)
        found = billing.bill(trace, policy.tariff, moves)
        again = naive_bill(versions, plain_moves(moves, policy.tariff, trace.lives), price, trace.days)
        assert found.by_line == pytest.approx(again, rel=CLOSE), policy.name


def test_compiled_and_plain_kernels_give_the_same_bits() -> None:
    trace = trace_from(random_rows(5, objects=40))
    for policy in known("aws").values():
        moves = policy.decide(trace, policy.tariff)
        plain, fast = (np.zeros((trace.lives, 6)) for _ in range(2))
        billing.price(trace.columns, policy.tariff.columns, moves.columns(trace.lives), plain)
        kernels.compiled(billing.price)(trace.columns, policy.tariff.columns, moves.columns(trace.lives), fast)
        assert plain.tobytes() == fast.tobytes(), policy.name


@pytest.mark.parametrize("to", [1, 2])
def test_the_adaptive_wait_is_the_one_that_would_have_cost_least_so_far(to: int) -> None:
    rows = random_rows(7, objects=120, days=130, bursts=6.0)
    trace = trace_from(rows)
    versions, days = naive.versions(rows)
    price = naive.rates("aws", AWS)
    again = naive.skystore_waits(versions, price, AWS[to], days)
    found = adaptive_days(trace, tariff_of(BOOK, "aws", AWS), to)
    assert found.tolist() == [max(1, again[day]) for day in range(days)]
    assert len(set(found.tolist())) > 1


def test_lines_sum_to_the_total_as_anyone_adds_them() -> None:
    trace = trace_from(random_rows(3))
    for policy in known("gcp").values():
        found = billing.bill(trace, policy.tariff, policy.decide(trace, policy.tariff))
        assert sum(found.by_line.values()) == found.total


def test_an_object_that_was_there_before_pays_no_put() -> None:
    rows = [(0.0, 1, 10_000, 1, 1, 10_000.0), (86400.0 * 3, 2, 10_000, 0, 1, 0.0)]
    trace = trace_of(columns(rows))
    tariff = tariff_of(BOOK, "aws", AWS)
    found = billing.bill(trace, tariff, known("aws")["all_hot"].decide(trace, tariff))
    assert found.lines[:, billing.TRANSITION].tolist() == [0.0, 0.005 / 1000]
