"""What holds for every policy: no peeking, decisions that can be billed again, names and families."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from replay_worlds import AWS, DEV_TRACES, GCP, dev_trace, random_rows, trace_from

from fabric.core.errors import BadInputError
from fabric.placement.replay.billing import bill
from fabric.placement.replay.decisions import read_decisions, write_decisions
from fabric.placement.replay.moves import Moves
from fabric.placement.replay.policies import Policy, chosen, policies
from fabric.placement.replay.reading import read_traces
from fabric.placement.replay.run import compare
from fabric.placement.replay.tariff import tariff_of
from fabric.placement.replay.trace import Trace, trace_of
from fabric.pricing.sheet import PriceBook

BOOK = PriceBook.load()
CLASSES = {"aws": (*AWS, "intelligent_tiering"), "gcp": (*GCP, "autoclass")}


def known(provider: str, classes: tuple[str, ...] = ()) -> dict[str, Policy]:
    return policies(tariff_of(BOOK, provider, classes or CLASSES[provider]), BOOK.sheet(provider))


def first_days(trace: Trace, moves: Moves, days: int) -> list[tuple[int, ...]]:
    """The moves before day ``days``, by object and birth."""
    early = moves.day < days
    columns = (trace.obj[moves.life], trace.birth[moves.life], moves.day, moves.to, moves.after_reads)
    return sorted(zip(*(column[early].tolist() for column in columns), strict=True))


@pytest.mark.parametrize("provider", CLASSES)
@pytest.mark.parametrize("seed", range(4))
def test_a_past_cut_short_gives_every_online_policy_the_same_first_days(provider: str, seed: int) -> None:
    rows = random_rows(seed, objects=40, days=700, bursts=6.0)
    whole = trace_from(rows)
    ends = np.random.default_rng(seed).integers(20, 690, 2).tolist()
    cuts = [(days, trace_from([row for row in rows if row[0] < days * 86400.0], horizon_days=days)) for days in ends]
    for policy in filter(lambda policy: policy.online, known(provider).values()):
        moves = policy.decide(whole, policy.tariff)
        for days, cut in cuts:
            seen = first_days(cut, policy.decide(cut, policy.tariff), days)
            assert seen == first_days(whole, moves, days), (policy.name, days)


@pytest.mark.parametrize("name", DEV_TRACES)
def test_a_development_trace_cut_short_gives_the_same_first_days(name: str) -> None:
    rows = read_traces([dev_trace(name)])
    whole = trace_of(rows)
    cut = trace_of(rows, horizon_days=900)
    for policy in known("aws").values():
        if policy.online:
            seen = first_days(cut, policy.decide(cut, policy.tariff), 900)
            assert seen == first_days(whole, policy.decide(whole, policy.tariff), 900), policy.name


def same(one: Moves, other: Moves) -> bool:
    return all(getattr(one, name).tolist() == getattr(other, name).tolist() for name in one.__slots__)


@pytest.mark.parametrize("provider", CLASSES)
def test_decisions_written_out_and_read_back_are_the_same_moves(provider: str, tmp_path: Path) -> None:
    trace = trace_from(random_rows(11, objects=60, days=900, bursts=6.0))
    for policy in known(provider).values():
        moves = policy.decide(trace, policy.tariff)
        file = tmp_path / "decisions.csv"
        assert write_decisions(file, trace, policy.tariff, moves) == len(moves.life)
        again = read_decisions(file, trace, policy.tariff)
        assert same(again, moves), policy.name
        assert bill(trace, policy.tariff, again).total == bill(trace, policy.tariff, moves).total


def test_decisions_say_day_object_class_and_reads(tmp_path: Path) -> None:
    trace = trace_from(
        [(0.0, 7, 10**9, 0, 1, 0.0), (86400.0 * 60, 7, 10**9, 1, 3, 3e9), (86400.0 * 61, 7, 10**9, 1, 1, 1e9)]
    )
    policy = known("aws", AWS)["last_access_30_90_promote"]
    write_decisions(tmp_path / "d.csv", trace, policy.tariff, policy.decide(trace, policy.tariff))
    assert (tmp_path / "d.csv").read_text().splitlines() == [
        "day,obj,class,after_reads",
        "0,7,standard,0",
        "30,7,standard_ia,0",
        "60,7,standard,0",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("day,obj,class,after_reads\n0,7,standard,x\n", "damaged"),
        ("day,obj,class,after_reads\n0,7,lukewarm,0\n", "damaged"),
        ("day,obj,class,after_reads\n0,8,standard,0\n", "an object that the trace lacks"),
        ("day,obj,class,after_reads\n2,7,standard,0\n", "not those of this trace"),
        ("day,obj,class,after_reads\n", "not those of this trace"),
        ("a,b\n", "no decisions"),
    ],
)
def test_decisions_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    trace = trace_from([(0.0, 7, 10**9, 0, 1, 0.0), (86400.0 * 60, 7, 10**9, 1, 3, 3e9)])
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_decisions(tmp_path / "d.csv", trace, tariff_of(BOOK, "aws", AWS))


def test_all_policies_are_those_whose_classes_were_asked_for() -> None:
    plain = [policy.name for policy in chosen(known("aws", AWS), ["all"])]
    assert "intelligent_tiering" not in plain
    assert {"all_hot", "age_30_90", "break_even_ttl:glacier_instant", "optimum"} <= set(plain)
    assert "intelligent_tiering" in [policy.name for policy in chosen(known("aws"), ["all"])]
    assert {"autoclass:nearline", "autoclass:archive"} <= {policy.name for policy in chosen(known("gcp"), ["all"])}


def test_a_family_stands_for_its_members_and_an_unknown_name_is_refused() -> None:
    assert [policy.name for policy in chosen(known("aws", AWS), ["adaptive_ttl"])] == [
        "adaptive_ttl:standard_ia",
        "adaptive_ttl:glacier_instant",
    ]
    with pytest.raises(BadInputError, match="no such policy"):
        chosen(known("aws"), ["adaptive"])


def test_a_comparison_names_totals_lines_and_ratios() -> None:
    trace = trace_from(random_rows(4))
    found = compare(trace, BOOK, "aws", classes=AWS, names=["all_hot", "static"]).document()
    assert list(found["policies"]) == ["all_hot", *(f"static:{name}" for name in AWS)]
    for policy in found["policies"].values():
        assert sum(policy["lines"].values()) == policy["total"]
        assert policy["ratio_to_optimum"] >= 1.0
        assert policy["egress"]["low"] == 0.0 < policy["egress"]["high"]
    assert found["policies"]["all_hot"]["total"] == found["policies"]["static:standard"]["total"]


def test_one_class_alone_is_compared_too() -> None:
    trace = trace_from(random_rows(4))
    found = compare(trace, BOOK, "aws", classes=("standard",))
    assert {outcome.total for outcome in found.outcomes} == {found.optimum}
