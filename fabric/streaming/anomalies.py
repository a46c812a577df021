"""What is unusual in a stream, online: each window is judged by earlier ones only.

Three detectors see every window. *Three sigma* and *drift* are the specification's and are shown for comparison;
access counts have heavy tails, so they alarm often. The *tail* detector is the one that raises: it compares the
window's count with a robust expectation on a scale on which counts of any size vary alike, learns how much this
stream really varies there, and raises when so large a deviation is improbable even under heavy tails.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

SIGMA_WINDOWS = 360  # windows that mean and deviation are taken over
LEARN_WINDOWS = 30  # before so many mean, deviation and averages judge nothing
TAIL_LEARN_WINDOWS = 5  # the tail detector judges from here on, but ...
TAIL_DOUBT_WINDOWS = 2.0  # ... with a spread widened by 1 + this / windows seen
TAIL_HELD_MOST = 3  # improbable windows in a row that the spread does not learn yet; then they are what is usual
LEVEL_WINDOWS = 60  # windows that the expected rate is the median of
HOURS = 24
SEASON_WINDOWS = 120  # windows an hour of the day must have had before its own level counts
SEASON_WEIGHT = 0.01
TAIL_AT_ONCE = 1e-5  # raised by one window
TAIL_TWICE = 2e-3  # raised by two in a row
EMA_FAST, EMA_SLOW = 0.2, 0.01
MAD_TO_SIGMA = 1.4826  # of a normal distribution
LEAST_EXCESS = 10.0  # events that a window must lie off its expectation


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the detectors say of one window of one stream."""

    stream: str
    start: float  # UTC seconds
    seconds: int
    events: float
    expected: float  # events
    three_sigma: bool
    drift: bool
    probability: float | None  # of so large a deviation; None while learning
    raised: bool


class ThreeSigma:
    """The specification's rule: ``|value - mean| > sigma x deviation``, over the last SIGMA_WINDOWS values."""

    def __init__(self, sigma: float = 3.0) -> None:
        self._sigma = sigma
        self._values: deque[float] = deque(maxlen=SIGMA_WINDOWS)

    def judge(self, value: float) -> bool:
        """Say whether ``value`` lies outside, then remember it."""
        outside = False
        if len(self._values) >= LEARN_WINDOWS:
            values = np.fromiter(self._values, dtype=np.float64)
            outside = bool(abs(value - values.mean()) > self._sigma * values.std())
        self._values.append(value)
        return outside


class Drift:
    """A fast exponential moving average that leaves a slow one by more than the fast one's own deviation allows."""

    def __init__(self, sigma: float = 3.0) -> None:
        self._sigma = sigma
        self._fast = self._slow = self._square = 0.0
        self._seen = 0

    def judge(self, value: float) -> bool:
        """Move both averages to ``value``; say whether they have parted."""
        self._seen += 1
        slow_weight = max(EMA_SLOW, 1.0 / self._seen)
        deviation = math.sqrt(self._square * EMA_FAST / (2.0 - EMA_FAST))  # of an average of independent values
        self._fast += max(EMA_FAST, 1.0 / self._seen) * (value - self._fast)
        parted = self._seen > LEARN_WINDOWS and abs(self._fast - self._slow) > self._sigma * deviation
        self._square += slow_weight * ((value - self._slow) ** 2 - self._square)
        self._slow += slow_weight * (value - self._slow)
        return parted and deviation > 0


class Tail:
    """Raises where a window's count is improbable, given level, hour of the day and the stream's own spread.

    Counts are compared after the square root transform of Anscombe (Biometrika 35, 1948), under which a Poisson
    count has deviation 1 whatever its mean. The spread found (median absolute deviation, at least 1) covers streams
    burstier than Poisson; the tail is Student's with 4 degrees of freedom.
    """

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=LEVEL_WINDOWS)  # with the hour's factor taken out
        self._errors: deque[float] = deque(maxlen=SIGMA_WINDOWS)
        self._factor = [1.0] * HOURS
        self._hour_windows = [0] * HOURS
        self._before = 1.0
        self._held: list[float] = []  # errors of the improbable windows in a row up to now

    def judge(self, start: float, seconds: int, events: float) -> tuple[float, float | None, bool]:
        """Return (expected events, probability or None while learning, whether it is raised); then learn."""
        hour = int(start // 3600) % HOURS
        expected = (float(np.median(self._rates)) if self._rates else events / seconds) * self._factor[hour] * seconds
        error = _anscombe(events) - _anscombe(expected)
        probability, raised = None, False
        if len(self._errors) >= TAIL_LEARN_WINDOWS:
            probability = _tail(error / self._spread())
            raised = abs(events - expected) >= LEAST_EXCESS and (
                probability <= TAIL_AT_ONCE or max(probability, self._before) <= TAIL_TWICE
            )
            self._before = probability
        self._learn(hour, events / seconds, error)
        return expected, probability, raised

    def _spread(self) -> float:
        errors = np.fromiter(self._errors, dtype=np.float64)
        found = MAD_TO_SIGMA * float(np.median(np.abs(errors - np.median(errors))))
        return max(1.0, found) * (1.0 + TAIL_DOUBT_WINDOWS / len(errors))

    def _learn(self, hour: int, rate: float, error: float) -> None:
        level = float(np.median(self._rates)) if self._rates else rate
        self._rates.append(rate / self._factor[hour])
        self._take(error)
        self._hour_windows[hour] += 1
        if level > 0 and self._hour_windows[hour] > SEASON_WINDOWS:
            seen = min(4.0, max(0.25, rate / level))  # one wild window moves a factor by little
            self._factor[hour] += SEASON_WEIGHT * (seen - self._factor[hour])

    def _take(self, error: float) -> None:
        """Let the spread learn an error; improbable ones only once they last, or the first would hide the second."""
        self._held.append(error)
        if self._before > TAIL_TWICE or len(self._held) > TAIL_HELD_MOST:
            self._errors.extend(self._held)
            self._held = []


class Detector:
    """The three detectors of one stream."""

    def __init__(self, stream: str, sigma: float = 3.0) -> None:
        self._stream = stream
        self._three_sigma, self._drift, self._tail = ThreeSigma(sigma), Drift(sigma), Tail()

    def judge(self, start: float, seconds: int, events: float) -> Verdict:
        """Judge one window of ``events`` events."""
        rate = events / seconds
        expected, probability, raised = self._tail.judge(start, seconds, events)
        return Verdict(
            self._stream,
            start,
            seconds,
            events,
            expected,
            self._three_sigma.judge(rate),
            self._drift.judge(rate),
            probability,
            raised,
        )


def _anscombe(count: float) -> float:
    return 2.0 * math.sqrt(max(0.0, count) + 0.375)


def _tail(deviation: float) -> float:
    """Return the two-sided tail probability of Student's t with 4 degrees of freedom (closed form)."""
    t = abs(deviation)
    share = t * t / (4.0 + t * t)
    if share > 0.9999:  # where the closed form loses its digits: the tail's leading term, 6 / t^4
        return 6.0 / t**4
    return max(0.0, 1.0 - 1.5 * math.sqrt(share) * (1.0 - share / 3.0))
