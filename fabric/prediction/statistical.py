"""The statistical baseline: a smoothed level times a weekday profile; and the seasonal naive forecast under it."""

from __future__ import annotations

import numpy as np

from fabric.prediction.features import HORIZON_DAYS, WEEK, Floats, Window

HALF_LIFE_DAYS = 5.0  # of the level
PROFILE_DAYS = 56  # eight weeks of weekdays
OWN_READS = 50.0  # reads at which an object's own profile weighs as much as the fleet's


def smoothed_total(window: Window, day: int) -> Floats:
    """Return shape (rows,), the horizon's reads at the level smoothed on the log scale.

    The level is an exponentially weighted mean of log(1 + reads of seven days): whole weeks, so that weekdays cancel
    and a rarely read object is not taken for a dead one; logs, so that one burst does not carry for weeks.
    """
    weeks = _weekly_sums(window.before(day, PROFILE_DAYS))
    ages = np.arange(weeks.shape[1])[::-1]
    weights = np.exp2(-ages / HALF_LIFE_DAYS)
    return np.asarray(np.expm1(np.log1p(weeks) @ (weights / weights.sum())))


def _weekly_sums(counts: Floats) -> Floats:
    """Return the sums of each seven days in a row; of fewer days, their mean times seven."""
    if counts.shape[1] < WEEK:
        return np.asarray(counts.mean(axis=1, keepdims=True) * WEEK)
    sums = np.cumsum(counts, axis=1)
    sums[:, WEEK:] = sums[:, WEEK:] - sums[:, :-WEEK]
    return sums[:, WEEK - 1 :]


def shape_of_week(window: Window, day: int) -> Floats:
    """Return shape (rows, 7), the share of the horizon's reads that falls on each of its days; rows sum to 1.

    Each object's own weekday shares are shrunk towards the fleet's, in which every object counts the same.
    """
    recent = window.before(day, PROFILE_DAYS)
    recent = recent[:, recent.shape[1] % WEEK :] if recent.shape[1] >= WEEK else recent
    sums = np.zeros((len(recent), WEEK))
    for column in range(recent.shape[1]):  # the last column is the day before `day`: weekday slot 6
        sums[:, (column - recent.shape[1]) % WEEK] += recent[:, column]
    reads = sums.sum(axis=1, keepdims=True)
    if recent.shape[1] < WEEK or not reads.any():
        return np.full((len(recent), HORIZON_DAYS), 1 / HORIZON_DAYS)
    fleet = (sums / np.maximum(reads, 1)).sum(axis=0)
    fleet = (fleet + 1 / WEEK) / (fleet.sum() + 1)
    return np.asarray((sums + OWN_READS * fleet) / (reads + OWN_READS))


def seasonal_naive(window: Window, day: int) -> Floats:
    """Return shape (rows,), last week again: the reads of the seven days before ``day``.

    An object younger than a week is taken at its mean day so far, seven times; one born on ``day`` at nothing.
    """
    week = window.before(day, WEEK).sum(axis=1)
    lived = np.clip(day - window.born, 1, WEEK)
    return np.asarray(week * WEEK / lived)
