"""The moves that are open: none that a filter refuses, each priced as its lines say."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from placement_fakes import FakeHealth, Measured, suite_for, world

from fabric.core.words import Classification, LatencyClass, Mode, ObjectPolicy
from fabric.placement.demand import Prior
from fabric.placement.facts import DAYS, Inputs, derive
from fabric.placement.options import Market, Terms, group, nearest, value
from fabric.placement.places import refusal, take_survey
from fabric.pricing.cost import compared, move_lines
from fabric.pricing.sheet import PriceBook, Site

BOOK = PriceBook.load()
PLACES = (
    "nas/hdd",
    "nas/nvme",
    "vault/hdd",
    "s3/standard",
    "s3/glacier_instant",
    "gs/standard",
    "gs/coldline",
    "az/hot",
)


def market(dice: random.Random | None = None) -> Market:
    fleet, health = world(), FakeHealth()
    for member in fleet.members if dice else ():
        if dice.random() < 0.2:
            health.down.add(member.name)
        mode = dice.choice(list(Mode))
        member.settings = msgspec.structs.replace(member.settings, mode=mode, kind=dice.choice(["managed", "adopted"]))
        member.store.capacity, member.store.used = 100, dice.randrange(100)
        fleet.latencies[f"{member.name}/{member.address.classes[0]}"] = Measured(1.0, 10 ** dice.uniform(0, 4))
    return Market(take_survey(fleet, BOOK, health, Site("aws")), BOOK, suite_for)


def inputs(objects: int, copies: int, seed: int) -> Inputs:
    dice = np.random.default_rng(seed)
    size = np.floor(10 ** dice.uniform(0, 12, objects))
    return Inputs(
        size_bytes=size,
        bytes_per_read=size * dice.random(objects),
        reads_per_hour=dice.random(objects),
        daily=dice.poisson(0.3, (objects, DAYS)).astype(float),
        observed_days=dice.uniform(0, 400, objects),
        age_days=dice.uniform(0, 400, (objects, copies)),
        forecast=np.full((objects, 4), np.nan),
        triggered=np.zeros(objects, np.bool_),
    )


@pytest.mark.item(13)
def test_no_option_is_one_that_a_filter_refuses_and_copies_stay_apart() -> None:
    dice = random.Random(3)
    seen = 0
    for _ in range(400):
        stage = market(dice)
        policy = ObjectPolicy(
            classification=dice.choice(list(Classification)),
            latency=dice.choice(list(LatencyClass)),
            regions=dice.choice([(), (), ("basel", "bern"), ("us-east-1", "us-central1")]),
        )
        places = dice.sample(PLACES, dice.randint(1, 3))
        for option in group(places, policy, stage).options:
            seen += 1
            assert not refusal(option.target, policy, 0, suite_for)
            assert option.target.place != option.source.place == places[option.copy]
            others = [place.partition("/")[0] for index, place in enumerate(places) if index != option.copy]
            assert option.target.store not in others
    assert seen > 100


@pytest.mark.item(14)
def test_the_cost_of_every_option_in_arrays_equals_the_sum_of_its_lines() -> None:
    facts = derive(inputs(50, 2, 14), Prior())
    found = group(
        ["s3/standard_ia", "gs/coldline"], ObjectPolicy(), Market(market().survey, BOOK, suite_for, Terms(7, 1))
    )
    valued = value(found, facts, 90.0)
    for column, option in enumerate(found.options):
        for row in range(50):
            lines = move_lines(
                option.source.price,
                option.target.price,
                option.between,
                size_bytes=float(facts.inputs.size_bytes[row]),
                age_days=float(facts.inputs.age_days[row, option.copy]),
                grace_days=1.0 if option.target.store == option.source.store else 7.0,
            )
            assert valued.move_cost[row, column] == pytest.approx(compared(lines), rel=1e-12)


def test_figures_of_one_object_do_not_depend_on_the_others_scored_with_it() -> None:
    many, stage = inputs(64, 1, 9), market()
    found = group(["s3/standard"], ObjectPolicy(), stage)
    together = value(found, derive(many, Prior()), 90.0)
    for row in range(64):
        alone = value(found, derive(many.take([row]), Prior()), 90.0)
        assert np.array_equal(alone.scores.confidence[0], together.scores.confidence[row])
        assert np.array_equal(alone.scores.score[0], together.scores.score[row])
        assert np.array_equal(alone.net[0], together.net[row])


def test_reads_are_priced_at_the_copy_they_reach_for_free_then_at_the_one_that_answers_soonest() -> None:
    views = market().survey.views
    own, cloud = views["nas/hdd"], views["gs/coldline"]
    assert own.to_reader.per_gb == 0 < cloud.to_reader.per_gb
    slow = msgspec.structs.replace(own, latency_ms=cloud.latency_ms * 10)
    assert nearest([cloud, slow]) is slow
    faster = msgspec.structs.replace(cloud, latency_ms=cloud.latency_ms / 2)
    assert nearest([cloud, faster]) is faster


def test_an_outage_does_not_change_what_a_month_costs() -> None:
    views = market().survey.views
    down = msgspec.structs.replace(views["nas/hdd"], healthy=False)
    assert nearest([views["gs/coldline"], down]) is down


def test_a_copy_in_a_store_that_left_the_settings_is_not_moved_and_breaks_nothing() -> None:
    found = group(["old/hdd", "s3/standard"], ObjectPolicy(), market())
    assert {option.copy for option in found.options} == {1}
    assert value(found, derive(inputs(3, 2, 1), Prior()), 90.0).net.shape == (3, len(found.options))
