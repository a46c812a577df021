"""One pass over an object's row gives the scores and gates that whole arrays of every step give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_fakes import FakeHealth, suite_for, world

from fabric.core import kernels
from fabric.core.words import LatencyClass, ObjectPolicy
from fabric.placement import sweep as module
from fabric.placement.demand import Prior
from fabric.placement.facts import DAYS, Inputs, derive
from fabric.placement.options import Group, Market, group, passing, value
from fabric.placement.places import take_survey
from fabric.placement.score import Gate
from fabric.placement.sweep import sweep
from fabric.pricing.sheet import PriceBook, Site

BOOK = PriceBook.load()
STAGE = Market(take_survey(world(), BOOK, FakeHealth(), Site("aws")), BOOK, suite_for)
GATES = (Gate(), Gate(score=0.4, confidence=0.3, floor=0.05), Gate(score=0.0, confidence=0.99, floor=0.0))
PRIOR = Prior(0.1, 1.0, 2.0, 100)


def fleet(objects: int, copies: int, seed: int) -> Inputs:
    """Random objects: idle ones, bursts, steady and dying ones, some young, some forecast, some of those triggered."""
    dice = np.random.default_rng(seed)
    daily = dice.poisson(dice.gamma(0.1, 8.0, (objects, 1)) * dice.choice([0, 1, 1, 30], (objects, DAYS))).astype(float)
    daily[::7, :40] = 0.0
    daily[3::7, 20:] = 0.0
    daily[5::11] = 2.0  # the very same every day: a trend without any error
    forecast = dice.gamma(0.5, 4.0, (objects, 4))
    forecast[:, 2] += forecast[:, 1]
    forecast[dice.random(objects) < 0.6] = np.nan
    size = np.floor(10 ** dice.uniform(0, 12, objects))
    return Inputs(
        size_bytes=size,
        bytes_per_read=size * dice.random(objects),
        reads_per_hour=daily[:, -1] / 24.0,
        daily=daily,
        observed_days=dice.choice([0.0, 6.0, 13.0, 29.9, 30.0, 50.0, 400.0], objects),
        age_days=dice.uniform(0, 200, (objects, copies)),
        forecast=forecast,
        triggered=dice.random(objects) < 0.3,
    )


def assert_same(found: Group, inputs: Inputs, gate: Gate) -> int:
    facts = derive(inputs, PRIOR)
    swept = sweep(found, inputs, PRIOR, 90.0, gate)
    assert np.allclose(swept.score, value(found, facts, 90.0).scores.score, rtol=0, atol=1e-9)
    expected = passing(found, facts, 90.0, gate)
    assert np.array_equal(swept.opened, expected)
    return int(expected.sum())


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("places", [("s3/standard",), ("s3/standard_ia", "gs/coldline"), ("nas/hdd", "s3/standard")])
def test_a_sweep_opens_the_gates_that_the_score_in_arrays_opens(places: tuple[str, ...], gate: Gate) -> None:
    found = group(places, ObjectPolicy(), STAGE)
    assert assert_same(found, fleet(400, len(places), 3), gate) > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), latency=st.sampled_from(list(LatencyClass)))
def test_a_sweep_and_the_arrays_agree_on_random_fleets_and_deadlines(seed: int, latency: LatencyClass) -> None:
    found = group(["s3/standard"], ObjectPolicy(latency=latency), STAGE)
    if found.options:
        assert_same(found, fleet(60, 1, seed), Gate())


def test_objects_read_a_million_times_a_day_are_left_to_the_arrays_and_agree() -> None:
    found, inputs = group(["s3/standard_ia"], ObjectPolicy(), STAGE), fleet(50, 1, 8)
    inputs.daily[:] = 1e6 + np.arange(DAYS)
    assert_same(found, inputs, Gate())


def test_a_group_without_options_has_no_scores() -> None:
    swept = sweep(group(["old/hdd"], ObjectPolicy(), STAGE), fleet(5, 1, 1), PRIOR, 90.0, Gate())
    assert swept.score.shape == swept.opened.shape == (5, 0)


def test_the_compiled_sweep_says_what_the_plain_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    found, inputs = group(["s3/standard_ia", "gs/coldline"], ObjectPolicy(), STAGE), fleet(500, 2, 6)
    plain = sweep(found, inputs, PRIOR, 90.0, Gate())
    monkeypatch.setattr(module, "compiled", lambda kernel, work, lean: kernels.compiled(kernel, lean=lean))
    fast = sweep(found, inputs, PRIOR, 90.0, Gate())
    assert np.array_equal(plain.opened, fast.opened)
    assert np.allclose(plain.score, fast.score, rtol=0, atol=1e-14)
