"""Which moves a spend cap lets through: those that pay back soonest. Pure; arrays of any length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TAKEN, OVER_CAP, NO_ROOM = range(3)
WHY = {
    OVER_CAP: "the spend cap is reached by moves that pay back sooner",
    NO_ROOM: "its target has no room left after moves that pay back sooner",
}


def pay_back_months(once: Array, saving: Array) -> Array:
    """Return after how many months each move has paid for itself; inf where it never does, 0 where it costs nothing."""
    with np.errstate(over="ignore"):  # a saving next to nothing pays back next to never
        months: Array = np.full(len(once), np.inf)
        np.divide(once, saving, out=months, where=saving > 0)
    months[(once <= 0) & (saving > 0)] = 0.0
    return months


def chosen(
    once: Array,
    saving: Array,
    *,
    cap: float | None,
    first: NDArray[np.bool_] | None = None,
    target: NDArray[np.int64] | None = None,
    size: Array | None = None,
    room: Array | None = None,
) -> NDArray[np.int8]:
    """Return the fate of each move: TAKEN, OVER_CAP or NO_ROOM; shape (moves,).

    Moves are taken by their pay-back, the soonest first and those that never do last, until the next one would pass the
    cap: every move taken pays back no later than any left out for it. One that alone costs more than the cap is left
    out before.

    Args:
        once: USD that each move costs once.
        saving: USD a month.
        cap: USD that all moves taken may cost together; None: no bound.
        first: moves that come before all others, whatever they save (a rule demands them).
        target: index of each move's store, with ``size`` bytes and ``room`` bytes left per store (inf: no bound).
    """
    fate = np.full(len(once), TAKEN, np.int8)
    months = pay_back_months(once, saving)
    if first is not None:
        months[first] = -1.0
    if cap is not None:
        fate[(fate == TAKEN) & (once > cap)] = OVER_CAP
    order = np.argsort(months, kind="stable")
    del months
    if (fate != TAKEN).any():
        order = order[fate[order] == TAKEN]
    if target is not None and size is not None and room is not None:
        order = _with_room(order, fate, target, size, room)
    if cap is not None:
        spent = once[order]
        np.cumsum(np.maximum(spent, 0.0, out=spent), out=spent)
        fate[order[np.searchsorted(spent, cap * (1 + 1e-12), side="right") :]] = OVER_CAP
    return fate


def _with_room(
    order: NDArray[np.int64], fate: NDArray[np.int8], target: NDArray[np.int64], size: Array, room: Array
) -> NDArray[np.int64]:
    """Leave out what would overfill its store, store by store in the order given; return what is left."""
    for store in np.flatnonzero(np.isfinite(room)):
        here = order[target[order] == store]
        fate[here[np.cumsum(size[here]) > room[store]]] = NO_ROOM
    return np.asarray(order[fate[order] == TAKEN], np.int64)
