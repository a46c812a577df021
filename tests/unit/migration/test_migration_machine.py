"""The table of states, over every pair, and the rules of risk."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fabric.core.config import MigrationSettings
from fabric.core.errors import ConflictError
from fabric.core.words import Classification, Criticality
from fabric.migration import machine
from fabric.migration.machine import ENDED, LEGAL, RUNNING, WAITING, State
from fabric.migration.risk import Facts, Level, assess, is_off_peak, needs_approval

SETTINGS = MigrationSettings()
SMALL = Facts(1000, Classification.PRIVATE, Criticality.NORMAL, 0.0, False, False, 0.0)


@pytest.mark.item(24)
@pytest.mark.parametrize(("source", "target"), list(itertools.product(State, State)))
def test_a_transition_outside_the_table_raises_and_one_inside_does_not(source: State, target: State) -> None:
    legal = target in LEGAL[source]

    if legal:
        machine.check("job", source, target, undo=True)
    else:
        with pytest.raises(ConflictError) as caught:
            machine.check("job", source, target, undo=True)
        assert caught.value.context["state"] == source


def test_a_completed_job_is_left_only_by_an_undo() -> None:
    with pytest.raises(ConflictError):
        machine.check("job", State.COMPLETED, State.ROLLING_BACK)
    machine.check("job", State.COMPLETED, State.ROLLING_BACK, undo=True)


def test_every_state_is_running_waiting_or_ended_and_only_one() -> None:
    assert set(State) == RUNNING | WAITING | ENDED
    assert not RUNNING & WAITING
    assert not RUNNING & ENDED
    assert not WAITING & ENDED


@given(some.lists(some.integers(0, 9), max_size=30))
def test_no_walk_over_the_table_leaves_rolled_back_or_skips_verification(choices: list[int]) -> None:
    state, walk = State.PENDING, [State.PENDING]
    for choice in choices:
        ways = sorted(LEGAL[state])
        if not ways:
            break
        state = ways[choice % len(ways)]
        walk.append(state)

    if State.COMPLETED in walk:
        assert State.VERIFYING in walk[: walk.index(State.COMPLETED)]
    if State.ROLLED_BACK in walk:
        assert walk[-1] is State.ROLLED_BACK


def test_a_small_quiet_move_is_low_and_says_why() -> None:
    risk = assess(SMALL, SETTINGS)

    assert risk.level is Level.LOW
    assert risk.reasons
    assert not needs_approval(risk, SETTINGS)


@pytest.mark.parametrize(
    ("facts", "level"),
    [
        (Facts(1 << 30, Classification.PRIVATE, Criticality.NORMAL, 0, False, False, 0.0), Level.MEDIUM),
        (Facts(1 << 40, Classification.PRIVATE, Criticality.NORMAL, 0, False, False, 0.0), Level.HIGH),
        (Facts(1, Classification.CONFIDENTIAL, Criticality.CRITICAL, 0, False, False, 0.0), Level.HIGH),
        (Facts(1, Classification.PUBLIC, Criticality.CRITICAL, 0, False, False, 0.0), Level.MEDIUM),
        (Facts(1, Classification.RESTRICTED, Criticality.NORMAL, 0, False, True, 0.0), Level.MEDIUM),
        (Facts(1, Classification.PRIVATE, Criticality.NORMAL, 101, False, False, 0.0), Level.MEDIUM),
        (Facts(1, Classification.PRIVATE, Criticality.NORMAL, 0, True, False, None), Level.MEDIUM),
        (Facts(1, Classification.PRIVATE, Criticality.NORMAL, 0, True, False, 0.5), Level.MEDIUM),
        (Facts(1, Classification.PRIVATE, Criticality.NORMAL, 0, True, False, 500.0), Level.HIGH),
        (Facts(1, Classification.PRIVATE, Criticality.NORMAL, 0, True, False, 0.01), Level.LOW),
    ],
)
def test_the_highest_rule_names_the_level(facts: Facts, level: Level) -> None:
    risk = assess(facts, SETTINGS)

    assert risk.level is level
    assert needs_approval(risk, SETTINGS) == (level is Level.HIGH)


@given(some.integers(0, 1 << 42), some.integers(0, 1 << 42))
def test_a_larger_object_is_never_less_risky(first: int, second: int) -> None:
    order = list(Level)
    small, large = sorted((first, second))

    def level(size: int) -> int:
        facts = Facts(size, Classification.PRIVATE, Criticality.NORMAL, 0, False, False, 0.0)
        return order.index(assess(facts, SETTINGS).level)

    assert level(small) <= level(large)


def test_the_off_peak_window_reaches_over_midnight() -> None:
    hours = [hour for hour in range(24) if is_off_peak(hour * 3600.0, (22, 6))]

    assert hours == [0, 1, 2, 3, 4, 5, 22, 23]
    assert [hour for hour in range(24) if is_off_peak(hour * 3600.0, (1, 3))] == [1, 2]
