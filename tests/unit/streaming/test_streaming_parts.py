"""Breaker, workers, anomalies and rates."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy import stats

from fabric.core.clock import ManualClock
from fabric.core.errors import UnavailableError
from fabric.streaming import anomalies
from fabric.streaming.anomalies import Detector, Drift, ThreeSigma, Verdict
from fabric.streaming.breaker import REST_SECONDS, Breaker, BreakerState
from fabric.streaming.rates import RateMeter
from fabric.streaming.workers import CALM_ROUNDS, Workers, wanted_workers


def fail() -> None:
    raise OSError("the sink is down")


def opened(clock: ManualClock) -> Breaker:
    breaker = Breaker(clock, failures=3)
    for _ in range(3):
        with pytest.raises(OSError):
            breaker.call(fail)
    return breaker


@pytest.mark.item(37)
def test_the_breaker_opens_after_n_failures_in_a_row_and_then_runs_nothing() -> None:
    clock, runs = ManualClock(), []
    breaker = Breaker(clock, failures=3)
    for work in (fail, fail):
        with pytest.raises(OSError):
            breaker.call(work)
    breaker.call(lambda: None)  # a success starts the count again
    for _ in range(3):
        assert breaker.state is BreakerState.CLOSED
        with pytest.raises(OSError):
            breaker.call(fail)

    assert breaker.state is BreakerState.OPEN
    with pytest.raises(UnavailableError, match="circuit is open"):
        breaker.call(lambda: runs.append(1))
    assert runs == []
    assert breaker.opened == 1


@pytest.mark.item(37)
def test_half_open_lets_a_single_trial_through() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(REST_SECONDS)
    inside, leave = threading.Event(), threading.Event()

    def trial() -> None:
        inside.set()
        leave.wait(5)

    thread = threading.Thread(target=breaker.call, args=(trial,))
    thread.start()
    inside.wait(5)
    with pytest.raises(UnavailableError):
        breaker.call(lambda: None)
    leave.set()
    thread.join()

    assert breaker.state is BreakerState.CLOSED
    assert breaker.call(lambda: 7) == 7


@pytest.mark.item(37)
def test_a_failed_trial_opens_again_for_longer() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(REST_SECONDS)
    with pytest.raises(OSError):
        breaker.call(fail)
    clock.advance(REST_SECONDS)
    assert breaker.state is BreakerState.OPEN
    clock.advance(REST_SECONDS)

    assert breaker.state is BreakerState.HALF_OPEN
    breaker.call(lambda: None)
    assert breaker.state is BreakerState.CLOSED


def test_a_closed_breaker_is_parallel() -> None:
    breaker = Breaker(ManualClock())
    together = threading.Barrier(4, timeout=5)
    threads = [threading.Thread(target=breaker.call, args=(together.wait,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not together.broken


def test_a_bug_is_not_counted_as_the_sinks_failure() -> None:
    breaker = Breaker(ManualClock(), failures=1)
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)

    assert breaker.state is BreakerState.CLOSED


@pytest.mark.item(39)
def test_the_number_of_workers_follows_the_queue_between_one_and_the_cap() -> None:
    assert wanted_workers(1, 0, 0, 4) == 1
    assert wanted_workers(1, 5, 0, 4) == 2
    assert wanted_workers(1, 1000, 0, 4) == 4
    assert wanted_workers(3, 2, 0, 4) == 3
    assert wanted_workers(3, 0, CALM_ROUNDS, 4) == 2
    assert wanted_workers(1, 0, CALM_ROUNDS, 4) == 1


@pytest.mark.item(39)
def test_real_threads_rise_under_load_and_fall_after() -> None:
    gate, done = threading.Event(), threading.Semaphore(0)

    def handle(_item: int) -> None:
        gate.wait(10)
        done.release()

    workers: Workers[int] = Workers(handle, most=3)
    workers.start()
    for number in range(40):
        workers.submit(number, 1)
    assert workers.adjust() == 3
    gate.set()
    for _ in range(40):
        assert done.acquire(timeout=10)
    counts = [workers.adjust() for _ in range(3 * CALM_ROUNDS)]
    workers.stop()

    assert counts[0] == 3
    assert counts[-1] == 1
    assert workers.state().done == (0, 40)
    assert workers.state().peak == 3


@pytest.mark.item(40)
def test_high_priority_goes_before_everything_normal() -> None:
    order: list[int] = []
    started, gate, done = threading.Event(), threading.Event(), threading.Semaphore(0)

    def handle(item: int) -> None:
        started.set()
        gate.wait(10)
        order.append(item)
        done.release()

    workers: Workers[int] = Workers(handle, most=1)
    workers.start()
    workers.submit(0, 1)
    started.wait(10)
    for number in (1, 2, 3):
        workers.submit(number, 1)
    for number in (10, 11):
        workers.submit(number, 0)
    gate.set()
    for _ in range(6):
        assert done.acquire(timeout=10)
    workers.stop()

    assert order == [0, 10, 11, 1, 2, 3]


def test_a_worker_that_dies_of_a_bug_is_counted_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    done = threading.Event()

    def handle(item: int) -> None:
        if item == 0:
            raise ZeroDivisionError
        done.set()

    workers: Workers[int] = Workers(handle, most=1)
    workers.start()
    workers.submit(0, 1)
    while workers.state().failed == 0 or not seen:
        pass
    workers.submit(1, 1)
    workers.adjust()

    assert done.wait(10)
    assert seen == [ZeroDivisionError]
    workers.stop()


@pytest.mark.parametrize("deviation", [0.01, 0.5, 1, 3, 10, 50, 150, 199, 201, 1000])
def test_the_tail_is_students_with_four_degrees_of_freedom(deviation: float) -> None:
    assert anomalies._tail(deviation) == pytest.approx(2 * stats.t.sf(deviation, 4), rel=1e-3)


def judged(events: list[float], seconds: int = 10) -> list[Verdict]:
    detector = Detector("total")
    return [detector.judge(1_700_000_000 + seconds * i, seconds, value) for i, value in enumerate(events)]


def test_a_burst_and_a_silence_raise_and_a_steady_stream_does_not() -> None:
    rng = np.random.default_rng(5)
    steady = rng.poisson(200, 2000).astype(float).tolist()
    assert not any(verdict.raised for verdict in judged(steady))

    burst = judged([*steady[:500], 3000.0, *steady[500:520]])
    assert [place for place, verdict in enumerate(burst) if verdict.raised] == [500]
    silence = judged([*steady[:500], 0.0, 0.0, 0.0])
    assert any(verdict.raised for verdict in silence[500:])


def test_what_a_bursty_stream_always_does_raises_nothing_that_three_sigma_would() -> None:
    rng = np.random.default_rng(6)
    heavy = (rng.pareto(2.2, 8640) * 60).round().tolist()  # a day of windows
    verdicts = judged(heavy)

    assert sum(verdict.raised for verdict in verdicts) <= 1
    assert sum(verdict.three_sigma for verdict in verdicts) > 50


def test_few_events_never_raise_by_being_a_few_more() -> None:
    assert not any(verdict.raised for verdict in judged([0.0] * 300 + [5.0, 0.0, 9.0]))


@pytest.mark.item(35)
def test_three_sigma_is_the_specifications_rule() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(100, 5, 100).tolist()
    detector = ThreeSigma()
    for value in values:
        detector.judge(value)
    edge = float(np.mean(values) + 3 * np.std(values))

    assert not detector.judge(edge - 0.01)
    assert detector.judge(edge + 5)


@pytest.mark.item(36)
def test_drift_is_found_by_averages_that_part() -> None:
    rng = np.random.default_rng(2)
    drift = Drift()
    calm = [drift.judge(float(value)) for value in rng.normal(100, 5, 500)]
    moved = [drift.judge(float(value)) for value in rng.normal(112, 5, 60)]

    assert sum(calm) < 0.05 * len(calm)
    assert any(moved[:20])


def test_a_rate_counts_whole_seconds_of_the_last_ten() -> None:
    meter = RateMeter()
    for second in range(100):
        meter.add(second + 0.5, 30)

    assert meter.rate(100.2) == 30
    assert meter.rate(105.2) == 15
    assert meter.rate(200.0) == 0


@pytest.mark.parametrize(
    "windows",
    [
        [(10, 69), (10, 49), (10, 48), (10, 74), (10, 129), (10, 1331), (5, 757)],
        [(10, 98), (10, 141), (10, 194), (10, 95), (10, 134), (10, 1682), (5, 991)],
    ],
)
def test_a_young_and_uneven_stream_s_twenty_fold_load_is_raised_by_its_second_window(
    windows: list[tuple[int, int]],
) -> None:
    """Windows as a run of the sample world gave them, which went unnoticed once."""
    detector = Detector("total")
    verdicts = [detector.judge(1.7e9, seconds, float(events)) for seconds, events in windows]
    assert [verdict.raised for verdict in verdicts] == [False] * 6 + [True]


def test_what_stays_improbable_becomes_what_is_usual() -> None:
    detector = Detector("total")
    wild = np.random.default_rng(5).uniform(100, 900, 200).tolist()
    verdicts = [detector.judge(1.7e9, 10, events) for events in [100.0] * 20 + wild]
    assert any(verdict.raised for verdict in verdicts[:30])
    assert not any(verdict.raised for verdict in verdicts[-100:])
